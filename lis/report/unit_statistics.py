"""What the five measures share, and how their changes are distributed (supplement S5.1; Fig. S9–S12)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy.stats import norm

from lis.report.marks import facets, write
from lis.report.pictures import HOW_TO_READ, pictured
from lis.report.section import Picture, Section, folded, section
from lis.report.source import Source
from lis.report.style import LINK_RED, PAIRING, plain
from lis.report.tables import ends, known, largest, mean, mean_by, records, where
from lis.report.tuning import overlap
from lis.report.wording import listing, number, probability
from lis.statistics import SIGNIFICANT

_TITLE = "Measures side by side"
_OVERLAP = (
    "Units that two measures share among the first {top} of their rankings, mean over labels; by chance: {chance}."
)
_CHANGES = (
    "Mean changes of every label by every unit, divided by the largest of the measure, beside the normal curve with "
    "the same mean and standard deviation. Test: D'Agostino and Pearson."
)
_PICTURED = {
    "shape": ("unit-shape", "Eccentricity and angle: the label that one unit changes most, and its first units. "),
    "outline": ("unit-outline", "One label on one sample, and the first units for three measures. "),
    "surface": ("unit-surface", "The largest label on one sample, and the first units for luminance and entropy. "),
}
_BINS = np.linspace(-1, 1, 62)
"""An odd number of bins, so that no edge lies at 0."""


@section(340, "unit_statistics", "ranking", "overlap", "distribution", "scaled", parts=True)
def measures(source: Source) -> Section:
    """Pictures by measure, shared heads of rankings, and distributions."""
    shared, test = source.table("unit_statistics", "overlap"), source.table("unit_statistics", "distribution")
    if shared.empty:
        nothing = "No label is large enough to be interpreted, so that nothing is compared."
        return Section(_TITLE, nothing, finding="No label is large enough to compare measures")
    top = int(source.facts.settings["unit_statistics.top"])
    units = len(set(source.table("unit_statistics", "ranking")["unit"]))
    chance = number(min(top, units) ** 2 / units, 2)  # expected of two random choices of `top` units
    figures = [
        x for figure, (name, what) in _PICTURED.items() for x in pictured(source, figure, name, what + HOW_TO_READ)
    ]
    drawn = overlap(shared, list(dict.fromkeys(test["measure"])), top)
    caption, finding = _OVERLAP.format(top=top, chance=chance), _finding(shared, top, chance)
    figures.append(Picture("unit-overlap", drawn, caption, data=shared, alt=f"{finding}."))
    scaled, tested = source.arrays("unit_statistics", "scaled"), known(test, "p_normal")
    if len(tested):
        drawn = changes({name: scaled[name] for name in tested["measure"]}, tested)
        figures.append(Picture("unit-changes", drawn, _CHANGES, data=tested, alt=_tails(tested)))
    return Section(_TITLE, f"{_most_shared(shared)} {_normal(test)}", folded(*figures), finding=finding)


def _finding(table: pd.DataFrame, top: int, chance: str) -> str:
    """What two rankings share on average, beside chance."""
    means = mean_by(table, ["measure_a", "measure_b"], "overlap")
    return f"Two measures share {number(mean(means, 'overlap'), 2)} of their first {top} units, {chance} by chance"


def _most_shared(table: pd.DataFrame) -> str:
    most = largest(mean_by(table, ["measure_a", "measure_b"], "overlap"), "overlap")
    return (
        f"Of the heads of rankings {most['measure_a']} and {most['measure_b']} share most: "
        f"{number(most['overlap'], 2)} units (means over labels)."
    )


def _tails(tested: pd.DataFrame) -> str:
    told = [f"{number(row['kurtosis'], 2)} for {row['measure']}" for row in records(tested)]
    return f"Excess kurtosis of the changes, which is 0 in a normal distribution: {listing(told)}."


def _normal(test: pd.DataFrame) -> str:
    """Whether changes are normally distributed."""
    tested = known(test, "p_normal")
    if tested.empty:
        return "There are too few changes to test whether they are normally distributed."
    rejected = [row["measure"] for row in records(tested) if row["p_normal"] < SIGNIFICANT]
    verdict = f"are not normally distributed in {listing(rejected)}" if rejected else "may be normally distributed"
    low, high = (number(row["kurtosis"], 2) for row in ends(tested, "kurtosis"))
    return f"Changes {verdict}: their excess kurtosis lies between {low} and {high}, and is 0 in a normal distribution."


def changes(scaled: Mapping[str, np.ndarray], table: pd.DataFrame) -> Figure:
    """A panel per measure: density of the changes, and the normal curve with their mean and standard deviation.

    Args:
        scaled: measure to changes in [-1, 1], finite, over all units and labels.
        table: "distribution": measure, n, p_normal, skew, kurtosis; what is written beside.
    """
    x = "mean change of a label, divided by the largest"
    figure, panels = facets(scaled, 3, 2.0, 0.2, least=3, x=x, y="density", sharex=True)
    for axis, measure in panels:
        values = scaled[measure]
        axis.hist(values, _BINS.tolist(), density=True, color=PAIRING["within-class"])
        if (std := float(np.std(values))) > 0:
            grid = np.linspace(-1, 1, 401)
            axis.plot(grid, norm.pdf(grid, float(np.mean(values)), std), color=LINK_RED)
        axis.set(xlim=(-1, 1), xticks=[-1, -0.5, 0, 0.5, 1])
        axis.set_title(plain(measure))
        row = records(where(table, measure=measure))[0]
        p = f"normal: p = {probability(row['p_normal'])}".replace("= <", "<")
        moments = f"skew {number(row['skew'], 2)}\nexcess kurtosis {number(row['kurtosis'], 2)}"
        text = f"n = {int(row['n']):,}\n{p}\n{moments}"
        write(axis, 0.98, 0.96, text, ha="right", va="top", linespacing=1.45)
    return figure
