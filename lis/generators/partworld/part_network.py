"""A small U-Net that segments the parts of part world in an RGB image.

`lis.segmentation` reads the generator's feature maps and is circular where those maps are edited; this network sees the
image alone, so that it measures what an edit did to the picture (a U-Net after Ronneberger et al. 2015).
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from lis.generators.partworld.world import SETS, world
from lis.rounding import Conv2d, linear

WEIGHTS = Path(__file__).parent / "weights"
SIDE = 64
"""Height and width of the images, in pixels."""
ENCODER = (12, 24, 48, 48)
"""Channels at 64, 32, 16 and 8 px on the way down."""
DECODER = (12, 16, 32)
"""Channels at 64, 32 and 16 px on the way up."""


class PartUNet(nn.Module):
    """Image `[n, 3, 64, 64]` in [-1, 1] → part logits `[n, 1 + labels, 64, 64]`, channel 0 the background.

    Args:
        labels: names of the parts, in the order of the channels.
    """

    def __init__(self, labels: tuple[str, ...]) -> None:
        super().__init__()
        self.labels = labels
        self.down = nn.ModuleList(
            [
                _conv(3, ENCODER[0]),
                nn.Sequential(_conv(ENCODER[0], ENCODER[1], 2), _conv(ENCODER[1], ENCODER[1])),
                nn.Sequential(_conv(ENCODER[1], ENCODER[2], 2), _conv(ENCODER[2], ENCODER[2])),
                _conv(ENCODER[2], ENCODER[3], 2),
            ]
        )
        below = (*DECODER[1:], ENCODER[-1])
        skips = ENCODER[:-1]
        self.up = nn.ModuleList(_conv(b + s, o) for b, s, o in zip(below, skips, DECODER, strict=True))
        self.classify = nn.Linear(DECODER[0], 1 + len(labels))

    def forward(self, image: Tensor) -> Tensor:
        """Logits of every pixel.

        Raises:
            ValueError: images that are not 64×64.
        """
        if image.shape[1:] != (3, SIDE, SIDE):
            raise ValueError(
                f"part world's parts are segmented in images [n, 3, {SIDE}, {SIDE}], got {tuple(image.shape)}; "
                f"resize them to {SIDE} px"
            )
        skips, x = [], image
        for block in self.down:
            x = block(x)
            skips.append(x)
        for block, skip in zip(reversed(self.up), skips[-2::-1], strict=True):
            x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
            x = block(torch.cat([x, skip], 1))
        pixels = x.permute(0, 2, 3, 1)
        return linear(pixels, self.classify.weight, self.classify.bias).permute(0, 3, 1, 2)

    @torch.no_grad()
    def segment(self, image: Tensor) -> Tensor:
        """The most probable part of every pixel, `[n, 64, 64]` int64: 0 background, k = `labels[k - 1]`."""
        return self(image).argmax(1)


def _conv(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU())


def weights_path(figures: str) -> Path:
    """Path of the weights of a set."""
    return WEIGHTS / f"parts_{figures}.safetensors"


def load_part_network(figures: str) -> PartUNet:
    """The network of a set with the weights that come with the package, in evaluation mode.

    Args:
        figures: `dogs`, `fungi` or `birds`.

    Raises:
        ValueError: an unknown set, or no weights come for this one.
    """
    network, path = PartUNet(world(figures).figures.labels), weights_path(figures)
    if not path.exists():
        available = ", ".join(name for name in SETS if weights_path(name).exists()) or "none"
        raise ValueError(
            f"no network segments the parts of {figures}, expected one of: {available}; "
            f"train it: python experiments/partworld/train_parts.py {figures}"
        )
    state = load_file(path).items()
    network.load_state_dict({name: v.float() if v.is_floating_point() else v for name, v in state})
    return network.requires_grad_(False).eval()


def part_index(masks: Tensor) -> Tensor:
    """The part that covers most of every pixel, `[n, h, w]` int64, of shares `[n, labels, h, w]`; 0 is background.

    Example:
        >>> part_index(torch.tensor([0.1, 0.6]).view(1, 2, 1, 1)).item()
        2
    """
    return torch.cat([1 - masks.sum(1, keepdim=True), masks], 1).argmax(1)


def part_iou(predicted: Tensor, true: Tensor, labels: int) -> Tensor:
    """I / (A + G − I) of every part over all images, `[1 + labels]` float64, background first.

    A part that neither has is NaN.

    Args:
        predicted: `[n, h, w]` int64.
        true: `[n, h, w]` int64.
        labels: number of parts.
    """
    count = labels + 1
    confusion = torch.bincount((true * count + predicted).flatten(), minlength=count**2).view(count, count).double()
    intersection = confusion.diagonal()
    return intersection / (confusion.sum(0) + confusion.sum(1) - intersection)
