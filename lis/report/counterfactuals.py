"""How many counterfactuals are found, and at what cost (paper §3.3)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lis.report.marks import ONE_SIDED, errors, matrices, note
from lis.report.section import Picture, Section, folded, listed, means, metrics, prefixed, section
from lis.report.source import Source
from lis.report.style import INK, MUTED, PAIRING, SERIES, WIDE, sheet
from lis.report.tables import column, ends, known, records, where
from lis.report.wording import arrow, counted, listing, number, percent, sentences, share, words
from lis.store import Artifact

ALL = "all"
"""The row of all pairs together."""
OPTIMIZERS = {
    "natural": "gradient descent in the metric of the training pairs",
    "published": "gradient descent as published",
    "adam": "Adam",
}
OBJECTIVES = {
    "image": "the logits of the image itself",
    "link": "the logits of r + Δr, as published, which the image need not share",
}
WHO = {"bayes": "Bayes' rule", "witness": "another network"}
WHY = {
    "diverged": "Δr is no longer finite",
    "beyond": "the image is the target's, but w lies beyond 99 % of the training samples",
    "short": "the image is the target's, but not as likely as was asked for",
    "unreachable": "the link shows no sample of the target as such",
    "unseen": "r + Δr is the target, as the loss wants it; its image is not",
    "stuck": "the target comes no nearer",
    "steps": "the target still comes nearer when the steps are used up",
}
_FAILED = {"": lambda row: row["why"], "searches": lambda row: f"{row['searches']:,}"}
SAID = {
    "": lambda row: WHO[row["who"]],
    "calls it the target": lambda row: percent(row["share"], row["low"], row["high"]),
    "the target before": lambda row: share(row["target_before"]),
    "still the original": lambda row: share(row["origin"]),
    "the original before": lambda row: share(row["origin_before"]),
    "pictures": lambda row: f"{row['n']:,}",
}
"""Columns of a table "witnessed"."""
_WITNESSED = (
    "What others than the searched network take the pictures for: shares of all searches, also of those that failed, "
    "with 95 % Wilson interval; beside them the same of the images of f(r), before the search. The searches are "
    "judged by the network that they follow; these are not."
)
ASK = "nobody else was asked (counterfactuals.witness=<classifier>)"
_REACHED = (
    "Origins down, targets across. Left: share of the samples whose image, made from f(r + Δr) and encoded again, is "
    "called the target; middle: median steps of the search; right: mean ‖f(r + Δr) − f(r)‖."
)


@section(410, "counterfactuals", "counterfactuals", "pairs", "facts")
def counterfactuals(source: Source) -> Section:
    """The success of the searches, by pairs of classes."""
    pairs, facts = source.table("counterfactuals", "pairs"), source.json("counterfactuals", "facts")
    said, drawn = source.table("counterfactuals", "witnessed"), reached(pairs, source.facts.class_names)
    finding = _finding(facts, said)
    figure = Picture("counterfactuals-reached", drawn, _REACHED, data=pairs, alt=f"{finding}.")
    columns = {
        "": lambda row: ALL if row["origin"] == ALL else arrow(row["origin"], row["target"]),
        "target reached": lambda row: percent(row["rate"], row["low"], row["high"]),
        "steps (median)": lambda row: number(row["steps"]),
        "probability of the target": lambda row: number(row["probability"], 2),
        "distance in W": lambda row: number(row["w_distance"], 2),
    }
    caption = "Share with 95 % Wilson interval; the others are of those that reached their target."
    tables = folded(listed(caption, records(pairs), columns))
    if len(said):
        tables.append(listed(_WITNESSED, records(said), SAID))
    failed = where(source.table("counterfactuals", "counterfactuals"), success=False)
    if len(failed):
        tables.append(listed("Why searches fail, the first that holds of each.", _failed(failed), _FAILED))
    lead = sentences(_lead(pairs, facts), _others(said))
    return Section("Counterfactuals", lead, [figure], tables, finding=finding)


def _finding(facts: dict[str, Any], said: pd.DataFrame) -> str:
    """How many searches succeed, and by whose judgement."""
    if not facts["reached"]:
        return f"None of {counted(facts['n'], 'counterfactual')} reaches its target"
    told = f"{share(facts['rate'])} of counterfactuals reach their target"
    if not len(said):
        return f"{told} by this network's answer"
    first = records(said)[0]
    return f"{told}; {WHO[first['who']]} calls {share(first['share'])} of all the target"


def _failed(failed: pd.DataFrame) -> list[dict[str, Any]]:
    """A row per reason, the most frequent first."""
    counts = Counter(map(str, failed["failure"])).most_common()
    return [{"why": WHY[key], "searches": n} for key, n in counts]


def _others(said: pd.DataFrame) -> str:
    """Whether a picture crossed this network's boundary or became the other thing."""
    if not len(said):
        return f"What is judged is this network's answer: whether the picture became the other thing, {ASK}."
    return (
        "That is where this network's boundary lies, not yet that the picture became the other thing: "
        f"{others_say(said)}."
    )


def others_say(said: pd.DataFrame) -> str:
    """Whom others take the pictures for; table "witnessed", one row or more."""
    return listing(
        [
            f"{WHO[row['who']]} calls {share(row['share'])} of all the target and {share(row['origin'])} still the "
            "original"
            for row in records(said)
        ]
    )


def _lead(pairs: pd.DataFrame, facts: dict[str, Any]) -> str:
    until = "" if facts["until"] is None else f" with a probability of {number(facts['until'], 2)} or more"
    near = f", with w held near the target's training pairs (weight {facts['near']:g})" if "near" in facts else ""
    lead = (
        f"{facts['reached']:,} of {counted(facts['n'], 'counterfactual')} ({share(facts['rate'])}) reach their target"
        f"{until} when their image is classified, within {counted(facts['max_steps'], 'step')} of "
        f"{OPTIMIZERS.get(facts['optimizer'], facts['optimizer'])} "
        f"(learning rate {number(facts['learning_rate'], 1)}) on {OBJECTIVES[facts['objective']]}{near}."
    )
    single = pd.DataFrame(pairs[pairs["origin"] != ALL])
    if len(single) < 2 or (worst := ends(single, "rate")[0])["rate"] == 1:
        return lead
    return f"{lead} The hardest is {words(worst['origin'])} to {words(worst['target'])}: {share(worst['rate'])}."


@metrics("counterfactuals")
def counterfactual_numbers(artifact: Artifact) -> dict[str, float]:
    """`counterfactuals/{reached, steps, w_distance}`: share; median and mean of those that reach their target; and
    `bayes_agrees`, `witness_agrees`, the share of all that others call the target too."""
    table = artifact.table("counterfactuals")
    good = where(table, success=True)
    numbers = {"reached": float(column(table, "success").mean())} if len(table) else {}
    numbers |= others_agree(artifact.table("witnessed"))
    if len(good):
        numbers |= {"steps": float(np.median(column(good, "steps"))), **means(good, ["w_distance"])}
    return prefixed("counterfactuals", numbers)


def others_agree(said: pd.DataFrame) -> dict[str, float]:
    """`<who>_agrees`: the share of all pictures that each of the others calls the target too; table "witnessed"."""
    return {f"{row['who']}_agrees": float(row["share"]) for row in records(said)}


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
