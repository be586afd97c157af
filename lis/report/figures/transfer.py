"""Whether a unit does the same in every class (Fig. 4B; supplement, Fig. S22, S26)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lis.report.figures.heat import TWO_SIDED, heat, matrix
from lis.report.figures.marks import facets
from lis.report.frames import apart, mean_by, records, split
from lis.report.labels import signed
from lis.report.measures import changed
from lis.report.style import HALF, plain, sheet, styled


@styled
def transfer(table: pd.DataFrame, class_names: Sequence[str]) -> Figure:
    """A block per measure, a row per label: what the unit that changes it most does in every class.

    Args:
        table: rows of "transfer", a unit per label × measure: unit, label, measure, class, change.
        class_names: columns; colours are relative to the largest change of the row.
    """
    table = table.assign(row=[f"{plain(row['label'])} · {row['unit']}" for row in records(table)])
    measures = split(table, "measure")
    figure, panels = facets(measures, 2, 0.85 + 0.26 * max(len(set(table["label"])), 2), 0, least=1)
    for axis, measure in panels:
        names = list(dict.fromkeys(measures[measure]["row"]))
        values = matrix(measures[measure], ("row", names), ("class", class_names), "change")
        largest = np.abs(np.nan_to_num(values)).max(axis=1, keepdims=True)
        shade = values / np.where(largest > 0, largest, 1.0)
        heat(axis, values, names, class_names, (-1, 1), partial(changed, measure), TWO_SIDED, shade)
        axis.set_title(plain(measure), pad=8)
    return figure


@styled
def agreement(table: pd.DataFrame, labels: Sequence[str], measures: Sequence[str]) -> Figure:
    """Correlation over units of the mean changes in two classes, as a mean over pairs of classes.

    Args:
        table: "agreement": label, measure, class_a, class_b, r.
        labels: rows.
        measures: columns.
    """
    means = mean_by(apart(table), ["label", "measure"], "r")
    figure, axes = sheet(HALF, 0.55 + 0.3 * max(len(labels), 3))
    values = matrix(means, ("label", labels), ("measure", measures), "r")
    heat(axes[0, 0], values, labels, measures, (-1, 1), signed, TWO_SIDED)
    return figure
