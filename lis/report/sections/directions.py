"""Other starts, other counterfactuals: how sparse their directions are and how alike (Fig. S19)."""

from __future__ import annotations

import pandas as pd

from lis.report.figures.directions import direction_sparsity, pair_matrices
from lis.report.frames import column, known, records, where
from lis.report.labels import counted, number, words
from lis.report.metrics import means, metrics, prefixed
from lis.report.sections import Picture, Section, Table, section
from lis.report.source import Source
from lis.store import Artifact

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
    table, agreement, pairs = (
        source.table("initialisations", name) for name in ("sparsity", "agreement", "pair_sparsity")
    )
    if known(table, "sparsity").empty:
        return Section(_TITLE, "No search from any start reached its target.")
    names = source.facts.class_names
    figures = [
        Picture("directions-sparsity", direction_sparsity(table, names), _SPARSITY),
        Picture("directions-agreement", pair_matrices(pairs, agreement, names), _MATRICES),
    ]
    return Section(_TITLE, _lead(table, agreement, known(pairs, "mean")), figures, _tables(source))


def _lead(table: pd.DataFrame, agreement: pd.DataFrame, pairs: pd.DataFrame) -> str:
    first, last = (
        records(pairs.sort_values("mean", kind="stable"))[0],
        records(pairs.sort_values("mean", kind="stable"))[-1],
    )
    own, asked = column(table, "sparsity").mean(), column(table, "sparsity_asked").mean()
    starts = len(set(table["initialisation"]))
    lead = (
        f"Of {counted(starts, 'start')} per sample and target, the directions that the model can reach (r̃ − r̃₀) "
        f"have a sparsity of {number(own, 2)} on average, those that were asked for (Δr) {number(asked, 2)}. "
        f"Least sparse is {_pair(first)} ({number(first['mean'], 2)}), most {_pair(last)} ({number(last['mean'], 2)})."
    )
    cosine, shared = column(agreement, "cosine"), column(agreement, "shared")
    if not len(cosine):
        return lead
    return (
        f"{lead} Two starts give directions of cosine {number(cosine.mean(), 2)}, and {number(shared.mean(), 2)} of "
        "their first units are the same."
    )


def _pair(row: dict[str, object]) -> str:
    return f"{words(str(row['origin']))} → {words(str(row['target']))}"


def _tables(source: Source) -> list[Table]:
    """The units that most searches of a pair move."""
    if not source.has("initialisations", "units"):
        return []
    table, rows = source.table("initialisations", "units"), []
    for origin, target in dict.fromkeys(zip(table["origin"], table["target"], strict=True)):
        own = where(table, origin=origin, target=target)
        first = records(own.sort_values("share", ascending=False, kind="stable"))[:5]
        told = [f"{row['unit']} ({100 * row['share']:.0f} %, {row['change']:+.2f})".replace("-", "−") for row in first]
        rows.append([_pair({"origin": origin, "target": target}), ", ".join(told)])
    caption = (
        "Units that are among those that move most in the largest share of all searches of a pair: share of the "
        "searches, and mean change of their activation."
    )
    return [Table(caption, ["", "units"], rows)] if rows else []


@metrics("initialisations")
def direction_numbers(artifact: Artifact) -> dict[str, float]:
    """`initialisations/{sparsity, sparsity_asked, cosine, shared}`: means."""
    own = means(artifact.table("sparsity"), ("sparsity", "sparsity_asked"))
    return prefixed("initialisations", own | means(artifact.table("agreement"), ("cosine", "shared")))
