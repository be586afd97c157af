"""Where the samples of maps lie: followed through networks, against where their gradients come from."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

from lis.classifiers.cut import CutClassifier
from lis.classifiers.detectors import detectors
from lis.classifiers.partnet import PartNet
from lis.classifiers.preprocessing import Preprocessing
from lis.dissection.receptive_fields import receptive_fields, sensitive_fields
from lis.dissection.upsampling import ReceptiveField, upsample_activations
from lis.generators.partworld import PartWorld


class Functional(nn.Module):
    """What its function makes of an image is its map."""

    def __init__(self, function: Any, channels: int) -> None:
        super().__init__()
        self.function, self.map, self.head = function, nn.Identity(), nn.Linear(channels, 2)

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.map(self.function(image)).mean((2, 3)))


def cut(network: nn.Module, size: int, resize: int | None = None) -> CutClassifier:
    preprocessing = Preprocessing(resize or size, size, (0.5,) * 3, (0.5,) * 3)
    last = [module for module in network.modules() if isinstance(module, nn.Linear)][-1]
    names = tuple(map(str, range(last.out_features)))
    return CutClassifier(network.eval(), preprocessing, names, name="network", weights="random")


def field_of(function: Any, channels: int = 3, size: int = 41) -> ReceptiveField:
    model = cut(Functional(function, channels), size)
    return receptive_fields(model, {"map": model.network.get_submodule("map")}, torch.zeros(1, 3, size, size))["map"]


def centre(function: Any, k: int, size: int = 41) -> float:
    """The mean pixel, along a side, that sample k of a map of one channel's positive weights comes from."""
    image = torch.ones(1, 3, size, size, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(function(image)[0, 0, k, k], image)
    weight = gradient[0].sum((0, 2))
    return float((weight * torch.arange(size)).sum() / weight.sum())


def ones(kernel: int) -> Tensor:
    return torch.ones(3, 3, kernel, kernel, dtype=torch.float64)


STEPS = {
    "three convolutions": lambda x: F.conv2d(
        F.conv2d(F.conv2d(x, ones(5).to(x), stride=2, padding=1), ones(3).to(x)), ones(3).to(x), stride=2, padding=1
    ),
    "padded by less than half": lambda x: F.conv2d(x, ones(5).to(x), stride=2, padding=1),
    "dilated": lambda x: F.conv2d(x, ones(3).to(x), stride=2, padding=1, dilation=3),
    "transposed": lambda x: F.conv_transpose2d(F.conv2d(x, ones(3).to(x), stride=3), ones(5).to(x), stride=2),
    "averaged": lambda x: F.avg_pool2d(x, 3, 2, 1),
    "pooled to half": lambda x: F.adaptive_avg_pool2d(x[..., :40, :40], 20),
    "padded on one side": lambda x: F.conv2d(F.pad(x, (0, 1, 0, 1)), ones(3).to(x), stride=2),
    "enlarged": lambda x: F.interpolate(F.avg_pool2d(x, 4), scale_factor=2, mode="bilinear"),
    "on its corners": lambda x: F.interpolate(F.avg_pool2d(x, 4), 19, mode="bilinear", align_corners=True),
    "nearest": lambda x: F.interpolate(x[..., :40, :40], scale_factor=0.5),
    "sliced": lambda x: x[..., 4:-4:3, 4:-4:3],
    "from the end": lambda x: x[..., -30:, -30:],
    "branches": lambda x: F.avg_pool2d(x, 3, 2, 1) + F.conv2d(x, ones(1).to(x), stride=2),
    "shuffled": lambda x: F.avg_pool2d(x, 2).unflatten(1, (3, 1)).transpose(1, 2).flatten(1, 2).relu_(),
    "the last channels": lambda x: torch.cat(F.avg_pool2d(x, 3, 3).chunk(3, 1)[::-1], 1),
}


@pytest.mark.parametrize("name", STEPS)
def test_samples_lie_where_their_gradients_come_from(name: str) -> None:
    field = field_of(STEPS[name])
    for k in (3, 4):
        assert centre(STEPS[name], k) == pytest.approx(field.offset + field.scale * k, abs=1e-9)
    assert field.image == 41


def test_a_map_that_cannot_be_followed_is_refused_with_what_lost_it() -> None:
    with pytest.raises(ValueError, match=r"'map'.*through pixel_unshuffle of \[1, 3, 40, 40\].*dissect.placement=even"):
        field_of(lambda x: F.pixel_unshuffle(x, 2), 12, 40)
    with pytest.raises(ValueError, match="cannot be followed through roll"):
        field_of(lambda x: F.avg_pool2d(x, 2).roll(3, 2))
    with pytest.raises(ValueError, match=r"2 pixels apart from pixel 0.5 down.*1 from 0 across: expected the same"):
        field_of(lambda x: F.avg_pool2d(x, (2, 1)))


@pytest.mark.parametrize(
    ("name", "layers"),
    [
        ("alexnet", {"features.0": (4, 3), "features.10": (16, 15)}),
        ("resnet18", {"layer1": (4, 0), "layer4": (32, 0)}),
        ("densenet121", {"features.denseblock1": (4, 0), "features.denseblock4": (32, 14)}),
        ("convnext_tiny", {"features.1": (4, 1.5), "features": (32, 15.5)}),
        ("shufflenet_v2_x0_5", {"conv5": (32, 0)}),
    ],
)
def test_networks_of_a_library_lie_where_kernels_strides_and_padding_say(
    name: str, layers: dict[str, tuple[float, float]]
) -> None:
    """Images are resized to 72 and cut to 64 pixels, of which the network sees the latter."""
    model = cut(getattr(torchvision.models, name)(weights=None), 64, 72)
    modules = {layer: model.network.get_submodule(layer) for layer in layers}
    fields = receptive_fields(model, modules, torch.zeros(1, 3, 48, 48))
    assert {layer: (field.scale, field.offset) for layer, field in fields.items()} == layers
    assert {field.image for field in fields.values()} == {64}


def test_convolutions_that_are_summed_as_products_are_followed() -> None:
    """PartNet's convolutions of one pixel are linear maps of pixels on a processor, behind strides of 2."""
    model = PartNet()
    modules = {name: module for name, module in model.layers.items() if name.startswith("body.5")}
    fields = receptive_fields(model, modules, torch.zeros(1, 3, 64, 64))
    assert modules and {(field.scale, field.offset) for field in fields.values()} == {(16.0, 0.0)}


def test_planted_channels_lie_where_they_were_planted() -> None:
    """Means of two by two pixels, whatever the network before them weighs."""
    model = detectors(PartWorld(("pug", "weimaraner")), per_part=1, unplanted=1)
    field = receptive_fields(model, {"detect": model.layers["detect"]}, torch.zeros(1, 3, 64, 64))["detect"]
    assert (field.scale, field.offset, field.image) == (2, 0.5, 64)


def test_a_map_lies_where_its_samples_are_sensitive() -> None:
    """Kernels that weigh one side alone move a map by what their middles do not say; even ones move nothing."""
    convolution = nn.Conv2d(3, 6, 3, 2, 1, bias=False)
    model = cut(Functional(convolution, 6), 32)
    model.requires_grad_(False)
    module = model.network.get_submodule("map")
    fields = receptive_fields(model, {"map": module}, torch.zeros(1, 3, 32, 32))
    for taps, offset in (((0, 0, 1), 1.0), ((1, 0, 0), -1.0), ((1, 2, 1), 0.0), ((0, 1, 1), 0.5)):
        taps = torch.tensor(taps, dtype=torch.float32)
        convolution.weight.copy_((taps[:, None] * taps)[None, None] * torch.randn(6, 3, 1, 1))
        moved = sensitive_fields(model, {"map": module}, fields, 48, torch.device("cpu"))["map"]
        assert (moved.scale, moved.offset, moved.image) == (2, offset, 32), taps
    convolution.weight.zero_()
    with pytest.raises(ValueError, match=r"gradients by noise are 0: .*dissect.placement=receptive_field"):
        sensitive_fields(model, {"map": module}, fields, 48, torch.device("cpu"))
    convolution.forward = torch.no_grad()(convolution.forward)
    convolution.weight.normal_()
    with pytest.raises(ValueError, match="gradients do not reach the image"):
        sensitive_fields(model, {"map": module}, fields, 48, torch.device("cpu"))


def test_a_relu_in_place_behind_the_layer_does_not_hide_its_gradients() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)
    )
    model, modules = cut(network, 32), {"0": network[0]}
    fields = receptive_fields(model, modules, torch.zeros(1, 3, 32, 32))
    moved = sensitive_fields(model, modules, fields, 32, torch.device("cpu"))["0"]
    assert abs(moved.offset) < 1 and moved.scale == 2


