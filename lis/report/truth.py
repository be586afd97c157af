"""Are the measured changes the true ones? On a world that knows its parts (part world)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lis.report.marks import ONE_SIDED, TWO_SIDED, diagonal, dots, facets, matrices, padded, write
from lis.report.section import Picture, Section, Table, crossed, folded, metrics, section
from lis.report.source import Source, colours
from lis.report.style import MUTED, plain
from lis.report.tables import ends, known, mean, records, where
from lis.report.wording import CHANGES, counted, listing, number, signed, words
from lis.store import Artifact

_TITLE = "Measured and true changes"
_SCATTER = (
    "A dot is one unit: its mean change of {} as the segmenter sees it, against the same in the exact masks of the "
    "same w̃; on the line they are equal. ρ: Spearman; top 10: units with the largest |change| in both."
)
_MATRICES = (
    "Left: Spearman's correlation over units between measured and true change. Right: units shared by the first ten of "
    "both rankings. Above, of means over samples; below, within single samples, as a mean over samples. Extent: "
    "difference of areas in fractions of the frame, where an absent part has none; relative: the same over "
    "the first area; area: log₂ of their ratio. A unit "
    "whose angles have no common direction (Rayleigh's test) is not ranked by angle."
)
_COLUMNS = {
    "Spearman": "spearman",
    "of first 10": "overlap",
    "Spearman, one sample": "spearman_seed",
    "of first 10, one sample": "overlap_seed",
}
"""Of the table, and what of "agreement" stands in them."""
_BOX = {"boxstyle": "round,pad=0.15", "facecolor": "white", "alpha": 0.75, "linewidth": 0}


@section(390, "truth", "agreement", "units", "summary")
def truth(source: Source) -> Section:
    """The agreement per label and measure, and the dots behind it."""
    table, units = source.table("truth", "agreement"), source.table("truth", "units")
    facts, summary = known(table, "spearman"), source.json("truth", "summary")
    if facts.empty:
        nothing = "No measured change has a true one beside it that varies over units."
        return Section(_TITLE, nothing, finding="No measured change has a true one beside it")
    measures = list(dict.fromkeys(table["measure"]))
    drawn = {name: colour for name, colour in colours(source).items() if name in set(table["label"])}
    scatter = measured_and_true(units, table, drawn, measures[0])
    finding, dots = _finding(summary, records(facts)[0]["units"]), where(units, measure=measures[0])
    matrix = agreement_figure(table, list(drawn), measures)
    figures = [
        Picture("truth-units", scatter, _SCATTER.format(_said(measures[0])), data=dots, alt=f"{finding}."),
        Picture("truth-agreement", matrix, _MATRICES, data=table, alt=_ranges(facts), aside=True),
    ]
    small = listing(list(dict.fromkeys(where(table, interpreted=False)["label"])))
    notes = [f"Left out of the means, as too small to be interpreted: {small}."] if small else []
    lead = _lead(summary, records(facts)[0])
    return Section(_TITLE, lead, figures, folded(_table(table)), notes, finding)


def _finding(summary: dict[str, Any], units: int) -> str:
    """Whether measured and true changes of the first measure rank units alike, beyond 95 % of independent rankings."""
    means = [row["spearman"] for row in summary.values() if math.isfinite(row["spearman"])]
    if not means:
        return "No label is large enough to hold measured changes against the true ones"
    chance = chance_correlation(units)
    if means[0] <= chance:
        return f"Measured and true changes do not rank units alike (ρ {signed(means[0])})"
    return f"Measured changes rank units as true ones do: ρ {signed(means[0])} (by chance < {number(chance, 2)})"


def chance_correlation(n: int) -> float:
    """|ρ| that 95 % of independent rankings of n things stay below: 1.96 / √(n − 1), at most 1.

    Example:
        >>> round(chance_correlation(101), 3), chance_correlation(1)
        (0.196, 1.0)
    """
    return min(1.0, 1.96 / math.sqrt(n - 1)) if n > 1 else 1.0


def _ranges(facts: pd.DataFrame) -> str:
    low, high = ends(facts, "spearman")
    return (
        f"Spearman's ρ lies between {signed(low['spearman'])} ({words(low['label'])}, {low['measure']}) and "
        f"{signed(high['spearman'])} ({words(high['label'])}, {high['measure']})."
    )


def _said(measure: str) -> str:
    """A measure in a sentence."""
    return "extent (area as a fraction of the frame)" if measure == "extent" else measure


def _lead(summary: dict[str, Any], facts: dict[str, Any]) -> str:
    """Area first, the others beside it."""
    means = [(name, row) for name, row in summary.items() if math.isfinite(row["spearman"])]
    if not means:
        return "No label is large enough to be interpreted: the figures show labels of which little can be said."
    first, *others = means
    lead = (
        f"Of {_said(first[0])} and {counted(facts['units'], 'unit')} Spearman's ρ is "
        f"{signed(first[1]['spearman'])}, and {number(first[1]['overlap'], 2)} of the first 10 units are the same, as "
        f"means over labels, on averages over {counted(facts['seeds'], 'sample')}."
    )
    told = [f"{name} {signed(row['spearman'])} ({number(row['overlap'], 2)})" for name, row in others]
    return f"{lead} The other measures: {listing(told)}." if told else lead


def _table(table: pd.DataFrame) -> Table:
    caption = (
        "Means over the labels that are interpreted: rank correlation and shared first ten, of means over samples and "
        "within single samples."
    )
    seen = where(table, interpreted=True)
    return crossed(
        caption,
        dict.fromkeys(table["measure"]),
        _COLUMNS,
        lambda measure, name: number(mean(where(seen, measure=measure), _COLUMNS[name]), 2),
    )


@metrics("truth")
def truth_numbers(artifact: Artifact) -> dict[str, float]:
    """`truth/<measure>/{spearman, overlap}`: means over labels."""
    summary = artifact.json("summary")
    return {f"truth/{measure}/{name}": value for measure, values in summary.items() for name, value in values.items()}


def measured_and_true(table: pd.DataFrame, agreement: pd.DataFrame, colours: Mapping[str, str], measure: str) -> Figure:
    """A panel per label, a dot per unit: mean true change to the right, mean measured change up.

    Args:
        table: "units": unit, label, measure, measured, true.
        agreement: "agreement": label, measure, spearman, overlap, interpreted; written into the panels.
        colours: of the labels, in the order of the panels.
        measure: the one that is shown.
    """
    facts = {row["label"]: row for row in records(where(agreement, measure=measure))}
    labels = [label for label in colours if label in facts]
    figure, panels = facets(labels, 5, 1.6, 0.4, x=f"true {CHANGES[measure]}", y="measured", lines="both")
    for axis, label in panels:
        _panel(axis, where(table, measure=measure, label=label), facts[label], colours[label])
    return figure


def _panel(axis: Axes, table: pd.DataFrame, facts: dict[str, Any], colour: str) -> None:
    both = known(known(table, "true"), "measured")
    limits = padded(np.append(both[["true", "measured"]].to_numpy(dtype=float), 0.0), 0.06)
    diagonal(axis, *limits)
    dots(axis, both["true"], both["measured"], colour, 3.6, 0.6)
    text = f"ρ = {signed(facts['spearman'])}\n{facts['overlap']:.0f} of top 10" if len(both) else "never seen"
    write(axis, 0.97, 0.04, text, ha="right", va="bottom", size=8.5, linespacing=1.4, bbox=_BOX)
    name = plain(facts["label"]) + ("" if facts["interpreted"] else " (too small)")
    axis.set_title(name, color=colour if facts["interpreted"] else MUTED)
    axis.set(xlim=limits, ylim=limits, aspect="equal")
    for ticks in (axis.xaxis, axis.yaxis):
        ticks.set_major_locator(MaxNLocator(3))


def agreement_figure(table: pd.DataFrame, labels: Sequence[str], measures: Sequence[str]) -> Figure:
    """Label × measure: rank correlation over units and shared heads, of means over samples and within samples.

    Args:
        table: "agreement": label, measure, spearman, overlap, spearman_seed, overlap_seed.
        labels: rows.
        measures: columns.
    """
    correlation, units = ((-1, 1), signed, TWO_SIDED), ((0, 10), lambda value: number(value, 2), ONE_SIDED)
    panels = [
        ("Spearman, means over samples", table, "spearman", *correlation),
        ("shared of the first 10, means over samples", table, "overlap", *units),
        ("Spearman, single samples", table, "spearman_seed", *correlation),
        ("shared of the first 10, single samples", table, "overlap_seed", *units),
    ]
    height = 0.6 + 0.27 * max(len(labels), 3)
    return matrices(panels, ("label", labels), ("measure", measures), height, beside=2, pad=8)
