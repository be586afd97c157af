"""What several figures share: panels, distributions, dots with intervals, names of rows, text, pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, LinearSegmentedColormap, Normalize, to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from PIL import Image
from scipy.stats import gaussian_kde

from lis.report.style import INK, LINK_RED, MUTED, PANEL, RULE, WIDE, light_grid, plain, sheet
from lis.report.tables import records

T = TypeVar("T")
_KDE_SAMPLES = 3000
_HEADS = 104.0
"""Size in points of a letter that stands alone above an inch of columns: it is 0.56 of its size wide, and names of
rows and gaps take a fifth."""
DASHED = (0, (4, 3))
"""The line style of thresholds and means."""
ONE_SIDED = LinearSegmentedColormap.from_list("one-sided", ["#ffffff", "#a9c8e0", "#1f6199"])
"""From nothing to much."""
TWO_SIDED = LinearSegmentedColormap.from_list("two-sided", ["#b3261e", "#eeb8a8", "#ffffff", "#a9c8e0", "#1f6199"])
"""From negative (red) over nothing (white) to positive (blue)."""
Limits = tuple[float | None, float | None]
LUMA = np.array([0.2126, 0.7152, 0.0722])
"""Rec. 709 weights of red, green and blue."""


PLAIN = FuncFormatter(lambda value, _: f"{value:g}")
THOUSANDS = FuncFormatter(lambda value, _: f"{value:,.0f}")
PERCENT = FuncFormatter(lambda value, _: f"{100 * value:.0f} %")
"""How ticks are written."""


def facets(
    items: Iterable[T], most: int, height: float, head: float, *, least: int = 2, x: str = "", y: str = "", **grid: Any
) -> tuple[Figure, list[tuple[Axes, T]]]:
    """Small multiples: a panel per item, `most` beside each other on the width of the page, spare axes hidden.

    Args:
        items: what the panels show, from left to right and from top to bottom; one or more.
        most: columns; fewer items take fewer.
        height: of a row of panels in inches.
        head: inches of all else.
        least: the figure is at least as wide as so many panels.
        x, y: what all horizontal and all vertical axes show.
        grid: as of `Figure.subplots`; with a shared x every panel has its ticks.

    Returns:
        the figure, and each item with its axes.
    """
    panels = list(items)
    columns = min(most, len(panels))
    rows = -(-len(panels) // columns)
    figure, axes = sheet(WIDE * max(columns, least) / most, head + rows * height, rows, columns, **grid)
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    for axis in axes.flat if grid.get("sharex") else ():
        axis.tick_params(labelbottom=True)
    for text, label in ((x, figure.supxlabel), (y, figure.supylabel)):
        if text:
            label(text, size=9)
    return figure, list(zip(axes.flat, panels, strict=False))


def axes_at(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Axes at a place in inches, counted from the upper left corner."""
    w, h = figure.get_size_inches()
    return figure.add_axes((left / w, 1 - (top + height) / h, width / w, height / h))


def wants_log(values: np.ndarray, factor: float = 40.0) -> bool:
    """True where the bulk of positive values spans more than a `factor`, so that a linear axis would hide it."""
    values = values[np.isfinite(values)]
    if not len(values) or values.min() <= 0:
        return False
    low, high = np.quantile(values, [0.02, 0.98])
    return bool(high / low > factor)


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
    circle(axis, values.mean(), at - 0.09, width=1.1)


def violin(axis: Axes, values: np.ndarray, at: float, colour: str, *, log: bool = False, width: float = 0.8) -> None:
    """A violin on a vertical value axis with quartile bar and the mean as a dot."""
    position, height = density(values, log)
    half = width / 2 * height
    axis.fill_betweenx(position, at - half, at + half, color=colour, alpha=0.85, linewidth=0)
    q1, q3 = np.quantile(values, [0.25, 0.75])
    axis.vlines(at, q1, q3, color=INK, linewidth=1.6)
    circle(axis, at, values.mean(), 4.5, 1.0)


def dot(axis: Axes, value: float, low: float, high: float, at: float, colour: str, *, filled: bool = True) -> None:
    """A dot with a horizontal interval; the interval is left out where its bounds are not finite."""
    if np.isfinite([low, high]).all():
        axis.hlines(at, low, high, color=colour, linewidth=1.8, alpha=0.75)
    face = colour if filled else "white"
    axis.plot(value, at, "o", color=face, markeredgecolor=colour, markeredgewidth=1.4, markersize=5.5)


def circle(axis: Axes, x: Any, y: Any, size: float = 5, width: float = 1.2) -> None:
    """A white dot with a dark edge, which stands for a mean; size and width of the edge in points."""
    axis.plot(x, y, "o", color="white", markeredgecolor=INK, markeredgewidth=width, markersize=size)


