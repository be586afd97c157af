"""Other starts, other counterfactuals: how sparse their directions are and how alike (Fig. S19)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lis.report.marks import ONE_SIDED, TWO_SIDED, above, dots, matrices
from lis.report.section import Picture, Section, Table, by_pair, folded, means_as_metrics, section
from lis.report.source import Source
from lis.report.style import INK, MUTED, WIDE, class_colours, plain, sheet
from lis.report.tables import column, ends, known, mean, mean_by, pairs_of, split, where
from lis.report.wording import arrow, counted, number, offset, share

_TITLE = "Starts and sparsity"
_SPARSITY = (
    "Columns: the class of the original; rows: samples. A dot is one start of the search, the line the median, the "
    "band the quartiles; the colour is the target's. Sparsity (Hoyer) of r̃ − r̃₀, both encoded again from images: 1 "
    "is a single unit, 0 all alike."
)
_MATRICES = (
    "Origins down, targets across, means over samples: sparsity of r̃ − r̃₀; cosine of r̃ − r̃₀ between two starts; "
    "share of the units that move most that two starts have in common."
)
_ROW = 1.35
"""Inches of a row."""


@section(440, "initialisations", "sparsity", "agreement", "pair_sparsity")
def directions(source: Source) -> Section:
    """The spread over initialisations of the search."""
    names = ("sparsity", "agreement", "pair_sparsity")
    table, agreement, pairs = (source.table("initialisations", name) for name in names)
    if known(table, "sparsity").empty:
        nothing = "No search from any start reached its target."
        return Section(_TITLE, nothing, finding="No search from any start reached its target")
    names = source.facts.class_names
    matrices, finding = pair_matrices(pairs, agreement, names), _finding(table, agreement)
    low, high = (number(x, 2) for x in np.quantile(column(table, "sparsity"), [0.05, 0.95]))
    alt = f"Nine tenths of the starts lie between a sparsity of {low} and {high}."
    figures = [
        Picture("directions-sparsity", direction_sparsity(table, names), _SPARSITY, data=table, alt=alt),
        Picture("directions-agreement", matrices, _MATRICES, data=agreement, alt=f"{finding}.", aside=True),
    ]
    tables = folded(*_tables(source))
    return Section(_TITLE, _lead(table, agreement, known(pairs, "mean")), figures, tables, finding=finding)


def _finding(table: pd.DataFrame, agreement: pd.DataFrame) -> str:
    """How alike the directions of two starts are; how sparse where there is one start."""
    if known(agreement, "cosine").empty:
        return f"Directions that are reached have a sparsity of {number(mean(table, 'sparsity'), 2)}"
    cosine, shared = number(mean(agreement, "cosine"), 2), share(mean(agreement, "shared"))
    return f"Two starts give directions of cosine {cosine} and {shared} of the first units"


def _lead(table: pd.DataFrame, agreement: pd.DataFrame, pairs: pd.DataFrame) -> str:
    sparsity, asked = (number(mean(table, name), 2) for name in ("sparsity", "sparsity_asked"))
    cosine, shared = (number(mean(agreement, name), 2) for name in ("cosine", "shared"))
    least, most = (f"{arrow(x['origin'], x['target'])} ({number(x['mean'], 2)})" for x in ends(pairs, "mean"))
    lead = (
        f"Of {counted(len(set(table['initialisation'])), 'start')} per sample and target, the directions that the "
        f"model can reach (r̃ − r̃₀) have a sparsity of {sparsity} on average, those that were asked for (Δr) {asked}. "
        f"Least sparse is {least}, most {most}."
    )
    if known(agreement, "cosine").empty:
        return lead
    return f"{lead} Two starts give directions of cosine {cosine}, and {shared} of their first units are the same."


def _tables(source: Source) -> list[Table]:
    """The units that most searches of a pair move."""
    if not source.has("initialisations", "units"):
        return []
    table = source.table("initialisations", "units")
    ranked = table.sort_values("share", ascending=False, kind="stable")
    first = pd.DataFrame(ranked.groupby(["origin", "target"], sort=False).head(5))
    caption = (
        "Units that are among those that move most in the largest share of all searches of a pair: share of the "
        "searches, and mean change of their activation."
    )
    told = by_pair(
        caption, "units", first, pairs_of(table),
        lambda row: f"{row['unit']} ({100 * row['share']:.0f} %, {offset(row['change'])})",
    )  # fmt: skip
    return [told] if len(table) else []


means_as_metrics("initialisations", "sparsity", "sparsity", "sparsity_asked")
means_as_metrics("initialisations", "agreement", "cosine", "shared")


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
    figure, axes = sheet(WIDE, 0.75 + _ROW * lines, lines, len(origins), sharey=True, lines="y")
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
