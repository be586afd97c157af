"""How far a picture of a unit can be believed: what arrives of the asked change, and what a random direction does."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lis.report.marks import DASHED, above, circle, dots
from lis.report.section import Picture, Section, means_as_metrics, section
from lis.report.source import Source
from lis.report.style import LINK_RED, MUTED, PAIRING, RULE, WIDE, light_grid, sheet
from lis.report.tables import column, known, mean, where
from lis.report.wording import number, sentences, share
from lis.statistics import SIGNIFICANT

_LEFT = (
    "A dot is one unit: the first and the last image are encoded again; the share of the asked change that arrives in "
    "the unit, against the root mean square change of all other units in their standard deviations; circle: mean."
)
_RIGHT = (
    " Right: units by the largest share of one label in the sum of all labels' |mean change of area|; dashed: all "
    "labels alike; red: larger than in 95 % of random directions."
)
_BINS = 24


@section(380, "unit_statistics", "faithfulness", "ranking")
def faithfulness(source: Source) -> Section:
    """The re-encoded share beside what else moves, and the selectivity beside its control."""
    table, ranked = source.table("unit_statistics", "faithfulness"), source.table("unit_statistics", "ranking")
    if known(table, "reencoded_share").empty and known(table, "selectivity").empty:
        return Section("What arrives", "Nothing was measured of what arrives: no unit changed any image.")
    labels = len(set(where(ranked, interpreted=True)["label"]))
    figure = Picture("faithfulness", faithfulness_figure(table, labels), _LEFT + _RIGHT * (labels > 1))
    return Section("What arrives", sentences(_arrives(table), _selective(table) * (labels > 1)), [figure])


def _arrives(table: pd.DataFrame) -> str:
    arrived = column(table, "reencoded_share")
    if not len(arrived):
        return ""
    return (
        f"Encoded again, an image shows {share(float(np.median(arrived)))} of the change that was asked of its unit "
        f"(median over units); meanwhile the other units move by {number(mean(table, 'off_target'), 2)} of their "
        "standard deviations on average, so that a picture shows a unit together with what goes along with it."
    )


def _selective(table: pd.DataFrame) -> str:
    p = column(table, "selectivity_p")
    if not len(p):
        return ""
    beyond = float((p <= SIGNIFICANT).mean())
    return (
        f"{share(beyond)} of the units are more selective for one label than 95 % of random directions; by chance: 5 %."
    )


means_as_metrics("unit_statistics", "faithfulness", "reencoded_share", "off_target")


def faithfulness_figure(table: pd.DataFrame, labels: int) -> Figure:
    """Left: the unit's own change that arrives against what other units do; right: the share of its main label.

    Args:
        table: "faithfulness": unit, reencoded_share, off_target, selectivity, selectivity_p.
        labels: how many there are; a single one has no share, and the right panel is left out.
    """
    panels = 2 if labels > 1 else 1
    figure, axes = sheet(WIDE * panels / 2, 3.1, 1, panels)
    _reencoded_share(axes[0, 0], table)
    if labels > 1:
        _selectivity(axes[0, 1], table, labels)
    return figure


def _reencoded_share(axis: Axes, table: pd.DataFrame) -> None:
    for at, name in ((0.0, "nothing"), (1.0, "all")):
        axis.axvline(at, color=RULE, linewidth=1.2)
        above(axis, at, 1, name, size=8, color=MUTED, ha="center", va="bottom")
    both = known(known(table, "reencoded_share"), "off_target")
    dots(axis, both["reencoded_share"], both["off_target"], PAIRING["cycle"])
    if len(both):
        circle(axis, both["reencoded_share"].mean(), both["off_target"].mean(), 7)
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
