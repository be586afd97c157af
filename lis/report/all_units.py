"""Every tuned unit in a row: whether it is reached, what else moves, and what it changes, each beside its control."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from lis.report.claims import callable_units, without_claims
from lis.report.section import Section, listed, section
from lis.report.source import Source
from lis.report.tables import column, known, records, where
from lis.report.wording import changed, counted, number, probability, share, words
from lis.statistics import SIGNIFICANT

FIRST = 8
"""Rows that stand there at first."""
Columns = dict[str, Callable[[dict[str, Any]], str]]
_ARRIVES = (
    "Own: change of the unit when its images are encoded again, in its standard deviations (sd), beside that by random "
    "directions which move w as far. Others: root mean square change of the other units, in theirs; more: share of "
    "these that move more; ‖Δw‖: how far w is moved. "
)
_REACHED = "Reached: q ≤ 0.05, and moved the way it was asked. "
_PARTS = (
    "Main part: the one whose area changes most; share: its part in the change of all areas, beside that in random "
    "directions. Strongest: its change with the smallest q of all parts and measures, {} of which were tested over all "
    "units; where q is the same, the one that ranks first. "
)
_WHERE = "All numbers: tables/unit_statistics/faithfulness.parquet and ranking.parquet."


@section(315, "unit_statistics", "faithfulness", "ranking")
def all_units(source: Source) -> Section:
    """A table of all units that sorts and filters in the page, those that are reached first."""
    called = callable_units(source)
    table = without_claims(source, source.table("unit_statistics", "faithfulness"))
    ranked = without_claims(source, where(source.table("unit_statistics", "ranking"), interpreted=True))
    strongest = strongest_by_unit(ranked)
    ordered = table.sort_values(["q_reached", "own"], ascending=[True, False], kind="stable")
    rows = [row | strongest.get(row["unit"], {}) for row in records(ordered)]
    significant = bool((column(ranked, "q") <= SIGNIFICANT).any())
    columns = _arrival(called) | (_parts(called, significant) if strongest else {})
    caption = _ARRIVES + _REACHED * called + _PARTS.format(f"{len(known(ranked, 'q')):,}") * bool(strongest) + _WHERE
    lead = f"{counted(len(table), 'unit')}, a row each{'; those that are reached stand first' * called}."
    only = "reached" if called else ""
    return Section("All units", lead, tables=[replace(listed(caption, rows, columns), first=FIRST, only=only)])


def strongest_by_unit(ranked: pd.DataFrame) -> dict[int, dict[str, Any]]:
    """The change of each unit that has the smallest q, with `main`, the label whose area it changes most.

    Args:
        ranked: "ranking", the rows of interpreted labels: label, measure, unit, rank, change, q.
    """
    area = known(where(ranked, measure="area"), "change")
    by_size = area.assign(size=np.abs(area["change"])).sort_values("size", ascending=False, kind="stable")
    main = {row["unit"]: row["label"] for row in records(by_size.drop_duplicates("unit"))}
    first = known(ranked, "change").sort_values(["q", "rank"], kind="stable").drop_duplicates("unit")
    return {row["unit"]: row | {"main": main.get(row["unit"], "")} for row in records(first)}


def _arrival(called: bool) -> Columns:
    """Columns of what arrives; with q where units can be called reached."""
    claims: Columns = {
        "reached": lambda row: "yes" if row["reached"] else "no",
        "q": lambda row: probability(row["q_reached"]),
    }
    return {
        "unit": lambda row: str(row["unit"]),
        **(claims if called else {}),
        "own (sd)": lambda row: number(row["own"], 2),
        "by random": lambda row: number(row["own_control"], 2),
        "others (sd)": lambda row: number(row["others"], 2),
        "more": lambda row: share(row["more"]),
        "‖Δw‖": lambda row: number(row["step_norm"], 2),
    }


def _parts(called: bool, significant: bool) -> Columns:
    """Columns of what a unit changes, and whether any change of any unit is significant; a row without has dashes."""
    strongest = "strongest" + " (none significant)" * (called and not significant)
    q: Columns = {"its q": lambda row: probability(row.get("q", np.nan))}
    return {
        "main part": lambda row: words(row.get("main") or "–"),
        "share": lambda row: number(row["selectivity"], 2),
        "in random": lambda row: number(row["selectivity_control"], 2),
        strongest: lambda row: f"{words(row['label'])}, {row['measure']}" if "label" in row else "–",
        "change": lambda row: changed(row["measure"], row["change"]) if "measure" in row else "–",
        **(q if called else {}),
    }
