"""How well means over samples are known (bootstrap), and how rare they are among random directions."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

RESAMPLES = 1000
_QUANTILES = (0.025, 0.975)
_AT_ONCE = 2**22
"""Resampled means in memory at once."""


def resample(samples: int, rng: np.random.Generator, resamples: int = RESAMPLES) -> Tensor:
    """How often each sample is drawn in each bootstrap resample, `[resamples, samples]` float32."""
    return torch.from_numpy(rng.multinomial(samples, np.full(samples, 1 / samples), resamples)).float()


def interval(values: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """95 % percentile bootstrap interval of the mean over the samples, NaN dropped (Efron 1979).

    All values see the same resamples.

    Args:
        values: `[n, samples, …]`.
        counts: of `resample`, `[resamples, samples]`.

    Returns:
        Lower and upper end, `[n, …]` float32; NaN where fewer than two samples have a value.

    Example:
        >>> low, high = interval(torch.zeros(1, 5), resample(5, np.random.default_rng(0)))
        >>> low.tolist(), high.tolist()
        ([0.0], [0.0])
    """
    if not values.numel():
        return values.sum(1), values.sum(1)
    flat = values.reshape(*values.shape[:2], math.prod(values.shape[2:]))
    block = max(1, _AT_ONCE // (flat.shape[2] * len(counts)))
    ends = torch.cat([_ends(part, counts) for part in flat.split(block)])
    low, high = ends.reshape(len(values), *values.shape[2:], 2).unbind(-1)
    return low, high


def _ends(values: Tensor, counts: Tensor) -> Tensor:
    """Both ends `[n, columns, 2]` of `values [n, samples, columns]`."""
    known = ~values.isnan()
    rows = values.nan_to_num(0.0).movedim(1, -1) @ counts.T
    means = rows / (known.float().movedim(1, -1) @ counts.T)
    ends = means.nanquantile(means.new_tensor(_QUANTILES), dim=-1).movedim(0, -1)
    return ends.where(known.sum(1)[..., None] > 1, torch.nan)


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
