"""How few labels a unit changes, and how few units change a label (Fig. 5A; supplement Fig. S13)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lis.report.figures.marks import density, dot, eye, names_down
from lis.report.frames import column, records, where
from lis.report.style import INK, MUTED, WIDE, class_colours, light_grid, plain, sheet, styled

_COLUMNS = 3


@styled
def label_sparsity(table: pd.DataFrame, null: pd.DataFrame, class_names: Sequence[str]) -> Figure:
    """A panel per measure, a half-eye per class over units; grey behind it, the same for random directions.

    Args:
        table: "label_sparsity": unit, class, measure, sparsity.
        null: the same of random directions.
        class_names: rows from top to bottom, which also fix the colours.
    """
    measures = [name for name in dict.fromkeys(table["measure"]) if len(column(where(table, measure=name), "sparsity"))]
    columns = min(_COLUMNS, len(measures))
    rows = -(-len(measures) // columns)
    height = 0.5 + rows * (0.45 + 0.38 * len(class_names))
    figure, axes = sheet(WIDE * max(columns, 2) / _COLUMNS, height, rows, columns, sharex=True, sharey=True)
    for axis, measure in zip(axes.flat, measures, strict=False):
        _classes(axis, where(table, measure=measure), where(null, measure=measure), class_names)
        axis.set_title("all measures" if measure == "all" else plain(measure))
        axis.tick_params(labelbottom=True)
    for axis in axes.flat[len(measures) :]:
        axis.set_visible(False)
    if len(null):
        axes[0, 0].plot([], [], color=MUTED, linewidth=1.2, label="random directions")
        figure.legend(loc="outside upper right")
    figure.supxlabel("label sparsity (1: the unit changes one label)", size=9)
    return figure


def _classes(axis: Axes, table: pd.DataFrame, null: pd.DataFrame, class_names: Sequence[str]) -> None:
    colours = class_colours(class_names)
    for at, name in enumerate(reversed(class_names)):
        values, random = (column(where(rows, **{"class": name}), "sparsity") for rows in (table, null))
        if len(values):
            eye(axis, values, at, colours[name], width=0.7)
        position, height = density(random)
        axis.plot(position, at + 0.7 * height, color=MUTED, linewidth=1.2)
        if len(random):
            axis.plot(random.mean(), at - 0.09, "|", color=INK, markersize=9, markeredgewidth=1.4)
    axis.set_yticks(range(len(class_names)), [plain(name) for name in reversed(class_names)])
    axis.tick_params(axis="y", length=0, labelcolor=INK)
    axis.set(xlim=(0, 1), ylim=(-0.35, len(class_names) - 0.15))
    axis.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
    axis.spines["left"].set_visible(False)
    light_grid(axis)


@styled
def unit_sparsity(table: pd.DataFrame, colours: Mapping[str, str]) -> Figure:
    """A panel per measure, a row per label: how few units change it, with the interval over samples.

    Args:
        table: "unit_sparsity": label, measure, sparsity, low, high.
        colours: of the labels, which are the rows from top to bottom.
    """
    measures = list(dict.fromkeys(table["measure"]))
    figure, axes = sheet(WIDE, 0.95 + 0.24 * len(colours), 1, len(measures), sharey=True)
    for axis, measure in zip(axes[0], measures, strict=True):
        found = {row["label"]: row for row in records(where(table, measure=measure))}
        for at, (label, colour) in enumerate(colours.items()):
            if label in found and np.isfinite(found[label]["sparsity"]):
                dot(axis, found[label]["sparsity"], found[label]["low"], found[label]["high"], at, colour)
        axis.set(xlim=(-0.04, 1.04), title=plain(measure))
        axis.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
        axis.tick_params(axis="y", length=0)
        axis.spines["left"].set_visible(False)
        light_grid(axis)
    names_down(axes[0, 0], [plain(label) for label in colours])
    figure.supxlabel("unit sparsity (1: one unit changes the label; 0: all units do alike)", size=9)
    return figure
