"""Images along the range of single units, beside what the classifier says to them (the paper's Fig. 4A, 6D, S4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lis.report.figures.marks import axes_at, bare, picture
from lis.report.figures.reconstructions import mosaic
from lis.report.labels import number, signed
from lis.report.style import INK, MUTED, RULE, WIDE, class_colours, plain, styled

_MOST = 6
"""Strips per unit that are shown, where there are not more classes."""
_SHORT = 7
"""Steps up to which two units stand side by side."""
_NAME, _CURVE, _TOP, _BOTTOM = 0.95, 1.15, 0.34, 0.34
"""Inches left, right, above and below the images of a unit."""
_GAP, _CHANGE = 0.10, 0.42
"""Inches of the right margin before and after the curve."""
_CELL = 0.68
"""Largest side of an image in inches."""


@dataclass(frozen=True)
class Block:
    """The strips of one unit."""

    title: str
    detail: str
    image: np.ndarray
    """`[rows, steps, h, w, 3]` uint8."""
    class_names: Sequence[str]
    """Class of each row."""
    probability: np.ndarray
    """Of the row's class, `[rows, steps]`."""
    flipped: np.ndarray
    """`[rows, steps]` bool: the classifier's answer is another than at the first step."""
    ends: tuple[float, float]
    """The unit's smallest and largest activation."""


def rows_shown(class_names: Sequence[str], most: int = _MOST) -> list[int]:
    """Rows of a figure out of strips that are ordered by class: as many of every class, and not more than `most`.

    Example:
        >>> rows_shown(["a", "a", "a", "b", "b", "b"], most=4)
        [0, 1, 3, 4]
    """
    names = list(dict.fromkeys(class_names))
    per_class = max(1, most // len(names))
    return [k for name in names for k in [i for i, own in enumerate(class_names) if own == name][:per_class]]


@styled
def strips(blocks: Sequence[Block], class_names: Sequence[str]) -> Figure:
    """A block per unit, a row per sample: images from the smallest to the largest activation, and the curve of p.

    Args:
        blocks: units, each with as many rows and steps.
        class_names: the run's classes, which fix the colours.
    """
    rows, steps = blocks[0].image.shape[:2]
    columns = 2 if steps <= _SHORT and len(blocks) > 1 else 1
    cell = min(_CELL, (WIDE / columns - _NAME - _CURVE) / steps)
    height = _TOP + rows * cell + _BOTTOM
    figure = Figure(figsize=(WIDE, -(-len(blocks) // columns) * height))
    colours = class_colours(class_names)
    for place, block in enumerate(blocks):
        left, top = place % columns * WIDE / columns + _NAME, place // columns * height + _TOP
        axis = axes_at(figure, left, top, steps * cell, rows * cell)
        picture(axis, mosaic(list(block.image)))
        _write(axis, block, steps * cell, rows * cell)
        for row, name in enumerate(block.class_names):
            curve = axes_at(figure, left + steps * cell + _GAP, top + row * cell, _CURVE - _GAP - _CHANGE, cell)
            _curve(curve, block.probability[row], block.flipped[row], colours[name])
    return figure


def _write(axis: Axes, block: Block, width: float, height: float) -> None:
    """Titles above, classes to the left, the unit's range below."""
    style: dict[str, Any] = {"transform": axis.transAxes, "size": 8.5, "va": "center"}
    small: dict[str, Any] = style | {"va": "bottom", "color": MUTED}
    large: dict[str, Any] = style | {"va": "bottom", "size": 10, "weight": "bold"}
    above, below, low, high = 1 + 0.07 / height, -0.15 / height, *block.ends
    axis.text(0, above, block.title, **large)
    axis.text(1 + (_CURVE - 0.06) / width, above, block.detail, ha="right", **small)
    for row, name in enumerate(block.class_names):
        y = 1 - (row + 0.5) / len(block.class_names)
        axis.text(-0.09 / width, y, plain(name), ha="right", **style)
    axis.text(0, below, f"r = {number(low, 2)}", color=MUTED, **style)
    axis.text(1, below, number(high, 2), color=MUTED, ha="right", **style)
    arrow = {"arrowstyle": "->", "color": RULE, "linewidth": 1.2}
    tip, tail = (1 - 0.42 / width, below), (0.72 / width, below)
    axis.annotate("", tip, tail, xycoords="axes fraction", textcoords="axes fraction", arrowprops=arrow)


def _curve(axis: Axes, probability: np.ndarray, flipped: np.ndarray, colour: str) -> None:
    """p over the steps, open dots where the answer has flipped, and the change at the right."""
    bare(axis)
    for level in (0.0, 1.0):
        axis.axhline(level, color=RULE, linewidth=0.7)
    steps = np.arange(len(probability))
    axis.plot(steps, probability, color=colour)
    for at, p, open_ in zip(steps, probability, flipped, strict=True):
        axis.plot(at, p, "o", color="white" if open_ else colour, markeredgecolor=colour, markersize=4.2)
    axis.set(xlim=(-0.4, steps[-1] + 0.4), ylim=(-0.28, 1.28))
    change = probability[-1] - probability[0]
    axis.text(1.06, 0.5, signed(change), transform=axis.transAxes, size=8.5, color=INK, va="center")
