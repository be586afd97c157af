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
from lis.report.style import HALF, INK, plain, sheet, styled

_FACES = {"exact": "exact masks", "labelled": "labelled images"}
_NOWHERE = np.array([np.nan])
"""A dot that only the legend shows."""
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
    axis, everything = axes[0, 0], where(table, **{"class": "all"})
    single = where(pd.DataFrame(table[table["class"] != "all"]), kind=main_kind(table))
    for at, (label, colour) in enumerate(colours.items()):
        values = column(where(single, label=label), "iou")
        axis.plot(values, np.full(len(values), at), ".", color=colour, alpha=0.55, markersize=5)
        for kind in _FACES:
            _dot(axis, column(where(everything, label=label, kind=kind), "iou"), at, colour, kind == "exact")
    for kind, name in _FACES.items():
        if kind in set(table["kind"]):
            _dot(axis, _NOWHERE, 0, INK, kind == "exact", label=name)
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
    axis, rows = axes[0, 0], where(table, kind=main_kind(table))
    diamond: dict[str, Any] = {"marker": "D", "markersize": 6}
    for at, (label, colour) in enumerate(colours.items()):
        trained, new = (column(where(rows, label=label, **{"class": one}), "iou") for one in ("all", name))
        if len(trained) and len(new):
            axis.plot([trained[0], new[0]], [at, at], color=colour, alpha=0.5)
        _dot(axis, trained, at, colour, True)
        _dot(axis, new, at, colour, False, **diamond)
    _dot(axis, _NOWHERE, 0, INK, True, label="classes with labels")
    _dot(axis, _NOWHERE, 0, INK, False, **diamond, label=f"{plain(name)}, without labels")
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
    figure.legend(loc="outside upper left", ncols=3, handletextpad=0.2, columnspacing=1.2)
