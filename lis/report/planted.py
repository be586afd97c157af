"""Are units whose meaning is known named right, told from mixtures, and from noise? Beside correlations alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lis.report.claims import callable_units, decides, too_few
from lis.report.marks import circle, dot, dots, jitter, names_down
from lis.report.section import Picture, Section, Table, listed, metrics, section
from lis.report.source import Source
from lis.report.style import MUTED, PAIRING, WIDE, light_grid, sheet
from lis.report.tables import column, mean, records, where
from lis.report.wording import counted, interval, listing, number, sentences, share, share_between, words
from lis.store import Artifact
from lis.units.scoring import EFFECT

PLAIN = "correlation"
"""What stands beside: no unit is moved."""
_TITLE = "Planted units"
_WAYS = {"std": "tuned by ±1 sd", "range": "tuned, its range", PLAIN: "correlated"}
_SPARSITIES = {"factors": "true factors", "parts": "parts × measures", PLAIN: "correlations"}
_KINDS = {"single": "one factor", "two": "two", "four": "four", "eight": "eight", "all": "all", "noise": "none: noise"}
_FIGURE = (
    "Left: single-factor units whose part and measure is named right, with Wilson's 95 % interval. Right: a dot is "
    "one unit; Hoyer's sparsity of the true factors that its pictures move, by the number of factors that it is a "
    "function of (circle: mean). Correlated: with the measures of parts over random images, which needs no "
    "generator."
)
_NAMED = (
    f"Units of a single factor whose ±1 standard deviation changes some rendered part × measure by {EFFECT} standard "
    "deviations of the measure or more. Right is a name whose true effect is at least 0.8 of the largest. Gain: over "
    "correlations, resampled by factor."
)
_ORDER = (
    "Spearman's correlation of Hoyer's sparsity of what a unit moves with the number of factors that it is a "
    "function of (1: fewer are always sparser), with bootstrap intervals over units. A single factor may change "
    "many parts, so that parts × measures are a poor scale of it; true factors are known on part world alone."
)
_REACHED = (
    "Units that are called reached, with Wilson's 95 % interval: they move more than by random directions (q ≤ 0.05 "
    "over all units), and the way they were asked. Noise depends on nothing, so that its share is one of wrong calls; "
    "of the other kinds it says how many are there to be read."
)


@section(396, "planted", "named", "order", "units", "facts", "reached", "control")
def planted(source: Source) -> Section:
    """How many names are right, how well units are ordered, how rarely noise is reached; how the factors are read."""
    named, order = (source.table("planted", name) for name in ("named", "order"))
    facts, reading = source.json("planted", "facts"), source.table("planted", "reading")
    reached, called = source.table("planted", "reached"), callable_units(source, "planted")
    if named.empty:
        nothing = "No unit was tuned whose single factor changes a rendered part enough to be scored."
        return Section(_TITLE, nothing, finding="No planted unit can be scored")
    finding, units = _finding(named), source.table("planted", "units")
    figure = Picture("planted", scores(named, units), _FIGURE, data=units, alt=f"{finding}.")
    tables = [_named(named), _order(order), *([_reached(reached)] if called and len(reached) else [])]
    told = _noise(reached) if called else too_few(source, "planted")
    lead = sentences(_lead(named, order), told)
    return Section(_TITLE, lead, [figure], tables, _notes(facts, reading), finding)


def _finding(named: pd.DataFrame) -> str:
    """How many names are right beside those by correlations, by the interval of the gain."""
    ways = {row["way"]: row for row in records(named)}
    tuned, plain = ways["std"], share(ways[PLAIN]["share"])
    told = f"{share(tuned['share'])} of single-factor units are named right"
    if tuned["gain_low"] > 0 or tuned["gain_high"] < 0:
        return f"{told}, {plain} by correlations"
    return f"{told}, not told apart from correlations ({plain})"


def _lead(named: pd.DataFrame, order: pd.DataFrame) -> str:
    ways, sparsities = (
        {row[name]: row for row in records(table)} for table, name in ((named, "way"), (order, "sparsity"))
    )
    best, plain = ways["std"], ways[PLAIN]
    return (
        f"Of {counted(best['n'], 'unit')} that are functions of one factor, {share(best['share'])} are named right "
        f"from their pictures, and {share(plain['share'])} from correlations over random images without a generator. "
        f"Units of fewer factors move fewer of them: Spearman's ρ is {number(sparsities['factors']['spearman'], 2)}, "
        f"and {number(sparsities[PLAIN]['spearman'], 2)} of correlations."
    )


def _noise(reached: pd.DataFrame) -> str:
    noise = records(where(reached, kind="noise"))
    return "".join(
        f"Of {counted(row['n'], 'unit')} that are noise {share_between(row['share'], row['low'], row['high'])} are "
        "called reached."
        for row in noise
    )


def _notes(facts: dict[str, Any], reading: pd.DataFrame) -> list[str]:
    notes = [
        f"The head names {share(facts['accuracy'])} of {counted(facts['new'], 'new figure')} right; Bayes' rule, which "
        f"knows their factors, {share(facts['bayes'])}."
    ]
    if len(reading):
        worst = [words(row["factor"]) for row in records(reading.sort_values("generated"))[:3]]
        notes.append(
            "The units are read from images. The network that sees the factors explains "
            f"{share(mean(reading, 'rendered'))} of their variance in rendered figures and "
            f"{share(mean(reading, 'generated'))} in generated ones (mean R² over factors), least of {listing(worst)}."
        )
    return notes


def _named(table: pd.DataFrame) -> Table:
    columns = {
        "": lambda row: _WAYS[row["way"]],
        "named right": lambda row: share_between(row["share"], row["low"], row["high"]),
        "gain": lambda row: (
            share_between(row["gain"], row["gain_low"], row["gain_high"]) * (row["way"] != "correlation")
        ),
        "units": lambda row: number(row["n"]),
        "factors": lambda row: number(row["factors"]),
    }
    return listed(_NAMED, records(table), columns)


def _order(table: pd.DataFrame) -> Table:
    columns = {
        "sparsity of": lambda row: _SPARSITIES[row["sparsity"]],
        "Spearman": lambda row: interval(row["spearman"], row["low"], row["high"], 2),
        "gain": lambda row: (
            interval(row["gain"], row["gain_low"], row["gain_high"], 2) * (row["sparsity"] != "correlation")
        ),
        "units": lambda row: number(row["n"]),
    }
    return listed(_ORDER, records(table), columns)


def _reached(table: pd.DataFrame) -> Table:
    columns = {
        "function of": lambda row: _KINDS[row["kind"]],
        "reached": lambda row: share_between(row["share"], row["low"], row["high"]),
        "units": lambda row: number(row["n"]),
    }
    return listed(_REACHED, records(table), columns)


@metrics("planted")
def planted_numbers(artifact: Artifact) -> dict[str, float]:
    """`planted/named/<way>`, `planted/reached/<kind>`: shares; `planted/order/<sparsity>`: ρ; `planted/accuracy`.

    Those that are reached are left out where there are too few random directions for any unit to be called so.
    """
    shares = {f"planted/named/{row['way']}": row["share"] for row in records(artifact.table("named"))}
    orders = {f"planted/order/{row['sparsity']}": row["spearman"] for row in records(artifact.table("order"))}
    called = records(artifact.table("reached")) if decides(artifact) else []
    reached = {f"planted/reached/{row['kind']}": row["share"] for row in called}
    return shares | orders | reached | {"planted/accuracy": artifact.json("facts")["accuracy"]}


def scores(named: pd.DataFrame, units: pd.DataFrame) -> Figure:
    """Left the shares that are named right, right the sparsities; tables "named" and "units" of `planted`."""
    figure, axes = sheet(WIDE, 2.6, 1, 2)
    left, right = axes[0]
    rows = records(named)
    for at, row in enumerate(rows):
        colour = MUTED if row["way"] == PLAIN else PAIRING["cycle"]
        dot(left, row["share"], row["low"], row["high"], at, colour)
    names_down(left, [_WAYS[row["way"]] for row in rows])
    left.set(xlabel="share of units that are named right", xlim=(0, 1.02))
    _sparsities(right, pd.DataFrame(units[units["factors"] > 0]))
    return figure


def _sparsities(axis: Axes, units: pd.DataFrame) -> None:
    counts = sorted(set(units["factors"]))
    for at, count in enumerate(counts):
        values = column(where(units, factors=count), "sparsity_factors")
        dots(axis, at + jitter(len(values), 0.22), values, PAIRING["cycle"], 3, 0.5)
        circle(axis, at, float(np.mean(values)))
    axis.set_xticks(range(len(counts)), [str(count) for count in counts])
    axis.set(xlabel="factors that a unit is a function of", ylabel="sparsity", ylim=(0, 1))
    light_grid(axis, "y")
