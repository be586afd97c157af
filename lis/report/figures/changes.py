"""How the changes of each measure are distributed over units (supplement, Fig. S12)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import norm

from lis.report.frames import records
from lis.report.labels import number, probability
from lis.report.style import LINK_RED, PAIRING, WIDE, plain, sheet, styled

_BINS = np.linspace(-1, 1, 62)
"""An odd number of bins, so that no edge lies at 0."""


@styled
def changes(scaled: Mapping[str, np.ndarray], table: pd.DataFrame) -> Figure:
    """A panel per measure: density of the changes, and the normal curve with their mean and standard deviation.

    Args:
        scaled: measure to changes in [-1, 1], finite, over all units and labels.
        table: "distribution": measure, n, p_normal, skew, kurtosis; what is written beside.
    """
    tests = {row["measure"]: row for row in records(table)}
    columns = min(3, len(scaled))
    rows = -(-len(scaled) // columns)
    figure, axes = sheet(WIDE, 0.2 + 2.0 * rows, rows, columns, sharex=True)
    for axis, (measure, values) in zip(axes.flat, scaled.items(), strict=False):
        _panel(axis, values)
        _beside(axis, tests[measure])
        axis.set_title(plain(measure))
        axis.tick_params(labelbottom=True)
    for axis in axes.flat[len(scaled) :]:
        axis.set_visible(False)
    figure.supxlabel("mean change of a label, divided by the largest", size=9)
    figure.supylabel("density", size=9)
    return figure


def _panel(axis: Axes, values: np.ndarray) -> None:
    axis.hist(values, _BINS.tolist(), density=True, color=PAIRING["within-class"])
    mean, spread = float(np.mean(values)), float(np.std(values))
    if spread > 0:
        grid = np.linspace(-1, 1, 401)
        axis.plot(grid, norm.pdf(grid, mean, spread), color=LINK_RED)
    axis.set(xlim=(-1, 1), xticks=[-1, -0.5, 0, 0.5, 1])


def _beside(axis: Axes, row: dict[str, Any]) -> None:
    p = probability(row["p_normal"])
    written = [
        f"n = {int(row['n']):,}",
        f"normal: p {p}" if p.startswith("<") else f"normal: p = {p}",
        f"skew {number(row['skew'], 2)}",
        f"excess kurtosis {number(row['kurtosis'], 2)}",
    ]
    axis.text(0.98, 0.96, "\n".join(written), transform=axis.transAxes, ha="right", va="top", size=8, linespacing=1.45)