def test_a_bright_spot_is_where_it_was_drawn() -> None:
    """Behind four strides of 2 a spot comes back at its place; laid evenly it is half a cell too far."""
    layers = [nn.Conv2d(3 if k == 0 else 1, 1, 3, 2, 1) for k in range(4)]
    for weight in nn.Sequential(*layers).parameters():
        nn.init.constant_(weight, 0.1 if weight.ndim > 1 else 0.0)
    network = Functional(nn.Sequential(*layers), 1).requires_grad_(False)
    model, image = cut(network, 64), torch.zeros(1, 3, 64, 64)
    image[..., 30:35, 30:35] = 1
    field = receptive_fields(model, {"map": network.map}, image)["map"]
    maps = network.function(image)
    placed, even = (upsample_activations(maps, 64, field=x)[0, 0].sum(0) for x in (field, None))
    middle = [float((x * torch.arange(64)).sum() / x.sum()) for x in (placed, even)]
    assert middle[0] == pytest.approx(32, abs=0.5) and middle[1] == pytest.approx(39.5, abs=0.5)


def test_cells_that_are_finer_than_the_mask_are_averaged_where_they_lie() -> None:
    field = ReceptiveField(2, 0, 16)  # sample 2 reaches from half of pixel 3 to half of pixel 5
    maps = torch.zeros(1, 1, 8, 8)
    maps[..., 2:] = 1
    fade, clamp = (upsample_activations(maps, 4, border, field)[0, 0, 2] for border in ("fade", "clamp"))
    assert fade.tolist() == [0.125, 1, 1, 0.875] and clamp.tolist() == [0.125, 1, 1, 1]
