"""What a picture of a unit leaves out: how much of the asked change arrives, and what else changes with it."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lis.report.figures.marks import DASHED, above, circle, dots
from lis.report.figures.ranking import SIGNIFICANT
from lis.report.frames import column, known
from lis.report.style import LINK_RED, MUTED, PAIRING, RULE, WIDE, light_grid, sheet, styled

_BINS = 24


@styled
def honesty(table: pd.DataFrame, labels: int) -> Figure:
    """Left: the unit's own change that arrives against what other units do; right: the share of its main label.

    Args:
        table: "honesty": unit, realised, others, selectivity, selectivity_p.
        labels: how many there are; a single one has no share, and the right panel is left out.
    """
    panels = 2 if labels > 1 else 1
    figure, axes = sheet(WIDE * panels / 2, 3.1, 1, panels)
    _realised(axes[0, 0], table)
    if labels > 1:
        _selectivity(axes[0, 1], table, labels)
    return figure


def _realised(axis: Axes, table: pd.DataFrame) -> None:
    for at, name in ((0.0, "nothing"), (1.0, "all")):
        axis.axvline(at, color=RULE, linewidth=1.2)
        above(axis, at, 1, name, size=8, color=MUTED, ha="center", va="bottom")
    both = known(known(table, "realised"), "others")
    dots(axis, both["realised"], both["others"], PAIRING["cycle"])
    if len(both):
        circle(axis, both["realised"].mean(), both["others"].mean(), 7)
    axis.set(xlabel="share of the asked change that arrives", ylabel="change of the other units (sd)", ylim=(0, None))
    axis.set_title("Encoded again", pad=14)
    light_grid(axis, "both")


def _selectivity(axis: Axes, table: pd.DataFrame, labels: int) -> None:
    table = known(table, "selectivity")
    values, beyond = column(table, "selectivity"), (table["selectivity_p"] <= SIGNIFICANT).to_numpy(dtype=bool)
    names = [f"beyond 95 % of random directions ({beyond.sum()})", f"not beyond ({(~beyond).sum()})"]
    bins, colours = np.linspace(1 / labels, 1, _BINS + 1).tolist(), [LINK_RED, PAIRING["random"]]
    counts, *_ = axis.hist([values[beyond], values[~beyond]], bins, stacked=True, color=colours, label=names)
    axis.axvline(1 / labels, color=MUTED, linewidth=1, linestyle=DASHED)
    axis.set(xlabel="share of the main label in all change of area", ylabel="units")
    axis.set_title("Selectivity", pad=14)
    if len(column(table, "selectivity_p")):
        axis.set_ylim(0, 1.35 * max(float(np.max(counts)), 1.0))
        axis.legend(loc="upper right")
