"""Files of weights: what is read, what is refused, and that nothing in them is executed."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import timm
import torch
from helpers.damage import DAMAGE, Payload
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.models import get_model

from lis.classifiers.checkpoints import SIGNATURES, Checkpoint, load_state, read_file, without_prefixes
from lis.classifiers.partnet import PartNetwork

REASONS = {
    "missing": "is no file: expected weights",
    "folder": "is a folder: expected weights",
    "list": "holds a list: expected weights",
    "code": "it holds posix.system, which only executing code would restore",
    "new code": "it holds posix.system, which only executing code would restore",
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
    found = Checkpoint.read(tmp_path / "weights").state
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
    for names in (_state(), ["names of another network"]):
        found = Checkpoint.read(tmp_path / "weights.pth").fitted(names)
        assert found.state.keys() == _state().keys() and not found.notes
        assert torch.equal(found.state["4.weight"], _state()["4.weight"])


def _under(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + name: value for name, value in state.items()}


def _averaged() -> dict[str, Tensor]:
    """Other weights than those of `_state`."""
    return {name: value + 1 for name, value in _state().items()}


RAW_AND_AVERAGED: dict[str, Callable[[dict[str, Tensor], dict[str, Tensor]], Mapping[str, object]]] = {
    "timm": lambda raw, averaged: {"epoch": 3, "state_dict": raw, "state_dict_ema": averaged},
    "torchvision": lambda raw, averaged: {
        "model": raw,
        "model_ema": {"n_averaged": torch.tensor(7)} | _under("module.", averaged),
        "optimizer": {"state": {0: {"exp_avg": torch.zeros(3)}}},
    },
    "lightning": lambda raw, averaged: {
        "state_dict": _under("model.", averaged),
        "current_model_state": _under("model.", raw),
        "averaging_state": {"n_averaged": torch.tensor(7)},
    },
    "nested": lambda raw, averaged: {"net": raw, "ema": {"decay": 0.99, "state_dict": averaged}},
    "flat": lambda raw, averaged: {**raw, "ema": averaged},
    "prefixes": lambda raw, averaged: {"state_dict": _under("model.", raw) | _under("model_ema.module.", averaged)},
    "bare and prefix": lambda raw, averaged: raw | _under("ema.", averaged),
    "inner prefix": lambda raw, averaged: {"state_dict": _under("net.", raw) | _under("net.ema.", averaged)},
}


@pytest.mark.parametrize("ema", [True, False])
@pytest.mark.parametrize("form", RAW_AND_AVERAGED)
def test_averaged_weights_were_passed_over_without_a_word(tmp_path: Path, form: str, ema: bool) -> None:
    """Of raw and averaged weights the averaged ones are taken, as timm does, unless asked; either is said."""
    torch.save(RAW_AND_AVERAGED[form](_state(), _averaged()), tmp_path / "two.pth")
    found = Checkpoint.read(tmp_path / "two.pth", ema).fitted(_state())
    wanted = _averaged() if ema else _state()
    assert found.state.keys() == wanted.keys()
    assert all(torch.equal(found.state[name], value) for name, value in wanted.items())
    taken = "the averaged (EMA) weights under" if ema else "the raw weights"
    assert taken in found.notes[0] and f"classifier.ema={'false' if ema else 'true'} takes those" in found.notes[0]


@pytest.mark.parametrize("form", ["bare and prefix", "inner prefix"])
def test_raw_weights_that_were_passed_over_were_called_no_part_of_the_network(tmp_path: Path, form: str) -> None:
    """Averaged weights lie under a prefix that begins like the raw ones'; what else lies there is still told."""
    content = RAW_AND_AVERAGED[form](_state(), _averaged())
    names = content.get("state_dict", content)
    assert isinstance(names, dict)
    names["criterion.weight"] = torch.ones(2)
    torch.save(content, tmp_path / "two.pth")
    choice, left_out = Checkpoint.read(tmp_path / "two.pth").fitted(_state()).notes
    assert "were taken, not the raw ones" in choice
    assert left_out == "two.pth: what is not the network was left out: criterion.weight"


def test_timm_takes_the_same_of_raw_and_averaged_weights(tmp_path: Path) -> None:
    """For its own form and torchvision's."""
    from timm.models import load_state_dict

    for form in ("timm", "torchvision"):
        torch.save(RAW_AND_AVERAGED[form](_state(), _averaged()), tmp_path / "two.pth")
        for ema in (True, False):
            theirs = load_state_dict(str(tmp_path / "two.pth"), use_ema=ema)
            ours = Checkpoint.read(tmp_path / "two.pth", ema).fitted(_state()).state
            assert all(torch.equal(ours[name], theirs[name]) for name in ours) and len(ours) == len(_state())


@pytest.mark.parametrize(
    "content",
    [{"model_ema": _averaged()}, {"state_dict": _under("ema.", _averaged())}, {"model": {"ema": _averaged()}}],
)
def test_averaged_weights_alone_are_taken_and_raw_ones_of_them_refused(
    tmp_path: Path, content: dict[str, object]
) -> None:
    """There is nothing to choose from."""
    torch.save(content, tmp_path / "one.pth")
    found = Checkpoint.read(tmp_path / "one.pth").fitted(_state())
    assert torch.equal(found.state["4.weight"], _averaged()["4.weight"]) and "averaged (EMA)" in found.notes[0]
    with pytest.raises(ValueError, match=r"classifier.ema=false: .*one.pth holds averaged .* alone.* leave it out"):
        Checkpoint.read(tmp_path / "one.pth", ema=False).fitted(_state())


