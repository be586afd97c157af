"""Pictures of the full cycle: each image above what came back (the paper's Fig. 3B, S1A, S2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lis.report.figures.marks import enlarged, picture
from lis.report.labels import wrapped
from lis.report.style import INK, LINK_RED, MUTED, WIDE, link_colour, plain, styled

_GAP = 6
_CELL = 1.1
"""Largest side of a picture in inches."""
_MARGIN = 1.15
"""Room for names left of a block."""
_BETWEEN = 0.12
"""Inches between blocks of pictures."""
_LINE = 0.155
"""Height of a line of text in inches."""
_LETTER = 0.082
"""Width of a letter of a heading in inches."""
_NARROW = 4
"""Examples per class up to which two blocks stand side by side."""


@styled
def reconstructions(
    image: np.ndarray, cycled: np.ndarray, class_index: np.ndarray, class_names: Sequence[str], most: int = 10
) -> Figure:
    """A block per class: originals above, cycled below.

    Args:
        image: originals `[k, h, w, 3]` uint8.
        cycled: what came back `[k, h, w, 3]` uint8.
        class_index: class of each `[k]`.
        class_names: names that `class_index` points into.
        most: most examples of a class that are shown.
    """
    shown = {name: np.flatnonzero(class_index == place)[:most] for place, name in enumerate(class_names)}
    shown = {name: rows for name, rows in shown.items() if len(rows)}
    widest = max(len(rows) for rows in shown.values())
    blocks = 2 if widest <= _NARROW and len(shown) > 1 else 1
    lines = -(-len(shown) // blocks)
    cell = min(_CELL, (WIDE / blocks - _MARGIN) / widest)
    figure = Figure(figsize=(WIDE, lines * (2 * cell + 0.2)))
    for place, (name, rows) in enumerate(shown.items()):
        axis = _slot(figure, place, blocks, lines, cell, len(rows))
        picture(axis, mosaic([image[rows], cycled[rows]]))
        _row_names(axis, [(plain(name), INK), ("cycled", LINK_RED)])
    return figure


@styled
def reconstructions_by_link(image: np.ndarray, cycled: Mapping[str, np.ndarray], labels: Mapping[str, str]) -> Figure:
    """One row of originals `[k, h, w, 3]` and one row per link, in the links' colours.

    Args:
        image: originals, uint8.
        cycled: link to its images of the same samples.
        labels: link to the name that is written.
    """
    rows = [image, *cycled.values()]
    cell = min(_CELL, (WIDE - _MARGIN) / len(image))
    figure = Figure(figsize=(WIDE, len(rows) * cell + 0.1))
    width = len(image) * cell
    axis = figure.add_axes((_MARGIN / WIDE, 0, width / WIDE, 1))
    picture(axis, mosaic(rows))
    names = [(plain(labels[link]), link_colour(link, place)) for place, link in enumerate(cycled)]
    _row_names(axis, [("original", INK), *names])
    return figure


@styled
def reconstructions_by_setting(
    image: np.ndarray, names: Sequence[str], blocks: Mapping[str, Mapping[str, np.ndarray]], labels: Mapping[str, str]
) -> Figure:
    """A row per example: the original, then for each setting (a classifier, say) a column per link.

    Args:
        image: originals `[k, h, w, 3]` uint8.
        names: what is written left of each row `[k]`; the same name is written once.
        blocks: setting to link to its images of the same samples.
        labels: link to the name that is written.
    """
    widths = [1, *(len(cycled) for cycled in blocks.values())]
    cell = min(_CELL, (WIDE - _MARGIN - len(blocks) * _BETWEEN) / sum(widths))
    headings = {setting: wrapped(setting, int(len(cycled) * cell / _LETTER)) for setting, cycled in blocks.items()}
    head = (max(text.count("\n") for text in headings.values()) + 2) * _LINE + 0.1
    figure = Figure(figsize=(WIDE, len(image) * cell + head))
    lefts = _MARGIN + np.cumsum([0.0, *(width * cell + _BETWEEN for width in widths)])
    axes = [_block(figure, left, width * cell, head) for left, width in zip(lefts, widths, strict=False)]
    picture(axes[0], mosaic(list(image[:, None])))
    _column_names(axes[0], "", [("original", INK)])
    _row_names(axes[0], [("" if n in names[:place] else wrapped(n, 16), INK) for place, n in enumerate(names)])
    for axis, (setting, cycled) in zip(axes[1:], blocks.items(), strict=True):
        picture(axis, mosaic(list(np.stack(list(cycled.values()), axis=1))))
        links = [(plain(labels[link]), link_colour(link, place)) for place, link in enumerate(cycled)]
        _column_names(axis, headings[setting], links)
    return figure


def mosaic(rows: Sequence[np.ndarray]) -> np.ndarray:
    """Rows of pictures, each `[k, h, w, 3]` uint8, as one picture with thin white lines between them."""
    large = [np.stack([enlarged(image) for image in row]) for row in rows]
    padded = [np.pad(row, ((0, 0), (0, _GAP), (0, _GAP), (0, 0)), constant_values=255) for row in large]
    whole = np.concatenate([np.concatenate(list(row), axis=1) for row in padded], axis=0)
    return whole[:-_GAP, :-_GAP]


def _slot(figure: Figure, place: int, blocks: int, lines: int, cell: float, count: int) -> Axes:
    column, line = place % blocks, place // blocks
    height = lines * (2 * cell + 0.2)
    left = (column * WIDE / blocks + _MARGIN) / WIDE
    bottom = 1 - ((line + 1) * (2 * cell + 0.2) - 0.1) / height
    return figure.add_axes((left, bottom, count * cell / WIDE, 2 * cell / height))


def _block(figure: Figure, left: float, width: float, head: float) -> Axes:
    """Axes from the bottom up to the headings; in inches."""
    return figure.add_axes((left / WIDE, 0, width / WIDE, 1 - head / figure.get_figheight()))


def _column_names(axis: Axes, heading: str, names: Sequence[tuple[str, str]]) -> None:
    for place, (name, colour) in enumerate(names):
        _above(axis, (place + 0.5) / len(names), 3, name, size=9, color=colour, weight=_weight(colour))
    _above(axis, 0.5, 5 + 72 * _LINE, heading, size=10, color=INK, weight="bold")


def _above(axis: Axes, x: float, points: float, text: str, **style: Any) -> None:
    """Text at `points` above an axis."""
    place: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points", "ha": "center", "va": "bottom"}
    axis.annotate(text, (x, 1), (0, points), **place, **style)


def _weight(colour: str) -> str:
    return "bold" if colour == INK else "normal"


def _row_names(axis: Axes, names: Sequence[tuple[str, str]]) -> None:
    for place, (name, colour) in enumerate(names):
        y = 1 - (place + 0.5) / len(names)
        weight = _weight(colour)
        colour = MUTED if name == "cycled" else colour
        style = {"color": colour, "weight": weight, "size": 9, "ha": "right", "va": "center"}
        axis.text(-0.09 / axis.get_position().width / WIDE, y, name, transform=axis.transAxes, **style)
