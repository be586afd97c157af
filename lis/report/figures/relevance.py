"""What single units do to the classifier's answer (Fig. 6A–C; supplement, Fig. S16, S23)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lis.report.figures.heat import TWO_SIDED, heat, matrix
from lis.report.figures.marks import density, names_down
from lis.report.figures.strips import signed
from lis.report.frames import column, records, where
from lis.report.style import HALF, INK, MUTED, RULE, WIDE, class_colours, light_grid, plain, sheet, styled

_COLUMNS = 3
_MOST = 14
"""Intersections that a set diagram shows."""


@styled
def relevance(table: pd.DataFrame, null: pd.DataFrame, class_names: Sequence[str], threshold: float) -> Figure:
    """A row per class: units by the mean change of the class's probability, their density, and that of the null.

    Args:
        table: "relevance": unit, class, change, relevance, relevant.
        null: "relevance_null": class, change, of random directions.
        class_names: rows from top to bottom, which also fix the colours.
        threshold: from this change on (either sign) a unit is relevant.
    """
    figure, axes = sheet(WIDE, 0.75 + 0.62 * len(class_names))
    axis, colours = axes[0, 0], class_colours(class_names)
    widest = float(np.max([threshold, *column(table, "relevance")]))
    for at, name in enumerate(reversed(class_names)):
        own = where(table, **{"class": name})
        _units(axis, own, at, colours[name])
        position, height = density(column(where(null, **{"class": name}), "change"))
        axis.plot(position, at + 0.55 * height, color=MUTED, linewidth=1.2)
        count = int(np.sum(own["relevant"]))
        axis.text(1.26 * widest, at + 0.05, f"{count} relevant", ha="right", size=8.5, color=INK if count else MUTED)
    for bound in (-threshold, threshold):
        axis.axvline(bound, color=INK, linewidth=0.8, linestyle=(0, (4, 3)))
    axis.axvline(0, color=RULE, linewidth=0.8)
    axis.set_yticks(range(len(class_names)), [plain(name) for name in reversed(class_names)])
    axis.tick_params(axis="y", length=0, labelcolor=INK)
    axis.set(xlim=(-1.1 * widest, 1.28 * widest), ylim=(-0.4, len(class_names) - 0.3))
    axis.set_xlabel("mean change of the probability of a sample's own class")
    axis.spines["left"].set_visible(False)
    if len(null):
        axis.plot([], [], color=MUTED, linewidth=1.2, label="random directions")
        figure.legend(loc="outside upper right")
    return figure


def _units(axis: Axes, table: pd.DataFrame, at: int, colour: str) -> None:
    """Density above the line, every unit as a dot below it, and the number of the most relevant one."""
    values = column(table, "change")
    position, height = density(values)
    axis.fill_between(position, at, at + 0.55 * height, color=colour, alpha=0.75, linewidth=0)
    jitter = at - 0.13 + np.random.default_rng(0).uniform(-0.07, 0.07, len(table))
    found = np.asarray(table["change"], dtype=float)
    chosen = table["relevant"].to_numpy(dtype=bool)
    axis.plot(found[~chosen], jitter[~chosen], "o", color=colour, markersize=2.2, alpha=0.4, markeredgewidth=0)
    axis.plot(found[chosen], jitter[chosen], "o", color=colour, markersize=5, markeredgecolor="white")
    if chosen.any():
        top = records(where(table, relevant=True).nlargest(1, columns="relevance"))[0]
        place = (top["change"], jitter[np.flatnonzero(table["unit"] == top["unit"])[0]])
        style = {"textcoords": "offset points", "ha": "center", "va": "bottom", "size": 8}
        axis.annotate(f"{top['unit']}", place, (0, 4), **style)


@styled
def upset(sets: Mapping[str, set[int]]) -> Figure:
    """How many units are relevant for exactly which classes: a column per combination, the largest first.

    Args:
        sets: class to the units that are relevant for it, in the order that fixes the colours; at least one has any.
    """
    names, found = list(sets), combinations(sets)
    columns = found[:_MOST]
    ratios = {"width_ratios": [1.0, max(2.0, 0.42 * len(columns))], "height_ratios": [1.5, 0.26 * len(names)]}
    width = min(WIDE, 3.6 + 0.42 * max(len(columns), 5))
    figure, axes = sheet(width, 2.2 + 0.27 * len(names), 2, 2, gridspec_kw=ratios)
    axes[0, 0].set_visible(False)
    _counts(axes[0, 1], [len(units) for _, units in columns])
    _members(axes[1, 1], [members for members, _ in columns], names)
    _totals(axes[1, 0], sets)
    if len(found) > len(columns):
        axes[0, 1].set_title(f"{len(columns)} of {len(found)} combinations", weight="normal", size=8.5)
    return figure


def combinations(sets: Mapping[str, set[int]]) -> list[tuple[frozenset[str], set[int]]]:
    """Elements by exactly which sets they are in, the most frequent combination first.

    Example:
        >>> [(sorted(names), sorted(units)) for names, units in combinations({"a": {1, 2, 3}, "b": {3}})]
        [(['a'], [1, 2]), (['a', 'b'], [3])]
    """
    found: dict[frozenset[str], set[int]] = {}
    for unit in sorted(set().union(*sets.values())):
        found.setdefault(frozenset(name for name, units in sets.items() if unit in units), set()).add(unit)
    return sorted(found.items(), key=lambda item: (-len(item[1]), len(item[0])))


def _counts(axis: Axes, counts: Sequence[int]) -> None:
    axis.bar(range(len(counts)), counts, 0.6, color=INK)
    for at, count in enumerate(counts):
        axis.text(at, count, f"{count}", ha="center", va="bottom", size=8.5)
    axis.set(xlim=(-0.6, max(len(counts), 5) - 0.4), ylim=(0, 1.18 * max(counts)), xticks=[], ylabel="units")
    axis.spines["bottom"].set_visible(False)
    axis.locator_params(axis="y", integer=True, nbins=4)


def _members(axis: Axes, columns: Sequence[frozenset[str]], names: Sequence[str]) -> None:
    colours = class_colours(names)
    for at, members in enumerate(columns):
        inside = [row for row, name in enumerate(names) if name in members]
        axis.vlines(at, min(inside), max(inside), color=INK, linewidth=1.4)
        for row, name in enumerate(names):
            axis.plot(at, row, "o", markersize=7.5, color=colours[name] if row in inside else RULE, markeredgewidth=0)
    axis.set(xlim=(-0.6, max(len(columns), 5) - 0.4), ylim=(len(names) - 0.5, -0.5), xticks=[], yticks=[])
    axis.spines[:].set_visible(False)


def _totals(axis: Axes, sets: Mapping[str, set[int]]) -> None:
    """Bars to the left of the matrix, names at the far left."""
    counts, colours = [len(units) for units in sets.values()], class_colours(list(sets))
    axis.barh(range(len(sets)), counts, 0.6, color=[colours[name] for name in sets])
    for at, count in enumerate(counts):
        axis.text(count, at, f"{count} " if count else "0 (robust) ", ha="right", va="center", size=8.5)
    axis.set(xlim=(1.45 * max(counts), 0), xticks=[])
    names_down(axis, [plain(name) for name in sets])
    axis.spines["bottom"].set_visible(False)


@styled
def correlation(table: pd.DataFrame, class_names: Sequence[str]) -> Figure:
    """Pearson's r over units between the changes of two classes' probabilities.

    Args:
        table: "relevance_correlation": class_a, class_b, r.
        class_names: rows and columns.
    """
    values = matrix(table, ("class_a", class_names), ("class_b", class_names), "r")
    values = np.where(np.isfinite(values), values, values.T)
    np.fill_diagonal(values, np.nan)
    width = min(WIDE, max(HALF, 1.3 + 0.72 * len(class_names)))
    figure, axes = sheet(width, 0.75 + 0.42 * len(class_names))
    heat(axes[0, 0], values, class_names, class_names, (-1, 1), signed, TWO_SIDED)
    return figure


@styled
def over_samples(table: pd.DataFrame, class_names: Sequence[str]) -> Figure:
    """A panel per unit, a row per class, a dot per sample: the change of the probability of the sample's class.

    Args:
        table: rows of "relevance_seeds": unit, class, change; panels are in its order of units.
        class_names: rows from top to bottom, which also fix the colours.
    """
    units = list(dict.fromkeys(table["unit"]))
    columns = min(_COLUMNS, len(units))
    rows = -(-len(units) // columns)
    height = 0.35 + rows * (0.4 + 0.27 * len(class_names))
    figure, axes = sheet(WIDE * max(columns, 2) / _COLUMNS, height, rows, columns, sharex=True, sharey=True)
    for axis, unit in zip(axes.flat, units, strict=False):
        _samples(axis, where(table, unit=unit), class_names)
        axis.set_title(f"unit {unit}")
        axis.tick_params(labelbottom=True)
    for axis in axes.flat[len(units) :]:
        axis.set_visible(False)
    names_down(axes[0, 0], [plain(name) for name in class_names])
    figure.supxlabel("change of the probability of a sample's own class", size=9)
    return figure


def _samples(axis: Axes, table: pd.DataFrame, class_names: Sequence[str]) -> None:
    axis.axvline(0, color=RULE, linewidth=1)
    for at, (name, colour) in enumerate(class_colours(class_names).items()):
        values = column(where(table, **{"class": name}), "change")
        jitter = at + np.random.default_rng(0).uniform(-0.2, 0.2, len(values))
        axis.plot(values, jitter, "o", color=colour, markersize=3.4, alpha=0.5, markeredgewidth=0)
        if len(values):
            axis.plot(values.mean(), at, "o", color="white", markeredgecolor=INK, markeredgewidth=1.2, markersize=6)
    axis.tick_params(axis="y", length=0, labelcolor=INK)
    axis.spines["left"].set_visible(False)
    light_grid(axis)
