"""Feature maps of several layers as one stack, whole or projected, and the convolutions behind it (supplement S4)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import reduce
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lis.fingerprint import Fingerprint
from lis.rounding import Conv2d, convolve

SLOPE = 0.2
"""Of every leaky ReLU."""
FIVE = ((128, 1), (64, 2), (64, 1), (32, 2))
"""Channels and dilation of the published program's convolutions, but for the last."""
NETWORKS = ("projected", "three", "five")


def read_layers(names: Sequence[str], every: int) -> tuple[str, ...]:
    """Every so many layers, counted from the last, which shows the image at its resolution.

    Example:
        >>> read_layers(["b4", "b8", "b16", "b32"], 2)
        ('b8', 'b32')
    """
    return tuple(reversed(names[::-1][::every]))


def reduced(x: Tensor, size: int) -> Tensor:
    """A map `[n, channels, h, w]` that is larger than `size` averaged down to it; channels lie innermost."""
    x = x.contiguous(memory_format=torch.channels_last)  # in which averages and convolutions are several times faster
    return F.adaptive_avg_pool2d(x, size) if x.shape[-1] > size else x


def resized(x: Tensor, size: int) -> Tensor:
    """A map at `[n, channels, size, size]`: averaged down, or bilinear up."""
    x = reduced(x, size)
    return x if x.shape[-1] == size else F.interpolate(x, size=(size, size), mode="bilinear", align_corners=False)


class Standardisation(nn.Module):
    """(x − x̄)/σ for every channel of several maps; a channel that never varies becomes 0.

    Args:
        channels: of each map.
    """

    mean: Tensor
    gain: Tensor
    """1/σ, `[all channels]`."""

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        self.channels = list(channels)
        self.register_buffer("mean", torch.zeros(sum(channels)))
        self.register_buffer("gain", torch.ones(sum(channels)))

    @torch.no_grad()
    def fit(self, maps: Iterable[Tensor]) -> None:
        """Take x̄ and σ from maps `[n, channels, h, w]`, over samples and pixels."""
        moments = [_moments(x) for x in maps]
        mean = torch.cat([first for first, _ in moments])
        variance = torch.cat([second for _, second in moments]) - mean.square()
        constant = variance <= 1e-10 * mean.square()
        self.mean.copy_(mean)
        self.gain.copy_(torch.where(constant, 0.0, variance.rsqrt()))

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """The maps, standardised."""
        parts = zip(maps, self.mean.split(self.channels), self.gain.split(self.channels), strict=True)
        return [(x - mean[:, None, None]) * gain[:, None, None] for x, mean, gain in parts]


class Stack(nn.Module):
    """All maps, standardised, resized and stacked: `[n, all channels, size, size]`."""

    def __init__(self, channels: Sequence[int], size: int) -> None:
        super().__init__()
        self.size, self.outputs = size, sum(channels)
        self.standardisation = Standardisation(channels)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Of maps `[n, channels, h, w]`, in the order of `channels`."""
        small = [reduced(x, self.size) for x in maps]
        return torch.cat([resized(x, self.size) for x in self.standardisation(small)], 1)


class Projection(nn.Module):
    """A 1×1 convolution of the stack of all maps, which is never made.

    W·stack(x₁, x₂, …) = Σ Wᵢxᵢ, and a 1×1 convolution commutes with averaging and interpolation. So every map is
    projected where it is smallest (one that is k times as large averaged by the convolution itself, of k×k weights and
    stride k), maps of one size are added, and only the sums are resized.

    Args:
        channels: of each map.
        outputs: channels of the result.
        size: height and width of the result in pixels.
    """

    def __init__(self, channels: Sequence[int], outputs: int, size: int) -> None:
        super().__init__()
        self.size, self.outputs = size, outputs
        self.standardisation = Standardisation(channels)
        self.convolution = nn.Conv2d(sum(channels), outputs, 1, bias=False)
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """`[n, outputs, size, size]` of maps `[n, channels, h, w]`, in the order of `channels`, after a leaky ReLU."""
        weight, bias = self.folded()
        sums: dict[int, Tensor] = {}
        for x, part in zip(maps, weight.split(self.standardisation.channels, 1), strict=True):
            y = self._projected(x, part, None if sums else bias)  # once, since a constant stays when resized
            sums[y.shape[-1]] = sums[y.shape[-1]].add_(y) if y.shape[-1] in sums else y
        whole = reduce(Tensor.add_, [resized(y, self.size) for y in sums.values()])
        return F.leaky_relu_(whole, SLOPE)

    def _projected(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """One map, averaged down where it is larger than `size`."""
        times, rest = divmod(x.shape[-1], self.size)
        if times < 2 or rest or x.shape[-2] != x.shape[-1]:
            return convolve(reduced(x, self.size), weight, bias)
        average = weight.expand(-1, -1, times, times) / times**2
        return convolve(x, average.contiguous(memory_format=torch.channels_last), bias, stride=times)

    def folded(self) -> tuple[Tensor, Tensor]:
        """Weight `[outputs, all channels, 1, 1]` and bias `[outputs]` for maps that are not standardised."""
        scale = self.standardisation
        weight = self.convolution.weight * scale.gain[:, None, None]
        shift = self.bias - weight[:, :, 0, 0] @ scale.mean
        return weight, shift


def three(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """Three 3×3 convolutions inputs → hidden → hidden → outputs, with leaky ReLUs between them."""
    return _convolutions(inputs, [(hidden, 1), (hidden, 1), (outputs, 1)])


def five(inputs: int, outputs: int) -> nn.Sequential:
    """The published program's five 3×3 convolutions inputs → 128 → 64 → 64 → 32 → outputs, dilated 1, 2, 1, 2, 1."""
    return _convolutions(inputs, [*FIVE, (outputs, 1)])


