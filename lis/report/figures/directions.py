"""How sparse counterfactual directions are, and how alike those of several starts (Fig. S19)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lis.report.figures.heat import ONE_SIDED, TWO_SIDED, matrices
from lis.report.figures.marks import above, dots
from lis.report.frames import column, mean_by, split, where
from lis.report.style import INK, MUTED, WIDE, class_colours, light_grid, plain, sheet, styled

_ROW = 1.35
"""Inches of a row."""


@styled
def direction_sparsity(table: pd.DataFrame, class_names: Sequence[str], most: int = 4) -> Figure:
    """A column per origin, a row per sample; a dot per start, a bar from quartile to quartile, in the target's colour.

    Args:
        table: origin, target, sample_index, sparsity (NaN where the search failed).
        class_names: columns, which also fix the colours.
        most: samples per origin that are drawn.
    """
    colours = class_colours(class_names)
    origins = {
        name: list(split(rows.sort_values("sample_index", kind="stable"), "sample_index").values())[:most]
        for name in class_names
        if len(rows := where(table, origin=name))
    }
    lines = max(map(len, origins.values()))
    figure, axes = sheet(WIDE, 0.75 + _ROW * lines, lines, len(origins), sharey=True)
    for axis in axes[:, 0]:
        axis.set_ylabel("sparsity")
    for column_of_axes, (origin, samples) in zip(axes.T, origins.items(), strict=True):
        column_of_axes[0].set_title(plain(origin))
        for axis, rows in zip(column_of_axes, samples, strict=False):
            _sample(axis, rows, colours)
        for axis in column_of_axes[len(samples) :]:
            axis.set_visible(False)
    used = [name for name in class_names if name in set(table["target"])]
    for name in used:
        axes[0, 0].plot([], [], "o", color=colours[name], markersize=5, label=f"→ {plain(name)}")
    figure.legend(loc="outside lower center", ncols=len(used))
    return figure


def _sample(axis: Axes, table: pd.DataFrame, colours: Mapping[str, str]) -> None:
    targets = [name for name in colours if name in set(table["target"])]
    for at, name in enumerate(targets):
        values = column(where(table, target=name), "sparsity")
        if len(values):
            low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
            axis.bar(at, high - low, bottom=low, width=0.48, color=colours[name], alpha=0.3)
            dots(axis, at + np.linspace(-0.16, 0.16, len(values)), values, colours[name], 3, 1)
            axis.plot([at - 0.24, at + 0.24], [middle, middle], color=INK, linewidth=1.2)
        else:
            above(axis, at, 0.5, "–", ha="center", color=MUTED)
    axis.set(xlim=(-0.6, len(targets) - 0.4))
    axis.set_xticks([])
    light_grid(axis, "y")


@styled
def pair_matrices(pairs: pd.DataFrame, agreement: pd.DataFrame, class_names: Sequence[str]) -> Figure:
    """Three matrices, origins down and targets across: sparsity, cosine between starts, shared units.

    Args:
        pairs: origin, target, mean (sparsity).
        agreement: origin, target, cosine and shared, a row per sample.
        class_names: rows and columns.
    """
    cosine, shared = (mean_by(agreement, ["origin", "target"], name) for name in ("cosine", "shared"))
    panels = [
        ("sparsity", pairs, "mean", (None, None), "{:.2f}".format, ONE_SIDED),
        ("cosine between starts", cosine, "cosine", (-1, 1), "{:.2f}".format, TWO_SIDED),
        ("share of units in common", shared, "shared", (0, 1), "{:.2f}".format, ONE_SIDED),
    ]
    rows, columns, height = ("origin", class_names), ("target", class_names), 1.0 + 0.36 * len(class_names)
    return matrices(panels, rows, columns, height, beside=3, pad=10, y="from")
