"""What the five measures share, and how their changes are distributed (supplement S5.1; Fig. S9–S12)."""

from __future__ import annotations

import pandas as pd

from lis.report.figures.changes import changes
from lis.report.figures.ranking import SIGNIFICANT, overlap
from lis.report.frames import ends, known, largest, mean, mean_by, records
from lis.report.labels import listing, number
from lis.report.sections import Picture, Section, section
from lis.report.sections.pictures import HOW_TO_READ, pictured
from lis.report.source import Source

_TITLE = "Measures side by side"
_OVERLAP = (
    "Units that two measures share among the first {top} of their rankings, mean over labels; by chance: {chance}."
)
_CHANGES = (
    "Mean changes of every label by every unit, divided by the largest of the measure, beside the normal curve with "
    "the same mean and standard deviation. Test: D'Agostino and Pearson."
)
_SHOWN = {
    "shape": ("unit-shape", "Eccentricity and angle: the label that one unit changes most, and its first units. "),
    "outline": ("unit-outline", "One label on one sample, and the first units for three measures. "),
    "surface": ("unit-surface", "The largest label on one sample, and the first units for luminance and entropy. "),
}


@section(330, "units", "ranking", "overlap", "distribution", "scaled")
def measures(source: Source) -> Section:
    """Pictures by measure, shared heads of rankings, and distributions."""
    shared, test = source.table("units", "overlap"), source.table("units", "distribution")
    if shared.empty:
        return Section(_TITLE, "No label is large enough to be interpreted, so that nothing is compared.")
    top, units = int(source.facts.settings["units.top"]), len(set(source.table("units", "ranking")["unit"]))
    chance = number(min(top, units) ** 2 / units, 2)  # expected of two random choices of `top` units
    figures = [x for figure, (name, what) in _SHOWN.items() for x in pictured(source, figure, name, what + HOW_TO_READ)]
    drawn = overlap(shared, list(dict.fromkeys(test["measure"])), top)
    figures.append(Picture("unit-overlap", drawn, _OVERLAP.format(top=top, chance=chance)))
    scaled, tested = source.tensors("units", "scaled"), known(test, "p_normal")
    if len(tested):
        drawn = changes({name: scaled[name].numpy() for name in tested["measure"]}, tested)
        figures.append(Picture("unit-changes", drawn, _CHANGES))
    return Section(_TITLE, f"{_shared(shared, top, chance)} {_normal(test)}", figures)


def _shared(table: pd.DataFrame, top: int, chance: str) -> str:
    """What two rankings share on average, and which share most."""
    means = mean_by(table, ["measure_a", "measure_b"], "overlap")
    most = largest(means, "overlap")
    return (
        f"Of the first {top} units, two measures share {number(mean(means, 'overlap'), 2)} on average, {chance} by "
        f"chance; most are shared by {most['measure_a']} and {most['measure_b']}, {number(most['overlap'], 2)}."
    )


def _normal(test: pd.DataFrame) -> str:
    """Whether changes are normally distributed."""
    tested = known(test, "p_normal")
    if tested.empty:
        return "There are too few changes to test whether they are normally distributed."
    rejected = [row["measure"] for row in records(tested) if row["p_normal"] < SIGNIFICANT]
    verdict = f"are not normally distributed in {listing(rejected)}" if rejected else "may be normally distributed"
    low, high = (number(row["kurtosis"], 2) for row in ends(tested, "kurtosis"))
    return f"Changes {verdict}: their excess kurtosis lies between {low} and {high}, and is 0 in a normal distribution."
