"""How far the cycle moves w, the image and r, beside the same distances between random pairs (Fig. 3C, S1C–F)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lis.report.figures.marks import eye, facets, names_up, wants_log
from lis.report.frames import column, split, where
from lis.report.labels import PAIRINGS, metric_label, times
from lis.report.style import MUTED, PAIRING, plain, styled


@styled
def distances(samples: pd.DataFrame, units: Mapping[str, str]) -> Figure:
    """A panel per metric with a half-eye per pairing; the ratio of the cycle's mean to each baseline is written.

    Args:
        samples: long table with the columns `metric`, `pairing` (`cycle`, `within-class`, `random`) and `value`.
        units: metric to what is measured, for its axis.
    """
    metrics = split(samples, "metric")
    columns = 2 if len(metrics) == 4 else min(3, len(metrics))
    figure, panels = facets(metrics, columns, 2.15, 0.25, least=columns)
    for at, (axis, metric) in enumerate(panels):
        _panel(axis, metrics[metric], metric, units[metric])
        axis.tick_params(labelleft=at % columns == 0)
    return figure


def _panel(axis: Axes, samples: pd.DataFrame, metric: str, unit: str) -> None:
    values = {pairing: column(where(samples, pairing=pairing), "value") for pairing in reversed(PAIRINGS)}
    values = {pairing: distances for pairing, distances in values.items() if len(distances)}
    pooled = np.concatenate(list(values.values()))
    log = wants_log(pooled)
    for at, (pairing, distances) in enumerate(values.items()):
        eye(axis, distances, at, PAIRING[pairing], log=log)
        if pairing != "cycle" and "cycle" in values and distances.mean() != 0:
            text = f"cycle is {times(values['cycle'].mean() / distances.mean())}"
            style = {"ha": "right", "va": "center", "size": 8.5, "color": MUTED}
            axis.text(1, at + 0.55, text, transform=axis.get_yaxis_transform(), **style)
    _scale(axis, pooled, log)
    names_up(axis, [PAIRINGS[pairing] for pairing in reversed(values)], 0.35, 0.9, grid=False)
    axis.set_title(plain(metric_label(metric)))
    axis.set_xlabel(plain(unit) + (" (log)" if log else ""))


def _scale(axis: Axes, pooled: np.ndarray, log: bool) -> None:
    low, high = np.quantile(pooled, [0.005, 0.995])
    if log:
        axis.set_xscale("log")
        axis.set_xlim(low / 1.2, high * 1.6)
    else:
        axis.set_xlim(min(0.0, low), high * 1.12 if high > 0 else 1.0)
