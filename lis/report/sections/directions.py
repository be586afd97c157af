"""Other starts, other counterfactuals: how sparse their directions are and how alike (Fig. S19)."""

from __future__ import annotations

from typing import Any

import pandas as pd

from lis.report.figures.directions import direction_sparsity, pair_matrices
from lis.report.frames import ends, known, mean, pairs_of
from lis.report.labels import arrow, counted, number, offset
from lis.report.sections import Picture, Section, Table, by_pair, means_as_metrics, section
from lis.report.source import Source

_TITLE = "Starts and sparsity"
_SPARSITY = (
    "Columns: the class of the original; rows: samples. A dot is one start of the search, the line the median, the "
    "band the quartiles; the colour is the target's. Sparsity (Hoyer) of r̃ − r̃₀, both encoded again from images: 1 "
    "is a single unit, 0 all alike."
)
_MATRICES = (
    "Origins down, targets across, means over samples: sparsity of r̃ − r̃₀; cosine of r̃ − r̃₀ between two starts; "
    "share of the units that move most that two starts have in common."
)


@section(540, "initialisations", "sparsity", "agreement", "pair_sparsity")
def directions(source: Source) -> Section:
    """The spread over initialisations of the search."""
    names = ("sparsity", "agreement", "pair_sparsity")
    table, agreement, pairs = (source.table("initialisations", name) for name in names)
    if known(table, "sparsity").empty:
        return Section(_TITLE, "No search from any start reached its target.")
    names = source.facts.class_names
    figures = [
        Picture("directions-sparsity", direction_sparsity(table, names), _SPARSITY),
        Picture("directions-agreement", pair_matrices(pairs, agreement, names), _MATRICES),
    ]
    return Section(_TITLE, _lead(table, agreement, known(pairs, "mean")), figures, _tables(source))


def _lead(table: pd.DataFrame, agreement: pd.DataFrame, pairs: pd.DataFrame) -> str:
    sparsity, asked = (number(mean(table, name), 2) for name in ("sparsity", "sparsity_asked"))
    cosine, shared = (number(mean(agreement, name), 2) for name in ("cosine", "shared"))
    least, most = (f"{arrow(x['origin'], x['target'])} ({number(x['mean'], 2)})" for x in ends(pairs, "mean"))
    lead = (
        f"Of {counted(len(set(table['initialisation'])), 'start')} per sample and target, the directions that the "
        f"model can reach (r̃ − r̃₀) have a sparsity of {sparsity} on average, those that were asked for (Δr) {asked}. "
        f"Least sparse is {least}, most {most}."
    )
    if known(agreement, "cosine").empty:
        return lead
    return f"{lead} Two starts give directions of cosine {cosine}, and {shared} of their first units are the same."


def _tables(source: Source) -> list[Table]:
    """The units that most searches of a pair move."""
    if not source.has("initialisations", "units"):
        return []
    table = source.table("initialisations", "units")
    ranked = table.sort_values("share", ascending=False, kind="stable")
    first = pd.DataFrame(ranked.groupby(["origin", "target"], sort=False).head(5))
    caption = (
        "Units that are among those that move most in the largest share of all searches of a pair: share of the "
        "searches, and mean change of their activation."
    )
    return [by_pair(caption, "units", first, pairs_of(table), _unit)] if len(table) else []


def _unit(row: dict[str, Any]) -> str:
    return f"{row['unit']} ({100 * row['share']:.0f} %, {offset(row['change'])})"


means_as_metrics("initialisations", "sparsity", "sparsity", "sparsity_asked")
means_as_metrics("initialisations", "agreement", "cosine", "shared")