def test_averaged_weights_without_names_are_refused_before_the_raw_ones_take_their_place(tmp_path: Path) -> None:
    """As torch_ema keeps them; the remedy works."""
    averaged = {"decay": 0.999, "shadow_params": list(_averaged().values())}
    torch.save({"model": _state(), "ema": averaged}, tmp_path / "list.pth")
    with pytest.raises(ValueError, match=r"averaged weights under 'ema' without names.*classifier.ema=false"):
        Checkpoint.read(tmp_path / "list.pth")
    assert torch.equal(Checkpoint.read(tmp_path / "list.pth", ema=False).state["4.bias"], _state()["4.bias"])


@pytest.mark.parametrize("empty", [None, {}, 0.999, {"decay": 0.999}])
def test_a_key_for_averaged_weights_without_any_changes_nothing(tmp_path: Path, empty: object) -> None:
    """Programs write it whether or not they average."""
    torch.save({"state_dict": _state(), "state_dict_ema": empty}, tmp_path / "raw.pth")
    found = Checkpoint.read(tmp_path / "raw.pth").fitted(_state())
    assert torch.equal(found.state["4.bias"], _state()["4.bias"]) and not found.notes


@pytest.mark.parametrize(
    "prefix", ["module.", "_orig_mod.", "net.", "model.", "module._orig_mod.model.net.", "student."]
)
def test_one_foreign_tensor_kept_the_prefix_on_all_names(tmp_path: Path, prefix: str) -> None:
    """A prefix that yields all of the network's names goes, and what is left out is listed."""
    foreign = {
        "criterion.weight": torch.ones(3),
        "n_averaged": torch.tensor(7),
        "train_acc.correct": torch.tensor(7),
        "val_metrics.MulticlassF1Score.tp": torch.zeros(3),
    }
    torch.save({"state_dict": _under(prefix, _state()) | foreign}, tmp_path / "trained.pth")
    found = Checkpoint.read(tmp_path / "trained.pth").fitted(_state())
    assert all(torch.equal(found.state[name], value) for name, value in _state().items())
    assert found.state.keys() == _state().keys()
    assert found.notes == (f"trained.pth: what is not the network was left out: {', '.join(foreign)}",)
    load_state(_network(), found.state, found.path, 3)


def test_a_compiled_part_of_a_network_and_its_criterion_inside_do_not_hide_its_names() -> None:
    """torch.compile's name in the middle; a loss that is an attribute of the trained module."""
    state = {name.replace("4.", "4._orig_mod."): value for name, value in _under("net.", _state()).items()}
    state["net.criterion.pos_weight"] = torch.ones(3)
    read = {name.replace("_orig_mod.", ""): value for name, value in state.items()}
    found = Checkpoint(Path("compiled.pth"), read).fitted(_state())
    assert found.state.keys() == _state().keys()
    assert found.notes == ("compiled.pth: what is not the network was left out: net.criterion.pos_weight",)


def test_what_could_be_a_part_of_the_network_is_not_left_out() -> None:
    """The file of a deeper network holds all names of a shallower one: it is not that network's."""
    with torch.device("meta"):
        shallow, deep = get_model("resnet50"), get_model("resnet101").state_dict()
    found = Checkpoint(Path("resnet101.pth"), _under("model.", deep)).fitted(shallow.state_dict())
    with pytest.raises(ValueError, match=r"resnet101.pth does not fit .* names that it does not know"):
        load_state(shallow, found.state, found.path, 1000)


def test_two_networks_of_the_same_names_are_not_guessed_between() -> None:
    """Unless they are one."""
    two = _under("student.", _state()) | _under("teacher.", _averaged())
    with pytest.raises(ValueError, match=r"under 'student.' and under 'teacher.', with different weights.*of its own"):
        Checkpoint(Path("two.pth"), two).fitted(_state())
    same = _under("student.", _state()) | _under("teacher.", _state())
    assert Checkpoint(Path("two.pth"), same).fitted(_state()).state.keys() == _state().keys()


def test_a_head_with_one_logit_had_no_remedy_that_worked() -> None:
    """It is two classes: the softmax of (0, l) is the sigmoid of l."""
    network = _network(2).double().eval()
    one = _network(1).double().eval()
    note = load_state(network, one.state_dict(), Path("binary.pth"), 2)
    x = torch.rand(5, 3, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    with torch.inference_mode():
        torch.testing.assert_close(network(x).softmax(1)[:, 1], one(x)[:, 0].sigmoid(), rtol=0, atol=1e-12)
    assert note == ("binary.pth has one logit: it is that of the second class, and the first has the logit 0",)
    with pytest.raises(ValueError, match=r"has 1 outputs, .* 3 classes: set classifier.num_classes=2 "):
        load_state(_network(3), one.state_dict(), Path("binary.pth"), 3)


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
        Checkpoint.read(tmp_path / "weights.pth")


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
    assert any(kind.startswith(look) for kind in SIGNATURES.values())
