"""Layouts of the published ImageNet networks, for random weights: a stem of 16 pixels and heads that double the size.

Rules: Karras et al. 2021 (Sec. 3.2, App. C) for the band limits, Sauer et al. 2022 (Sec. 3.4) for the heads. A
checkpoint is never rebuilt from them; it states its own geometry.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from lis.generators.stylegan_xl.geometry import (
    GeneratorSpec,
    InputSpec,
    LayerSpec,
    LinearSpec,
    MappingSpec,
    SynthesisSpec,
)

RESOLUTIONS = (16, 32, 64, 128, 256, 512, 1024)
_MARGIN = 10
"""Pixels around a map that are cut off in the end, so that no border is seen."""
_CRITICAL = 2
"""Layers before RGB that use all frequencies up to the image's."""
_FILTER_SIZE = 6
"""Taps of a filter per resampling factor."""
_OVERSAMPLING = 2
"""How much finer than its input and output a map is while the leaky ReLU runs."""


@dataclass(frozen=True)
class Stage:
    """The layers of one size: those of the stem, or those of a head that is put on it.

    Args:
        resolution: of the image that they end in, pixels.
        layers: convolutions before RGB.
        kernel: of their convolutions.
        radial: filters after the leaky ReLU are radially symmetric.
    """

    resolution: int
    layers: int
    kernel: int
    radial: bool


@dataclass(frozen=True)
class Widths:
    """Channels of a layer: `base` / 2 / its cutoff, at most `maximum`."""

    base: int = 65536
    maximum: int = 1024

    def at(self, cutoff: float) -> int:
        """Channels of a layer that passes frequencies up to the cutoff."""
        return round(min(self.base / 2 / cutoff, self.maximum))


@dataclass(frozen=True)
class _Band:
    """What a map holds: frequencies up to the cutoff, none above cutoff + half width."""

    cutoff: float
    half_width: float
    sampling_rate: int


def imagenet256() -> GeneratorSpec:
    """The network of the published `imagenet256.pkl`: 166.27 M parameters, 32 ws."""
    return imagenet(256)


def imagenet(resolution: int, classes: int = 1000) -> GeneratorSpec:
    """The network of the published ImageNet file of that resolution.

    Args:
        resolution: 16 … 1024 pixels, a power of two.
        classes: 0 for a network without.

    Raises:
        ValueError: another resolution.
    """
    if resolution not in RESOLUTIONS:
        raise ValueError(f"no network was published at {resolution} pixels: expected one of {RESOLUTIONS}")
    stages = [Stage(16, 10, kernel=1, radial=True)]
    stages += [Stage(size, 7, kernel=3, radial=False) for size in RESOLUTIONS[1:] if size <= resolution]
    synthesis = stack(stages, Widths(), w_dim=512)
    return GeneratorSpec(mapping_of(64, classes, 512, len(synthesis.layers) + 1, (classes or 1000, 320)), synthesis)


def mapping_of(z_dim: int, c_dim: int, w_dim: int, num_ws: int, embedding: tuple[int, int]) -> MappingSpec:
    """A mapping of two layers with learning rate multiplier 0.01; an embedding is projected to the width of z."""
    projection = _linear(embedding[1], z_dim, activation="lrelu") if c_dim else None
    width = z_dim * (2 if c_dim else 1)
    layers = tuple(_linear(n, w_dim, 0.01, "lrelu") for n in (width, w_dim))
    return MappingSpec(z_dim, c_dim, w_dim, num_ws, embedding, projection, layers)


def stack(stages: Sequence[Stage], widths: Widths, w_dim: int) -> SynthesisSpec:
    """The stem, and on it one head per further stage.

    A head takes the place of the critically sampled layers and of RGB of what is below, and one index is skipped before
    the first.
    """
    first = stages[0]
    bands = _bands(_Band(2.0, 2**2.1 - 2.0, first.resolution), first)
    layers = _layers(first, bands[0], bands, 0, widths, w_dim)
    for stage in stages[1:]:
        layers = layers[: -_CRITICAL - 1]
        below = _Band(layers[-1].out_cutoff, layers[-1].out_half_width, layers[-1].out_sampling_rate)
        start = _Band(below.cutoff, below.sampling_rate / 2 - below.cutoff, below.sampling_rate)
        layers += _layers(stage, below, _bands(start, stage), len(layers) + 1, widths, w_dim)
    affine = _linear(w_dim, 4)
    lowest = layers[0]
    source = InputSpec(lowest.in_channels, lowest.in_size, float(lowest.in_sampling_rate), bands[0].cutoff, affine)
    return SynthesisSpec(stages[-1].resolution, 3, 0.25, source, tuple(layers))


