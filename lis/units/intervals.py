"""How well mean changes over samples are known, angles among them, and how rare they are among random directions."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lis.quantify.averages import axial_mean
from lis.quantify.ellipse import half_circle
from lis.statistics import interval, percentiles, rows_at_once


def change_interval(change: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """`interval` of mean changes `[n, samples, …, M]`, the angle last, whose ends `axial_interval` gives."""
    linear, angle = interval(change[..., :-1], counts), axial_interval(change[..., -1], counts)
    low, high = (torch.cat([a, b[..., None]], -1) for a, b in zip(linear, angle, strict=True))
    return low, high


def axial_interval(degrees: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """95 % bootstrap interval of the mean direction of axes over the samples, NaN dropped.

    The deviations of the resamples' mean directions from the mean, on the half circle, have these percentiles (Fisher
    1993, §8.3). The ends lie on both sides of the mean, and may leave (−90, 90].

    Args:
        degrees: `[n, samples, …]`.
        counts: of `lis.statistics.resample`, `[resamples, samples]`.

    Returns:
        Lower and upper end, `[n, …]` float32; NaN where fewer than two samples have a value.
    """
    mean = axial_mean(degrees, 1)[0]
    if not degrees.numel():
        return mean, mean
    flat = degrees.reshape(*degrees.shape[:2], math.prod(degrees.shape[2:]))
    block = rows_at_once(flat.shape[2], len(counts))
    blocks = zip(flat.split(block), mean.reshape(len(flat), -1).split(block), strict=True)
    deviations = torch.cat([_axial_deviations(part, around, counts) for part, around in blocks])
    low, high = (deviations.reshape(*mean.shape, 2) + mean[..., None]).unbind(-1)
    return low, high


def _axial_deviations(degrees: Tensor, mean: Tensor, counts: Tensor) -> Tensor:
    """Percentiles `[n, columns, 2]` of how far resampled means lie from `mean [n, columns]`, in degrees."""
    known, doubled = ~degrees.isnan(), torch.deg2rad(2 * degrees)
    x, y = (f(doubled).nan_to_num(0.0).movedim(1, -1) @ counts.T for f in (torch.cos, torch.sin))
    turned = half_circle(torch.rad2deg(torch.atan2(y, x)) / 2 - mean[..., None])
    empty = known.float().movedim(1, -1) @ counts.T == 0
    return percentiles(turned.where(~empty, torch.nan), known)


def p_null(observed: Tensor, null: Tensor) -> Tensor:
    """How often a random direction does at least as much: (k + 1) / (n + 1) (Davison & Hinkley 1997, §4.2.5).

    k of n random directions have an absolute value of at least the observed one's; NaN is left out.

    Args:
        observed: `[n, …]`.
        null: `[directions, …]`, the other axes as in `observed`.

    Returns:
        `[n, …]` in (0, 1]; NaN where there is nothing observed, or nothing to compare with.

    Example:
        >>> p_null(torch.tensor([2.5, -0.5]), torch.tensor([1.0, -2.0, 3.0]))
        tensor([0.5000, 1.0000])
    """
    known = ~null.isnan()
    ordered = null.abs().where(known, -1.0).movedim(0, -1).contiguous().sort(-1).values
    size = observed.abs().movedim(0, -1).contiguous()
    larger = len(null) - torch.searchsorted(ordered, size)
    total = known.sum(0)[..., None]
    p = (larger + 1) / (total + 1)
    return p.where(~size.isnan() & (total > 0), torch.nan).movedim(-1, 0)
