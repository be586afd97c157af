"""How well the parts are found: intersection over union per label (supplement Fig. S6, S7)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lis.report.figures.marks import names_down
from lis.report.frames import column, where
from lis.report.style import HALF, INK, light_grid, plain, sheet, styled

_FACES = {"exact": "exact masks", "labelled": "labelled images"}
_ROW, _REST = 0.27, 1.05
"""Inches of a label, and of everything else."""


@styled
def ious(table: pd.DataFrame, colours: Mapping[str, str]) -> Figure:
    """IoU per label over all classes, against exact masks (filled) and labelled ones (open); small dots are classes.

    Args:
        table: kind, class, label, iou; without a class that was left out of the training.
        colours: of the labels, which are the rows from top to bottom.
    """
    figure, axes = sheet(HALF, _REST + _ROW * len(colours))
    axis, main = axes[0, 0], main_kind(table)
    for at, (label, colour) in enumerate(colours.items()):
        own = where(table, label=label)
        singles = column(pd.DataFrame(own[(own["kind"] == main) & (own["class"] != "all")]), "iou")
        axis.plot(singles, np.full(len(singles), at), ".", color=colour, alpha=0.55, markersize=5)
        for kind in _FACES:
            _dot(axis, column(where(own, kind=kind, **{"class": "all"}), "iou"), at, colour, kind == "exact")
    for kind, name in _FACES.items():
        if kind in set(table["kind"]):
            _dot(axis, np.array([np.nan]), 0, INK, kind == "exact", label=name)
    if len(set(table["class"])) > 2:
        axis.plot([], [], ".", color=INK, alpha=0.55, markersize=5, label="single classes")
    _finish(figure, axis, list(colours))
    return figure


@styled
def left_out_ious(table: pd.DataFrame, colours: Mapping[str, str], name: str) -> Figure:
    """IoU per label of the class that was never labelled (diamonds), beside that of the classes that were (dots).

    Args:
        table: kind, class, label, iou.
        colours: of the labels, which are the rows from top to bottom.
        name: the class that was left out.
    """
    figure, axes = sheet(HALF, _REST + _ROW * len(colours))
    axis, shown = axes[0, 0], where(table, kind=main_kind(table))
    for at, (label, colour) in enumerate(colours.items()):
        known, new = (column(where(shown, label=label, **{"class": one}), "iou") for one in ("all", name))
        if len(known) and len(new):
            axis.plot([known[0], new[0]], [at, at], color=colour, alpha=0.5)
        _dot(axis, known, at, colour, True)
        _dot(axis, new, at, colour, False, marker="D", markersize=6)
    _dot(axis, np.array([np.nan]), 0, INK, True, label="classes with labels")
    _dot(axis, np.array([np.nan]), 0, INK, False, marker="D", markersize=6, label=f"{plain(name)}, without labels")
    _finish(figure, axis, list(colours))
    return figure


def main_kind(table: pd.DataFrame) -> str:
    """The kind with more images: `exact` where the parts are known."""
    return "exact" if "exact" in set(table["kind"]) else "labelled"


def _dot(axis: Axes, values: np.ndarray, at: float, colour: str, filled: bool, **style: Any) -> None:
    face: dict[str, Any] = {"color": colour if filled else "white", "markeredgecolor": colour, "markeredgewidth": 1.5}
    kind: dict[str, Any] = {"marker": "o", "markersize": 7, "linestyle": "none"}
    axis.plot(values, np.full(len(values), at), **(kind | face | style))


def _finish(figure: Figure, axis: Axes, labels: list[str]) -> None:
    """Rows, a scale that ends at 1, and the legend above."""
    names_down(axis, [plain(label) for label in labels])
    axis.set(xlim=(min(0.5, axis.get_xlim()[0]), 1.0), xlabel="intersection over union")
    light_grid(axis)
    figure.legend(loc="outside upper left", ncols=3, handletextpad=0.2, columnspacing=1.2)
