"""The contract test: whole classifiers pass, and every way of breaking the contract is caught."""

from __future__ import annotations

from itertools import count
from types import SimpleNamespace

import pytest
import timm
import torch
import torchvision
from test_cut import CLASSES, FAMILIES, cut
from torch import nn
from torch.nn import functional as F

from lis.classifiers.partnet import TASKS, PartNet
from lis.testing import ContractError, check_classifier
from lis.types import Classifier

MARKS = {"vgg11": pytest.mark.full}
MARKS |= dict.fromkeys(("swin_tiny_patch4_window7_224", "alexnet", "densenet201"), pytest.mark.slow)


class Toy(nn.Module):
    """A classifier that keeps the contract."""

    class_names = ("a", "b")
    units = 4
    cam_layer: str | None = "second"

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second, self.fc = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), nn.Linear(4, 2)
        self.layers = {"first": self.first, "second": self.second}

    @property
    def fingerprint(self):
        return str([p.tolist() for p in self.parameters()])

    def features(self, image):
        return self.second(self.first(image).relu()).mean((2, 3))

    def head(self, r):
        return self.fc(r)

    def forward(self, image):
        return self.head(self.features(image))


def toy(**members):
    """A toy with other members."""
    return type("Broken", (Toy,), members)().eval()


def with_layers(choose):
    model = toy()
    model.layers = choose(model)
    return model


def without(member):
    everything = {k: getattr(toy(), k) for k in ("units", "fingerprint", "layers", "cam_layer", "features", "head")}
    everything |= {"class_names": ("a", "b")}
    del everything[member]
    return SimpleNamespace(**everything)


def in_place(self, image):
    return Toy.features(self, image.add_(1))


def rectified(self, image):
    return Toy.features(self, image.clamp(0, 1))


def normalised(self, image):
    r = Toy.features(self, image)
    return (r - r.mean(0)) / r.std(0, correction=0).add(1e-3)


def unstable(self):
    return f"fingerprint {next(COUNTER)}"


COUNTER = count()
BROKEN = {
    "member": (lambda: without("cam_layer"), "lacks cam_layer of lis.types.Classifier"),
    "method": (lambda: without("head"), "lacks head"),
    "names twice": (lambda: toy(class_names=("a", "a")), r"different words, got \('a', 'a'\)"),
    "names in a list": (lambda: toy(class_names=["a", "b"]), "must be a tuple"),
    "no names": (lambda: toy(class_names=()), "must be a tuple"),
    "units": (lambda: toy(units="4"), "units must be a number > 0, got '4'"),
    "training": (lambda: toy().train(), "in training mode"),
    "part in training": (lambda: toy().apply(_train_fc), r"1 modules .*'fc'"),
    "integers": (
        lambda: toy(features=lambda self, x: Toy.features(self, x).long()),
        "floating tensor, got torch.int64",
    ),
    "no tensor": (lambda: toy(features=lambda self, x: (Toy.features(self, x),)), "floating tensor, got tuple"),
    "width": (lambda: toy(units=5), r"\[n, units\] = \[3, 5\], got \[3, 4\]"),
    "domain": (lambda: toy(domain=7), "domain may be left out or None; else it is a word, .* got 7"),
    "double": (lambda: toy().double(), r"features raises RuntimeError on torch.float32 \[3, 3, 8, 8\]: .* float32"),
    "half head": (lambda: _half_head(), r"head raises RuntimeError on torch.float32 \[3, 4\]"),
    "nan": (
        lambda: toy(features=lambda self, x: Toy.features(self, x) / 0),
        "features gives values that are not finite",
    ),
    "in place": (lambda: toy(features=in_place), "writes into the image"),
    "classes": (lambda: toy(class_names=("a", "b", "c")), r"\[3, 3\], one logit per class name, got .*\[3, 2\]"),
    "infinite": (lambda: toy(head=lambda self, r: self.fc(r) / 0), "head gives values that are not finite"),
    "softmax": (lambda: toy(forward=lambda self, x: Toy.forward(self, x).softmax(1)), "differs from model"),
    "other output": (lambda: toy(forward=lambda self, x: (Toy.forward(self, x),)), "differs from model"),
    "dropout": (lambda: toy(features=lambda self, x: F.dropout(Toy.features(self, x))), "is dropout on"),
    "batch": (lambda: toy(features=normalised), "batch statistics"),
    "range": (lambda: toy(features=rectified), "between -1 and 0"),
    "other range": (lambda: toy(features=lambda self, x: Toy.features(self, x.clamp(-1, 0))), "between 0 and 1"),
    "list of layers": (lambda: with_layers(lambda m: ["first"]), "must be a dict of modules by name, got list"),
    "stranger": (lambda: with_layers(lambda m: {"new": nn.Conv2d(3, 4, 3)}), r"no module of the model: \['new'\]"),
    "names only": (lambda: with_layers(lambda m: {"first": "first"}), "no module of the model"),
    "not run": (lambda: toy(cam_layer="fc"), r"must give maps \[n, channels, h, w\], got fc None"),
    "order": (
        lambda: with_layers(lambda m: {"second": m.second, "first": m.first}),
        "in the order .*'first', 'second'",
    ),
    "unknown cam layer": (lambda: toy(cam_layer="third"), "cam_layer 'third' is neither"),
    "no gradient": (lambda: toy(features=torch.no_grad()(Toy.features)), "not differentiable"),
    "rounded": (lambda: toy(features=lambda self, x: Toy.features(self, (x * 9).round())), "gradient .* is zero"),
    "detached": (lambda: toy(features=lambda self, x: Toy.features(self, x.detach())), "gradient"),
    "gradient": (lambda: toy(features=lambda self, x: Toy.features(self, x + (x - x).abs().sqrt())), "not finite"),
    "no fingerprint": (lambda: toy(fingerprint=None), "must be a string that stays, got None"),
    "fingerprint": (lambda: toy(fingerprint=property(unstable)), "must be a string that stays"),
    "constant fingerprint": (lambda: toy(fingerprint="toy"), "a weight changed and fingerprint did not"),
}


