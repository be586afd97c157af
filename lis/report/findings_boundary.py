"""What was found at the decision boundary: whether searches cross it, and which part changes where they do."""

from __future__ import annotations

from functools import reduce
from typing import Any

import numpy as np
import pandas as pd

from lis.quantify.measures import TOLD
from lis.report.counterfactuals import ASK, WHO
from lis.report.findings import UNDECIDED, Finding, finding
from lis.report.section import anchor
from lis.report.source import Source
from lis.report.tables import column, known, records, where
from lis.report.wording import changed, counted, listing, number, probability, share, words
from lis.statistics import SIGNIFICANT

_CROSSED = "Do counterfactuals become the other class?"
_MANY = 10
"""Paths from which on a null result is told without a doubt."""
_WEAK = "; so few are weak evidence that there is no such change"
_CHANGES = "What changes at the boundary?"


@finding(50, "counterfactuals", "facts", "witnessed")
def counterfactuals_cross(source: Source) -> Finding:
    """How many searches end in an image of the target class, and what others than the classifier say of the images."""
    facts, address = source.json("counterfactuals", "facts"), anchor("Counterfactuals")
    said = records(source.table("counterfactuals", "witnessed"))
    sentence = (
        f"Of {facts['n']:,} searches, {facts['reached']:,} end in an image that the classifier calls the target class."
    )
    if not said:
        control = f"by the classifier that was searched; {ASK}"
        return Finding(_CROSSED, share(facts["rate"]), sentence, control, address)
    calls = [
        f" calls {share(said[0]['share'])} of all images the target",
        *(f" {share(row['share'])}" for row in said[1:]),
    ]
    told = listing([WHO[row["who"]] + call for row, call in zip(said, calls, strict=True)])
    nobody = [WHO[row["who"]] for row in said if row["low"] <= row["target_before"]]
    doubt = f" For {listing(nobody)} that is no more than before the search." * bool(nobody)
    before = listing([f"{share(row['target_before'])} ({WHO[row['who']]})" for row in said])
    sentence += f" {told[0].upper()}{told[1:]}.{doubt}"
    return Finding(_CROSSED, share(facts["rate"]), sentence, f"called the target before the search: {before}", address)


@finding(55, "trajectories", "trajectories", "measures", "jumps")
def changes_at_the_boundary(source: Source) -> Finding | None:
    """Whether the step across the boundary has the sharpest change of a part, and of which."""
    sharpest = sharpest_changes(source)
    if not (ranked := ranks(sharpest)):
        return None
    steps, paths = len(set(sharpest["step"])), counted(len(ranked), "counterfactual path")
    first = sum(rank == 1 for rank, _ in ranked)
    value, address = _of_paths(first, len(ranked)), anchor("Across the decision boundary")
    mean_rank, by_chance = (
        number(float(np.mean(x)), 3) for x in ([r for r, _ in ranked], [(n + 1) / 2 for _, n in ranked])
    )
    control = (
        f"by sharpness the step ranks {mean_rank} of {steps}{' on average' * (len(ranked) > 1)}, "
        f"by chance {by_chance} (p {probability(p_of_ranks(ranked)[0])})"
    )
    match sharpest_at_boundary(sharpest):
        case None:
            told = f"Too few steps along {paths} to say whether parts change most where the classifier's answer turns."
            return Finding(_CHANGES, UNDECIDED, told, control, address)
        case False:
            told = (
                f"Along {paths}, parts change no more sharply where the classifier's answer turns than elsewhere on "
                f"the same path{_WEAK * (len(ranked) < _MANY)}."
            )
            return Finding(_CHANGES, value, told, control, address)
    told = (
        f"Along {paths}, parts change most sharply where the classifier's answer turns; that step is the sharpest on "
        f"{first}."
    )
    example, part = _sharpest_there(source, sharpest)
    return Finding(_CHANGES, value, f"{told} {example}", control, address, (part,))


def _of_paths(first: int, paths: int) -> str:
    """How many of some paths, in a word less where there are so many that it would not stand in large type."""
    return f"{first} of {paths}" if paths >= _MANY else f"{first} of {counted(paths, 'path')}"


