"""How far a picture of a unit can be believed: what arrives of the asked change, and what a random direction does."""

from __future__ import annotations

import numpy as np
import pandas as pd

from lis.report.figures.honesty import honesty as honesty_figure
from lis.report.figures.ranking import SIGNIFICANT
from lis.report.frames import column, known, mean, where
from lis.report.labels import number, sentences, share
from lis.report.sections import Picture, Section, means_as_metrics, section
from lis.report.source import Source

_LEFT = (
    "A dot is one unit: the first and the last image are encoded again; the share of the asked change that arrives in "
    "the unit, against the root mean square change of all other units in their standard deviations; circle: mean."
)
_RIGHT = (
    " Right: units by the largest share of one label in the sum of all labels' |mean change of area|; dashed: all "
    "labels alike; red: larger than in 95 % of random directions."
)


@section(380, "units", "honesty", "ranking")
def honesty(source: Source) -> Section:
    """The realised share beside what else moves, and the selectivity beside its null."""
    table, ranked = source.table("units", "honesty"), source.table("units", "ranking")
    if known(table, "realised").empty and known(table, "selectivity").empty:
        return Section("What arrives", "Nothing was measured of what arrives: no unit changed any image.")
    labels = len(set(where(ranked, interpreted=True)["label"]))
    figure = Picture("honesty", honesty_figure(table, labels), _LEFT + _RIGHT * (labels > 1))
    return Section("What arrives", sentences(_arrives(table), _selective(table) * (labels > 1)), [figure])


def _arrives(table: pd.DataFrame) -> str:
    realised = column(table, "realised")
    if not len(realised):
        return ""
    return (
        f"Encoded again, an image shows {share(float(np.median(realised)))} of the change that was asked of its unit "
        f"(median over units); meanwhile the other units move by {number(mean(table, 'others'), 2)} of their standard "
        "deviations on average, so that a picture shows a unit together with what goes along with it."
    )


def _selective(table: pd.DataFrame) -> str:
    p = column(table, "selectivity_p")
    if not len(p):
        return ""
    beyond = float((p <= SIGNIFICANT).mean())
    return (
        f"{share(beyond)} of the units are more selective for one label than 95 % of random directions; by chance: 5 %."
    )


means_as_metrics("units", "honesty", "realised", "others")
