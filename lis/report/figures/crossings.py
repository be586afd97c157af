"""Images on the way from one class into another, framed in the colour of the answer (Fig. 7A; S17, S24, S27)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from lis.report.figures.marks import bare, picture
from lis.report.style import INK, MUTED, WIDE, plain, styled

_NAME = 1.05
"""Inches left and right of the images."""
_CELL = 1.25
"""Largest side of an image in inches."""
_GAP, _FRAME = 0.09, 2.6
"""Between images, as a share of their side; width of a frame in points."""
_HEAD, _FOOT = 0.26, 0.36
"""Inches above and below the images."""
OTHER = "#8d99a5"
"""The frame of an answer that is none of the run's classes."""


@dataclass(frozen=True)
class Crossing:
    """One sample on its way; m images."""

    origin: str
    target: str
    image: np.ndarray
    """`[m, h, w, 3]` uint8."""
    probability: np.ndarray
    """Of the target, `[m]`."""
    answers: Sequence[str]
    """What the classifier says, `[m]`."""
    boundary: int | None = None
    """A dashed line stands before this image; None: nowhere."""
    detail: str = ""
    """Below the origin."""


@styled
def crossings(rows: Sequence[Crossing], heads: Sequence[str], colours: Mapping[str, str]) -> Figure:
    """A row per sample: the origin left, the target right, its probability in the corner of each image.

    Args:
        rows: as many images in each.
        heads: written above the images; empty: nothing is.
        colours: class to the colour of its frame.
    """
    count = len(rows[0].image)
    cell = min(_CELL, (WIDE - 2 * _NAME) / (count * (1 + _GAP)))
    side = cell * (1 + _GAP)
    head = _HEAD if heads else 0.06
    width, height = 2 * _NAME + count * side, head + len(rows) * side + _FOOT
    figure = Figure(figsize=(width, height))
    axis = figure.add_axes((_NAME / width, _FOOT / height, count * side / width, len(rows) * side / height))
    bare(axis)
    for at, row in enumerate(rows):
        _row(axis, row, len(rows) - 1 - at, colours)
    axis.set(xlim=(0, count), ylim=(0, len(rows)))
    for place, text in enumerate(heads):
        axis.text(place + 0.5, len(rows) + 0.03 / side, text, size=8.5, color=MUTED, ha="center", va="bottom")
    _legend(figure, rows, colours)
    return figure


def _row(axis: Axes, row: Crossing, bottom: int, colours: Mapping[str, str]) -> None:
    edge = _GAP / (1 + _GAP) / 2
    corner = {"boxstyle": "round,pad=0.15", "facecolor": "white", "alpha": 0.85, "linewidth": 0}
    for place, (image, p, answer) in enumerate(zip(row.image, row.probability, row.answers, strict=True)):
        box = (place + edge, place + 1 - edge, bottom + edge, bottom + 1 - edge)
        picture(axis, image, box)
        colour = colours.get(answer, OTHER)
        style: dict[str, Any] = {"fill": False, "edgecolor": colour, "linewidth": _FRAME, "joinstyle": "miter"}
        axis.add_patch(Rectangle((box[0], box[2]), box[1] - box[0], box[3] - box[2], **style))
        axis.text(box[0] + 0.05, box[3] - 0.05, f"{p:.2f}", size=7.5, color=INK, va="top", ha="left", bbox=corner)
    if row.boundary is not None:
        axis.plot([row.boundary] * 2, [bottom + edge, bottom + 1 - edge], color=INK, linewidth=1.1, linestyle="--")
    names: dict[str, Any] = {"size": 9, "va": "center", "clip_on": False}
    middle = bottom + 0.5
    axis.text(-0.08, middle + 0.09 * bool(row.detail), plain(row.origin), ha="right", **names)
    axis.text(-0.08, middle - 0.1, row.detail, ha="right", va="center", size=7.5, color=MUTED)
    axis.text(len(row.image) + 0.08, middle, f"→ {plain(row.target)}", ha="left", **names)


def _legend(figure: Figure, rows: Sequence[Crossing], colours: Mapping[str, str]) -> None:
    """The answers that occur, in the order of the classes."""
    answers = {answer for row in rows for answer in row.answers}
    known = [name for name in colours if name in answers]
    handles = [Patch(facecolor="white", edgecolor=colours[name], linewidth=2, label=plain(name)) for name in known]
    if answers - set(known):
        handles.append(Patch(facecolor="white", edgecolor=OTHER, linewidth=2, label="another class"))
    figure.legend(handles=handles, loc="lower center", ncols=6, fontsize=8.5, title=None, borderaxespad=0.2)
