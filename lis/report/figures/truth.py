"""Measured change beside the true change, on a world that knows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lis.report.figures.heat import ONE_SIDED, TWO_SIDED, matrices
from lis.report.figures.marks import diagonal, dots, facets, padded, write
from lis.report.frames import known, records, where
from lis.report.labels import number, signed
from lis.report.measures import CHANGES
from lis.report.style import MUTED, light_grid, plain, styled

_BOX = {"boxstyle": "round,pad=0.15", "facecolor": "white", "alpha": 0.75, "linewidth": 0}


@styled
def measured_and_true(table: pd.DataFrame, agreement: pd.DataFrame, colours: Mapping[str, str], measure: str) -> Figure:
    """A panel per label, a dot per unit: mean true change to the right, mean measured change up.

    Args:
        table: "units": unit, label, measure, measured, true.
        agreement: "agreement": label, measure, spearman, overlap, interpreted; written into the panels.
        colours: of the labels, in the order of the panels.
        measure: the one that is shown.
    """
    facts = {row["label"]: row for row in records(where(agreement, measure=measure))}
    labels = [label for label in colours if label in facts]
    figure, panels = facets(labels, 5, 2.05, 0.4, x=f"true {CHANGES[measure]}", y="measured")
    for axis, label in panels:
        _panel(axis, where(table, measure=measure, label=label), facts[label], colours[label])
    return figure


def _panel(axis: Axes, table: pd.DataFrame, facts: dict[str, Any], colour: str) -> None:
    both = known(known(table, "true"), "measured")
    limits = padded(np.append(both[["true", "measured"]].to_numpy(dtype=float), 0.0), 0.06)
    diagonal(axis, *limits)
    dots(axis, both["true"], both["measured"], colour, 3.6, 0.6)
    text = f"ρ = {signed(facts['spearman'])}\n{facts['overlap']:.0f} of top 10" if len(both) else "never seen"
    write(axis, 0.97, 0.04, text, ha="right", va="bottom", size=8.5, linespacing=1.4, bbox=_BOX)
    name = plain(facts["label"]) + ("" if facts["interpreted"] else " (too small)")
    axis.set_title(name, color=colour if facts["interpreted"] else MUTED)
    axis.set(xlim=limits, ylim=limits, aspect="equal")
    axis.locator_params(nbins=4)
    light_grid(axis, "both")


@styled
def agreement(table: pd.DataFrame, labels: Sequence[str], measures: Sequence[str]) -> Figure:
    """Label × measure: rank correlation over units and shared heads, of means over samples and within samples.

    Args:
        table: "agreement": label, measure, spearman, overlap, spearman_seed, overlap_seed.
        labels: rows.
        measures: columns.
    """
    correlation, units = ((-1, 1), signed, TWO_SIDED), ((0, 10), lambda value: number(value, 2), ONE_SIDED)
    panels = [
        ("Spearman, means over samples", table, "spearman", *correlation),
        ("shared of the first 10, means over samples", table, "overlap", *units),
        ("Spearman, single samples", table, "spearman_seed", *correlation),
        ("shared of the first 10, single samples", table, "overlap_seed", *units),
    ]
    height = 0.6 + 0.27 * max(len(labels), 3)
    return matrices(panels, ("label", labels), ("measure", measures), height, beside=2, pad=8)
