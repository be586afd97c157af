"""How many counterfactuals are found, and at what cost (paper §3.3)."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pandas as pd

from lis.report.figures.reached import reached
from lis.report.frames import column, ends, records, where
from lis.report.labels import arrow, counted, listing, number, percent, share, words
from lis.report.sections import Picture, Section, listed, means, metrics, prefixed, section
from lis.report.source import Source
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
    notes = _failures(source.table("counterfactuals", "counterfactuals"))
    return Section("Counterfactuals", _found(pairs, facts), [figure], [listed(caption, records(pairs), columns)], notes)


def _found(pairs: pd.DataFrame, facts: dict[str, Any]) -> str:
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


def _failures(table: pd.DataFrame) -> list[str]:
    counts = Counter(str(reason) for reason in where(table, success=False)["reason"])
    told = [f"{reason} ({n:,})" for reason, n in counts.most_common()]
    return [f"Searches that found none: {listing(told)}."] if told else []


@metrics("counterfactuals")
def counterfactual_numbers(artifact: Artifact) -> dict[str, float]:
    """`counterfactuals/{reached, steps, w_distance}`: share; median and mean of those that reach their target."""
    table = artifact.table("counterfactuals")
    good = where(table, success=True)
    numbers = {"reached": float(column(table, "success").mean())} if len(table) else {}
    if len(good):
        numbers |= {"steps": float(np.median(column(good, "steps"))), **means(good, ["w_distance"])}
    return prefixed("counterfactuals", numbers)
