"""Importance of units beside the concepts that they match (Fig. S4c-g), and units that classes share (Fig. S5)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lis.dissection.interpretability import SHUFFLES, best_iou, interpretability_table
from lis.report.layouts import darkened_outside, mosaic
from lis.report.marks import axes_at, bare, errors, picture, write
from lis.report.section import Picture
from lis.report.source import Source
from lis.report.style import GREY, INK, MUTED, SERIES, WIDE, light_grid, plain, sheet
from lis.report.tables import records, split, where
from lis.report.wording import counted, number
from lis.streams import Stream

_CURVES = (
    "Dots: mean best IoU of the units (± standard error) that are among the k most important of so many classes, with "
    "a positive importance; grey numbers: how many these are. Right: of {} groups of equally many units, sorted by "
    "their mean importance over classes. Grey, the control: the same with the IoU shuffled among the units, mean and "
    "95 % of {} shuffles. {} Neither does a dot outside say that a class rests on the concept. Groups of the same "
    "importance are in the order of the units. Dead units are left out."
)
_SHARED = (
    "Triples of classes whose pairs share one of their 4 most important units while no unit serves all three, those of "
    "the largest importance first. A row is a triple: for each pair of its classes the unit that both share, and the "
    "test images in which it is most active, whatever their class{}. That a unit matters to two classes does not say "
    "that what excites it is common to them."
)
_OUTSIDE = 0.05
"""Share of dots outside a band of 95 % by chance."""
_ROUNDING = 1e-12
"""Of means of the same units in another order."""
_GAP, _HEAD = 0.2, 0.36
"""Inches between the strips of a row, and above them."""


def interpretability(source: Source) -> Picture | None:
    """Fig. S4c-g, where the same layer was dissected in the run."""
    if not source.has("dissect", "units", "agreement", "facts"):
        return None
    layer = source.json("importance", "facts")["layer"]
    units = where(source.table("dissect", "units"), layer=layer).sort_values("unit")
    if not len(where(units, dead=False)):
        return None
    iou = best_iou(units, where(source.table("dissect", "agreement"), layer=layer))
    matrix = source.table("importance", "importance").pivot(index="unit", columns="class", values="importance")
    of_units = torch.from_numpy(np.array(matrix, dtype=np.float64))
    rng = Stream("importance", source.facts.settings["seed"]).rng(index=1)
    table = interpretability_table(of_units, iou, rng)
    caption = _CURVES.format(len(where(table, k=0)), f"{SHUFFLES:,}", outside_bands(table))
    return Picture("importance-iou", interpretability_figure(table), caption, data=table)


def outside_bands(table: pd.DataFrame) -> str:
    """How many dots lie outside their bands, beside how many would by chance; table of `interpretability_table`."""
    iou, low, high = (table[name].to_numpy(dtype=np.float64) for name in ("iou", "low", "high"))
    above, below = (int((distance > _ROUNDING).sum()) for distance in (iou - high, low - iou))
    return (
        f"The bands are of one dot each: of {counted(len(table), 'dot')}, {above} lie above and {below} below, where "
        f"importance and agreement had nothing to do with each other {number(_OUTSIDE * len(table), 2)} would lie "
        "outside on average. Dots share units, so that a single one outside its band says little."
    )


def interpretability_figure(table: pd.DataFrame) -> Figure:
    """A panel per k, and one of the buckets; table of `interpretability_table`."""
    panels = split(table, "k")
    groups = panels.pop(0)
    figure, axes = sheet(WIDE, 2.7, 1, 1 + len(panels), sharey=True)
    for axis, (k, rows) in zip(axes[0], panels.items(), strict=False):
        _curve(axis, rows)
        axis.set(title=f"top {k}", xlabel="classes served")
        axis.set_xticks(rows["x"])
        for row in records(rows):
            axis.annotate(f"{row['units']}", (row["x"], 0), (0, 2), xycoords=("data", "axes fraction"),
                          textcoords="offset points", ha="center", size=7.5, color=MUTED)  # fmt: skip
    _curve(axes[0, -1], groups)
    axes[0, -1].set(title="by mean importance", xlabel="group, the most important first")
    axes[0, 0].set_ylabel("mean best IoU")
    axes[0, -1].legend(loc="upper right")
    return figure


def _curve(axis: Axes, rows: pd.DataFrame) -> None:
    x, y, error = (rows[name].to_numpy(dtype=np.float64) for name in ("x", "iou", "error"))
    low, high, control = (rows[name].to_numpy(dtype=np.float64) for name in ("low", "high", "control"))
    axis.fill_between(x, low, high, color=GREY, alpha=0.45, linewidth=0)
    axis.plot(x, control, color=MUTED, linewidth=1.2, label="shuffled (control)")
    errors(axis, x, y, y - np.nan_to_num(error), y + np.nan_to_num(error), SERIES[0])
    axis.margins(x=0.1)
    axis.plot(x, y, "o-", color=SERIES[0], markersize=3.6, label="units")
    light_grid(axis, "y")


def shared_units(source: Source) -> Picture | None:
    """Fig. S5: units that pairs of classes share, with their images; None where there is no such triple."""
    if not source.has("importance", "shared", "shared_units"):
        return None
    table, top = source.table("importance", "shared"), source.arrays("importance", "shared_units")
    drawn = records(table)[: _pictured(table, top["unit"])]
    if not drawn:
        return None
    darkened = "" if top["mask"].all() else ", darkened where it is below its own 0.99 quantile"
    figure = shared_figure(drawn, top)
    alt = f"Images of the units that {counted(len(drawn), 'triple')} of classes share."
    return Picture("shared-units", figure, _SHARED.format(darkened), "photo", table, alt)


def _pictured(table: pd.DataFrame, units: np.ndarray) -> int:
    """How many of the first triples have images of all their units."""
    columns = table[["unit_ab", "unit_ac", "unit_bc"]].to_numpy()
    return int(np.minimum.accumulate(np.isin(columns, units).all(1)).sum())


def shared_figure(triples: list[dict[str, Any]], top: dict[str, np.ndarray]) -> Figure:
    """A row per triple of classes, a strip per shared unit; rows of the table "shared", and tensors "shared_units"."""
    width = (WIDE - 2 * _GAP) / 3
    side = width / top["image"].shape[1]
    figure = Figure(figsize=(WIDE, len(triples) * (_HEAD + side)))
    for line, row in enumerate(triples):
        for at, (a, b) in enumerate(("ab", "ac", "bc")):
            unit, above = int(row[f"unit_{a}{b}"]), line * (_HEAD + side) + _HEAD
            axis = axes_at(figure, at * (width + _GAP), above, width, side)
            picture(axis, mosaic([_marked(top, unit)]))
            bare(axis)
            names = ", ".join(plain(row[f"class_{name}"]) for name in (a, b))
            write(axis, 0, 1.04, names, color=INK, weight="bold", va="bottom", transform=axis.transAxes)
            write(axis, 1, 1.04, f"unit {unit}", color=MUTED, va="bottom", ha="right", transform=axis.transAxes)
    return figure


def _marked(top: dict[str, np.ndarray], unit: int) -> np.ndarray:
    """Images `[5, s, s, 3]` uint8 of a unit, darkened where it is not active."""
    at = top["unit"].tolist().index(unit)
    image, mask = top["image"][at], top["mask"][at]
    return image if mask.all() else darkened_outside(image, mask)
