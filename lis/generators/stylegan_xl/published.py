"""The generator that a configuration names: a published file, fetched once, a file of the user's, or random weights.

Random weights need the design of the published networks: how wide their layers are, and which frequencies their filters
pass (Karras et al. 2021, App. C; Sauer et al. 2022).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import torch
from platformdirs import user_cache_path
from scipy.signal import firwin, kaiser_atten, kaiser_beta
from scipy.special import j1
from torch import Tensor

from lis.config import StyleGANXLConfig
from lis.download import download
from lis.generators.stylegan_xl.checkpoint import read_checkpoint
from lis.generators.stylegan_xl.generator import StyleGANXL
from lis.generators.stylegan_xl.geometry import (
    GeneratorSpec,
    InputSpec,
    LayerSpec,
    LinearSpec,
    MappingSpec,
    SynthesisSpec,
)
from lis.imagenet import imagenet_names
from lis.store import sha256

log = logging.getLogger(__name__)
RESOLUTIONS = (16, 32, 64, 128, 256, 512, 1024)
_MARGIN = 10
"""Pixels around a map that are cut off in the end, so that no border is seen."""
_CRITICAL = 2
"""Layers before RGB that use all frequencies up to the image's."""
_FILTER_SIZE = 6
"""Taps of a filter per resampling factor."""
_OVERSAMPLING = 2
"""How much finer than its input and output a map is while the leaky ReLU runs."""
_DRAWS = 64
"""Samples per class behind its mean w."""


def stylegan_xl(
    class_names: Sequence[str],
    weights: str = "published",
    url: str | None = StyleGANXLConfig.url,
    cache: str | None = StyleGANXLConfig.cache,
    entry: str = StyleGANXLConfig.entry,
    resolution: int | None = StyleGANXLConfig.resolution,
    num_classes: int = StyleGANXLConfig.num_classes,
    names: Sequence[str] | None = StyleGANXLConfig.names,
    domain: str = StyleGANXLConfig.domain,
    truncation: float = StyleGANXLConfig.truncation,
    dtype: str = StyleGANXLConfig.dtype,
    compile: str = StyleGANXLConfig.compile,
) -> StyleGANXL:
    """A generator with its weights.

    Args:
        class_names: classes of the run.
        weights: `published`: the file at `url`; `random`: seeded, for tests of shapes and speed; or the path of a
            checkpoint, a published file or what `lis.convert` made of one.
        url: where the file is published, or a mirror.
        cache: folder that it is fetched into; None: that of the user's caches.
        entry: the network's name in a published file.
        resolution: pixels, for random weights.
        num_classes: classes, for random weights.
        names: of the classes, in order; None: ImageNet's for the domain `imagenet`, else `class_0`, `class_1`, ….
        domain: the world that the images show.
        truncation: what samples are drawn with; 1 keeps w, 0 gives the mean of the class.
        dtype: `float32`, or `tf32` (on a GPU) or `bf16` for the convolutions alone.
        compile: `on`, `off`, or `auto`: resampling is compiled where there is a compiler.

    Raises:
        ValueError: the weights cannot be had or read, or a setting does not fit them.
    """
    names = imagenet_names() if names is None and domain == "imagenet" else names
    settings = {"class_names": names, "domain": domain, "truncation": truncation, "dtype": dtype, "compile": compile}
    if weights == "random":
        if resolution is None:
            raise ValueError(
                "gan.weights=random gan.resolution=null: expected the pixels of a published ImageNet network"
            )
        return randomise(StyleGANXL(imagenet(resolution, num_classes), **settings))
    return read_checkpoint(
        fetch(url, cache) if weights == "published" else Path(weights).expanduser(), entry, **settings
    )


def fetch(url: str | None, cache: str | None = None) -> Path:
    """The file at an address, fetched once into a folder and there held against its first checksum ever after.

    Args:
        url: the address; its last part is the file's name.
        cache: the folder; None: `lis` among the user's caches.

    Raises:
        ValueError: the file is not there and cannot be fetched, which says what to put where, or it is not what it was.
    """
    path = cached(url, cache)
    name = path.name
    record = path.with_name(f"{name}.sha256")
    known = record.read_text().strip()[:64] if record.is_file() else ""
    if not path.is_file():
        _download(str(url), path, known)
    digest = sha256(path)
    if known and digest != known:
        raise ValueError(
            f"{path} is not the file that it was: its SHA-256 is {digest}, and {record.name} beside it says {known}. "
            f"Delete {name} to fetch it again, or {record.name} if the file was exchanged on purpose"
        )
    if not known:
        try:
            record.write_text(f"{digest}  {name}\n")
        except OSError as error:  # a folder that many share may be closed to this user
            log.warning("%s cannot be written (%s): it will go unseen if the file changes", record, error.strerror)
    return path


def cached(url: str | None, cache: str | None = None) -> Path:
    """Where the file at an address lies once it is fetched; the arguments are those of `fetch`.

    Raises:
        ValueError: the address names no file.
    """
    if not url:
        raise ValueError("gan.weights=published gan.url=null: expected gan.weights=<path of a checkpoint>")
    name = Path(urlsplit(url).path).name
    if name in ("", ".."):
        raise ValueError(f"gan.url={url} names no file: expected an address that ends in the file's name")
    return (Path(cache).expanduser() if cache else user_cache_path("lis")) / name


