"""How well matchers find true displacements, and poses recovered against the truth."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lis.report.figures.marks import DASHED, diagonal, dots, names_down, padded, write
from lis.report.frames import column, known, records, split, where
from lis.report.labels import number
from lis.report.style import INK, MUTED, SERIES, WIDE, light_grid, sheet, styled

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
    matchers = split(where(pairs, way="pair"), "matcher")
    figure, axes = sheet(WIDE, 0.95 + 0.3 * len(matchers), 1, len(kinds), sharey=True)
    for axis, kind in zip(axes[0], kinds, strict=True):
        for at, rows in enumerate(matchers.values()):
            values = column(where(rows, kind=kind), "error")
            dots(axis, np.maximum(values, _FLOOR), at, SERIES[at % len(SERIES)], 3.6, 0.4)
            if len(values):
                axis.plot(max(float(values.mean()), _FLOOR), at, "|", color=INK, markersize=13, markeredgewidth=1.8)
        axis.axvline(near, color=MUTED, linewidth=1, linestyle=DASHED)
        axis.set(xscale="log", title=_TITLES.get(kind, kind), xlabel="mean end-point error (pixels)")
        axis.set_xlim(_FLOOR * 0.8, 40)
        axis.set_xticks([0.1, 1, 10], ["0.1", "1", "10"])
        axis.minorticks_off()
    names_down(axes[0, 0], list(matchers), axes[0, 1:])
    return figure


@styled
def recovered(pairs: pd.DataFrame, table: pd.DataFrame, matcher: str) -> Figure:
    """A panel per quantity of a pose: true to the right, found up; on the line they are equal.

    Args:
        pairs: table "pairs".
        table: table "recovered": matcher, way, what, r2.
        matcher: whose.
    """
    poses, facts = where(pairs, kind="pose", matcher=matcher), where(table, matcher=matcher)
    ways = [(colour, where(poses, way=way), *_WAYS[way]) for colour, way in zip(SERIES, _WAYS, strict=False)]
    figure, axes = sheet(WIDE, 2.9, 1, len(_WHAT))
    for axis, (name, title) in zip(axes[0], _WHAT.items(), strict=True):
        both = known(known(poses, name), f"true_{name}")
        low, high = padded(both[[name, f"true_{name}"]].to_numpy(dtype=float), 0.08)
        diagonal(axis, low, high)
        for colour, rows, marker, words in ways:
            dots(axis, rows[f"true_{name}"], rows[name], colour, 3.8, 0.6, marker=marker, label=words)
        r2 = {row["way"]: number(row["r2"], 3) for row in records(where(facts, what=name))}
        text = [f"{_WAYS[way][1]}: R² {r2[way]}" for way in _WAYS if way in set(poses["way"])]
        axis.set_title(title, size=9)
        write(axis, 0.04, 0.97, "\n".join(text), size=7.5, va="top")
        axis.set(xlim=(low, high), ylim=(low, high + 0.12 * (high - low)), xlabel="true")
        light_grid(axis, "both")
    axes[0, 0].set_ylabel("found")
    return figure
