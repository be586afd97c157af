"""What the five measures share, and how their changes are distributed (supplement S5.1; Fig. S9–S12)."""

from __future__ import annotations

import pandas as pd

from lis.report.figures.changes import changes
from lis.report.figures.ranking import SIGNIFICANT, overlap
from lis.report.frames import column, known, records
from lis.report.labels import listing, number
from lis.report.sections import Picture, Section, section
from lis.report.sections.pictures import HOW_TO_READ, pictured
from lis.report.source import Source

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
        return Section(
            "Measures side by side", "No label is large enough to be interpreted, so that nothing is compared."
        )
    names, top = list(dict.fromkeys(test["measure"])), int(source.facts.settings["units.top"])
    chance = number(_chance(len(set(source.table("units", "ranking")["unit"])), top), 2)
    caption = _OVERLAP.format(top=top, chance=chance)
    figures = [picture for figure, (name, what) in _SHOWN.items() for picture in _pictures(source, figure, name, what)]
    figures.append(Picture("unit-overlap", overlap(shared, names, top), caption))
    scaled, tested = source.tensors("units", "scaled"), known(test, "p_normal")
    if len(tested):
        found = {name: scaled[name].numpy() for name in tested["measure"]}
        figures.append(Picture("unit-changes", changes(found, tested), _CHANGES))
    return Section("Measures side by side", f"{_shared(shared, top, chance)} {_normal(test)}", figures)


def _pictures(source: Source, figure: str, name: str, what: str) -> list[Picture]:
    return pictured(source, figure, name, what + HOW_TO_READ)


def _chance(units: int, top: int) -> float:
    """Expected overlap of two random choices of `top` out of `units`."""
    return min(top, units) ** 2 / units


def _shared(table: pd.DataFrame, top: int, chance: str) -> str:
    """What two rankings share on average, and which share most."""
    means = pd.DataFrame(table.groupby(["measure_a", "measure_b"], as_index=False)["overlap"].mean())
    most, mean = records(means.nlargest(1, columns="overlap"))[0], number(column(means, "overlap").mean(), 2)
    return (
        f"Of the first {top} units, two measures share {mean} on average, {chance} by chance; most are shared by "
        f"{most['measure_a']} and {most['measure_b']}, {number(most['overlap'], 2)}."
    )


def _normal(test: pd.DataFrame) -> str:
    """Whether changes are normally distributed."""
    tested = known(test, "p_normal")
    if tested.empty:
        return "There are too few changes to test whether they are normally distributed."
    rejected = [row["measure"] for row in records(tested) if row["p_normal"] < SIGNIFICANT]
    verdict = f"are not normally distributed in {listing(rejected)}" if rejected else "may be normally distributed"
    low, high = (number(edge, 2) for edge in (column(tested, "kurtosis").min(), column(tested, "kurtosis").max()))
    return f"Changes {verdict}: their excess kurtosis lies between {low} and {high}, and is 0 in a normal distribution."
