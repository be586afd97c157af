"""A small style-based convolutional generator (after Karras et al. 2020): factors → styles → image.

A learned 4×4 constant runs through modulated, demodulated convolutions and is upsampled to 64×64; every resolution adds
to an RGB image. The factors are read from w by the world's exact inverse, so the same weights serve both modes.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lis.generators.layers import edited_map, requested_layers
from lis.rounding import convolve, linear
from lis.types import Edits

CHANNELS = (64, 64, 48, 32, 16)
"""Feature channels at 4, 8, 16, 32 and 64 px."""
_HIDDEN = 128
_GAIN = 1.6
"""Gain after demodulation: keeps activations near unit scale through leaky ReLUs of slope 0.2."""


class ModulatedConv(nn.Module):
    """Convolution whose input channels are scaled by a style; optionally demodulated to unit expected output.

    What depends on the style alone is computed in the style's dtype and rounded to that of the maps.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, style: int, demodulate: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel) * 1.3 / math.sqrt(inputs * kernel**2))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.scale = nn.Linear(style, inputs)
        nn.init.normal_(self.scale.weight, 0.0, 0.5 / math.sqrt(style))
        nn.init.ones_(self.scale.bias)
        self.demodulate, self.padding = demodulate, kernel // 2

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        """`x [n, inputs, h, w]`, `style [n, style]` → `[n, outputs, h, w]`."""
        scale = linear(style, self.scale.weight, self.scale.bias)
        if not self.padding:
            return self._mixed(x, scale.to(x.dtype))
        y = convolve(x * scale.to(x.dtype)[:, :, None, None], self.weight, padding=self.padding)
        if self.demodulate:
            power = linear(scale.square(), self.weight.square().sum((2, 3)))
            y = y * (_GAIN * torch.rsqrt(power + 1e-6)).to(x.dtype)[:, :, None, None]
        return y + self.bias[:, None, None]

    def _mixed(self, x: Tensor, scale: Tensor) -> Tensor:
        """A kernel of one pixel: every image's channels times a matrix of its own."""
        matrix = self.weight.flatten(1) * scale[:, None]
        return torch.bmm(matrix, x.flatten(2)).unflatten(2, x.shape[2:]) + self.bias[:, None, None]


class Block(nn.Module):
    """Two modulated convolutions at one resolution and their share of the image."""

    def __init__(self, inputs: int, outputs: int, style: int) -> None:
        super().__init__()
        self.first = ModulatedConv(inputs, outputs, 3, style)
        self.second = ModulatedConv(outputs, outputs, 3, style)
        self.to_rgb = ModulatedConv(outputs, 3, 1, style, demodulate=False)
        self.to_rgb.weight.data.mul_(0.2)

    def forward(self, x: Tensor, style: Tensor, name: str, edits: Edits) -> tuple[Tensor, Tensor, Tensor]:
        """Both feature maps, `name.0` and `name.1` in `edits`, and the RGB increment."""
        first = edited_map(f"{name}.0", F.leaky_relu(self.first(x, style), 0.2), edits)
        second = edited_map(f"{name}.1", F.leaky_relu(self.second(first, style), 0.2), edits)
        return first, second, self.to_rgb(second, style)


class StyleNetwork(nn.Module):
    """Latent factors `u [n, factors]` → image `[n, 3, 64, 64]` and the feature maps of every layer."""

    def __init__(self, factors: int, channels: tuple[int, ...] = CHANNELS) -> None:
        super().__init__()
        self.styles = nn.Sequential(
            nn.Linear(factors, _HIDDEN), nn.LeakyReLU(0.2), nn.Linear(_HIDDEN, _HIDDEN), nn.LeakyReLU(0.2)
        )
        self.constant = nn.Parameter(torch.randn(1, channels[0], 4, 4))
        inputs = (channels[0], *channels[:-1])
        self.blocks = nn.ModuleList(Block(i, o, _HIDDEN + factors) for i, o in zip(inputs, channels, strict=True))

    def forward(self, u: Tensor, edits: Edits | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        """The image is centred on 0 and not clamped; layers are named as in `layer_names`.

        Raises:
            ValueError: an edit of an unknown layer, or one that gives another shape.
        """
        edits = edits or {}
        requested_layers(edits.keys(), self.layer_names)
        style = self._style(u.double())
        x = self.constant.expand(len(u), -1, -1, -1)
        image, maps = torch.zeros((), device=u.device), {}
        for i, block in enumerate(self.blocks):
            if i:
                x, image = _double(x), _double(image)
            first, x, rgb = block(x, style, f"b{4 << i}", edits)
            image = image + rgb
            maps |= {f"b{4 << i}.0": first, f"b{4 << i}.1": x}
        return image, maps

    @property
    def layer_names(self) -> tuple[str, ...]:
        """`b4.0`, `b4.1`, … `b64.1`: two per resolution, in order."""
        return tuple(f"b{4 << i}.{k}" for i in range(len(self.blocks)) for k in (0, 1))

    def _style(self, u: Tensor) -> Tensor:
        """`[n, hidden + factors]` in u's dtype."""
        style = u
        for layer in self.styles:
            style = linear(style, layer.weight, layer.bias) if isinstance(layer, nn.Linear) else layer(style)
        return torch.cat([style, u], 1)


def _double(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
