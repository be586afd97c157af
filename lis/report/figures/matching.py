"""How well matchers find true displacements, and poses recovered against the truth."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lis.report.figures.marks import names_down
from lis.report.frames import column, records, where
from lis.report.labels import number
from lis.report.style import INK, MUTED, RULE, SERIES, WIDE, light_grid, sheet, styled

_TITLES = {"pose": "pose changes", "parts": "parts change", "colours": "colours change"}
_FLOOR = 0.02
"""Smallest error in pixels that the logarithmic axis shows."""
_WAYS = {"pair": ("o", "in one step"), "sequence": ("s", "through a sequence")}
_WHAT = {
    "dx": "to the right (pixels)",
    "dy": "downwards (pixels)",
    "rotation": "rotation (degrees)",
    "scale": "scale (factor)",
}


@styled
def errors(pairs: pd.DataFrame, kinds: Sequence[str], near: float) -> Figure:
    """A panel per kind of change, a row per matcher: end-point error of every pair, a bar at the mean.

    Args:
        pairs: table "pairs" of the stage "matching": matcher, kind, way, error.
        kinds: panels.
        near: pixels, drawn as a line.
    """
    own = where(pairs, way="pair")
    names = list(dict.fromkeys(own["matcher"]))
    figure, axes = sheet(WIDE, 0.95 + 0.3 * len(names), 1, len(kinds), sharey=True)
    for axis, kind in zip(axes[0], kinds, strict=True):
        for at, name in enumerate(names):
            _errors(axis, column(where(own, matcher=name, kind=kind), "error"), at)
        axis.axvline(near, color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
        axis.set(xscale="log", title=_TITLES.get(kind, kind), xlabel="mean end-point error (pixels)")
        axis.set_xlim(_FLOOR * 0.8, 40)
        axis.set_xticks([0.1, 1, 10], ["0.1", "1", "10"])
        axis.minorticks_off()
        light_grid(axis)
        names_down(axis, names)
    for axis in axes[0, 1:]:
        axis.tick_params(labelleft=False)
    return figure


def _errors(axis: Axes, values: np.ndarray, at: int) -> None:
    shown = np.maximum(values, _FLOOR)
    colour = SERIES[at % len(SERIES)]
    axis.plot(shown, np.full(len(shown), at), "o", color=colour, markersize=3.6, alpha=0.4, markeredgewidth=0)
    if len(shown):
        axis.plot(max(float(values.mean()), _FLOOR), at, "|", color=INK, markersize=13, markeredgewidth=1.8)


@styled
def recovered(pairs: pd.DataFrame, table: pd.DataFrame, matcher: str) -> Figure:
    """A panel per quantity of a pose: true to the right, found up; on the line they are equal.

    Args:
        pairs: table "pairs".
        table: table "recovered": matcher, way, what, r2.
        matcher: whose.
    """
    own = where(pairs, kind="pose", matcher=matcher)
    figure, axes = sheet(WIDE, 2.9, 1, len(_WHAT))
    for axis, (name, title) in zip(axes[0], _WHAT.items(), strict=True):
        values = own[[name, f"true_{name}"]].to_numpy(dtype=float)
        values = values[np.isfinite(values).all(1)]
        ends = (float(values.min()), float(values.max())) if len(values) else (-1.0, 1.0)
        room = 0.08 * (ends[1] - ends[0]) or 1.0
        ends = (ends[0] - room, ends[1] + room)
        axis.plot(ends, ends, color=RULE, linewidth=1.2)
        written = []
        for place, (way, (marker, words)) in enumerate(_WAYS.items()):
            rows = where(own, way=way)
            if rows.empty:
                continue
            axis.plot(
                rows[f"true_{name}"], rows[name], marker, color=SERIES[place], markersize=3.8, alpha=0.6,
                markeredgewidth=0, label=words,
            )  # fmt: skip
            r2 = records(where(table, matcher=matcher, way=way, what=name))[0]["r2"]
            written.append(f"{words}: R² {number(r2, 3)}")
        axis.set_title(title, size=9)
        axis.text(0.04, 0.97, "\n".join(written), transform=axis.transAxes, size=7.5, va="top", color=INK)
        axis.set(xlim=ends, ylim=(ends[0], ends[1] + 0.12 * (ends[1] - ends[0])), xlabel="true")
        light_grid(axis, "both")
    axes[0, 0].set_ylabel("found")
    return figure
