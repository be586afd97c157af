"""What survives the cycle: the class, and on a world with known truth every factor."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lis.report.figures.marks import DASHED, PERCENT, dot, names_down, note
from lis.report.frames import column, records, where
from lis.report.style import HALF, INK, MUTED, PAIRING, RULE, WIDE, class_colours, plain, sheet, styled

_LONG = 12
"""Factors up to which one column is enough."""


@styled
def factors(table: pd.DataFrame) -> Figure:
    """R² of each true factor over all samples (filled) and within classes (open), ordered by the latter.

    Args:
        table: `factor`, `r2`, `r2_within`.
    """
    table = table.sort_values("r2_within", ascending=False)
    columns = 2 if len(table) > _LONG else 1
    length = -(-len(table) // columns)
    floor = max(-0.5, min(0.0, column(table, "r2_within").min() - 0.05))
    figure, axes = sheet(WIDE if columns == 2 else HALF, 0.75 + 0.22 * length, 1, columns)
    for place, axis in enumerate(axes[0]):
        _factors(axis, table.iloc[place * length : (place + 1) * length], floor)
        axis.set_ylim(length - 0.5, -0.5)
    axis = axes[0, 0]
    axis.plot([], [], "o", color=PAIRING["cycle"], label="over all samples")
    axis.plot([], [], "o", color="white", markeredgecolor=PAIRING["cycle"], label="within classes")
    figure.legend(loc="outside upper left", ncols=2, handletextpad=0.2)
    return figure


def _factors(axis: Axes, table: pd.DataFrame, floor: float) -> None:
    rows, (overall, within) = range(len(table)), table[["r2", "r2_within"]].clip(lower=floor).to_numpy(dtype=float).T
    colour = PAIRING["cycle"]
    axis.hlines(rows, within, overall, color=RULE, linewidth=2)
    axis.plot(within, rows, "o", color="white", markeredgecolor=colour, markeredgewidth=1.5, markersize=5.5)
    axis.plot(overall, rows, "o", color=colour, markersize=5.5)
    names_down(axis, [plain(name) for name in table["factor"]])
    axis.set(xlim=(floor - 0.03, 1.03), xlabel="R² of the true factor after the cycle")


@styled
def class_shares(shares: Mapping[str, pd.DataFrame], class_names: list[str]) -> Figure:
    """A panel per share (class kept, accepted samples), a row per class.

    Args:
        shares: panel title to a table with `class`, `share`, `low`, `high`; a class `all` is drawn as a line.
        class_names: rows from top to bottom, which also fix the colours.
    """
    width = WIDE if len(shares) > 1 else HALF
    figure, axes = sheet(width, 0.9 + 0.26 * len(class_names), 1, len(shares), sharey=True)
    for axis, (title, table) in zip(axes[0], shares.items(), strict=True):
        _shares(axis, table, class_names, title)
    names_down(axes[0, 0], [plain(name) for name in class_names], axes[0, 1:])
    return figure


def _shares(axis: Axes, table: pd.DataFrame, class_names: list[str], title: str) -> None:
    colours = class_colours(class_names)
    for row in records(where(table, **{"class": "all"})):
        axis.axvline(row["share"], color=MUTED, linewidth=1, linestyle=DASHED)
    for at, row in ((class_names.index(row["class"]), row) for row in records(table) if row["class"] in colours):
        dot(axis, row["share"], row["low"], row["high"], at, colours[row["class"]])
        note(axis, f"{100 * row['share']:.0f}", (row["share"], at), (0, 6), color=INK)
    lowest = np.nanmin([column(table, "share").min(), *column(table, "low")])
    axis.set_xlim(min(0.6, 0.2 * (lowest // 0.2)), 1.02)
    axis.xaxis.set_major_formatter(PERCENT)
    axis.set_title(title)
