"""How sparse counterfactual directions are, and how alike those of several starts (Fig. S19)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lis.report.figures.heat import ONE_SIDED, TWO_SIDED, matrix
from lis.report.figures.marks import above, dots
from lis.report.frames import column, mean_by, split, where
from lis.report.layer import matrices
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
        name: list(
            split(where(table, origin=name).sort_values("sample_index", kind="stable"), "sample_index").values()
        )[:most]
        for name in class_names
        if name in set(table["origin"])
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
    names, both = (class_names, class_names), ["origin", "target"]
    sparsity, cosine, shared = (
        matrix(table, ("origin", class_names), ("target", class_names), name)
        for table, name in (
            (pairs, "mean"),
            (mean_by(agreement, both, "cosine"), "cosine"),
            (mean_by(agreement, both, "shared"), "shared"),
        )
    )
    values = sparsity[np.isfinite(sparsity)]
    limits = (float(values.min()), float(values.max()) + 1e-6) if len(values) else (0.0, 1.0)
    panels = [
        ("sparsity", sparsity, limits, "{:.2f}".format, ONE_SIDED),
        ("cosine between starts", cosine, (-1.0, 1.0), "{:.2f}".format, TWO_SIDED),
        ("share of units in common", shared, (0.0, 1.0), "{:.2f}".format, ONE_SIDED),
    ]
    return matrices(panels, names, 1.0 + 0.36 * len(class_names), columns=3, pad=10, y="from")
