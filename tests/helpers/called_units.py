"""Runs in which it is known which units are called, for tests of what a page says first."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from helpers.findings import make_ctx
from lis.report.source import Source, source
from lis.store import Artifact, Recipe, Store

PARTS, CLASSES, UNITS = ("ear", "leg", "tail"), ("pug", "poodle"), 20
EVERY = frozenset(range(UNITS))
Change = tuple[str, str, float, float]
"""Label, measure, mean change and q of a unit that changes a part beyond random directions."""


def artifact(root: Path, stage: str, key: str, **files: Any) -> Artifact:
    """Of a stage, with tables and JSON objects; `key` tells it from others of the stage."""

    def build(draft: Any) -> None:
        for name, value in files.items():
            (draft.table if isinstance(value, pd.DataFrame) else draft.json)(name, value)

    return Store(root).make(Recipe(stage, 1, {"key": key}), build)


def statistics(
    root: Path,
    reached: frozenset[int] = EVERY,
    larger: Mapping[int, Change] | None = None,
    selective: frozenset[int] = frozenset(),
    relevant: Mapping[int, float] | None = None,
    undecided: tuple[str, ...] = (),
    parts: tuple[str, ...] = PARTS,
    beyond: float = 0.1,
) -> Artifact:
    """The artifact "unit_statistics" of a run in which exactly these units are called.

    A unit that is not reached is given a larger change and a smaller q than any other, and is not called.
    """
    larger, relevant, units = larger or {}, relevant or {}, np.arange(UNITS)
    rows = []
    for label, measure, unit in itertools.product(parts, ("area", "angle"), units.tolist()):
        row = {"label": label, "measure": measure, "unit": unit, "rank": unit + 1, "change": 0.1, "q": 0.9}
        row |= {"p_control": 0.5, "larger": False, "reached": unit in reached, "interpreted": True}
        if unit not in reached:
            row |= {"change": 3.0, "q": 0.0001, "rank": 1}
        if unit in larger and larger[unit][:2] == (label, measure):
            row |= {"change": larger[unit][2], "q": larger[unit][3], "p_control": 0.01, "larger": True}
        rows.append(row)
    answers = pd.DataFrame(
        [
            {"unit": unit, "class": name, "change": relevant.get(unit, 0.0), "relevance": abs(relevant.get(unit, 0.0))}
            | {"q": 0.02 if unit in relevant else 0.9, "p_control": 0.5, "control": 0.05}
            | {"relevant": unit in relevant, "larger": unit in relevant}
            for unit, name in itertools.product(units.tolist(), CLASSES)
        ]
    )
    faithful = pd.DataFrame({"unit": units, "own": 2.0, "others": 0.5, "more": 0.25, "beyond": beyond})
    faithful = faithful.assign(own_control=0.3, reached=np.isin(units, sorted(reached)))
    faithful = faithful.assign(selective=np.isin(units, sorted(selective)))
    families = ("larger", "relevant", "selective", "reached")
    tails = {name: {"decided": name not in undecided, "tests": 100} for name in families}
    few = "reached" in undecided
    control = {"directions": 4 if few else 64, "smallest": 0.2 if few else 0.015, "tails": tails}
    ranking = pd.DataFrame(rows, columns=["label", "measure", "unit", "rank", "change", "q", "p_control", "larger",
                                          "reached", "interpreted"])  # fmt: skip
    key = repr((sorted(reached), larger, sorted(selective), relevant, undecided, parts, beyond))
    return artifact(
        root, "unit_statistics", key, ranking=ranking, relevance=answers, faithfulness=faithful, control=control
    )


def read(root: Path, **artifacts: Artifact) -> Source:
    return source(make_ctx(root, CLASSES, classes__labels=list(PARTS)), artifacts)
