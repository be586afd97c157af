"""Does the classifier's boundary lie where the class truly changes? On a world that knows (part world)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from lis.report.figures.bayes import boundaries, factors, posteriors
from lis.report.frames import pairs_of, records
from lis.report.labels import counted, number, offset, share, words
from lis.report.sections import Picture, Section, by_pair, facts_as_metrics, section
from lis.report.source import Source

_TITLE = "Counterfactuals and the truth"
_PAIRS = 3
"""Pairs of classes whose factors are drawn."""
_FACTORS = 4
"""Factors per pair that are listed."""
_TABLE = "True factors that change most, in latent units; in brackets the difference of the classes' means."
_BOUNDARIES = (
    "A dot is one counterfactual. Left: where the classifier's answer becomes the target (0: original, 1: "
    "counterfactual), and where the most probable true class does; on the line both agree, red ones never turn. Right: "
    "the true probability of the target, by Bayes' rule on the true factors, where the classifier changes its answer."
)
_POSTERIORS = "Probability of the target along some counterfactuals: what the classifier says, and what is true."
_FACTORS_CAPTION = (
    "Change of the true factors from the original to the counterfactual (narrow), beside the difference of the means "
    "of both classes (wide), for the factors where either is largest."
)


@section(560, "boundary_truth", "boundaries", "factors", "summary")
def boundary_truth(source: Source) -> Section:
    """Both boundaries, and the true factors on the way."""
    summary, table = source.json("boundary_truth", "summary"), source.table("boundary_truth", "boundaries")
    if table.empty:
        return Section(_TITLE, "No counterfactual reached its target, so that there is none to hold against the truth.")
    moved = source.table("boundary_truth", "factors")
    pairs = pairs_of(moved)
    figures = [
        Picture("truth-boundaries", boundaries(table, _end(source, table)), _BOUNDARIES),
        *_paths(source, table),
        Picture("truth-counterfactual-factors", factors(moved, pairs[:_PAIRS]), _FACTORS_CAPTION),
    ]
    ranked = moved.sort_values("change", key=np.abs, ascending=False, kind="stable")
    first = pd.DataFrame(ranked.groupby(["origin", "target"], sort=False).head(_FACTORS))
    return Section(_TITLE, _lead(summary), figures, [by_pair(_TABLE, "factors", first, pairs, _factor)])


def _factor(row: dict[str, Any]) -> str:
    return f"{words(row['factor'])} {offset(row['change'])} ({offset(row['difference'])})"


def _end(source: Source, table: pd.DataFrame) -> float:
    """Of the paths that were looked at."""
    if source.has("trajectories", "facts"):
        return float(source.json("trajectories", "facts")["path_end"])
    return float(np.nanmax([1.0, *np.asarray(table["bayes"], dtype=float)]))


def _paths(source: Source, table: pd.DataFrame) -> list[Picture]:
    if not source.has("boundary_truth", "posterior_paths") or source.table("boundary_truth", "posterior_paths").empty:
        return []
    paths = source.table("boundary_truth", "posterior_paths")
    known = {(row["origin"], row["target"], int(row["sample_index"])): row["classifier"] for row in records(table)}
    return [Picture("truth-posteriors", posteriors(paths, known), _POSTERIORS)]


def _lead(summary: dict[str, Any]) -> str:
    """How many counterfactuals are true ones, and how far behind the truth is."""
    lead = (
        f"Of {counted(summary['n'], 'counterfactual')} whose image the classifier calls the target, "
        f"{share(summary['bayes_reached'])} truly are of that class by Bayes' rule on their factors; going on along "
        f"the same line {share(summary['bayes_on_path'])} get there"
    )
    gap = summary["gap_median"]
    if gap is not None and np.isfinite(gap):
        side = "after" if gap > 0 else "before"
        lead += f", in the median {number(abs(gap), 2)} of the path {side} the classifier's boundary"
    return (
        f"{lead}. The change of the factors has a mean cosine of {number(summary['cosine'], 2)} with the difference "
        "of the classes' means."
    )


facts_as_metrics("boundary_truth", "summary", "bayes_reached", "bayes_on_path", "gap_median", "cosine")
