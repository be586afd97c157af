"""Measured change beside the true change, on a world that knows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lis.report.figures.heat import ONE_SIDED, TWO_SIDED, heat, matrix
from lis.report.figures.strips import signed
from lis.report.frames import records, where
from lis.report.labels import number
from lis.report.measures import CHANGES
from lis.report.style import INK, MUTED, RULE, WIDE, light_grid, plain, sheet, styled

_COLUMNS = 5


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
    columns = min(_COLUMNS, len(labels))
    rows = -(-len(labels) // columns)
    figure, axes = sheet(WIDE * max(columns, 2) / _COLUMNS, 0.4 + 2.05 * rows, rows, columns)
    for axis, label in zip(axes.flat, labels, strict=False):
        _panel(axis, where(table, measure=measure, label=label), facts[label], colours[label])
    for axis in axes.flat[len(labels) :]:
        axis.set_visible(False)
    figure.supxlabel(f"true {CHANGES[measure]}", size=9)
    figure.supylabel("measured", size=9)
    return figure


def _panel(axis: Axes, table: pd.DataFrame, facts: dict[str, Any], colour: str) -> None:
    true, measured = (np.asarray(table[name], dtype=float) for name in ("true", "measured"))
    both = np.isfinite(true) & np.isfinite(measured)
    ends = [float(np.min([0, *true[both], *measured[both]])), float(np.max([0, *true[both], *measured[both]]))]
    margin = 0.06 * (ends[1] - ends[0]) or 1.0
    ends = [ends[0] - margin, ends[1] + margin]
    axis.plot(ends, ends, color=RULE, linewidth=1.2)
    axis.plot(true[both], measured[both], "o", color=colour, markersize=3.6, alpha=0.6, markeredgewidth=0)
    written = f"ρ = {signed(facts['spearman'])}\n{facts['overlap']:.0f} of top 10" if both.any() else "never seen"
    style: dict[str, Any] = {"transform": axis.transAxes, "ha": "right", "size": 8.5, "color": INK}
    box = {"boxstyle": "round,pad=0.15", "facecolor": "white", "alpha": 0.75, "linewidth": 0}
    axis.text(0.97, 0.04, written, va="bottom", linespacing=1.4, bbox=box, **style)
    name = plain(facts["label"]) + ("" if facts["interpreted"] else " (too small)")
    axis.set_title(name, color=colour if facts["interpreted"] else MUTED)
    axis.set(xlim=ends, ylim=ends, aspect="equal")
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
    figure, axes = sheet(WIDE, 2 * (0.6 + 0.27 * max(len(labels), 3)), 2, 2)
    panels = [
        ("spearman", "Spearman, means over samples"),
        ("overlap", "shared of the first 10, means over samples"),
        ("spearman_seed", "Spearman, single samples"),
        ("overlap_seed", "shared of the first 10, single samples"),
    ]
    for place, (axis, (name, title)) in enumerate(zip(axes.flat, panels, strict=True)):
        values, names = matrix(table, ("label", labels), ("measure", measures), name), labels if place % 2 == 0 else []
        if name.startswith("spearman"):
            heat(axis, values, names, measures, (-1, 1), signed, TWO_SIDED)
        else:
            heat(axis, values, names, measures, (0, 10), lambda value: number(value, 2), ONE_SIDED)
        axis.set_title(title, pad=8)
    return figure
