"""Do the pictures of a unit show what it responds to? The true factor that moves it, beside the one they move."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lis.report.marks import dots, jitter, names_down
from lis.report.section import Picture, Section, Table, listed, metrics, section
from lis.report.source import Source
from lis.report.style import LINK_RED, MUTED, PAIRING, WIDE, plain, sheet
from lis.report.tables import records, where
from lis.report.wording import counted, number, share, share_between, words
from lis.store import Artifact

_TITLE = "What units respond to"
_UNITS = (
    "A dot is one unit, in the row of the true factor whose ±1 standard deviation, all others held, moves it most; "
    "to the right, by how many of its standard deviations. Blue: its pictures move that factor most, or one whose "
    "effect is at least 0.8 of it; red: another."
)
_AGREEMENT = (
    "Units whose pictures move the factor that moves the unit most, with Wilson's 95 % interval; tied: or one whose "
    "effect is at least 0.8 of the largest. By chance: if the factors that pictures show were dealt out to the "
    "units at random."
)


@section(394, "intervention", "agreement", "units", "facts")
def intervention(source: Source) -> Section:
    """The agreement, and every unit's factor."""
    table, units = source.table("intervention", "agreement"), source.table("intervention", "units")
    samples = source.json("intervention", "facts")["samples"]
    ways = by_way(table)
    finding = _finding(ways["tied"])
    figure = Picture("intervention", factors(units), _UNITS, data=units, alt=f"{finding}.")
    return Section(_TITLE, _lead(ways, samples), [figure], [_table(table)], finding=finding)


def _finding(tied: dict[str, Any]) -> str:
    """Whether the pictures show what moves a unit more often than dealt factors would; by the interval's lower end."""
    chance = share(tied["chance"])
    if tied["low"] <= tied["chance"]:
        return f"Pictures show what moves a unit no more often than by chance ({chance})"
    return f"Pictures show what moves a unit for {share(tied['share'])} of units (by chance {chance})"


def by_way(table: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """The rows of "agreement" by their way of counting."""
    return {row["counted"]: row for row in records(table)}


def _lead(rows: dict[str, dict[str, Any]], samples: int) -> str:
    tied, exact = rows["tied"], rows["exact"]
    return (
        f"Of {counted(tied['n'], 'unit')}, the pictures of {share(tied['share'])} move most the true factor that "
        "moves the network's unit most, all others held, or one that does nearly as much (by chance "
        f"{share(tied['chance'])}); exactly that one {share(exact['share'])} ({share(exact['chance'])}). "
        f"Interventions on {counted(samples, 'sample')}."
    )


def _table(table: pd.DataFrame) -> Table:
    columns = {
        "": lambda row: words(row["counted"]),
        "units": lambda row: share_between(row["share"], row["low"], row["high"]),
        "by chance": lambda row: share(row["chance"]),
        "n": lambda row: number(row["n"]),
    }
    return listed(_AGREEMENT, records(table), columns)


@metrics("intervention")
def intervention_numbers(artifact: Artifact) -> dict[str, float]:
    """`intervention/{exact, tied}`, shares of units, and `intervention/{exact, tied}_chance`."""
    rows = records(artifact.table("agreement"))
    shares = {f"intervention/{row['counted']}": row["share"] for row in rows}
    return shares | {f"intervention/{row['counted']}_chance": row["chance"] for row in rows}


def factors(units: pd.DataFrame) -> Figure:
    """A row per factor, a dot per unit that it moves most; table "units" of `intervention`."""
    counts = units["factor"].value_counts()
    names = [str(name) for name in counts.index]
    figure, axes = sheet(0.7 * WIDE, 1.0 + 0.2 * len(names))
    axis = axes[0, 0]
    for row, name in enumerate(names):
        of_factor = where(units, factor=name)
        heights = row + jitter(len(of_factor), 0.25)
        right = np.asarray(of_factor["tied"], bool)
        effect = np.abs(np.asarray(of_factor["effect"], float))
        dots(axis, effect[~right], heights[~right], LINK_RED, 3.5, 0.6)
        dots(axis, effect[right], heights[right], PAIRING["cycle"], 3.5, 0.6)
    names_down(axis, [f"{plain(name)} ({counts[name]})" for name in names])
    axis.axvline(0, color=MUTED, linewidth=0.8)
    axis.set(xlabel="|effect| of ±1 standard deviation of the factor, in those of the unit", xlim=(0, None))
    return figure