def _half_head():
    model = toy()
    model.fc.half()
    return model


def _train_fc(module):
    module.training = isinstance(module, nn.Linear)


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_is_caught(name):
    make, message = BROKEN[name]
    model = make()
    with pytest.raises(ContractError, match=message):
        check_classifier(model, 8)


def test_a_good_one_passes_and_is_left_as_it_was():
    model = toy()
    before = model.fingerprint
    check_classifier(model, 8)
    assert model.fingerprint == before
    assert not any(module._forward_hooks for module in model.modules())


def test_what_is_no_module_or_has_no_convolutions_passes_too():
    model = toy()
    members = {k: getattr(model, k) for k in ("class_names", "units", "features", "head", "layers", "cam_layer")}
    check_classifier(SimpleNamespace(**members, fingerprint="fixed"), 8)
    check_classifier(SimpleNamespace(**members | {"layers": {}, "cam_layer": None}, fingerprint="fixed"), 8)


def test_a_module_without_forward_was_refused_though_the_protocol_asks_for_none():
    """What has one is still held against `head(features(x))`: "softmax" above."""
    model = toy()
    members = {k: v for k, v in vars(Toy).items() if k != "forward" and not k.startswith("__")}
    bare = type("Bare", (nn.Module,), members | {"__init__": lambda self: nn.Module.__init__(self)})()
    for name, module in model.named_children():
        bare.add_module(name, module)
    bare.__dict__["layers"] = model.layers
    assert isinstance(bare, Classifier)
    check_classifier(bare.eval(), 8)
    bare.head = lambda r: model.fc(r) / 0
    with pytest.raises(ContractError, match="head gives values that are not finite"):
        check_classifier(bare, 8)


def test_a_module_that_is_called_without_forward_is_held_against_its_parts():
    called = toy(forward=nn.Module.forward, __call__=lambda self, x: Toy.forward(self, x) + 1)
    with pytest.raises(ContractError, match="differs from model"):
        check_classifier(called, 8)


@pytest.mark.parametrize("domain", ["toys", None])
def test_a_domain_is_optional(domain):
    check_classifier(toy(domain=domain), 8)


def test_the_cam_layer_of_what_is_wrapped_is_found():
    model = toy()
    model.wrapped = nn.ModuleDict({"network": nn.ModuleDict({"third": model.second})})
    del model.second
    model.layers, model.cam_layer = {}, "third"
    second = model.get_submodule("wrapped.network.third")
    model.features = lambda image: second(model.first(image).relu()).mean((2, 3))
    check_classifier(model.eval(), 8)


def test_a_fixed_fingerprint_is_good_for_frozen_weights():
    check_classifier(toy(fingerprint="toy").requires_grad_(False), 8)


@pytest.mark.parametrize("task", TASKS)
def test_partnet(task):
    check_classifier(PartNet(task))


def marked(names):
    return [pytest.param(name, marks=MARKS.get(name, ())) for name in names]


@pytest.mark.parametrize("name", marked(["resnet50", "alexnet", "densenet201"]))
def test_the_papers_classifiers(name):
    torch.manual_seed(0)
    check_classifier(cut(torchvision.models.get_model(name, num_classes=15)))


@pytest.mark.parametrize("name", marked(FAMILIES))
def test_families_of_timm(name):
    size, arguments = FAMILIES[name]
    torch.manual_seed(0)
    network = timm.create_model(name, pretrained=False, num_classes=len(CLASSES), **arguments)
    check_classifier(cut(network, size))
