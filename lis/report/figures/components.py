"""Where the cycle moves w along the first principal components of W (Fig. S1B)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from lis.report.frames import records
from lis.report.style import INK, MUTED, PAIRING, WIDE, class_colours, light_grid, plain, sheet, styled


@styled
def components(table: pd.DataFrame, offsets: pd.DataFrame, class_names: Sequence[str], most: int = 40) -> Figure:
    """Original (open) and cycled (filled) samples in the first four components, joined by lines, and all offsets.

    Args:
        table: long table: `class`, `sample_index`, `component` (1, …), `original`, `cycled`.
        offsets: per `component` the mean `offset` and `spread` of cycled − original in standard deviations of the
            component, and the share of variance that it has `explained`.
        class_names: the run's classes, which fix the colours.
        most: most samples per class that are drawn.
    """
    colours = class_colours(class_names)
    pairs = [(1, 2), (3, 4)] if len(set(table["component"])) >= 4 else [(1, 2)]
    figure, axes = sheet(WIDE, 3.7, 1, len(pairs) + 1, width_ratios=[1.15] * len(pairs) + [1])
    for axis, (first, second) in zip(axes[0], pairs, strict=False):
        _scatter(axis, table, (first, second), colours, most)
    _legend(figure, axes[0, 0], {name: colours[name] for name in class_names if name in set(table["class"])})
    _offsets(axes[0, -1], offsets)
    return figure


def _scatter(axis: Axes, table: pd.DataFrame, pair: tuple[int, int], colours: Mapping[str, str], most: int) -> None:
    for name, rows in table.groupby("class", sort=False):
        points = _points(rows, pair)[:most]
        colour = colours[str(name)]
        axis.add_collection(LineCollection(list(points), colors=colour, linewidths=0.7, alpha=0.55))
        axis.plot(*points[:, 0].T, "o", markersize=3.4, color="white", markeredgecolor=colour, markeredgewidth=0.8)
        axis.plot(*points[:, 1].T, "o", markersize=3.4, color=colour, markeredgewidth=0)
    axis.set(xlabel=f"component {pair[0]} of W", ylabel=f"component {pair[1]} of W")


def _points(rows: pd.DataFrame, pair: tuple[int, int]) -> np.ndarray:
    """`[n, 2, 2]`: sample, (original, cycled), (first, second component)."""
    wide = rows.pivot(index="sample_index", columns="component", values=["original", "cycled"])
    return np.stack([np.asarray(wide[kind][list(pair)]) for kind in ("original", "cycled")], axis=1)


def _legend(figure: Figure, axis: Axes, colours: Mapping[str, str]) -> None:
    for name, colour in colours.items():
        axis.plot([], [], "o", color=colour, markersize=5, label=plain(name))
    axis.plot([], [], "o", color="white", markeredgecolor=MUTED, markersize=5, label="original")
    axis.plot([], [], "o", color=MUTED, markersize=5, label="cycled")
    figure.legend(loc="outside upper left", ncols=min(9, len(colours) + 2), handletextpad=0.2, columnspacing=1.2)


def _offsets(axis: Axes, offsets: pd.DataFrame) -> None:
    at, style = range(len(offsets)), {"color": PAIRING["cycle"], "markersize": 5, "elinewidth": 1.8}
    axis.axvline(0, color=MUTED, linewidth=0.8)
    axis.errorbar(offsets["offset"], at, xerr=offsets["spread"], fmt="o", **style)
    names = [f"{int(row['component'])}  ({100 * row['explained']:.0f} %)" for row in records(offsets)]
    axis.set_yticks(at, names)
    axis.tick_params(axis="y", length=0, labelcolor=INK)
    axis.invert_yaxis()
    most = max(1.0, 1.1 * float(np.max(np.abs(offsets["offset"]) + offsets["spread"])))
    axis.set(xlim=(-most, most), xlabel="cycled − original, in standard deviations")
    axis.set_ylabel("component (variance explained)")
    light_grid(axis)
