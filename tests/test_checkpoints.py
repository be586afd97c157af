"""Files of weights: what is read, what is refused, and that nothing in them is executed."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
from damage import DAMAGE, Payload
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.models import get_model

from lis.classifiers.checkpoints import LOOKS, load_state, read_file, read_state, without_prefixes
from lis.classifiers.partnet import PartNetwork

REASONS = {
    "missing": "is no file: expected weights",
    "folder": "is a folder: expected weights",
    "list": "holds a list: expected weights",
    "code": "it holds posix.system, which only executing code would restore",
    "new code": "it holds a pickle of protocol 4 or later, which only executing code would restore",
    "zipped code": "it holds posix.system, which only executing code would restore",
}


def _network(outputs: int = 3) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, outputs)
    )


def _state(outputs: int = 3) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    state = _network(outputs).state_dict()
    return {k: torch.rand(v.shape, generator=generator) if v.is_floating_point() else v for k, v in state.items()}


@pytest.mark.parametrize(
    "write",
    [
        torch.save,
        lambda state, path: torch.save(state, path, _use_new_zipfile_serialization=False),
        save_file,
    ],
)
def test_every_format_is_read(tmp_path: Path, write: Callable[[dict[str, Tensor], Path], None]) -> None:
    """Torch's two and safetensors; the name of the file does not matter."""
    write(_state(), tmp_path / "weights")
    found = read_state(tmp_path / "weights")
    assert found.keys() == _state().keys()
    assert all(torch.equal(found[name], value) for name, value in _state().items())


@pytest.mark.parametrize("kind", DAMAGE)
def test_unusable_files_are_refused(tmp_path: Path, kind: str) -> None:
    """With the file, the reason and a remedy, and without advice to read it unsafely; nothing is executed."""
    path, witness = tmp_path / "weights.pth", tmp_path / "witness"
    DAMAGE[kind](path, witness)
    with pytest.raises(ValueError, match=REASONS.get(kind, r"cannot be read \(.+\): expected weights")) as error:
        read_file(path)
    assert str(path) in str(error.value)
    assert "weights_only" not in str(error.value) and "\n" not in str(error.value)
    assert not witness.exists()


def test_the_payload_is_live(tmp_path: Path) -> None:
    """Read unsafely, it would do its work: the test above can fail."""
    pickle.loads(pickle.dumps(Payload(tmp_path / "witness")))
    assert (tmp_path / "witness").exists()


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"epoch": 3, "state_dict": state, "optimizer": {"lr": 0.1}},
        lambda state: {"model": state},
        lambda state: {"model_state_dict": {f"module.{k}": v for k, v in state.items()}},
        lambda state: {"state_dict": {f"model.backbone.{k}": v for k, v in state.items()}},
        lambda state: {"model": {"state_dict": {f"_orig_mod.{k}": v for k, v in state.items()}}},
        lambda state: state | {"epoch": 3, "note": "at the top level"},
    ],
)
def test_wrappers_are_taken_off(tmp_path: Path, wrap: Callable[[dict[str, Tensor]], dict[str, object]]) -> None:
    """Those of DataParallel, Lightning and usual training scripts."""
    torch.save(wrap(_state()), tmp_path / "weights.pth")
    found = read_state(tmp_path / "weights.pth")
    assert found.keys() == _state().keys()
    assert torch.equal(found["4.weight"], _state()["4.weight"])


def test_a_prefix_that_some_names_lack_stays() -> None:
    """It belongs to the network."""
    state = {"backbone.0.bias": torch.zeros(1), "fc.bias": torch.zeros(1)}
    assert without_prefixes(state) == state


@pytest.mark.parametrize("content", [{}, {"epoch": 3}, {"state_dict": {"lr": 0.1}}])
def test_files_without_tensors_are_refused(tmp_path: Path, content: dict[str, object]) -> None:
    """With the keys that were found."""
    torch.save(content, tmp_path / "weights.pth")
    keys = "'epoch'" if "epoch" in content else "'state_dict'" if content else "nothing"
    with pytest.raises(ValueError, match=f"has the keys {keys}: expected tensors by name"):
        read_state(tmp_path / "weights.pth")


def test_half_precision_without_counters_is_loaded() -> None:
    """Old and small files do well."""
    network, state = _network(), {k: v.half() for k, v in _state().items() if "num_batches" not in k}
    load_state(network, state, Path("weights.pth"), 3)
    loaded = network.state_dict()
    assert all(loaded[name].dtype == torch.float32 and torch.equal(loaded[name], state[name].float()) for name in state)


def _without(*names: str) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    return lambda state: {k: v for k, v in state.items() if k not in names}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_without("4.bias"), r"1 of 9 tensors are missing \(4.bias\); it was made for another"),
        (_without("0.weight", "0.bias", "1.weight", "1.bias"), r"4 of 9 .*\(0.weight, 0.bias, 1.weight, …\)"),
        (lambda state: state | {"5.weight": torch.zeros(1)}, r": 1 have names that it does not know \(5.weight\)"),
        (lambda _: _state(outputs=7), r"has 7 outputs, .* 3 classes: set classifier.num_classes=7"),
        (
            lambda state: state | {"0.weight": torch.zeros(4, 3, 5, 5)},
            r"\(4, 3, 5, 5\) under '0.weight'.*\(4, 3, 3, 3\)",
        ),
        (lambda state: state | {"4.weight": torch.zeros(7, 5)}, r"\(7, 5\) under '4.weight': expected \(3, 4\)"),
        (lambda state: state | {"1.bias": torch.full((4,), torch.nan)}, r"not finite in 1 tensors \(1.bias\)"),
        (lambda state: state | {"4.bias": torch.full((3,), -torch.inf)}, r"not finite in 1 tensors \(4.bias\)"),
    ],
)
def test_weights_that_do_not_fit_are_refused(
    change: Callable[[dict[str, Tensor]], dict[str, Tensor]], message: str
) -> None:
    """The message names the file and what is wrong; the network keeps its weights."""
    network = _network()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.raises(ValueError, match=message) as error:
        load_state(network, change(_state()), Path("mine.pth"), 3)
    assert "mine.pth" in str(error.value)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize(
    ("make", "look"),
    [
        (lambda: get_model("resnet18"), "a ResNet"),
        (lambda: get_model("densenet121"), "a DenseNet"),
        (lambda: get_model("vgg11"), "AlexNet or a VGG"),
        (lambda: get_model("vit_b_16"), "a vision transformer of torchvision"),
        (lambda: timm.create_model("vit_tiny_patch16_224"), "a vision transformer of timm"),
        (lambda: timm.create_model("convnext_atto"), "a network of timm in stages, such as ConvNeXt"),
        (PartNetwork, "PartNet"),
        (lambda: nn.ModuleDict({"f": nn.Sequential(*list(get_model("resnet18").children())[:-1])}), "IP-IRM"),
        (lambda: nn.ModuleDict({"encoder_q": get_model("resnet18")}), "MoCo"),
    ],
)
def test_the_architecture_of_a_wrong_file_is_named(make: Callable[[], nn.Module], look: str) -> None:
    """By its names alone."""
    with torch.device("meta"):
        state = make().state_dict()
    with pytest.raises(ValueError, match=f"this looks like {look}"):
        load_state(_network(), state, Path("weights.pth"), 3)
    assert any(kind.startswith(look) for kind in LOOKS.values())
