"""Whether a unit does the same in every class (Fig. 4B; supplement, Fig. S22, S26)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lis.report.figures.heat import TWO_SIDED, heat, matrix
from lis.report.figures.strips import signed
from lis.report.frames import records, where
from lis.report.measures import changed
from lis.report.style import HALF, WIDE, plain, sheet, styled


@styled
def transfer(table: pd.DataFrame, class_names: Sequence[str]) -> Figure:
    """A block per measure, a row per label: what the unit that changes it most does in every class.

    Args:
        table: rows of "transfer", a unit per label × measure: unit, label, measure, class, change.
        class_names: columns; colours are relative to the largest change of the row.
    """
    measures = list(dict.fromkeys(table["measure"]))
    columns = min(2, len(measures))
    lines = -(-len(measures) // columns)
    longest = len(dict.fromkeys(table["label"]))
    figure, axes = sheet(WIDE * columns / 2, lines * (0.85 + 0.26 * max(longest, 2)), lines, columns)
    for axis, measure in zip(axes.flat, measures, strict=False):
        _block(axis, where(table, measure=measure), class_names, measure)
    for axis in axes.flat[len(measures) :]:
        axis.set_visible(False)
    return figure


def _block(axis: Axes, table: pd.DataFrame, class_names: Sequence[str], measure: str) -> None:
    named = table.assign(row=[f"{plain(row['label'])} · {row['unit']}" for row in records(table)])
    names = list(dict.fromkeys(named["row"]))
    values = matrix(named, ("row", names), ("class", class_names), "change")
    largest = np.abs(np.nan_to_num(values)).max(axis=1, keepdims=True)
    shade = values / np.where(largest > 0, largest, 1.0)
    heat(axis, values, names, class_names, (-1, 1), partial(changed, measure), TWO_SIDED, shade)
    axis.set_title(plain(measure), pad=8)


@styled
def agreement(table: pd.DataFrame, labels: Sequence[str], measures: Sequence[str]) -> Figure:
    """Correlation over units of the mean changes in two classes, as a mean over pairs of classes.

    Args:
        table: "agreement": label, measure, class_a, class_b, r.
        labels: rows.
        measures: columns.
    """
    apart = table[(table["class_a"] != table["class_b"]).to_numpy(dtype=bool)]
    means = pd.DataFrame(apart.groupby(["label", "measure"], as_index=False)["r"].mean())
    figure, axes = sheet(HALF, 0.55 + 0.3 * max(len(labels), 3))
    values = matrix(means, ("label", labels), ("measure", measures), "r")
    heat(axes[0, 0], values, labels, measures, (-1, 1), signed, TWO_SIDED)
    return figure
