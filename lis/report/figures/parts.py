"""How much every part changes, in every measure: a matrix per pair of classes (Fig. S20)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from lis.quantify.measures import MEASURES
from lis.report.figures.heat import TWO_SIDED, heat
from lis.report.figures.marks import facets
from lis.report.measures import changed
from lis.report.style import styled


@styled
def part_changes(found: Mapping[str, np.ndarray], labels: Sequence[str]) -> Figure:
    """A matrix per pair, labels down and measures across, with its numbers.

    Args:
        found: title to changes `[labels, measures]`, NaN where there is none; each measure is coloured from minus to
            plus the largest |change| that it has in any of the matrices. One or more.
        labels: rows, one or more.
    """
    most = np.nanmax(np.abs([np.nan_to_num(values) for values in found.values()]), axis=(0, 1))
    figure, panels = facets(found.items(), 2, 0.7 + 0.25 * len(labels), 0, least=1)
    for axis, (title, values) in panels:
        shade = values / np.where(most > 0, most, 1)
        heat(axis, values, labels, MEASURES, (-1, 1), str, TWO_SIDED, shade)
        for text, (_, place), value in zip(axis.texts, np.ndindex(*values.shape), values.ravel(), strict=True):
            text.set_text(changed(MEASURES[place], float(value)))
        axis.set_title(title, pad=10)
    return figure
