"""What tuned units change, label by label and measure by measure (paper §4.3; Fig. 4A)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lis.report.marks import dot, facets, heat, matrix, names_down, symmetric
from lis.report.pictures import HOW_TO_READ, pictured
from lis.report.section import Picture, Section, Table, crossed, section
from lis.report.source import Source, colours, label_names
from lis.report.style import HALF, MUTED, plain, sheet
from lis.report.tables import column, known, mean_by, records, where
from lis.report.wording import CHANGES, changed, changed_between, counted, number, share, words
from lis.statistics import SIGNIFICANT

_TITLE = "What units change"
_HEAD = 3
"""Units per cell of the table."""
_NOTHING = (
    "No label is seen well enough to be interpreted: each covers less than 0.12 % of the frame on average, or its "
    "change is nowhere defined. Label larger parts, or more images."
)
_TRAJECTORIES = "The labels that one unit changes most, for each measure, each with that unit. " + HOW_TO_READ
_RANKING = (
    "The first {} units of each label's ranking by area: mean log₂ ratio over the samples that have the label (1: "
    "twice as large, −1: half as large) with its 95 % bootstrap interval. Filled: larger than in 95 % of random "
    "directions at an equal step in W; open: not. The head of a ranking is chosen for its size, so that some of it "
    "stands out by chance."
)


@section(320, "unit_statistics", "ranking")
def tuned_units(source: Source) -> Section:
    """Rankings of units, pictures of the first ones, and their table."""
    table = known(source.table("unit_statistics", "ranking"), "change")
    if where(table, interpreted=True).empty:
        return Section(_TITLE, _NOTHING)
    figures = pictured(source, "measures", "unit-trajectories", _TRAJECTORIES)
    top = source.facts.settings["unit_statistics.top"]
    if len(area := where(table, measure="area")):
        figures.append(Picture("unit-ranking", ranking(area, colours(source), top), _RANKING.format(top)))
    return Section(_TITLE, _lead(table), figures, [_table(source, table)])


def _lead(table: pd.DataFrame) -> str:
    """How many units, the largest change of area, and how many changes stand out of chance."""
    seen = where(table, interpreted=True)
    lead = f"{counted(len(set(table['unit'])), 'unit')} went from the smallest to the largest activation."
    first = where(seen, measure="area", rank=1)
    for top in records(first.assign(size=np.abs(first["change"])).nlargest(1, columns="size")):
        by = changed_between("area", top["change"], top["low"], top["high"])
        lead += f" Unit {top['unit']} changes the area of a label most: {words(top['label'])} by {by} on average."
    p = column(seen, "p_control")
    if not len(p):
        return lead
    beyond = share(float((p <= SIGNIFICANT).mean()))
    return (
        f"{lead} Of all changes of a label by a unit, {beyond} are larger than in 95 % of random directions at an "
        "equal step in W; chance alone would give 5 %."
    )


def _table(source: Source, table: pd.DataFrame) -> Table:
    """A row per label: the first units of each measure, bold where the first is beyond random directions."""
    seen = set(where(table, interpreted=True)["label"])
    remarks = dict.fromkeys(table["label"], " (too small)") | dict.fromkeys(seen, "")

    def ranked(label: str, measure: str) -> pd.DataFrame:
        return where(table, label=label, measure=measure)

    caption = (
        f"The first {_HEAD} units of each ranking, with the mean change by the first; bold where it is larger than in "
        "95 % of random directions at an equal step in W. Areas are means of their log₂ ratio, angles those of axes, "
        "with their resultant length R (1: all samples turn alike); where it is not beyond chance (Rayleigh's test, "
        "p > 0.05) there is no angle. In brackets also in how many of the samples the measure is known at both ends "
        "(15/20), where it is not in all. Every unit, with intervals: tables/unit_statistics/ranking.parquet."
    )
    return crossed(
        caption,
        label_names(source),
        dict.fromkeys(table["measure"]),
        lambda label, measure: _cell(ranked(label, measure)),
        corner="label",
        name=lambda label: words(label) + remarks.get(label, " (never seen)"),
        bold=lambda *cell: bool((where(ranked(*cell), rank=1)["p_control"] <= SIGNIFICANT).any()),
    )


def _cell(ranked: pd.DataFrame) -> str:
    """The first units, with the first one's change, and what that rests on."""
    head = records(ranked.nsmallest(_HEAD, columns="rank"))
    if not head:
        return "–"
    row, facts = head[0], [changed(head[0]["measure"], head[0]["change"])]
    if row["measure"] == "angle":
        facts.append(f"R {number(row['resultant'], 2)}")
    if row["n"] < row["samples"]:
        facts.append(f"{int(row['n'])}/{int(row['samples'])}")
    return ", ".join([f"{row['unit']} ({', '.join(facts)})", *(str(row["unit"]) for row in head[1:])])


def ranking(table: pd.DataFrame, colours: Mapping[str, str], most: int = 10) -> Figure:
    """A panel per label with the units that change one measure most: mean over samples and its interval.

    Args:
        table: rows of "ranking" of one measure: unit, label, measure, change, rank, low, high, p_control, interpreted.
        colours: of the labels, in the order of the panels.
        most: units per panel.
    """
    labels = [label for label in colours if label in set(table["label"])]
    length = min(most, int(np.max(table["rank"])))
    x = CHANGES[str(table["measure"].iloc[0])]
    figure, panels = facets(labels, 5, 0.55 + 0.17 * length, 0.45, x=x, y="unit")
    for axis, label in panels:
        _ranked(axis, where(table, label=label).nsmallest(most, columns="rank"), colours[label])
        axis.set_ylim(length - 0.5, -0.5)
    return figure


def _ranked(axis: Axes, table: pd.DataFrame, colour: str) -> None:
    axis.axvline(0, color=MUTED, linewidth=0.8)
    rows = records(table)
    for at, row in enumerate(rows):
        dot(axis, row["change"], row["low"], row["high"], at, colour, filled=row["p_control"] <= SIGNIFICANT)
    names_down(axis, [str(row["unit"]) for row in rows])
    axis.tick_params(axis="y", labelsize=8)
    seen = all(row["interpreted"] for row in rows)
    axis.set_title(plain(rows[0]["label"]) + ("" if seen else " (too small)"), color=colour if seen else MUTED)
    axis.locator_params(axis="x", nbins=4)


def overlap(table: pd.DataFrame, measures: Sequence[str], top: int) -> Figure:
    """How many of the first `top` units two measures share, as a mean over labels.

    Args:
        table: "overlap": label, measure_a, measure_b, overlap, each pair once or twice.
        measures: rows and columns.
        top: units at the head of each ranking.
    """
    means = mean_by(table, ["measure_a", "measure_b"], "overlap")
    values = symmetric(matrix(means, ("measure_a", measures), ("measure_b", measures), "overlap"))
    figure, axes = sheet(HALF, 0.7 + 0.36 * len(measures))
    heat(axes[0, 0], values, measures, measures, (0, top), lambda value: f"{value:.1f}")
    return figure
