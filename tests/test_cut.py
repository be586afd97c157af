"""Cutting networks: r against plain reconstructions, what is found in them, and what is refused."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from functools import cache
from typing import Any

import pytest
import timm
import torch
import torchvision
from torch import nn
from torch.nn import functional as F

from lis.classifiers.cut import CutClassifier, examine, modules_called
from lis.classifiers.preprocessing import Preprocessing
from lis.types import Classifier

CLASSES = [f"class {k}" for k in range(15)]
FAMILIES = {
    "resnet10t": (64, {}),
    "densenet121": (64, {}),
    "vgg11": (64, {}),
    "mobilenetv3_small_050": (64, {}),
    "efficientnet_b0": (64, {}),
    "convnext_atto": (64, {}),
    "regnety_002": (64, {}),
    "inception_v3": (107, {}),
    "vit_tiny_patch16_224": (64, {"img_size": 64}),
    "swin_tiny_patch4_window7_224": (64, {"img_size": 64}),
}
CAM_LAYERS = {
    "resnet10t": "layer4",
    "densenet121": "features",
    "vgg11": "features",
    "mobilenetv3_small_050": "blocks",
    "efficientnet_b0": "conv_head",
    "convnext_atto": "stages",
    "regnety_002": "s4",
    "inception_v3": "Mixed_7c",
    "vit_tiny_patch16_224": None,
    "swin_tiny_patch4_window7_224": None,
}


def cut(network, size=64, classes: Sequence[str] = CLASSES, **more) -> Any:
    model = CutClassifier(network, Preprocessing.as_drawn(size), classes, name="net", weights="random", **more)
    return model.eval()


@cache
def torchvisions(name) -> Any:
    torch.manual_seed(0)
    return torchvision.models.get_model(name, num_classes=15).eval()


def noise(size=64, n=3):
    return 2 * torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(0)) - 1


def trunk(width=4):
    """Images to a vector."""
    return nn.Sequential(nn.Conv2d(3, width, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())


class Net(nn.Module):
    """A trunk, a linear layer, and whatever a test puts around them."""

    def __init__(self, logits=lambda net, r: net.fc(r), bias=True):
        super().__init__()
        self.trunk, self.fc, self.second = trunk(), nn.Linear(4, 2, bias=bias), nn.Linear(4, 2)
        self.logits = logits

    def forward(self, x) -> Any:
        return self.logits(self, self.trunk(x))


def test_r_is_what_the_last_layer_reads_in_resnet50():
    network, image = torchvisions("resnet50"), noise()
    model = cut(network)
    with torch.no_grad():
        expected = nn.Sequential(*list(network.children())[:-1])(image).flatten(1)
        torch.testing.assert_close(model.features(image), expected)
    assert model.units == 2048 and expected.min() >= 0


def test_r_is_what_the_last_layer_reads_in_alexnet():
    network, image = torchvisions("alexnet"), noise()
    model = cut(network)
    with torch.no_grad():
        x = network.avgpool(network.features(image)).flatten(1)
        expected = F.relu(network.classifier[4](F.relu(network.classifier[1](x))))
        torch.testing.assert_close(model.features(image), expected)
    assert model.units == 4096


def test_r_is_what_the_last_layer_reads_in_densenet201():
    network, image = torchvisions("densenet201"), noise()
    model = cut(network)
    with torch.no_grad():
        expected = F.relu(network.features(image)).mean((2, 3))
        torch.testing.assert_close(model.features(image), expected)
    assert model.units == 1920


@pytest.mark.parametrize(
    ("name", "size", "cam", "convolutions", "first", "last"),
    [
        ("resnet50", 64, "layer4", 53, "conv1", "layer4.2.conv3"),
        ("resnet50", 224, "layer4", 53, "conv1", "layer4.2.conv3"),
        ("densenet201", 64, "features", 200, "features.conv0", "features.denseblock4.denselayer32.conv2"),
        ("alexnet", 64, "features.10", 5, "features.0", "features.10"),  # 1×1 after pooling
        ("alexnet", 224, "features", 5, "features.0", "features.10"),
    ],
)
def test_layers_and_cam_layer_of_the_papers_classifiers(name, size, cam, convolutions, first, last):
    found = examine(torchvisions(name), size, name)
    assert found.cam_layer == cam and not found.tokens
    assert len(found.layers) == convolutions and (found.layers[0], found.layers[-1]) == (first, last)


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow if n == "vgg11" else ()) for n in FAMILIES])
def test_ten_families_of_timm(name):
    size, arguments = FAMILIES[name]
    torch.manual_seed(0)
    network: Any = timm.create_model(name, pretrained=False, num_classes=15, **arguments).eval()
    nn.init.normal_(network.get_classifier().weight)  # some start at zero, and all logits were equal
    model, image = cut(network, size), noise(size, n=2)
    with torch.no_grad():
        r, whole = model.features(image), network(image)
        apart = (model.head(r) - whole).abs().max() / whole.abs().max()
    assert r.shape == (2, model.units)
    assert apart <= 1e-5 and whole.std(0).max() > 0
    assert model.cam_layer == CAM_LAYERS[name]
    assert ["vision transformer" in note for note in model.notes] == ([True] if model.cam_layer is None else [])
    assert isinstance(model, Classifier)


def test_layers_come_in_the_order_in_which_they_run():
    class Reversed(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.gate = nn.Linear(4, 2), nn.Conv2d(4, 4, 1)
            self.second, self.first, self.unused = nn.Conv2d(4, 4, 3), nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3)

        def forward(self, x):
            x = self.second(self.second(self.first(x)))
            return self.fc((x * self.gate(x.mean((2, 3), keepdim=True))).mean((2, 3)))

    model = cut(Reversed(), 16, "ab")
    assert list(model.layers) == ["first", "second"]  # the gate's map has one pixel
    assert model.layers["second"] is model.network.second
    assert model.cam_layer == "second"


def test_channels_that_come_last_are_no_map():
    class ChannelsLast(nn.Module):
        def __init__(self):
            super().__init__()
            self.maps = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(2), nn.Unflatten(2, (6, 6)))
            self.last, self.fc = nn.Sequential(nn.Conv2d(4, 5, 3)), nn.Linear(5, 2)
            self.last.register_forward_hook(lambda _, __, output: output.permute(0, 2, 3, 1))

        def forward(self, x):
            return self.fc(self.last(self.maps(x)).mean((1, 2)))

    assert examine(ChannelsLast(), 8, "net").cam_layer == "last.0"


def test_a_network_without_convolutions_has_no_cam_layer():
    found = examine(nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 2)), 8, "net")
    assert found.layers == () and found.cam_layer is None and found.tokens


@pytest.mark.parametrize(
    ("logits", "message"),
    [
        (lambda net, r: r @ net.fc.weight.T, r"no nn\.Linear runs in net: expected logits \[n, classes\]"),
        (lambda net, r: net.fc(r).softmax(1), "something follows the last linear layer 'fc' of net"),
        (lambda net, r: net.fc(r) * 2, "something follows"),
        (lambda net, r: net.fc(r).add_(2), "something follows"),
        (lambda net, r: net.fc(r) + net.second(r), "something follows the last linear layer 'second'"),
        (lambda net, r: net.fc(r)[:, :1], "something follows"),
        (lambda net, r: net.fc(r).unsqueeze(1), "something follows"),
        (lambda net, r: (net.fc(r), r), r"net returns a tuple: .*wrap it in a module"),
        (lambda net, r: {"logits": net.fc(r)}, "net returns a dict"),
        (lambda net, r: net.fc(torch.stack([r] * 5, 1)), r"'fc' of net gives \[2, 5, 2\] for 2 images.* pool before"),
        (lambda net, r: net.fc(net.fc(r) @ net.fc.weight), "'fc' of net runs 2 times"),
    ],
)
def test_heads_that_are_not_one_linear_layer_are_refused(logits, message):
    with pytest.raises(ValueError, match=message):
        cut(Net(logits), 8, "ab")


def test_a_write_into_the_logits_that_changes_nothing_is_seen():
    net = Net(lambda net, r: F.relu_(net.fc(r)))
    nn.init.constant_(net.fc.bias, 100)
    with pytest.raises(ValueError, match="something follows"):
        examine(net, 8, "net")


def test_a_convolutional_head_is_refused():
    head = nn.Sequential(nn.Conv2d(3, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(ValueError, match=r"no nn\.Linear runs"):
        cut(head, 8, "ab")


@pytest.mark.parametrize(
    "logits",
    [
        lambda net, r: net.fc(input=r),
        lambda net, r: F.dropout(net.fc(r), training=False),
        lambda net, r: net.fc(net.second(r) @ net.second.weight),
        lambda net, r: nn.Identity()(net.fc(r)).flatten(1),
    ],
)
def test_what_does_nothing_around_the_head_is_no_obstacle(logits):
    net = Net(logits)
    model, image = cut(net, 8, "ab"), noise(8)
    torch.testing.assert_close(model.head(model.features(image)), net(image))
    assert model.head_name == "fc"


def test_a_head_without_bias():
    model = cut(Net(bias=False), 8, "ab")
    assert not model.head(torch.zeros(1, 4)).any()


def test_a_random_or_infinite_forward_pass_is_refused():
    for logits in (lambda net, r: net.fc(F.dropout(r, 0.5)), lambda net, r: net.fc(r / 0)):
        with pytest.raises(ValueError, match=r"differs from the whole network .* expected at most 1e-05"):
            cut(Net(logits), 8, "ab")


def test_as_many_names_as_outputs():
    with pytest.raises(ValueError, match="net has 2 outputs and 3 class names"):
        cut(Net(), 8, "abc")


def test_the_network_is_left_as_it_was():
    net = nn.Sequential(trunk(), nn.BatchNorm1d(4), nn.Dropout(), nn.Linear(4, 2))
    net[2].eval()
    before, state = deepcopy(net.state_dict()), torch.get_rng_state()
    model = CutClassifier(net, Preprocessing.as_drawn(8), "ab", name="net", weights="random")
    assert [module.training for module in net] == [True, True, False, True]
    model.eval().features(noise(8))
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())
    assert torch.equal(torch.get_rng_state(), state)
    assert set(model.state_dict()) == {f"network.{name}" for name in before}


def test_no_hook_is_left_when_the_network_fails():
    model = cut(Net(), 8, "ab")
    with pytest.raises(RuntimeError):
        model.features(torch.zeros(1, 3, 8, 8, dtype=torch.float64))
    assert not any(module._forward_hooks for module in model.modules())


def test_gradients_reach_the_image_and_inference_mode_works():
    net = Net()
    model = cut(net, 8, "ab")
    mine, plain = (noise(8).requires_grad_() for _ in range(2))
    model.features(mine).square().sum().backward()
    net.trunk(plain).square().sum().backward()
    torch.testing.assert_close(mine.grad, plain.grad)
    with torch.inference_mode():
        torch.testing.assert_close(model.features(noise(8)), net.trunk(noise(8)))
        assert cut(Net(), 8, "ab").units == 4


def test_a_copy_has_its_own_layers():
    model = cut(Net(), 8, "ab")
    other = deepcopy(model)
    assert other.layers["trunk.0"] is other.network.get_submodule("trunk.0") is not model.layers["trunk.0"]
    other.half()
    assert model.layers["trunk.0"].weight.dtype == torch.float32


def test_the_fingerprint_follows_weights_preprocessing_and_names():
    net = nn.Sequential(trunk(), nn.BatchNorm1d(4), nn.Linear(4, 2))
    model = cut(net, 8, "ab")
    others = [deepcopy(model) for _ in range(5)]
    assert {other.fingerprint for other in others} == {model.fingerprint}
    with torch.no_grad():
        others[0].network[2].bias[0] += 1e-6
        others[1].network[1].running_mean[0] += 1
    others[2].double()
    others[3] = cut(net, 9, "ab")
    others[4] = cut(net, 8, "ac")
    assert len({model.fingerprint, *(other.fingerprint for other in others)}) == 6


def test_remarks_are_kept():
    model = cut(Net(), 8, "ab", trained=False, attribute="fur", notes=["a remark"])
    assert (model.name, model.weights, model.trained, model.attribute) == ("net", "random", False, "fur")
    assert model.notes == ("a remark",)


def test_a_name_means_the_module_that_lies_least_deep():
    inner = nn.Sequential(nn.ReLU(), nn.ReLU(), nn.ReLU())
    network = nn.Sequential(nn.Conv2d(3, 4, 3), inner, nn.AdaptiveAvgPool2d(1))
    model = nn.ModuleDict({"network": network})
    assert modules_called(model, {}, "2") == [network[2]] and modules_called(model, {}, "1.2") == [inner[2]]
    assert modules_called(model, {"2": network[0]}, "2") == [network[0]] and modules_called(model, {}, "3") == []
    left, right = nn.Sequential(nn.ReLU()), nn.Sequential(nn.ReLU())
    assert modules_called(nn.ModuleDict({"left": left, "right": right}), {}, "0") == [left[0], right[0]]
