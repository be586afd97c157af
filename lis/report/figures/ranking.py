"""The units that change a part most, and what the rankings of different measures share (paper §4.3, S5.1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lis.report.figures.heat import heat, matrix, symmetric
from lis.report.figures.marks import dot, facets, names_down
from lis.report.frames import mean_by, records, where
from lis.report.measures import CHANGES
from lis.report.style import HALF, MUTED, plain, sheet, styled

SIGNIFICANT = 0.05
"""Above this share of random directions with at least the same change, a unit's dot is open."""


@styled
def ranking(table: pd.DataFrame, colours: Mapping[str, str], most: int = 10) -> Figure:
    """A panel per label with the units that change one measure most: mean over samples and its interval.

    Args:
        table: rows of "ranking" of one measure: unit, label, measure, change, rank, low, high, p_null, interpreted.
        colours: of the labels, in the order of the panels.
        most: units per panel.
    """
    labels = [label for label in colours if label in set(table["label"])]
    length = min(most, int(np.max(table["rank"])))
    x = CHANGES[str(table["measure"].iloc[0])]
    figure, panels = facets(labels, 5, 0.55 + 0.17 * length, 0.45, x=x, y="unit")
    for axis, label in panels:
        _ranked(axis, where(table, label=label).nsmallest(most, columns="rank"), colours[label])
        axis.set_ylim(length - 0.5, -0.5)
    return figure


def _ranked(axis: Axes, table: pd.DataFrame, colour: str) -> None:
    axis.axvline(0, color=MUTED, linewidth=0.8)
    rows = records(table)
    for at, row in enumerate(rows):
        dot(axis, row["change"], row["low"], row["high"], at, colour, filled=row["p_null"] <= SIGNIFICANT)
    names_down(axis, [str(row["unit"]) for row in rows])
    axis.tick_params(axis="y", labelsize=8)
    seen = all(row["interpreted"] for row in rows)
    axis.set_title(plain(rows[0]["label"]) + ("" if seen else " (too small)"), color=colour if seen else MUTED)
    axis.locator_params(axis="x", nbins=4)


@styled
def overlap(table: pd.DataFrame, measures: Sequence[str], top: int) -> Figure:
    """How many of the first `top` units two measures share, as a mean over labels.

    Args:
        table: "overlap": label, measure_a, measure_b, overlap, each pair once or twice.
        measures: rows and columns.
        top: units at the head of each ranking.
    """
    means = mean_by(table, ["measure_a", "measure_b"], "overlap")
    values = symmetric(matrix(means, ("measure_a", measures), ("measure_b", measures), "overlap"))
    figure, axes = sheet(HALF, 0.7 + 0.36 * len(measures))
    heat(axes[0, 0], values, measures, measures, (0, top), lambda value: f"{value:.1f}")
    return figure
