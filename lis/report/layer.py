"""What charts and their sections are made of: panels of small multiples, matrices, tables of names and measures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.figure import Figure

from lis.report.figures.heat import heat
from lis.report.labels import number, words
from lis.report.sections import Table
from lis.report.style import WIDE, sheet

T = TypeVar("T")


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
    shown = list(items)
    columns = min(most, len(shown))
    rows = -(-len(shown) // columns)
    figure, axes = sheet(WIDE * max(columns, least) / most, head + rows * height, rows, columns, **grid)
    for axis in axes.flat[len(shown) :]:
        axis.set_visible(False)
    for axis in axes.flat if grid.get("sharex") else ():
        axis.tick_params(labelbottom=True)
    for text, write in ((x, figure.supxlabel), (y, figure.supylabel)):
        if text:
            write(text, size=9)
    return figure, list(zip(axes.flat, shown, strict=False))


def matrices(
    panels: Sequence[tuple[str, np.ndarray, tuple[float, float], Callable[[float], str], Colormap]],
    names: tuple[Sequence[str], Sequence[str]],
    height: float,
    *,
    columns: int,
    pad: float,
    y: str = "",
) -> Figure:
    """Matrices beside each other with the same rows, which are named at the left, and the same columns.

    Args:
        panels: title, values, the limits of the colours, how a number is written, the colours of each.
        names: of the rows and of the columns.
        height: of a row of matrices in inches.
        columns: matrices beside each other.
        pad: points between a matrix and its title.
        y: what the rows of the first matrix are.
    """
    lines = len(panels) // columns
    figure, axes = sheet(WIDE, height * lines, lines, columns)
    for at, (axis, (title, values, limits, text, colours)) in enumerate(zip(axes.flat, panels, strict=True)):
        heat(axis, values, [] if at % columns else names[0], names[1], limits, text, colours)
        axis.set_title(title, pad=pad)
    axes[0, 0].set_ylabel(y)
    return figure


def symmetric(values: np.ndarray) -> np.ndarray:
    """A square matrix of which only some of both halves is known, whole; its diagonal is NaN."""
    whole = np.where(np.isfinite(values), values, values.T)
    np.fill_diagonal(whole, np.nan)
    return whole


def crossed(
    caption: str,
    rows: Iterable[Any],
    columns: Iterable[Any],
    cell: Callable[[Any, Any], str],
    *,
    corner: str = "",
    name: Callable[[Any], str] = words,
    heads: Callable[[Any], str] = str,
    bold: Callable[[Any, Any], bool] = lambda row, column: False,
) -> Table:
    """A table of names down and names across.

    Args:
        caption: how it is read.
        rows, columns: names.
        cell: the text of a row and a column.
        corner: what the rows are.
        name, heads: how a row and a column are called.
        bold: whether the cell of a row and a column stands out.
    """
    down, across = list(rows), list(columns)
    best = ((i, 1 + k) for i, row in enumerate(down) for k, column in enumerate(across) if bold(row, column))
    cells = [[name(row), *(cell(row, column) for column in across)] for row in down]
    return Table(caption, [corner, *map(heads, across)], cells, frozenset(best))


def with_control(value: float, control: float) -> str:
    """A number with that of random directions in brackets; alone where there is none.

    Example:
        >>> with_control(0.41, 0.3), with_control(0.41, float("nan"))
        ('0.41 (0.30)', '0.41')
    """
    return number(value, 2) + (f" ({number(control, 2)})" if np.isfinite(control) else "")
