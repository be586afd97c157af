"""Matrices as colours with their numbers written in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, LinearSegmentedColormap, Normalize, to_rgb
from matplotlib.figure import Figure

from lis.report.frames import records
from lis.report.style import INK, MUTED, PANEL, WIDE, plain, sheet

ONE_SIDED = LinearSegmentedColormap.from_list("one-sided", ["#ffffff", "#a9c8e0", "#1f6199"])
"""From nothing to much."""
TWO_SIDED = LinearSegmentedColormap.from_list("two-sided", ["#b3261e", "#eeb8a8", "#ffffff", "#a9c8e0", "#1f6199"])
"""From negative (red) over nothing (white) to positive (blue)."""
Limits = tuple[float | None, float | None]
LUMA = np.array([0.2126, 0.7152, 0.0722])
"""Rec. 709 weights of red, green and blue."""


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
    found = {(row[rows[0]], row[columns[0]]): row[value] for row in records(table)}
    return np.array([[float(found.get((r, c), np.nan)) for c in columns[1]] for r in rows[1]])


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
    for (row, place), value in np.ndenumerate(values):
        ink = "white" if cells[row, place] @ LUMA < 0.45 else INK if known[row, place] else MUTED
        written = text(float(value)) if known[row, place] else "–"
        axis.text(place, row, written, ha="center", va="center", size=8.5, color=ink)
    _names(axis, rows, columns)
    _lines(axis, *values.shape)


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


def _names(axis: Axes, rows: Sequence[str], columns: Sequence[str]) -> None:
    axis.set_xticks(range(len(columns)), [two_lines(name) for name in columns])
    axis.set_yticks(range(len(rows)), [plain(name) for name in rows])
    axis.tick_params(length=0, labelcolor=INK, labelleft=bool(rows), top=True, labeltop=True, labelbottom=False)


def _lines(axis: Axes, rows: int, columns: int) -> None:
    """White lines between the cells, and no frame."""
    axis.spines[:].set_visible(False)
    axis.hlines(np.arange(rows + 1) - 0.5, -0.5, columns - 0.5, color="white", linewidth=1.5)
    axis.vlines(np.arange(columns + 1) - 0.5, -0.5, rows - 0.5, color="white", linewidth=1.5)
    axis.set(xlim=(-0.5, columns - 0.5), ylim=(rows - 0.5, -0.5))
