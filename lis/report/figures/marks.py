"""Marks that several figures share: distributions, dots with intervals, pictures."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from PIL import Image
from scipy.stats import gaussian_kde

from lis.report.style import INK

_KDE_SAMPLES = 3000


def wants_log(values: np.ndarray, spread: float = 40.0) -> bool:
    """True where the bulk of positive values spans more than a factor `spread`, so that a linear axis would hide it."""
    values = values[np.isfinite(values)]
    if not len(values) or values.min() <= 0:
        return False
    low, high = np.quantile(values, [0.02, 0.98])
    return bool(high / low > spread)


def density(values: np.ndarray, log: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Positions and heights (largest is 1) of a Gaussian kernel density between the 0.5 and 99.5 % quantiles.

    Few or equal values have no density: both arrays are empty then.
    """
    scaled = np.log(values) if log else values
    if len(values) < 5 or np.ptp(scaled) < 1e-12 * max(1.0, float(np.abs(scaled).max())):
        return np.empty(0), np.empty(0)
    step = max(1, len(scaled) // _KDE_SAMPLES)
    low, high = np.quantile(scaled, [0.005, 0.995])
    grid = np.linspace(low, high, 160)
    height = gaussian_kde(scaled[::step])(grid)
    return (np.exp(grid) if log else grid), height / height.max()


def eye(axis: Axes, values: np.ndarray, at: float, colour: str, *, log: bool = False, width: float = 0.72) -> None:
    """A half-eye on a horizontal axis: density above the line `at`, 5–95 % and quartile bars, the mean as a dot."""
    position, height = density(values, log)
    axis.fill_between(position, at, at + width * height, color=colour, alpha=0.9, linewidth=0)
    low, q1, q3, high = np.quantile(values, [0.05, 0.25, 0.75, 0.95])
    axis.hlines(at - 0.09, low, high, color=colour, linewidth=1.2)
    axis.hlines(at - 0.09, q1, q3, color=colour, linewidth=3.6)
    axis.plot(values.mean(), at - 0.09, "o", color="white", markeredgecolor=INK, markeredgewidth=1.1, markersize=5)


def violin(axis: Axes, values: np.ndarray, at: float, colour: str, *, log: bool = False, width: float = 0.8) -> None:
    """A violin on a vertical value axis with quartile bar and the mean as a dot."""
    position, height = density(values, log)
    half = width / 2 * height
    axis.fill_betweenx(position, at - half, at + half, color=colour, alpha=0.85, linewidth=0)
    q1, q3 = np.quantile(values, [0.25, 0.75])
    axis.vlines(at, q1, q3, color=INK, linewidth=1.6)
    axis.plot(at, values.mean(), "o", color="white", markeredgecolor=INK, markeredgewidth=1.0, markersize=4.5)


def dot(axis: Axes, value: float, low: float, high: float, at: float, colour: str, *, filled: bool = True) -> None:
    """A dot with a horizontal interval; the interval is left out where its bounds are not finite."""
    if np.isfinite([low, high]).all():
        axis.hlines(at, low, high, color=colour, linewidth=1.8, alpha=0.75)
    face = colour if filled else "white"
    axis.plot(value, at, "o", color=face, markeredgecolor=colour, markeredgewidth=1.4, markersize=5.5)


def picture(axis: Axes, image: np.ndarray, extent: tuple[float, float, float, float] | None = None) -> None:
    """An image `[h, w, 3]` (uint8), enlarged smoothly; `extent` places it in data coordinates."""
    axis.imshow(enlarged(image), interpolation="antialiased", extent=extent, aspect="auto" if extent else "equal")
    if extent is None:
        bare(axis)


def enlarged(image: np.ndarray, least: int = 192) -> np.ndarray:
    """An image `[h, w, 3]` (uint8), enlarged by a whole factor until its height is at least `least` pixels."""
    factor = -(-least // image.shape[0])
    if factor == 1:
        return image
    size = (factor * image.shape[1], factor * image.shape[0])
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS))


def bare(axis: Axes) -> None:
    """No ticks and no frame."""
    axis.set_xticks([])
    axis.set_yticks([])
    axis.spines[:].set_visible(False)


def names_down(axis: Axes, names: list[str]) -> None:
    """Name the rows 0, 1, … of an axis from top to bottom."""
    axis.set_yticks(range(len(names)), names)
    axis.tick_params(axis="y", length=0, labelcolor=INK)
    axis.set_ylim(len(names) - 0.5, -0.5)
    axis.spines["left"].set_visible(False)
