"""How far a picture of a unit can be believed: what arrives of the asked change, and what a random direction does."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lis.report.arrival import which_way
from lis.report.claims import callable_units, decides, undecided, without_claims
from lis.report.marks import DASHED, above, circle, dots
from lis.report.section import Picture, Section, means, means_as_metrics, metrics, prefixed, section
from lis.report.source import Source
from lis.report.style import LINK_RED, MUTED, PAIRING, RULE, WIDE, light_grid, sheet
from lis.report.tables import column, known, mean, where
from lis.report.wording import counted, number, sentences, share
from lis.statistics import SIGNIFICANT
from lis.store import Artifact

_LEFT = (
    "A dot is one unit: the first and the last image are encoded again; the share of the asked change that arrives in "
    "the unit, against the root mean square change of all other units in their standard deviations; circle: mean."
)
_GREY = " Grey: units that are not reached."
_RIGHT = (
    " Right: units by the largest share of one label in the sum of all labels' |mean change of area|; dashed: all "
    "labels alike{}."
)
_RED = "; red: larger than in random mixtures of units (q ≤ 0.05), of units that are reached"
_BINS = 24
_DRAWN = ("unit", "reencoded_share", "others", "reached", "p_reached", "q_reached", "selectivity", "selective")
"""Columns of the table of the figure."""


@section(310, "unit_statistics", "faithfulness", "ranking")
def faithfulness(source: Source) -> Section:
    """The re-encoded share beside what else moves, and the selectivity beside its control."""
    table, called = without_claims(source, source.table("unit_statistics", "faithfulness")), callable_units(source)
    ranked = source.table("unit_statistics", "ranking")
    if known(table, "reencoded_share").empty and known(table, "selectivity").empty:
        nothing = "Nothing was measured of what arrives: no unit changed any image."
        return Section("What arrives", nothing, finding="No unit changed any image: nothing arrives")
    labels = len(set(where(ranked, interpreted=True)["label"]))
    grey, red = (not np.all(table["reached"])), bool(np.any(table["selective"]))
    caption = _LEFT + _GREY * (called and grey) + _RIGHT.format(_RED * (called and red)) * (labels > 1)
    told = undecided(source, "selective") or _selective(table)
    data = pd.DataFrame(table[[name for name in _DRAWN if name in table]])
    figure = Picture("faithfulness", faithfulness_figure(table, labels), caption, data=data, alt=_alt(table))
    lead = sentences(_arrives(table), told * (labels > 1))
    return Section("What arrives", lead, [figure], notes=[which_way(source)], finding=_finding(table))


def _finding(table: pd.DataFrame) -> str:
    """How many units are reached; that it is undecided where none could be called so."""
    if not len(column(table, "p_reached")):
        return "Which units are reached is undecided: too few random directions"
    count, units = int(np.sum(table["reached"])), counted(len(table), "unit")
    if not count:
        return f"None of {units} is reached: none moves more than by random directions"
    return f"{count:,} of {units} {'are' if count > 1 else 'is'} reached (q ≤ {SIGNIFICANT}, beside random directions)"


def _alt(table: pd.DataFrame) -> str:
    """Where most dots lie."""
    if not len(arrived := column(table, "reencoded_share")):
        return ""
    low, middle, high = (share(x) for x in np.quantile(arrived, [0.05, 0.5, 0.95]))
    others = number(mean(table, "others"), 2)
    return (
        f"Nine tenths of the units lie between {low} and {high}, half above {middle}; the others move by {others} sd."
    )


def _arrives(table: pd.DataFrame) -> str:
    arrived = column(table, "reencoded_share")
    if not len(arrived):
        return ""
    return (
        f"Encoded again, an image shows {share(float(np.median(arrived)))} of the change that was asked of its unit "
        f"(median); the other units move by {number(mean(table, 'others'), 2)} of their standard deviations, so that a "
        "picture shows a unit together with what goes along with it. "
    ) + _reached(table)


def _reached(table: pd.DataFrame) -> str:
    """How many units move more than by random directions, and what these do to the same units."""
    if not len(beside := column(table, "reencoded_control")):
        return ""
    random = f"Random directions that move w as far change the same units by {share(float(np.median(beside)))} of it."
    if not len(column(table, "p_reached")):
        return random
    return (
        f"{random} {int(np.sum(table['reached']))} of {len(table)} units are reached: they move more than that "
        f"(q ≤ {SIGNIFICANT}), and the way they were asked. From the others no meaning is read."
    )


def _selective(table: pd.DataFrame) -> str:
    tested = known(table, "selectivity_q")
    if tested.empty:
        return ""
    means = (number(mean(tested, name), 2) for name in ("selectivity", "selectivity_control"))
    return (
        f"{share(mean(tested, 'selective'))} of the units are more selective for one label than random "
        f"mixtures of units (q ≤ 0.05, and reached); the share of the main label is {{}} on average, {{}} in random "
        "directions."
    ).format(*means)


means_as_metrics("unit_statistics", "faithfulness", "reencoded_share")


@metrics("unit_statistics")
def arrival_numbers(artifact: Artifact) -> dict[str, float]:
    """`units/own`, `units/others`, `units/more`, `units/reached`: means over tuned units, and the share reached.

    The last is left out where there are too few random directions for any unit to be called reached.
    """
    table = artifact.table("faithfulness")
    reached = {"reached": mean(table, "reached")} if decides(artifact) else {}
    return prefixed("units", means(table, ("own", "others", "more")) | reached)


def faithfulness_figure(table: pd.DataFrame, labels: int) -> Figure:
    """Left: the unit's own change that arrives against what other units do; right: the share of its main label.

    Args:
        table: "faithfulness": unit, reencoded_share, others, reached, selectivity, selective.
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
    both = known(known(table, "reencoded_share"), "others")
    for reached, colour in ((False, MUTED), (True, PAIRING["cycle"])):
        units = where(both, reached=reached)
        dots(axis, units["reencoded_share"], units["others"], colour)
    if len(both):
        circle(axis, both["reencoded_share"].mean(), both["others"].mean(), 7)
    axis.set(xlabel="share of the asked change that arrives", ylabel="change of the other units (sd)", ylim=(0, None))
    axis.set_title("Encoded again", pad=14)
    light_grid(axis, "both")


def _selectivity(axis: Axes, table: pd.DataFrame, labels: int) -> None:
    table = known(table, "selectivity")
    values, beyond = column(table, "selectivity"), table["selective"].to_numpy(dtype=bool)
    groups = [(values[~beyond], PAIRING["random"], f"not beyond random mixtures ({(~beyond).sum()})")]
    if beyond.any():
        groups.insert(0, (values[beyond], LINK_RED, f"beyond random mixtures, q ≤ 0.05 ({beyond.sum()})"))
    drawn, colours, names = map(list, zip(*groups, strict=True))
    bins = np.linspace(1 / labels, 1, _BINS + 1).tolist()
    counts, *_ = axis.hist(drawn, bins, stacked=True, color=colours, label=names)
    axis.axvline(1 / labels, color=MUTED, linewidth=1, linestyle=DASHED)
    axis.set(xlabel="share of the main label in all change of area", ylabel="units")
    axis.set_title("Selectivity", pad=14)
    if len(column(table, "selectivity_p")):
        axis.set_ylim(0, 1.35 * max(float(np.max(counts)), 1.0))
        axis.legend(loc="upper right")