def _download(url: str, path: Path, known: str) -> None:
    """Fetch a file whose checksum may be known; what has come of one that breaks off stays, and is gone on with."""
    try:
        download(url, path, known)
    except Exception as error:  # address, TLS, proxy, timeout, checksum: all mean that there is no file to trust
        reason = (str(error).splitlines() or [repr(error)])[0]
        part = path.with_name(f"{path.name}.part")
        raise ValueError(
            f"{path.name} cannot be fetched from {url} ({reason:.300}): put the published file into {path.parent} "
            "under this name, or give gan.weights=<path of a checkpoint>, gan.url=<mirror> or gan.cache=<folder>"
            + (f"; {path.name}.sha256 there holds the checksum that it must have" if known else "")
            + (f"; what has come lies in {part.name}, and the same command goes on from there" * part.is_file())
        ) from error


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
    position: int,
    index: int,
    bands: tuple[_Band, _Band],
    sizes: tuple[int, int],
    widths: Widths,
    w_dim: int,
) -> LayerSpec:
    before, after = bands
    torgb, critical = position == stage.layers, position >= stage.layers - _CRITICAL
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


def randomise(generator: StyleGANXL, seed: int = 0) -> StyleGANXL:
    """Load seeded random weights into a generator, with the filters of its layers' band limits; returns it.

    Weights are standard normal divided by their layer's learning rate multiplier, styles begin at 1, and the mean w of
    each class is that of a fixed draw.
    """
    draw = torch.Generator().manual_seed(seed)
    fixed = _fixed(generator.spec.synthesis.input, draw)
    for layer in generator.spec.synthesis.layers:
        fixed |= {f"synthesis.{layer.name}.{name}": value for name, value in _filters(layer).items()}
    for name, value in generator.state_dict().items():
        if name not in fixed:
            fixed[name] = _drawn(generator, name, tuple(value.shape), draw)
    generator.load(fixed)
    generator.mapping.w_avg.copy_(_mean_w(generator, draw))
    return generator


def design(taps: int, cutoff: float, half_width: float, rate: float, radial: bool) -> Tensor:
    """A low-pass filter by the Kaiser window, `[taps]`, or `[taps, taps]` and radially symmetric; its sum is 1.

    Args:
        taps: length.
        cutoff: where it passes half of the amplitude, cycles per unit length.
        half_width: of the transition band, in the same unit.
        rate: pixels per unit length.
        radial: the windowed jinc function instead of a separable sinc (Karras et al. 2021, App. C.2).
    """
    if not radial:
        return torch.from_numpy(firwin(taps, cutoff, width=2 * half_width, fs=rate)).float()
    position = (np.arange(taps) - (taps - 1) / 2) / rate
    distance = np.pi * np.hypot(*np.meshgrid(position, position))
    window = np.kaiser(taps, kaiser_beta(kaiser_atten(taps, 4 * half_width / rate)))
    kernel = j1(2 * cutoff * distance) / distance * np.outer(window, window)
    return torch.from_numpy(kernel / kernel.sum()).float()


def _filters(spec: LayerSpec) -> dict[str, Tensor]:
    rate = spec.in_sampling_rate * spec.up
    filters = {}
    if spec.up_taps > 1:
        filters["up_filter"] = design(spec.up_taps, spec.in_cutoff, spec.in_half_width, rate, radial=False)
    if spec.down_taps > 1:
        radial = spec.down_radial
        filters["down_filter"] = design(spec.down_taps, spec.out_cutoff, spec.out_half_width, rate, radial)
    return filters


def _fixed(spec: InputSpec, draw: torch.Generator) -> dict[str, Tensor]:
    """The input's frequencies, within its bandwidth, and a transform that begins with none."""
    freqs = torch.randn(spec.channels, 2, generator=draw)
    radius = freqs.norm(dim=1, keepdim=True)
    values = {
        "freqs": freqs / (radius * radius.square().exp().pow(0.25)) * spec.bandwidth,
        "phases": torch.rand(spec.channels, generator=draw) - 0.5,
        "transform": torch.eye(3),
        "affine.weight": torch.zeros(4, spec.affine.in_features),
        "affine.bias": torch.tensor([1.0, 0.0, 0.0, 0.0]),
    }
    return {f"synthesis.input.{name}": value for name, value in values.items()}


def _drawn(generator: StyleGANXL, name: str, shape: tuple[int, ...], draw: torch.Generator) -> Tensor:
    module, last = name.rsplit(".", 1)
    if last == "magnitude_ema" or name.endswith("affine.bias"):
        return torch.ones(shape)
    if last in ("bias", "w_avg"):
        return torch.zeros(shape)
    layer = getattr(generator.get_submodule(module), "spec", None)
    gain = getattr(layer, "weight_gain", 1 / math.sqrt(shape[-1])) * math.sqrt(shape[-1])
    return torch.randn(shape, generator=draw) / gain


def _mean_w(generator: StyleGANXL, draw: torch.Generator) -> Tensor:
    z = torch.randn(_DRAWS, generator.z_dim, generator=draw)
    if not generator.num_classes:
        return generator.mapping.single(z, None).mean(0)
    classes = (torch.full((_DRAWS,), c) for c in range(generator.num_classes))
    return torch.stack([generator.mapping.single(z, c).mean(0) for c in classes])