def _convolutions(inputs: int, widths: Sequence[tuple[int, int]]) -> nn.Sequential:
    """3×3 convolutions of some (channels, dilation), which keep the size."""
    layers: list[nn.Module] = []
    for channels, dilation in widths:
        convolution = Conv2d(inputs, channels, 3, padding=dilation, dilation=dilation)
        layers += [convolution, nn.LeakyReLU(SLOPE, inplace=True)]
        inputs = channels
    return nn.Sequential(*layers[:-1])


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean of x and of x² per channel, in float64, one image after the other."""
    images = [image.double().flatten(1) for image in x]
    return torch.stack([v.mean(1) for v in images]).mean(0), torch.stack([v.square().mean(1) for v in images]).mean(0)


class FewShotSegmenter(nn.Module):
    """Convolutions on some of a generator's maps: made again by `FewShotSegmenter(**settings)` and `load_state_dict`.

    Args:
        labels: names of the parts.
        size: height and width in pixels that the maps are read at.
        layers: names of the maps that are read.
        widths: channels of each.
        network: `projected`, `three` or `five`.
        channels: with `projected`, what the maps are projected to.
        hidden: channels between three convolutions.
        enlarge: how many times finer a mask is: the logits are interpolated, so that a border lies between pixels.

    Raises:
        ValueError: no label, no layer, or an unknown network.

    Example:
        >>> segmenter = FewShotSegmenter(["cap", "stem"], 8, ["a", "b"], [4, 2], enlarge=2)
        >>> tuple(segmenter({"a": torch.rand(5, 4, 4, 4), "b": torch.rand(5, 2, 16, 16)}).shape)
        (5, 3, 16, 16)
    """

    def __init__(
        self,
        labels: Sequence[str],
        size: int,
        layers: Sequence[str],
        widths: Sequence[int],
        network: str = "projected",
        channels: int = 32,
        hidden: int = 64,
        enlarge: int = 1,
    ) -> None:
        super().__init__()
        if network not in NETWORKS:
            raise ValueError(f"segmenter.network={network}: expected one of {', '.join(NETWORKS)}")
        if not labels or not layers:
            raise ValueError(f"{len(labels)} labels and {len(layers)} layers: expected one or more of each")
        self.labels, self.size, self.layers = tuple(labels), size * enlarge, tuple(layers)
        self.settings: dict[str, Any] = {"labels": list(labels), "size": size, "layers": list(layers)}
        self.settings |= {"widths": list(widths), "network": network, "channels": channels, "hidden": hidden}
        self.settings |= {"enlarge": enlarge}
        self.reader = Projection(widths, channels, size) if network == "projected" else Stack(widths, size)
        inputs, outputs = self.reader.outputs, 1 + len(labels)
        self.head = five(inputs, outputs) if network == "five" else three(inputs, hidden, outputs)
        self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]: the stubs lack it
        self._fingerprint = Fingerprint()

    @property
    def fingerprint(self) -> str:
        """SHA-256 over weights and settings."""
        return self._fingerprint(self.state_dict(), json.dumps(self.settings))

    def forward(self, maps: Mapping[str, Tensor]) -> Tensor:
        """Logits `[n, 1 + labels, size, size]`, channel 0 background, of maps `[n, channels, h, w]` by layer.

        Raises:
            ValueError: a layer is missing, or has another number of channels.
        """
        self._check(maps)
        return resized(self.head(self.reader([maps[name] for name in self.layers])), self.size)

    def _check(self, maps: Mapping[str, Tensor]) -> None:
        for name, width in zip(self.layers, self.settings["widths"], strict=True):
            if name not in maps or maps[name].shape[1] != width:
                problem = f"has {maps[name].shape[1]} channels" if name in maps else "is missing"
                raise ValueError(
                    f"the map {name!r} {problem}, expected {width} channels: this segmenter was trained on the maps of "
                    "another generator"
                )
