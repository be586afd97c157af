"""What a similarity is by chance: permutations of samples (Mantel 1967) and of class labels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]
Indices = NDArray[np.integer[Any]]
_TIE = 1e-12
"""Two correlations that differ by less are equal."""


def shuffles(groups: Indices, count: int, rng: np.random.Generator) -> Indices:
    """Permutations of n samples that exchange them within their groups alone.

    Args:
        groups: group of each sample, `[n]`; all 0: any sample takes any other's place.
        count: how many.
        rng: draws them.

    Returns:
        `[count, n]`: which sample takes the place of each.

    Example:
        >>> shuffles(np.array([0, 0, 1]), 2, np.random.default_rng(2)).tolist()
        [[0, 1, 2], [1, 0, 2]]
    """
    result = np.empty((count, len(groups)), np.int64)
    for group in np.unique(groups):
        members = np.flatnonzero(groups == group)
        result[:, members] = rng.permuted(np.tile(members, (count, 1)), axis=1)
    return result


def mantel(a: Array, b: Array, orders: Indices) -> Array:
    """Correlations of a matrix with another one whose samples are permuted (Mantel 1967, *Cancer Research* 27).

    Args:
        a: symmetric, `[n, n]`; the diagonal is not looked at.
        b: of the same samples.
        orders: of `shuffles`, `[count, n]`.

    Returns:
        Pearson's r between the upper triangles of a and of b in every order, `[count]`; NaN where a or b holds NaN, or
        all of its pairs are alike.
    """
    a, b = _standardised(a), _standardised(b)
    return np.array([np.vdot(a, b[order][:, order]) for order in orders])


def _standardised(matrix: Array) -> Array:
    """Off-diagonal entries with mean 0 and sum of squares 1, and a diagonal of 0."""
    off = ~np.eye(len(matrix), dtype=bool)
    centred = np.where(off, matrix - matrix[off].mean(), 0.0)
    scale = np.linalg.norm(centred)
    return centred / scale if scale > 0 else np.full_like(centred, np.nan)


def rand_index(labels: Indices, clusters: Indices) -> Array:
    """Adjusted Rand index (Hubert & Arabie 1985) of several labellings with one clustering.

    (Σ C(n_ij, 2) − E) / (M − E), with E = Σ C(a_i, 2) Σ C(b_j, 2) / C(n, 2) and M the mean of these two sums.

    Args:
        labels: `[count, n]`, from 0.
        clusters: `[n]`, from 0.

    Returns:
        `[count]`; 1 where both are one and the same group.

    Example:
        >>> rand_index(np.array([[0, 0, 1, 1], [0, 1, 0, 1]]), np.array([1, 1, 0, 0])).round(9).tolist()
        [1.0, -0.5]
    """
    count, n = labels.shape
    rows, columns = int(labels.max()) + 1, int(clusters.max()) + 1
    cells = np.arange(count)[:, None] * rows * columns + labels * columns + clusters
    table = np.bincount(cells.ravel(), minlength=count * rows * columns).reshape(count, rows, columns)
    both, of_labels, of_clusters = _pairs(table), _pairs(table.sum(2)[:, None]), _pairs(table.sum(1)[:, None])
    expected, most = of_labels * of_clusters / (n * (n - 1) / 2), (of_labels + of_clusters) / 2
    return np.divide(both - expected, most - expected, out=np.ones(count), where=most != expected)


def _pairs(counts: Indices) -> Array:
    """Σ C(n, 2) over the last two axes."""
    return (counts * (counts - 1) / 2).sum((1, 2))


def p_value(observed: float, null: Array) -> float:
    """Share of permutations with at least the observed value, itself among them: (k + 1) / (n + 1).

    Never below 1 / (n + 1) (Davison & Hinkley 1997, §4.2.5); NaN where there is nothing observed or to compare with.

    Example:
        >>> p_value(0.9, np.array([0.1, -0.2, 0.95]))
        0.5
    """
    if not np.isfinite(observed) or not np.isfinite(null).any():
        return float("nan")
    known = null[np.isfinite(null)]
    return float((1 + (known >= observed - _TIE).sum()) / (1 + len(known)))
