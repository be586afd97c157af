"""How units move the whole figure, over samples (Fig. S15), and how strongly each moves its parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse

from lis.motion.tuned import tuned_units
from lis.report.figures.heat import ONE_SIDED, heat, matrix
from lis.report.figures.marks import dots, names_down, padded
from lis.report.frames import column, known, split
from lis.report.labels import number
from lis.report.style import INK, RULE, SERIES, WIDE, light_grid, sheet, styled

_COLOURED = 6
"""Units that have a colour of their own."""
_GREY = "#b4bcc5"
_ROW = 0.24
"""Inches per unit."""
_KEPT = (2, 98)
"""Percentiles of the samples that the axes are made for."""


@styled
def movement(tracks: pd.DataFrame, tuned: pd.DataFrame) -> Figure:
    """Left the translation of every sample with an ellipse per unit, right rotation and scale.

    Units that are tuned for translation stand out on the left, on the right those tuned for the quantity.

    Args:
        tracks: table "tracks" of the stage "motion": name, dx, dy, rotation, scale.
        tuned: table "tuned": name, kind, strength, q.
    """
    units, colours = split(tracks, "name"), unit_colours(tuned)
    height = max(3.6, 0.9 + _ROW * len(units))
    figure, axes = sheet(WIDE, height, 1, 3, width_ratios=(1.55, 1, 1))
    _translation(axes[0, 0], units, colours)
    kinds = ("rotation", "degrees", 0.0), ("scale", "factor", 1.0)
    for axis, (kind, label, still) in zip(axes[0, 1:], kinds, strict=True):
        _samples(axis, units, kind, set(tuned_units(tuned, kind)["name"]), colours)
        axis.axvline(still, color=RULE, linewidth=1, zorder=0)
        axis.set(title=kind, xlabel=label, xlim=_limits(tracks[[kind]].to_numpy(dtype=float)))
    limits = _limits(tracks[["dx", "dy"]].to_numpy(dtype=float))
    axes[0, 0].set(xlim=limits, ylim=limits[::-1], aspect="equal", title="translation")
    axes[0, 2].tick_params(labelleft=False)
    return figure


def unit_colours(tuned: pd.DataFrame) -> dict[str, str]:
    """Colours of the units that are tuned for translation most surely, of a table "tuned"; the others are grey."""
    surest = tuned_units(tuned, "translation").sort_values("q", kind="stable")
    return dict(zip(surest["name"].tolist()[:_COLOURED], SERIES, strict=False))


def _translation(axis: Axes, units: Mapping[str, pd.DataFrame], colours: dict[str, str]) -> None:
    """A dot per sample, an ellipse per unit: its mean and one standard deviation around it."""
    axis.axhline(0, color=RULE, linewidth=1, zorder=0)
    axis.axvline(0, color=RULE, linewidth=1, zorder=0)
    for name in sorted(units, key=lambda name: name in colours):
        xy = known(known(units[name], "dx"), "dy")[["dx", "dy"]].to_numpy(dtype=float)
        colour = colours.get(name, _GREY)
        dots(axis, xy[:, 0], xy[:, 1], colour, 3.4, 0.75, label="_")
        if len(xy) > 1:
            axis.add_patch(ellipse(xy, colour, strong=name in colours))
        if name in colours:
            axis.plot(*np.median(xy, axis=0), "P", color=colour, markersize=7, markeredgecolor="white", label=name)
    axis.plot([], [], "o", color=_GREY, markersize=4, label="other units")
    axis.set(xlabel="to the right (pixels)", ylabel="downwards (pixels)")
    axis.legend(fontsize=8, loc="best", handletextpad=0.3)
    light_grid(axis, "both")


def ellipse(xy: np.ndarray, colour: str, strong: bool = True) -> Ellipse:
    """The ellipse of one standard deviation around the mean of points `[n, 2]`."""
    values, vectors = np.linalg.eigh(np.cov(xy.T))
    width, height = 2 * np.sqrt(np.maximum(values[::-1], 0))
    angle = float(np.degrees(np.arctan2(vectors[1, 1], vectors[0, 1])))
    x, y = (float(value) for value in xy.mean(0))
    shape = Ellipse((x, y), width, height, angle=angle, facecolor=colour, alpha=0.16 if strong else 0.05)
    shape.set_edgecolor(colour)
    return shape


def _samples(
    axis: Axes, units: Mapping[str, pd.DataFrame], kind: str, tuned: set[str], colours: dict[str, str]
) -> None:
    """A line per unit: a dot per sample, a bar at the median; filled where the unit is tuned."""
    for at, (name, rows) in enumerate(units.items()):
        values, colour = column(rows, kind), colours.get(name, INK if name in tuned else _GREY)
        face = colour if name in tuned else "white"
        axis.plot(values, np.full(len(values), at), "o", color=face, markeredgecolor=colour, markersize=3.8, alpha=0.8)
        if len(values):
            axis.plot(np.median(values), at, "|", color=INK, markersize=11, markeredgewidth=1.6)
    names_down(axis, list(units))


def _limits(values: np.ndarray) -> tuple[float, float]:
    """A range that holds nearly all values, with room at both ends."""
    values = values[np.isfinite(values)]
    return padded(np.percentile(values, _KEPT), 0.12) if len(values) else (-1.0, 1.0)


@styled
def parts(table: pd.DataFrame, labels: Sequence[str]) -> Figure:
    """Unit × part: how far the part moves within the figure.

    Args:
        table: table "parts" of the stage "motion": name, label, strength (pixels).
        labels: columns.
    """
    names = list(dict.fromkeys(table["name"]))
    values = matrix(table, ("name", names), ("label", labels), "strength")
    figure, axes = sheet(max(4.0, min(WIDE, 1.2 + 0.85 * len(labels))), 0.6 + 0.26 * max(len(names), 2))
    top = float(np.nanpercentile(values, 95)) if np.isfinite(values).any() else 1.0
    heat(axes[0, 0], values, names, labels, (0, top), lambda value: number(value, 2), ONE_SIDED)
    return figure
