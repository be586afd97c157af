"""How sparse counterfactual directions are, and how alike those of several starts (Fig. S19)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lis.report.figures.heat import ONE_SIDED, TWO_SIDED, heat, matrix
from lis.report.frames import column, where
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
    origins = [name for name in class_names if name in set(table["origin"])]
    samples = {name: sorted(set(where(table, origin=name)["sample_index"]))[:most] for name in origins}
    rows = max(len(own) for own in samples.values())
    figure, axes = sheet(WIDE, 0.75 + _ROW * rows, rows, len(origins), sharey=True)
    for place, origin in enumerate(origins):
        axes[0, place].set_title(plain(origin))
        for at, axis in enumerate(axes[:, place]):
            own = where(table, origin=origin)
            if at < len(samples[origin]):
                _sample(axis, where(own, sample_index=samples[origin][at]), colours)
            else:
                axis.set_visible(False)
    for at in range(rows):
        axes[at, 0].set_ylabel("sparsity")
    used = [name for name in class_names if name in set(table["target"])]
    handles = [
        axes[0, 0].plot([], [], "o", color=colours[name], markersize=5, label=f"→ {plain(name)}")[0] for name in used
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(used))
    return figure


def _sample(axis: Axes, table: pd.DataFrame, colours: Mapping[str, str]) -> None:
    targets = [name for name in colours if name in set(table["target"])]
    for at, name in enumerate(targets):
        values = column(where(table, target=name), "sparsity")
        if len(values):
            low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
            axis.bar(at, high - low, bottom=low, width=0.48, color=colours[name], alpha=0.3)
            axis.plot(at + np.linspace(-0.16, 0.16, len(values)), values, "o", color=colours[name], markersize=3, mew=0)
            axis.plot([at - 0.24, at + 0.24], [middle, middle], color=INK, linewidth=1.2)
        else:
            axis.text(at, 0.5, "–", transform=axis.get_xaxis_transform(), ha="center", color=MUTED)
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
    rows, columns = ("origin", class_names), ("target", class_names)
    means = pd.DataFrame(agreement.groupby(["origin", "target"], as_index=False)[["cosine", "shared"]].mean())
    found = {
        "sparsity": (matrix(pairs, rows, columns, "mean"), ONE_SIDED, None),
        "cosine between starts": (matrix(means, rows, columns, "cosine"), TWO_SIDED, (-1.0, 1.0)),
        "share of units in common": (matrix(means, rows, columns, "shared"), ONE_SIDED, (0.0, 1.0)),
    }
    figure, axes = sheet(WIDE, 1.0 + 0.36 * len(class_names), 1, 3)
    for place, (title, (values, scale, limits)) in enumerate(found.items()):
        known = values[np.isfinite(values)]
        span = limits or ((float(known.min()), float(known.max()) + 1e-6) if len(known) else (0.0, 1.0))
        heat(axes[0, place], values, class_names if place == 0 else [], class_names, span, "{:.2f}".format, scale)
        axes[0, place].set_title(title, pad=10)
    axes[0, 0].set_ylabel("from")
    return figure
