"""How few labels a unit changes, and how few units change a label (Fig. 5A; supplement Fig. S13)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lis.report.figures.marks import control_density, dot, eye, facets, name_control, names_down, names_up
from lis.report.frames import column, known, records, split, where
from lis.report.style import INK, WIDE, class_colours, plain, sheet, styled


@styled
def label_sparsity(table: pd.DataFrame, null: pd.DataFrame, class_names: Sequence[str]) -> Figure:
    """A panel per measure, a half-eye per class over units; grey behind it, the same for random directions.

    Args:
        table: "label_sparsity": unit, class, measure, sparsity.
        null: the same of random directions.
        class_names: rows from top to bottom, which also fix the colours.
    """
    measures, height = split(known(table, "sparsity"), "measure"), 0.45 + 0.38 * len(class_names)
    x = "label sparsity (1: the unit changes one label)"
    figure, panels = facets(measures, 3, height, 0.5, x=x, sharex=True, sharey=True)
    for axis, measure in panels:
        _classes(axis, measures[measure], where(null, measure=measure), class_names)
        axis.set_title("all measures" if measure == "all" else plain(measure))
    if len(null):
        name_control(figure, panels[0][0])
    return figure


def _classes(axis: Axes, table: pd.DataFrame, null: pd.DataFrame, class_names: Sequence[str]) -> None:
    colours = class_colours(class_names)
    for at, name in enumerate(reversed(class_names)):
        values, random = (column(where(rows, **{"class": name}), "sparsity") for rows in (table, null))
        if len(values):
            eye(axis, values, at, colours[name], width=0.7)
        control_density(axis, random, at, 0.7)
        if len(random):
            axis.plot(random.mean(), at - 0.09, "|", color=INK, markersize=9, markeredgewidth=1.4)
    names_up(axis, [plain(name) for name in class_names], 0.35, 0.85)
    _from_0_to_1(axis, 0)


@styled
def unit_sparsity(table: pd.DataFrame, colours: Mapping[str, str]) -> Figure:
    """A panel per measure, a row per label: how few units change it, with the interval over samples.

    Args:
        table: "unit_sparsity": label, measure, sparsity, low, high.
        colours: of the labels, which are the rows from top to bottom.
    """
    measures, labels = split(table, "measure"), list(colours)
    figure, axes = sheet(WIDE, 0.95 + 0.24 * len(labels), 1, len(measures), sharey=True)
    for axis, (measure, rows) in zip(axes[0], measures.items(), strict=True):
        for row in records(known(rows, "sparsity")):
            if row["label"] in colours:
                at, colour = labels.index(row["label"]), colours[row["label"]]
                dot(axis, row["sparsity"], row["low"], row["high"], at, colour)
        axis.set_title(plain(measure))
        _from_0_to_1(axis, 0.04)
    names_down(axes[0, 0], [plain(label) for label in labels], axes[0, 1:])
    figure.supxlabel("unit sparsity (1: one unit changes the label; 0: all units do alike)", size=9)
    return figure


def _from_0_to_1(axis: Axes, room: float) -> None:
    axis.set_xlim(-room, 1 + room)
    axis.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
