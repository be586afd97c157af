"""How much of a curve along a path is noise, told from its neighbouring values alone."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy.stats import norm

NORMAL = 1.4826
"""Standard deviation of a normal distribution over its median absolute deviation."""
FALSE = 0.05
"""How often a curve that is only noise may be told as one that changes."""
FEWEST = 5
"""Second differences below which nothing is said of the noise."""


def noise_std(values: np.ndarray) -> float:
    """Standard deviation of independent noise on a curve at even steps: 1.4826 · median |second difference| / √6.

    A second difference of independent noise has six times its variance; what grows evenly has none, and a few kinks
    or jumps do not move a median. What bends in most steps counts as noise, so that it is told too large, never too
    small.

    Args:
        values: `[T]`, NaN where the curve is not known.

    Returns:
        In the unit of the values; NaN with fewer than `FEWEST` second differences.

    Example:
        >>> noise_std(np.array([0.0, 1.0, 2.0, 3.0, 3.0, 3.0, 3.0])), noise_std(np.zeros(4))
        (0.0, nan)
    """
    bends = np.diff(values, n=2)
    bends = np.abs(bends[np.isfinite(bends)])
    return float(NORMAL * np.median(bends) / np.sqrt(6)) if len(bends) >= FEWEST else float("nan")


def largest_change(values: np.ndarray) -> float:
    """Largest |difference| from the beginning of a curve's running median of three steps; NaN where it has none.

    A single step that leaves the curve and comes back is no change.

    Example:
        >>> largest_change(np.array([0.0, 0.0, 9.0, 0.0, 1.0, 1.0]))
        1.0
    """
    known = values[np.isfinite(values)]
    if len(known) < 3:
        return float("nan")
    smooth = np.median(np.lib.stride_tricks.sliding_window_view(known, 3), axis=1)
    return float(np.abs(smooth - smooth[0]).max())


def noise_ratio(values: np.ndarray) -> float:
    """The largest change of a curve `[T]` over the largest that noise alone brings in 95 % of curves, at most.

    That is √2 · z · `noise_std`, with z the normal quantile for T − 1 differences from the first value (Bonferroni).
    From 1 on a curve changes; infinite where it changes without any noise; NaN where one of the two is not known.
    """
    change, noise = largest_change(values), noise_std(values)
    if change == 0 or not np.isfinite(noise):
        return 0.0 * change * noise
    z = norm.ppf(1 - FALSE / (2 * max(np.isfinite(values).sum() - 1, 1)))
    return float(change / (np.sqrt(2) * z * noise)) if noise > 0 else float("inf")


def named(curves: Mapping[str, np.ndarray], most: int) -> list[str]:
    """The curves that change beyond their noise, at most so many, the largest change in units of its noise first.

    Where several change without any noise, the largest change comes first.
    """
    ratios = {name: noise_ratio(values) for name, values in curves.items()}
    beyond = [name for name, ratio in ratios.items() if ratio >= 1]
    return sorted(beyond, key=lambda name: (-ratios[name], -largest_change(curves[name])))[:most]
