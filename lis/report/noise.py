"""How much of a curve along a path is noise, told from its neighbouring values alone."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy.stats import t as student

NORMAL = 1.4826
"""Standard deviation of a normal distribution over its median absolute deviation."""
FALSE = 0.05
"""How often any curve of those that are looked at may be told as one that changes while all are noise."""
FEWEST = 5
"""Second differences below which nothing is said of the noise."""
_ROUNDING = 1e-9
"""Second differences that are smaller, in units of the largest, are 0."""


def noise_std(values: np.ndarray) -> float:
    """Standard deviation of independent noise on a curve at even steps: 1.4826 · median |second difference| / √6.

    A second difference of independent noise has six times its variance; what grows evenly has none, and a few kinks
    or jumps do not move a median. Where the median is 0, as of few pixels that flicker, it is the root mean square
    over √6. What bends in most steps counts as noise, which is then told too large; noise that lasts over several steps
    bends little, and is told too small.

    Args:
        values: `[T]`, NaN where the curve is not known.

    Returns:
        In the unit of the values; NaN with fewer than `FEWEST` second differences.

    Example:
        >>> noise_std(np.array([0.0, 1.0, 2.0, 3.0, 3.0, 3.0, 3.0])), noise_std(np.zeros(4))
        (0.1825..., nan)
    """
    bends = _bends(values)
    if len(bends) < FEWEST:
        return float("nan")
    median = float(np.median(bends))
    std = NORMAL * median if median > _ROUNDING * bends.max() else float(np.sqrt(np.mean(bends**2)))
    return std / float(np.sqrt(6))


def _bends(values: np.ndarray) -> np.ndarray:
    """The |second differences| that are known."""
    bends = np.diff(values, n=2)
    return np.abs(bends[np.isfinite(bends)])


def largest_change(values: np.ndarray, until: int | None = None) -> float:
    """Largest |difference| from the beginning of a curve's running median of three steps; NaN where it has none.

    A single step that leaves the curve and comes back is no change.

    Args:
        values: `[T]`, NaN where the curve is not known.
        until: how many first values the median may lie at; None: all.

    Example:
        >>> largest_change(np.array([0.0, 0.0, 9.0, 0.0, 1.0, 1.0]))
        1.0
    """
    known = values[np.isfinite(values)]
    if len(known) < 3:
        return float("nan")
    smooth = np.median(np.lib.stride_tricks.sliding_window_view(known, 3), axis=1)
    inside = max(int(np.isfinite(values[:until]).sum()) - 1, 1)
    return float(np.abs(smooth[:inside] - smooth[0]).max())


def noise_ratio(values: np.ndarray, curves: int = 1, until: int | None = None) -> float:
    """The largest change of a curve over what independent noise alone exceeds in any of all curves 5 % of the time.

    That is √2 · t · `noise_std`, with t the quantile of Student's distribution for every difference from the first
    value and every curve (Bonferroni), its degrees of freedom the second differences that the noise is told from.

    Args:
        values: `[T]`, NaN where the curve is not known.
        curves: how many are looked at together.
        until: the change is that of so many first values; None: of all. The noise is always told from all.

    Returns:
        From 1 on the curve changes; infinite for a straight line; NaN where change or noise is not known.
    """
    change, noise = largest_change(values, until), noise_std(values)
    if change == 0 or not np.isfinite(noise):
        return 0.0 * change * noise
    differences = max(int(np.isfinite(values[:until]).sum()) - 1, 1)
    t = student.ppf(1 - FALSE / (2 * differences * curves), len(_bends(values)))
    return float(change / (np.sqrt(2) * t * noise)) if noise > 0 else float("inf")


def named(
    curves: Mapping[str, np.ndarray], most: int, looked_at: int | None = None, until: int | None = None
) -> list[str]:
    """The curves that change beyond their noise, at most so many, the largest change in units of its noise first.

    Args:
        curves: name to `[T]`.
        most: how many are named.
        looked_at: how many curves are looked at together; None: these.
        until: as of `noise_ratio`.
    """
    count = len(curves) if looked_at is None else looked_at
    ratios = {name: noise_ratio(values, count, until) for name, values in curves.items()}
    beyond = [name for name, ratio in ratios.items() if ratio >= 1]
    return sorted(beyond, key=lambda name: (-ratios[name], -largest_change(curves[name])))[:most]
