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
    axis.text(0.04, 0.97, written, transform=axis.transAxes, va="top", size=8.5, color=INK, linespacing=1.4)
    name = plain(facts["label"]) + ("" if facts["interpreted"] else " (too small)")
    axis.set_title(name, color=colour if facts["interpreted"] else MUTED)
    axis.set(xlim=ends, ylim=ends, aspect="equal")
    axis.locator_params(nbins=4)
    light_grid(axis, "both")


@styled
def agreement(table: pd.DataFrame, labels: Sequence[str], measures: Sequence[str]) -> Figure:
    """Label × measure: rank correlation over units on means over samples and per sample, and shared top 10.

    Args:
        table: "agreement": label, measure, spearman, spearman_seed, overlap.
        labels: rows.
        measures: columns.
    """
    figure, axes = sheet(WIDE, 0.85 + 0.3 * max(len(labels), 3), 1, 3)
    panels = [
        ("spearman", "Spearman, means over samples", (-1, 1), signed, TWO_SIDED),
        ("spearman_seed", "Spearman, single samples", (-1, 1), signed, TWO_SIDED),
        ("overlap", "shared of the first 10, means", (0, 10), lambda value: f"{value:.0f}", ONE_SIDED),
    ]
    for place, (axis, (name, title, limits, text, scale)) in enumerate(zip(axes[0], panels, strict=True)):
        values = matrix(table, ("label", labels), ("measure", measures), name)
        heat(axis, values, labels if place == 0 else [""] * len(labels), measures, limits, text, scale)
        axis.set_title(title, pad=8)
    return figure