def sharpest_at_boundary(sharpest: pd.DataFrame) -> bool | None:
    """Whether parts change more sharply in the step across the boundary than elsewhere on the path (p ≤ 0.05).

    Args:
        sharpest: as `sharpest_changes` returns.

    Returns:
        None: no step crosses, or there are too few steps for any p so small.
    """
    if not (ranked := ranks(sharpest)):
        return None
    p, smallest = p_of_ranks(ranked)
    return p <= SIGNIFICANT if smallest <= SIGNIFICANT else None


def _sharpest_there(source: Source, sharpest: pd.DataFrame) -> tuple[str, str]:
    """The sharpest change in a step across the boundary, beside the sharpest elsewhere on its path; and its part."""
    row = records(crossing_changes(source))[0]
    path = records(where(source.table("trajectories", "trajectories"), trajectory=row["trajectory"]))[0]
    elsewhere = column(where(sharpest, trajectory=row["trajectory"], crosses=False), "score")
    sentence = (
        f"The sharpest: from {words(path['origin'])} to {words(path['target'])}, the {row['measure']} of the "
        f"{words(row['label'])} by {changed(row['measure'], row['jump'])}, {number(row['score'], 2)} times its mean "
        f"step (of any part elsewhere on that path at most {number(elsewhere.max(initial=0.0), 2)} times)."
    )
    return sentence, row["label"]


def crossing_changes(source: Source) -> pd.DataFrame:
    """The changes over the step across the boundary, of parts that are large enough and measures that say something of
    a round one; the sharpest first.
    """
    jumps = known(where(source.table("trajectories", "jumps"), interpreted=True), "score")
    told = pd.DataFrame(jumps[jumps["measure"].isin(TOLD)])
    return told.sort_values("score", ascending=False, kind="stable")


def sharpest_changes(source: Source) -> pd.DataFrame:
    """How sharply any part changes at each step of each trajectory.

    Returns:
        trajectory, step (1: from the first image to the second), score (the largest |change| of a part and measure over
        its mean |change| of all steps; of those that are known on both sides of the boundary), crosses (the answer
        turns there).
    """
    told, measures = (
        crossing_changes(source)[["trajectory", "label", "measure"]],
        source.table("trajectories", "measures"),
    )
    rows: Any = measures.merge(told, on=["trajectory", "label", "measure"])
    rows = rows.sort_values("step", kind="stable")
    size = rows.groupby(["trajectory", "label", "measure"])["change"].diff().abs()
    mean = size.groupby([rows[name] for name in ("trajectory", "label", "measure")]).transform("mean")
    scores = rows.assign(score=size / mean.where(mean > 0))
    sharpest = scores[scores["step"] > 0].groupby(["trajectory", "step"], as_index=False)["score"].max()
    boundaries = source.table("trajectories", "trajectories")[["trajectory", "boundary"]]
    position = rows.drop_duplicates(["trajectory", "step"])[["trajectory", "step", "position"]]
    sharpest = sharpest.merge(position).merge(boundaries)
    first = sharpest["position"].ge(sharpest["boundary"]).groupby(sharpest["trajectory"]).cumsum()
    return known(sharpest.assign(crosses=first == 1)[["trajectory", "step", "score", "crosses"]], "score")


def ranks(sharpest: pd.DataFrame) -> list[tuple[int, int]]:
    """Of each trajectory the rank of the step across the boundary by its score, 1 the sharpest, and of how many.

    Args:
        sharpest: as `sharpest_changes` returns.
    """
    result = []
    for _, steps in sharpest.groupby("trajectory"):
        crossing = column(where(steps, crosses=True), "score")
        if len(crossing):
            result.append((int((column(steps, "score") >= crossing[0]).sum()), len(steps)))
    return result


def p_of_ranks(ranks: list[tuple[int, int]]) -> tuple[float, float]:
    """How often the sum of ranks is as small by chance, each of them equally likely, and the smallest p there could be.

    Args:
        ranks: rank, from 1, and the number of ranks, one or more.

    Example:
        >>> p_of_ranks([(1, 20)]), p_of_ranks([(1, 4), (2, 4)])
        ((0.05, 0.05), (0.1875, 0.0625))
    """
    chance = reduce(np.convolve, [np.full(n, 1 / n) for _, n in ranks])
    total = sum(rank for rank, _ in ranks)
    return float(chance[: total - len(ranks) + 1].sum()), float(chance[0])