def ring(axis: Axes, x: float, y: float) -> None:
    """A red ring around a point: what was chosen."""
    axis.plot(x, y, "o", markersize=9, markerfacecolor="none", markeredgecolor=LINK_RED, markeredgewidth=1.8)


def errors(axis: Axes, x: Any, y: Any, low: Any, high: Any, colour: str, **style: Any) -> None:
    """Dots that a line joins, each with its vertical interval."""
    spans = [np.abs(np.asarray(bound, dtype=float) - np.asarray(y, dtype=float)) for bound in (low, high)]
    axis.errorbar(x, y, spans, fmt="o-", color=colour, markersize=5, elinewidth=1.2, **style)


def above(axis: Axes, x: float, y: float, text: str, **style: Any) -> None:
    """Text at a value on the horizontal axis, and a fraction of the height."""
    axis.text(x, y, text, transform=axis.get_xaxis_transform(), **style)


def dots(axis: Axes, x: Any, y: Any, colour: str, size: float = 4, alpha: float = 0.5, **style: Any) -> None:
    """Dots without an edge, one per unit or sample; a `y` that is one number counts for all of `x`."""
    y = np.full(len(x), y) if np.isscalar(y) else y
    axis.plot(x, y, style.pop("marker", "o"), color=colour, markersize=size, alpha=alpha, markeredgewidth=0, **style)


def jitter(count: int, half: float) -> np.ndarray:
    """Offsets between −half and half that part dots of equal value, the same for the same count."""
    return np.random.default_rng(0).uniform(-half, half, count)


def control_density(axis: Axes, values: np.ndarray, at: float, height: float) -> None:
    """The density of random directions above the line `at`, as a grey line."""
    position, relative = density(values)
    axis.plot(position, at + height * relative, color=MUTED, linewidth=1.2)


def name_control(figure: Figure, axis: Axes) -> None:
    """Name the grey line of random directions in the upper right corner of the figure."""
    axis.plot([], [], color=MUTED, linewidth=1.2, label="random directions")
    figure.legend(loc="outside upper right")


def diagonal(axis: Axes, low: float, high: float) -> None:
    """The line on which both axes say the same."""
    axis.plot((low, high), (low, high), color=RULE, linewidth=1.2)


def padded(values: np.ndarray, room: float, otherwise: tuple[float, float] = (-1.0, 1.0)) -> tuple[float, float]:
    """The range of the finite values with a share `room` of it at both ends; `otherwise` is the range of none.

    Example:
        >>> padded(np.array([0.0, 10.0, np.nan]), 0.1)
        (-1.0, 11.0)
    """
    values = values[np.isfinite(values)]
    low, high = (float(values.min()), float(values.max())) if len(values) else otherwise
    margin = room * (high - low) or 1.0
    return low - margin, high + margin


def write(axis: Axes, x: float, y: float, text: str, **style: Any) -> None:
    """Text at a place in fractions of the axes."""
    chosen: dict[str, Any] = {"size": 8, "transform": axis.transAxes} | style
    axis.text(x, y, text, **chosen)


def note(axis: Axes, text: str, at: tuple[float, float], offset: tuple[float, float], **style: Any) -> None:
    """Text beside a point of the data; the offset is in points."""
    chosen: dict[str, Any] = {"size": 8, "ha": "center", "textcoords": "offset points"} | style
    axis.annotate(text, at, offset, **chosen)


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


def names_down(axis: Axes, names: Sequence[str], beside: Iterable[Axes] = (), *, grid: bool = True) -> None:
    """Name the rows 0, 1, … of an axis from top to bottom.

    Args:
        axis: where the names stand.
        names: of the rows.
        beside: other panels with the same rows, without names.
        grid: faint lines help to read the values.
    """
    axis.set_yticks(range(len(names)), names)
    axis.set_ylim(len(names) - 0.5, -0.5)
    for panel in (axis, *beside):
        _as_rows(panel, grid)


def names_up(axis: Axes, names: Sequence[str], below: float, above: float, *, grid: bool = True) -> None:
    """Name the rows …, 1, 0 of an axis from top to bottom, each with what stands on its line.

    Args:
        axis: where.
        names: of the rows from top to bottom.
        below: room below the last line.
        above: room above the first one, less than 1.
        grid: faint lines help to read the values.
    """
    axis.set_yticks(range(len(names)), names[::-1])
    axis.set_ylim(-below, len(names) - 1 + above)
    _as_rows(axis, grid)


def _as_rows(axis: Axes, grid: bool) -> None:
    axis.tick_params(axis="y", length=0, labelcolor=INK)
    axis.spines["left"].set_visible(False)
    if grid:
        light_grid(axis)


