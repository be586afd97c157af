"""Correlations between columns, where some values are missing."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

Array = NDArray[np.floating]


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
