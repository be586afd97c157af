"""Masks that were found beside the true ones (supplement Fig. S8)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from lis.report.figures.marks import picture
from lis.report.figures.overlay import overlay
from lis.report.figures.reconstructions import mosaic
from lis.report.style import INK, LINK_RED, MUTED, WIDE, plain, styled

COLUMNS = ("image", "labelled", "found", "differs")
_NAME, _HEAD, _FOOT, _GAP, _LINE = 0.95, 0.42, 0.32, 0.14, 0.20
"""Inches left, above and below the pictures, between blocks, and for the note below each."""
_CELL = 0.92
"""Largest side of a picture in inches."""
_TINT, _PALE = 0.55, 0.45
"""How strongly parts are tinted, and how dark the grey image is."""
_LETTER, _MARK = 0.075, 0.34
"""Inches of the legend per letter and per mark."""


@dataclass(frozen=True)
class Example:
    """A test image with both of its masks."""

    image: np.ndarray
    """`[h, w, 3]` uint8."""
    true: np.ndarray
    """`[size, size]` integers, 0 background."""
    found: np.ndarray
    iou: float


@styled
def mask_examples(rows: Mapping[str, Mapping[str, Example]], colours: Mapping[str, str]) -> Figure:
    """A row per class, a block per rank: the image, its true mask, the mask found, and where they differ.

    Args:
        rows: class → rank (`worst`, …) → example.
        colours: of the labels.
    """
    ranks = list(dict.fromkeys(rank for row in rows.values() for rank in row))
    cell = min(_CELL, (WIDE - _NAME - len(ranks) * _GAP) / len(COLUMNS) / len(ranks))
    height = _HEAD + len(rows) * (cell + _LINE) + _FOOT
    figure = Figure(figsize=(WIDE, height))
    for line, (name, row) in enumerate(rows.items()):
        top = _HEAD + line * (cell + _LINE)
        figure.text((_NAME - 0.09) / WIDE, 1 - (top + cell / 2) / height, plain(name), ha="right", va="center")
        for place, rank in enumerate(ranks):
            left, width = _NAME + place * (len(COLUMNS) * cell + _GAP), len(COLUMNS) * cell
            axis = figure.add_axes((left / WIDE, 1 - (top + cell) / height, width / WIDE, cell / height))
            axis.axis("off")
            if line == 0:
                _heading(axis, rank)
            if rank in row:
                picture(axis, mosaic([np.stack(panels(row[rank], list(colours.values())))]))
                axis.text(0, -0.05, f"IoU {row[rank].iou:.2f}", transform=axis.transAxes, size=8, color=MUTED, va="top")
    _legend(figure, colours)
    return figure


def panels(example: Example, colours: Sequence[str]) -> list[np.ndarray]:
    """The pictures of an example in the order of `COLUMNS`, each `[side, side, 3]` uint8.

    The last is the image in pale grey, with red pixels where the masks differ.
    """
    image = overlay(example.image, np.zeros_like(example.true), colours)
    true, found = (overlay(example.image, mask, colours, fill=_TINT) for mask in (example.true, example.found))
    pale = 255 - _PALE * (255 - image.mean(2, keepdims=True))
    rows, columns = (np.arange(side) * len(example.true) // side for side in image.shape[:2])
    wrong = (example.true != example.found)[rows][:, columns, None]
    differs = np.where(wrong, 255 * np.array(to_rgb(LINK_RED)), pale)
    return [image, true, found, differs.round().astype(np.uint8)]


def _heading(axis: Axes, rank: str) -> None:
    """The rank above a block, and what its columns are."""
    axis.annotate(rank, (0, 1), (0, 15), xycoords="axes fraction", textcoords="offset points", size=10, weight="bold")
    for place, name in enumerate(COLUMNS):
        x = (place + 0.5) / len(COLUMNS)
        style = {"xycoords": "axes fraction", "textcoords": "offset points", "size": 8, "color": MUTED}
        axis.annotate(name, (x, 1), (0, 3), ha="center", **style)


def _legend(figure: Figure, colours: Mapping[str, str]) -> None:
    """The labels in a line below."""
    left, y = _NAME, 0.12 / figure.get_figheight()
    for label, colour in colours.items():
        figure.text(left / WIDE, y, "■", color=colour, size=11, va="center")
        figure.text((left + 0.16) / WIDE, y, plain(label), color=INK, size=9, va="center")
        left += _MARK + _LETTER * len(label)
