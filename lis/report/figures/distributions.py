"""How far the cycle moves w, the image and r, beside the same distances between random pairs (Fig. 3C, S1C–F)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lis.report.figures.marks import eye, wants_log
from lis.report.frames import column, where
from lis.report.labels import PAIRINGS, metric_label, times
from lis.report.style import INK, MUTED, PAIRING, WIDE, plain, sheet, styled

_COLUMNS = 3


@styled
def distances(samples: pd.DataFrame, units: Mapping[str, str]) -> Figure:
    """A panel per metric with a half-eye per pairing; the ratio of the cycle's mean to each baseline is written.

    Args:
        samples: long table with the columns `metric`, `pairing` (`cycle`, `within-class`, `random`) and `value`.
        units: metric to what is measured, for its axis.
    """
    metrics = list(dict.fromkeys(samples["metric"]))
    columns = 2 if len(metrics) == 4 else min(_COLUMNS, len(metrics))
    rows = -(-len(metrics) // columns)
    figure, axes = sheet(WIDE, 0.25 + 2.15 * rows, rows, columns)
    for axis, metric in zip(axes.flat, metrics, strict=False):
        _panel(axis, where(samples, metric=metric), metric, units[metric])
    for axis in axes.flat[len(metrics) :]:
        axis.set_visible(False)
    for axis in axes[:, 1:].flat:
        axis.tick_params(labelleft=False)
    return figure


def _panel(axis: Axes, samples: pd.DataFrame, metric: str, unit: str) -> None:
    values = {pairing: column(where(samples, pairing=pairing), "value") for pairing in PAIRINGS}
    values = {pairing: found for pairing, found in values.items() if len(found)}
    pooled = np.concatenate(list(values.values()))
    log = wants_log(pooled)
    places = {pairing: len(values) - 1 - place for place, pairing in enumerate(values)}
    for pairing, found in values.items():
        eye(axis, found, places[pairing], PAIRING[pairing], log=log)
    _scale(axis, pooled, log)
    _ratios(axis, values, places)
    axis.set_yticks(list(places.values()), [PAIRINGS[pairing] for pairing in places])
    axis.set_ylim(-0.35, len(values) - 0.1)
    axis.tick_params(axis="y", length=0, labelcolor=INK)
    axis.spines["left"].set_visible(False)
    axis.set_title(plain(metric_label(metric)))
    axis.set_xlabel(plain(unit) + (" (log)" if log else ""))


def _scale(axis: Axes, pooled: np.ndarray, log: bool) -> None:
    low, high = np.quantile(pooled, [0.005, 0.995])
    if log:
        axis.set_xscale("log")
        axis.set_xlim(low / 1.2, high * 1.6)
    else:
        axis.set_xlim(min(0.0, low), high * 1.12 if high > 0 else 1.0)


def _ratios(axis: Axes, values: dict[str, np.ndarray], places: dict[str, int]) -> None:
    """Beside each baseline: the cycle's mean as a multiple of its mean."""
    for pairing, found in values.items():
        if pairing != "cycle" and "cycle" in values and found.mean() != 0:
            ratio = times(values["cycle"].mean() / found.mean())
            style = {"ha": "right", "va": "center", "size": 8.5, "color": MUTED}
            axis.text(1, places[pairing] + 0.55, f"cycle is {ratio}", transform=axis.get_yaxis_transform(), **style)
