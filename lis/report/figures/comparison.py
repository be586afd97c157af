"""A sweep at a glance: one distribution per link, rows are metrics, columns what else was varied (Fig. S1, S3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lis.report.figures.marks import violin, wants_log
from lis.report.frames import column as column_of
from lis.report.frames import where
from lis.report.labels import metric_label
from lis.report.style import INK, MUTED, WIDE, link_colour, plain, sheet, styled

BASELINES = {"random": "-", "within-class": (0, (1.5, 1.5))}
"""Line styles of the means of random pairs."""


@styled
def comparison(
    samples: pd.DataFrame, links: Sequence[str], columns: Sequence[str], labels: Mapping[str, str]
) -> Figure:
    """Violins of the cycle's distances, and the means of random pairs: over all (solid) and of a class (dotted).

    Args:
        samples: long table with `link`, `column`, `metric`, `pairing`, `value`.
        links: links from left to right.
        columns: values of `column` from left to right.
        labels: link to the name that is written.
    """
    metrics = list(dict.fromkeys(samples["metric"]))
    width = WIDE if len(columns) > 1 else 0.55 * WIDE
    figure, axes = sheet(width, 0.5 + 1.75 * len(metrics), len(metrics), len(columns), sharex=True, sharey="row")
    for row, metric in zip(axes, metrics, strict=True):
        part = where(samples, metric=metric)
        log = wants_log(column_of(where(part, pairing="cycle"), "value"))
        for axis, column in zip(row, columns, strict=True):
            _panel(axis, where(part, column=column), links, log)
        _scale(row[0], part, log)
        row[0].set_ylabel(plain(metric_label(metric)), weight="bold")
    for axis, column in zip(axes[0], columns, strict=True):
        axis.set_title(plain(column), loc="center")
    axes[-1, 0].set_xticks(range(len(links)), [plain(labels[link]) for link in links])
    axes[-1, 0].set_xlim(-0.6, len(links) - 0.4)
    return figure


def _panel(axis: Axes, part: pd.DataFrame, links: Sequence[str], log: bool) -> None:
    for at, link in enumerate(links):
        values = column_of(where(part, link=link, pairing="cycle"), "value")
        if len(values):
            violin(axis, values, at, link_colour(link, at), log=log, width=min(0.8, 0.2 + 0.15 * len(links)))
    for pairing, style in BASELINES.items():
        values = column_of(where(part, pairing=pairing), "value")
        if len(values):
            axis.axhline(values.mean(), color=MUTED, linewidth=1, linestyle=style)
    axis.tick_params(axis="x", length=0, labelcolor=INK)
    axis.grid(True, axis="y")


def _scale(axis: Axes, part: pd.DataFrame, log: bool) -> None:
    groups = [where(part, column=name, pairing=pairing) for name in set(part["column"]) for pairing in BASELINES]
    means = [values.mean() for group in groups if len(values := column_of(group, "value"))]
    low, high = np.quantile(column_of(where(part, pairing="cycle"), "value"), [0.003, 0.997])
    high = max([high, *means])
    if log:
        axis.set_yscale("log")
        axis.set_ylim(low / 1.3, high * 1.3)
    else:
        axis.set_ylim(min(0.0, low), high * 1.08)
