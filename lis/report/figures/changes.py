"""How the changes of each measure are distributed over units (supplement, Fig. S12)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy.stats import norm

from lis.report.figures.marks import facets, write
from lis.report.frames import records, where
from lis.report.labels import number, probability
from lis.report.style import LINK_RED, PAIRING, plain, styled

_BINS = np.linspace(-1, 1, 62)
"""An odd number of bins, so that no edge lies at 0."""


@styled
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
        write(
            axis, 0.98, 0.96, _test(records(where(table, measure=measure))[0]), ha="right", va="top", linespacing=1.45
        )
    return figure


def _test(row: dict[str, Any]) -> str:
    p = probability(row["p_normal"])
    lines = [
        f"n = {int(row['n']):,}",
        f"normal: p {p}" if p.startswith("<") else f"normal: p = {p}",
        f"skew {number(row['skew'], 2)}",
        f"excess kurtosis {number(row['kurtosis'], 2)}",
    ]
    return "\n".join(lines)
