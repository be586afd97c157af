"""Random weights for a geometry, as training would begin with: for tests of shapes and speed, never for a finding."""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.signal import firwin, kaiser_atten, kaiser_beta
from scipy.special import j1
from torch import Tensor

from lis.generators.stylegan_xl.generator import StyleGANXL
from lis.generators.stylegan_xl.geometry import InputSpec, LayerSpec

_DRAWS = 64
"""Samples per class behind its mean w."""


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
