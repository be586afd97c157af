"""PartNet: a small residual network over all fifteen classes of part world."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from lis.classifiers.cut import examine
from lis.config import PartNetConfig
from lis.generators.partworld.world import SETS
from lis.rounding import Conv2d, linear

CLASSES = tuple(name for figures in SETS.values() for name in figures.classes)
"""Class names in the order of the logits."""
WEIGHTS = Path(__file__).parent / "weights"
TASKS = ("classes", "attributes")
_WIDTHS = (16, 16, 32, 64, 256)
"""Channels of the stem and of the four blocks; the last one is the width of the penultimate layer."""


class ResidualBlock(nn.Module):
    """Two batch-normalised 3×3 convolutions and a shortcut (He et al. 2016)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = _conv(inputs, outputs, 3, stride)
        self.second = _conv(outputs, outputs, 3, 1)
        same = inputs == outputs and stride == 1
        self.shortcut = nn.Identity() if same else _conv(inputs, outputs, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        """`[n, inputs, h, w]` → `[n, outputs, h / stride, w / stride]`, ≥ 0."""
        return self.second(self.first(x).relu_()).add_(self.shortcut(x)).relu_()


class PartNetwork(nn.Module):
    """Image `[n, 3, 64, 64]` in [-1, 1] → 256 penultimate units, each ≥ 0 → a logit per class.

    Args:
        outputs: number of logits.
    """

    def __init__(self, outputs: int = len(CLASSES)) -> None:
        super().__init__()
        stem, *widths = _WIDTHS
        blocks = [
            ResidualBlock(i, o, 1 if k == 0 else 2) for k, (i, o) in enumerate(zip(_WIDTHS, widths, strict=False))
        ]
        self.body = nn.Sequential(_conv(3, stem, 3, 2), nn.ReLU(inplace=True), *blocks)
        self.head = nn.Linear(widths[-1], outputs)

    def features(self, image: Tensor) -> Tensor:
        """Penultimate activations: ReLU'd maps of 4×4 px, averaged."""
        return self.body(image).mean((2, 3))

    def forward(self, image: Tensor) -> Tensor:
        """Logits `[n, outputs]`."""
        return self.head(self.features(image))


def read_network(path: Path) -> dict[str, Tensor]:
    """State of a `PartNetwork` from its half-precision file."""
    return {name: v.float() if v.is_floating_point() else v for name, v in load_file(path).items()}


class PartNet(nn.Module):
    """PartNet with the weights that come with the package, as a `Classifier`.

    Args:
        task: `classes`, trained on class labels alone; `attributes`, trained on the classes and on one binary attribute
            per factor of the figure (is it above its middle?).

    Raises:
        ValueError: an unknown task, or images that are not 64×64.
    """

    domain = "partworld"

    def __init__(self, task: str = PartNetConfig.task) -> None:
        super().__init__()
        if task not in TASKS:
            raise ValueError(f"classifier.task must be one of {', '.join(TASKS)}, got {task!r}")
        path = WEIGHTS / f"partnet_{task}.safetensors"
        self.network = PartNetwork()
        self.network.load_state_dict(read_network(path))
        _fold(self.network)
        self.network.to(memory_format=torch.channels_last)
        last = self.network.body[-1].to(memory_format=torch.contiguous_format)  # faster on maps of 4×4 px
        last.register_forward_pre_hook(_channels_outermost)
        self.requires_grad_(False).eval()
        self.class_names, self.units = CLASSES, _WIDTHS[-1]
        self.fingerprint = hashlib.sha256(path.read_bytes()).hexdigest()
        anatomy = examine(self.network, 64, "partnet")
        self.layers = {name: self.network.get_submodule(name) for name in anatomy.layers}
        self.cam_layer = anatomy.cam_layer

    def features(self, image: Tensor) -> Tensor:
        """r `[n, 256]`, ≥ 0, of images `[n, 3, 64, 64]` in [-1, 1]."""
        if image.shape[1:] != (3, 64, 64):
            raise ValueError(f"partnet takes images [n, 3, 64, 64], got {tuple(image.shape)}")
        return self.network.features(image)

    def head(self, r: Tensor) -> Tensor:
        """Logits `[n, 15]` of `r [n, 256]`."""
        return linear(r, self.network.head.weight, self.network.head.bias)

    def forward(self, image: Tensor) -> Tensor:
        """Logits `[n, 15]` of images."""
        return self.head(self.features(image))


def _fold(network: nn.Module) -> None:
    """Multiplies every batch normalisation into the convolution before it, once and for all: 10 to 15 % of the time."""
    network.eval()
    for name, child in list(network.named_children()):
        match list(child.children()):
            case [nn.Conv2d() as convolution, nn.BatchNorm2d() as normalisation]:
                setattr(network, name, fuse_conv_bn_eval(convolution, normalisation))
            case _:
                _fold(child)


def _channels_outermost(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(x.contiguous() for x in inputs)


def _conv(inputs: int, outputs: int, kernel: int, stride: int) -> nn.Sequential:
    return nn.Sequential(Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(outputs))
