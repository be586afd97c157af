"""Statistics that several stages share: the bootstrap, intervals of shares, many tests at once, correlations."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.stats import binomtest, false_discovery_control, rankdata
from torch import Tensor

RESAMPLES = 1000
SIGNIFICANT = 0.05
"""Largest p, or q where many are tested, at which something is called significant."""
AT_ONCE = 2**22
"""Resampled means, or draws, in memory at once."""
_QUANTILES = (0.025, 0.975)
Array = NDArray[np.floating]


def resample(samples: int, rng: np.random.Generator, resamples: int = RESAMPLES) -> Tensor:
    """How often each sample is drawn in each bootstrap resample, `[resamples, samples]` float32.

    Example:
        >>> resample(5, np.random.default_rng(0), 3).sum(1)
        tensor([5., 5., 5.])
    """
    draws = (rng.integers(samples, size=samples) for _ in range(resamples))
    counts = [np.bincount(drawn, minlength=samples).astype(np.float32) for drawn in draws]
    return torch.from_numpy(np.stack(counts))


def interval(values: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """95 % percentile bootstrap interval of the mean over the samples, NaN dropped (Efron 1979).

    All values see the same resamples: the intervals of paired values are paired too.

    Args:
        values: `[n, samples, …]` float32 or float64.
        counts: of `resample`, `[resamples, samples]`.

    Returns:
        Lower and upper end, `[n, …]` in the dtype of the values; NaN where fewer than two samples have a value.

    Example:
        >>> low, high = interval(torch.zeros(1, 5), resample(5, np.random.default_rng(0)))
        >>> low.tolist(), high.tolist()
        ([0.0], [0.0])
    """
    if not values.numel():
        return values.sum(1), values.sum(1)
    flat = values.reshape(*values.shape[:2], math.prod(values.shape[2:]))
    parts = flat.split(rows_at_once(flat.shape[2], len(counts)))
    ends = torch.cat([percentiles(_means(part, counts), ~part.isnan()) for part in parts])
    low, high = ends.reshape(len(values), *values.shape[2:], 2).unbind(-1)
    return low, high


def bootstrap(values: Tensor, rng: np.random.Generator, resamples: int = RESAMPLES) -> tuple[Tensor, Tensor]:
    """`interval` of one table `[samples, columns]`, with any number of resamples: they are drawn in parts.

    Returns:
        Lower and upper end, `[columns]`.
    """
    part = max(1, AT_ONCE // len(values))
    sizes = [min(part, resamples - start) for start in range(0, resamples, part)]
    means = [_means(values[None], resample(len(values), rng, size)) for size in sizes]
    low, high = percentiles(torch.cat(means, -1), ~values[None].isnan())[0].unbind(-1)
    return low, high


def rows_at_once(columns: int, resamples: int) -> int:
    """Of how many rows of values all resampled means are held at once."""
    return max(1, AT_ONCE // (columns * resamples))


def _means(values: Tensor, counts: Tensor) -> Tensor:
    """Mean of every resample, `[n, columns, resamples]`, of `values [n, samples, columns]`."""
    times = counts.to(values.dtype).T
    sums = values.nan_to_num(0.0).movedim(1, -1) @ times
    return sums / ((~values.isnan()).to(values.dtype).movedim(1, -1) @ times)


def percentiles(resampled: Tensor, known: Tensor) -> Tensor:
    """Both ends `[n, columns, 2]` of a 95 % interval; NaN where fewer than two samples are known.

    Args:
        resampled: a statistic of every resample, `[n, columns, resamples]`; NaN is dropped.
        known: which samples have a value, `[n, samples, columns]` bool.
    """
    ends = resampled.nanquantile(resampled.new_tensor(_QUANTILES), dim=-1).movedim(0, -1)
    return ends.where(known.sum(1)[..., None] > 1, torch.nan)


def benjamini_hochberg(p: np.ndarray) -> np.ndarray:
    """q of many tests, `[n]`: p adjusted for the false discovery rate (Benjamini & Hochberg 1995); NaN stays.

    Example:
        >>> benjamini_hochberg(np.array([0.01, np.nan, 0.04])).tolist()
        [0.02, nan, 0.04]
    """
    q, known = np.full(len(p), np.nan), ~np.isnan(p)
    if known.any():
        q[known] = false_discovery_control(p[known])
    return q


def wilson(retained: int, n: int) -> tuple[float, float]:
    """95 % Wilson interval of the share `retained / n`.

    Example:
        >>> [round(bound, 3) for bound in wilson(9, 10)]
        [0.596, 0.982]
    """
    interval = binomtest(retained, n).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)


def retention(names: tuple[str, ...], class_index: np.ndarray, retained: np.ndarray) -> pd.DataFrame:
    """Share of samples that keep their class, by class and for "all": class, kept, low, high, n (Wilson 95 %)."""
    groups = [(name, retained[class_index == c]) for c, name in enumerate(names)] + [("all", retained)]
    rows = [(name, subset.mean(), *wilson(int(subset.sum()), len(subset)), len(subset)) for name, subset in groups]
    return pd.DataFrame(rows, columns=["class", "kept", "low", "high", "n"])


def pearson(a: Array, b: Array) -> Array:
    """Pearson's r along the first axis of `a` and `b [n, …]`, over the rows that both have.

    Returns:
        `[…]` in [-1, 1]; NaN for fewer than three rows, or where one side does not vary.

    Example:
        >>> pearson(np.array([1.0, 2.0, 3.0, np.nan]), np.array([2.0, 4.0, 6.0, 0.0])).round(6).item()
        1.0
    """
    a, b = _centred(a, b), _centred(b, a)
    scale = np.sqrt((a**2).sum(0) * (b**2).sum(0))
    return np.divide((a * b).sum(0), scale, out=np.full(scale.shape, np.nan), where=scale > 0)


def spearman(a: Array, b: Array) -> Array:
    """Spearman's rank correlation, in the manner of `pearson`; ties share their mean rank."""
    return pearson(_ranks(a, b), _ranks(b, a))


def _centred(a: Array, b: Array) -> Array:
    """`a` around its mean over the rows that both have, 0 in the others; all 0 where it does not vary."""
    a = np.asarray(a, np.float64)
    both = ~(np.isnan(a) | np.isnan(b))
    count = both.sum(0)
    a = np.where(both, a, 0.0)
    centred = np.where(both, a - a.sum(0) / np.maximum(count, 1), 0.0)
    flat = np.abs(centred).max(0, initial=0) <= 1e-12 * np.abs(a).max(0, initial=0)
    return np.where(flat | (count < 3), 0.0, centred)


def _ranks(a: Array, b: Array) -> Array:
    """Ranks of `a` among the rows that both have; NaN in the others."""
    missing = np.isnan(a) | np.isnan(b)
    return np.where(missing, np.nan, rankdata(np.where(missing, np.inf, a), axis=0))
