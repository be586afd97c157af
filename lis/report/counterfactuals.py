"""How many counterfactuals are found, and at what cost (paper §3.3)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lis.report.marks import ONE_SIDED, errors, matrices, note
from lis.report.section import Picture, Section, listed, means, metrics, prefixed, section
from lis.report.source import Source
from lis.report.style import INK, MUTED, PAIRING, SERIES, WIDE, sheet
from lis.report.tables import column, ends, known, records, where
from lis.report.wording import arrow, counted, listing, number, percent, share, words
from lis.store import Artifact

ALL = "all"
"""The row of all pairs together."""
OPTIMIZERS = {
    "natural": "gradient descent in the metric of the training pairs",
    "published": "gradient descent as published",
    "adam": "Adam",
}
_REACHED = (
    "Origins down, targets across. Left: share of the samples whose image, made from f(r + Δr) and encoded again, is "
    "called the target; middle: median steps of the search; right: mean ‖f(r + Δr) − f(r)‖."
)


@section(510, "counterfactuals", "counterfactuals", "pairs", "facts")
def counterfactuals(source: Source) -> Section:
    """The success of the searches, by pairs of classes."""
    pairs, facts = source.table("counterfactuals", "pairs"), source.json("counterfactuals", "facts")
    figure = Picture("counterfactuals-reached", reached(pairs, source.facts.class_names), _REACHED)
    columns = {
        "": lambda row: ALL if row["origin"] == ALL else arrow(row["origin"], row["target"]),
        "target reached": lambda row: percent(row["rate"], row["low"], row["high"]),
        "steps (median)": lambda row: number(row["steps"]),
        "probability of the target": lambda row: number(row["probability"], 2),
        "distance in W": lambda row: number(row["w_distance"], 2),
    }
    caption = "Share with 95 % Wilson interval; the others are of those that reached their target."
    failed = where(source.table("counterfactuals", "counterfactuals"), success=False)
    told = [f"{reason} ({n:,})" for reason, n in Counter(map(str, failed["reason"])).most_common()]
    notes = [f"Searches that found none: {listing(told)}."] if told else []
    return Section("Counterfactuals", _lead(pairs, facts), [figure], [listed(caption, records(pairs), columns)], notes)


def _lead(pairs: pd.DataFrame, facts: dict[str, Any]) -> str:
    lead = (
        f"{facts['reached']:,} of {counted(facts['n'], 'counterfactual')} ({share(facts['rate'])}) reach their target "
        f"when their image is classified, within {counted(facts['max_steps'], 'step')} of "
        f"{OPTIMIZERS.get(facts['optimizer'], facts['optimizer'])} "
        f"(learning rate {number(facts['learning_rate'], 1)})."
    )
    single = pd.DataFrame(pairs[pairs["origin"] != ALL])
    if len(single) < 2 or (worst := ends(single, "rate")[0])["rate"] == 1:
        return lead
    return f"{lead} The hardest is {words(worst['origin'])} to {words(worst['target'])}: {share(worst['rate'])}."


@metrics("counterfactuals")
def counterfactual_numbers(artifact: Artifact) -> dict[str, float]:
    """`counterfactuals/{reached, steps, w_distance}`: share; median and mean of those that reach their target."""
    table = artifact.table("counterfactuals")
    good = where(table, success=True)
    numbers = {"reached": float(column(table, "success").mean())} if len(table) else {}
    if len(good):
        numbers |= {"steps": float(np.median(column(good, "steps"))), **means(good, ["w_distance"])}
    return prefixed("counterfactuals", numbers)


def reached(pairs: pd.DataFrame, class_names: Sequence[str]) -> Figure:
    """Three matrices, origins down and targets across: share that reaches its target, steps, distance in W.

    Args:
        pairs: origin, target, rate, steps, w_distance.
        class_names: rows and columns.
    """
    panels = [
        ("target reached, %", pairs, "rate", (0, 1), lambda x: f"{100 * x:.0f}", ONE_SIDED),
        ("steps (median)", pairs, "steps", (0, None), lambda x: f"{x:,.0f}", ONE_SIDED),
        ("distance in W", pairs, "w_distance", (0, None), lambda x: number(x, 2), ONE_SIDED),
    ]
    rows, columns, height = ("origin", class_names), ("target", class_names), 1.0 + 0.36 * len(class_names)
    return matrices(panels, rows, columns, height, beside=3, pad=10, y="from")


def trade_off(summary: pd.DataFrame) -> Figure:
    """What an L1 penalty buys: left, units moved over the penalty; right, success and probability over the units moved.

    Args:
        summary: l1, units, units_low, units_high, rate, low, high, probability.
    """
    table = summary.sort_values("l1")
    figure, axes = sheet(WIDE, 2.9, 1, 2, lines="y")
    left, right = axes[0]
    order, units, rate = range(len(table)), table["units"], table["rate"]
    errors(left, order, units, table["units_low"], table["units_high"], PAIRING["cycle"])
    left.set_xticks(order, [number(float(x), 2) for x in table["l1"]])
    left.set(xlabel="weight of the L1 penalty on Δr", ylabel="units moved", ylim=(0, None), title="Units that move")
    errors(right, units, rate, table["low"], table["high"], SERIES[0], label="target reached")
    right.plot(units, table["probability"], "s-", color=SERIES[2], markersize=5, label="probability of the target")
    for row in records(known(known(table, "units"), "rate")):
        note(right, number(row["l1"], 2), (row["units"], row["rate"]), (5, 4), ha="left", size=7.5, color=MUTED)
    right.set(xlabel="units moved (median)", ylabel="share, probability", ylim=(0, 1.1))
    right.set_title("What is left of the effect")
    right.legend(loc="lower right")
    for axis in (left, right):
        axis.tick_params(labelcolor=INK)
    return figure