def matrix(
    table: pd.DataFrame, rows: tuple[str, Sequence[Any]], columns: tuple[str, Sequence[Any]], value: str
) -> np.ndarray:
    """A column of a long table as `[rows, columns]`, NaN where there is no row.

    Args:
        table: the table.
        rows: the column that chooses the row, and its values from top to bottom.
        columns: the same for columns, from left to right.
        value: the column that is written.
    """
    result = {(row[rows[0]], row[columns[0]]): row[value] for row in records(table)}
    return np.array([[float(result.get((r, c), np.nan)) for c in columns[1]] for r in rows[1]])


def heat(
    axis: Axes,
    values: np.ndarray,
    rows: Sequence[str],
    columns: Sequence[str],
    limits: tuple[float, float],
    text: Callable[[float], str],
    colours: Colormap = ONE_SIDED,
    shade: np.ndarray | None = None,
) -> None:
    """Cells `[rows, columns]` with their numbers; what is not finite is grey with a dash.

    Args:
        axis: where; rows from top to bottom, names of columns above.
        values: the matrix.
        rows: names at the left; none are written where it is empty.
        columns: names above.
        limits: values at the ends of the colours.
        text: how a number is written.
        colours: the scale.
        shade: what is coloured, where it is not the number that is written.
    """
    known = np.isfinite(values)
    cells = colours(Normalize(*limits, clip=True)(np.nan_to_num(values if shade is None else shade)))[..., :3]
    cells[~known] = to_rgb(PANEL)
    axis.imshow(cells, aspect="auto")
    for (row, index), value in np.ndenumerate(values):
        ink = "white" if cells[row, index] @ LUMA < 0.45 else INK if known[row, index] else MUTED
        written = text(float(value)) if known[row, index] else "–"
        axis.text(index, row, written, ha="center", va="center", size=8.5, color=ink)
    axis.set_xticks(range(len(columns)), [two_lines(name) for name in columns])
    axis.set_yticks(range(len(rows)), [plain(name) for name in rows])
    axis.tick_params(length=0, labelcolor=INK, labelleft=bool(rows), top=True, labeltop=True, labelbottom=False)
    axis.tick_params("x", labelsize=_head_size(axis, columns))
    axis.spines[:].set_visible(False)
    down, across = values.shape
    axis.hlines(np.arange(down + 1) - 0.5, -0.5, across - 0.5, color="white", linewidth=1.5)
    axis.vlines(np.arange(across + 1) - 0.5, -0.5, down - 0.5, color="white", linewidth=1.5)
    axis.set(xlim=(-0.5, across - 0.5), ylim=(down - 0.5, -0.5))


def _head_size(axis: Axes, columns: Sequence[str]) -> float:
    """Size in points at which names fit beside each other above the columns of a matrix."""
    grid, inches = axis.get_subplotspec(), axis.figure.bbox.width / axis.figure.dpi
    longest = max((len(line) for name in columns for line in two_lines(name).split("\n")), default=1)
    return min(8.5, _HEADS * inches / ((grid.get_gridspec().ncols if grid else 1) * max(1, len(columns) * longest)))


def matrices(
    panels: Sequence[tuple[str, pd.DataFrame, str, Limits, Callable[[float], str], Colormap]],
    rows: tuple[str, Sequence[str]],
    columns: tuple[str, Sequence[str]],
    height: float,
    *,
    beside: int,
    pad: float,
    y: str = "",
) -> Figure:
    """Matrices beside each other with the same rows, which are named at the left, and the same columns.

    Args:
        panels: title, long table, the column that is written, the limits of the colours (None: those of the values),
            how a number is written, the colours of each matrix.
        rows, columns: as of `matrix`.
        height: of a row of matrices in inches.
        beside: matrices beside each other.
        pad: points between a matrix and its title.
        y: what the rows of the first matrix are.
    """
    lines = len(panels) // beside
    figure, axes = sheet(WIDE, height * lines, lines, beside)
    for at, (axis, (title, table, value, limits, text, colours)) in enumerate(zip(axes.flat, panels, strict=True)):
        values = matrix(table, rows, columns, value)
        heat(axis, values, [] if at % beside else rows[1], columns[1], _whole(limits, values), text, colours)
        axis.set_title(title, pad=pad)
    axes[0, 0].set_ylabel(y)
    return figure


def _whole(limits: Limits, values: np.ndarray) -> tuple[float, float]:
    known = values[np.isfinite(values)] if np.isfinite(values).any() else np.array([0.0, 1.0])
    low, high = limits
    return float(known.min()) if low is None else low, float(known.max()) + 1e-6 if high is None else high


def symmetric(values: np.ndarray) -> np.ndarray:
    """A square matrix of which only some of both halves is known, whole; its diagonal is NaN."""
    whole = np.where(np.isfinite(values), values, values.T)
    np.fill_diagonal(whole, np.nan)
    return whole


def two_lines(name: str) -> str:
    """A name broken at its first space, for the head of a column.

    Example:
        >>> two_lines("border_collie")
        'border\\ncollie'
    """
    return plain(name).replace(" ", "\n", 1)