def _bands(start: _Band, stage: Stage) -> list[_Band]:
    """Cutoffs and stop bands in geometric progression up to the critically sampled layers (Karras et al., App. C.1)."""
    first = start.cutoff, start.cutoff + start.half_width
    last = stage.resolution / 2, stage.resolution / 2 * 2**0.3
    bands = []
    for i in range(stage.layers + 1):
        exponent = min(i / (stage.layers - _CRITICAL), 1)
        cutoff, stop = (a * (b / a) ** exponent for a, b in zip(first, last, strict=True))
        rate = 2 ** math.ceil(math.log2(min(2 * stop, stage.resolution)))
        bands.append(_Band(cutoff, max(stop, rate / 2) - cutoff, rate))
    return bands


def _layers(
    stage: Stage, below: _Band, bands: Sequence[_Band], index: int, widths: Widths, w_dim: int
) -> list[LayerSpec]:
    before = [below, *bands[:-1]]
    sizes = [band.sampling_rate + 2 * _MARGIN for band in bands]
    sizes[-2:] = [stage.resolution] * 2
    in_sizes = [below.sampling_rate + 2 * _MARGIN, *sizes[:-1]]
    return [
        _layer(stage, i, index + i, (before[i], bands[i]), (in_sizes[i], sizes[i]), widths, w_dim)
        for i in range(stage.layers + 1)
    ]


def _layer(
    stage: Stage,
    place: int,
    index: int,
    bands: tuple[_Band, _Band],
    sizes: tuple[int, int],
    widths: Widths,
    w_dim: int,
) -> LayerSpec:
    before, after = bands
    torgb, critical = place == stage.layers, place >= stage.layers - _CRITICAL
    between = max(before.sampling_rate, after.sampling_rate) * (1 if torgb else _OVERSAMPLING)
    up, down = between // before.sampling_rate, between // after.sampling_rate
    up_taps, down_taps = (_FILTER_SIZE * factor if factor > 1 and not torgb else 1 for factor in (up, down))
    kernel = 1 if torgb else stage.kernel
    channels = 3 if torgb else widths.at(after.cutoff)
    in_channels = widths.at(before.cutoff)
    return LayerSpec(
        name=f"L{index}_{sizes[1]}_{channels}",
        in_channels=in_channels,
        out_channels=channels,
        in_size=sizes[0],
        out_size=sizes[1],
        in_sampling_rate=before.sampling_rate,
        out_sampling_rate=after.sampling_rate,
        kernel=kernel,
        up=up,
        up_taps=up_taps,
        down=down,
        down_taps=down_taps,
        down_radial=stage.radial and not critical,
        padding=_padding(sizes, kernel, (up, up_taps), (down, down_taps)),
        clamp=256.0,
        torgb=torgb,
        affine=_linear(w_dim, in_channels),
        in_cutoff=before.cutoff,
        out_cutoff=after.cutoff,
        in_half_width=before.half_width,
        out_half_width=after.half_width,
    )


def _padding(sizes: tuple[int, int], kernel: int, up: tuple[int, int], down: tuple[int, int]) -> tuple[int, int]:
    """What makes the map come out at its size, with the surplus behind."""
    total = (sizes[1] - 1) * down[0] + 1 - (sizes[0] + kernel - 1) * up[0] + up[1] + down[1] - 2
    before = (total + up[0]) // 2
    return before, total - before


def _linear(in_features: int, out_features: int, rate: float = 1.0, activation: str = "linear") -> LinearSpec:
    """With weights that are stored divided by the learning rate multiplier."""
    return LinearSpec(in_features, out_features, rate / math.sqrt(in_features), rate, activation)
