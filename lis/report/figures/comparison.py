"""A sweep at a glance: one distribution per link, rows are metrics, columns what else was varied (Fig. S1, S3)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lis.report.figures.marks import violin
from lis.report.frames import column as column_of
from lis.report.frames import where
from lis.report.labels import metric_label, wrapped
from lis.report.style import INK, MUTED, WIDE, link_colour, plain, sheet, styled

BASELINES = {"random": "-", "within-class": (0, (1.5, 1.5))}
"""Line styles of the means of random pairs."""
_BASELINE_NAMES = {"random": "mean of random pairs", "within-class": "mean of random pairs of the same class"}
_SPREAD = 25.0
"""From this ratio of the widest violin's end to the smallest mean on, a linear scale would hide the small ones."""
_LETTER, _SMALL_LETTER = 0.085, 0.075
"""Widths in inches of a letter of a title and of a tick label."""


@styled
def comparison(
    samples: pd.DataFrame,
    links: Sequence[str],
    columns: Sequence[str],
    labels: Mapping[str, str],
    own_units: Collection[str] = (),
) -> Figure:
    """Violins of the cycle's distances, and the means of random pairs: over all (solid) and of a class (dotted).

    Args:
        samples: long table with `link`, `column`, `metric`, `pairing`, `value`.
        links: links from left to right.
        columns: values of `column` from left to right.
        labels: link to the name that is written.
        own_units: metrics that cannot be compared between columns: each of their panels has a scale of its own.
    """
    metrics = list(dict.fromkeys(samples["metric"]))
    width = WIDE if len(columns) > 1 else 0.55 * WIDE
    figure, axes = sheet(width, 0.8 + 1.75 * len(metrics), len(metrics), len(columns), sharex=True)
    for row, metric in zip(axes, metrics, strict=True):
        _row(row, where(samples, metric=metric), links, columns, shared=metric not in own_units)
        row[0].set_ylabel(plain(metric_label(metric)), weight="bold")
    panel = (width - 0.35) / len(columns) - 0.25  # without the numbers beside it
    for axis, column in zip(axes[0], columns, strict=True):
        axis.set_title(wrapped(column, int(panel / _LETTER)), loc="center")
    _name_links(axes[-1], [plain(labels[link]) for link in links], panel)
    for pairing, style in BASELINES.items():
        axes[0, 0].plot([], [], color=MUTED, linewidth=1, linestyle=style, label=_BASELINE_NAMES[pairing])
    figure.legend(loc="outside lower center", ncols=len(BASELINES))
    return figure


def _row(axes: np.ndarray, part: pd.DataFrame, links: Sequence[str], columns: Sequence[str], *, shared: bool) -> None:
    """The panels of one metric, on one scale where `shared`."""
    log = _wide(where(part, pairing="cycle"))
    for axis, column in zip(axes, columns, strict=True):
        own = where(part, column=column)
        _panel(axis, own, links, log)
        _scale(axis, part if shared or own.empty else own, log)
        axis.tick_params(labelleft=axis is axes[0] or not shared)


def _wide(cycle: pd.DataFrame) -> bool:
    groups = [column_of(group, "value") for _, group in cycle.groupby(["link", "column"])]
    ends, smallest = [float(np.quantile(values, 0.995)) for values in groups], [values.min() for values in groups]
    return min(smallest) > 0 and max(ends) > _SPREAD * min(float(values.mean()) for values in groups)


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
    cycles = [rows for _, rows in where(part, pairing="cycle").groupby(["column", "link"])]
    ends = np.stack([np.quantile(column_of(rows, "value"), [0.005, 0.995]) for rows in cycles])
    low, high = ends.min(), max([ends.max(), *means])
    if log:
        axis.set_yscale("log")
        axis.set_ylim(low / 1.3, high * 1.3)
    else:
        axis.set_ylim(min(0.0, low), high * 1.08)


def _name_links(axes: np.ndarray, names: Sequence[str], panel: float) -> None:
    """Links under the lowest row; slanted where they would touch. `panel` is the width of one in inches."""
    axes[0].set_xticks(range(len(names)), names)
    axes[0].set_xlim(-0.6, len(names) - 0.4)
    if max(len(name) for name in names) * _SMALL_LETTER > panel / (len(names) + 0.2):
        for label in [label for axis in axes for label in axis.get_xticklabels()]:
            label.set(rotation=30, ha="right", rotation_mode="anchor")
