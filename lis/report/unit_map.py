"""The order of units by what they change (paper §4.3, Fig. 5B, C)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Polygon

from lis.report.claims import callable_units, without_claims
from lis.report.marks import bare, heat
from lis.report.section import Picture, Section, section
from lis.report.source import Source, colours
from lis.report.style import MUTED, RULE, WIDE, plain, sheet
from lis.report.tables import column, ends, known, mean, records, where
from lis.report.wording import counted, share, words
from lis.units.unit_map import CROWD

_TITLE = "Map of units"
_NOTHING = "No label is large enough to be interpreted, so that units have no order by what they change."
_FEW = "There are too few units, or they are too much alike, for a map."
_MAP = (
    "Units by what they change (t-SNE over the mean changes of all labels and measures, each measure divided by its "
    f"largest; fewer than {CROWD} units: principal components), coloured by the label that they change most; larger "
    "dots change it more{}. Near units change alike; distances between groups mean "
    "little."
)
_PALE = "; pale: not reached, and not counted"
_TREE = (
    "Left: Ward's tree of the same vectors. Band: the label that each unit changes most. Right: mean scaled |change| "
    "of each label in the branches of the tree, numbered; a row with one dark cell is selective for one label, a row "
    "with several entangles them."
)
_SELECTIVITY = ("selectivity", "selectivity_control")
"""Share of the main label in a unit's change of areas, and the same of random directions."""
_SMALL, _LARGE = 9.0, 70.0
"""Areas in points² of the dots of units with the smallest and the largest change."""


@section(380, "unit_statistics", "map", "clusters", "tree", "faithfulness", parts=True)
def unit_map(source: Source) -> Section:
    """The plane and the tree."""
    units, clusters = source.table("unit_statistics", "map"), source.table("unit_statistics", "clusters")
    arrived = without_claims(source, source.table("unit_statistics", "faithfulness"))
    arrived = arrived[["unit", "reached", *(name for name in _SELECTIVITY if name in arrived)]]
    units, called = units.merge(arrived, on="unit"), callable_units(source)
    tree = source.json("unit_statistics", "tree")
    if known(units, "strength").empty:
        return Section(_TITLE, _NOTHING, finding="No label is large enough for a map of units")
    figures, mapped, finding = [], known(units, "x"), _finding(where(units, reached=True), called)
    if len(mapped):
        pale = called and not np.all(mapped["reached"])
        drawn, caption = map_figure(mapped, colours(source)), _MAP.format(_PALE * pale)
        data = pd.DataFrame(mapped[["unit", "x", "y", "label", "strength", "reached"]])
        figures.append(Picture("unit-map", drawn, caption, data=data, alt=f"{finding}.", aside=True))
    if len(tree["linkage"]):
        drawn = clusters_figure(np.asarray(tree["linkage"]), tree["order"], units, clusters, colours(source))
        alt = f"{len(clusters)} branches of the tree hold {_sizes(clusters)} units each."
        figures.append(Picture("unit-clusters", drawn, _TREE, data=clusters, alt=alt, aside=True))
    notes = [] if len(mapped) else [_FEW]
    return Section(_TITLE, _lead(clusters, where(units, reached=True)), figures, notes=notes, finding=finding)


def _finding(units: pd.DataFrame, called: bool) -> str:
    """How much of a unit's change is that of its main label, beside random directions.

    Args:
        units: those that are reached where that could be called, else all: selectivity, selectivity_control.
        called: whether it could.
    """
    if units.empty:
        return "No unit is reached, so that none stands for a label"
    told = f"{counted(len(units), 'unit')} in order of what they change"
    if len(column(units, "selectivity_control")):
        own, control = (share(mean(units, name)) for name in _SELECTIVITY)
        told = f"The main label has {own} of a unit's change of areas, {control} in random directions"
    return told if called else f"{told}; which are reached is undecided"


def _commonest(units: pd.DataFrame) -> str:
    """The label that most units change most."""
    counts = units["label"].value_counts()
    return (
        f"Most often a unit changes the {words(str(counts.index[0]))} most ({int(counts.iloc[0]):,} of {len(units):,})."
    )


def _sizes(clusters: pd.DataFrame) -> str:
    low, high = (int(row["units"]) for row in ends(clusters, "units"))
    return f"{low}" if low == high else f"{low} to {high}"


def _lead(clusters: pd.DataFrame, units: pd.DataFrame) -> str:
    """The largest branch, the most selective one where it is more so than random directions, the commonest label."""
    vectors = clusters.drop(columns=["cluster", "units", "label"]).to_numpy(dtype=float)
    shares = vectors.max(1) / np.where(vectors.sum(1) > 0, vectors.sum(1), np.inf)
    best, control = records(clusters)[int(shares.argmax())], mean(units, "selectivity_control")
    largest = counted(int(column(clusters, "units").max()), "unit")
    lead = f"The tree of units has {len(clusters)} branches; the largest holds {largest}."
    if shares.max() > control:
        lead += (
            f" Number {best['cluster']} ({counted(best['units'], 'unit')}) is the most selective: "
            f"{words(best['label'])} makes up {share(float(shares.max()))} of its change, the main label "
            f"{share(control)} of that of random directions."
        )
    return f"{lead} {_commonest(units)}" if len(units) else lead


def map_figure(table: pd.DataFrame, colours: Mapping[str, str]) -> Figure:
    """Units as dots in the plane, coloured by the label that they change most, larger where they change it more.

    Args:
        table: "map": unit, x, y, label, strength; and whether each is reached.
        colours: of the labels, in the order of the legend.
    """
    figure, axes = sheet(0.72 * WIDE, 4.2)
    axis, strength = axes[0, 0], np.asarray(table["strength"], dtype=float)
    size = _SMALL + (_LARGE - _SMALL) * strength / max(float(np.nanmax(strength)), 1e-12)
    for label, colour in colours.items():
        mine = (table["label"] == label).to_numpy(dtype=bool)
        reached = table["reached"].to_numpy(dtype=bool)
        if mine.any():
            for rows, alpha in ((mine & ~reached, 0.2), (mine & reached, 0.8)):
                subset = table[rows]
                axis.scatter(
                    subset["x"], subset["y"], size[rows], colour, alpha=alpha, linewidth=0.4, edgecolor="white"
                )
            axis.scatter([], [], 45, colour, label=f"{plain(label)} ({(mine & reached).sum()})")
    bare(axis)
    axis.set_aspect("equal", adjustable="datalim")
    figure.legend(loc="outside right upper", title="changes most", alignment="left", handletextpad=0.3)
    return figure


def clusters_figure(
    linkage: np.ndarray, order: Sequence[int], units: pd.DataFrame, table: pd.DataFrame, colours: Mapping[str, str]
) -> Figure:
    """The tree of units, the label that each changes most, and the mean label vector of each branch.

    Args:
        linkage: merges `[n − 1, 4]` as scipy's: two nodes, their distance, number of leaves.
        order: leaves from top to bottom, as rows of `units`.
        units: "map", a row per leaf: label, cluster.
        table: "clusters": cluster, units, and a column per label.
        colours: of the labels, which are the columns of the matrix.
    """
    labels = [label for label in colours if label in table]
    leaves = pd.DataFrame(units.iloc[list(order)])
    clusters = [name for name in dict.fromkeys(leaves["cluster"]) if name in set(table["cluster"])]
    height = max(3.2, 0.65 + 0.36 * len(clusters))
    figure = Figure(figsize=(WIDE, height))
    bottom, tall = 0.1 / height, 1 - 0.65 / height
    tree, band, between, cells = (
        figure.add_axes((left, bottom, width, tall))
        for left, width in ((0.005, 0.3), (0.308, 0.022), (0.332, 0.06), (0.5, 0.495))
    )
    _tree(tree, linkage, order)
    tree.set_title("tree of units", pad=8)
    inks = [[to_rgb(colours.get(str(label), MUTED))] for label in leaves["label"]]
    band.imshow(inks, aspect="auto", interpolation="nearest")
    bare(band)
    _bands(between, leaves["cluster"].to_numpy(), clusters)
    values = table.set_index("cluster").loc[clusters]
    names = [f"{name} · {counted(count, 'unit')}" for name, count in values["units"].items()]
    values = values[labels].to_numpy(dtype=float)
    heat(cells, values, names, labels, (0, float(np.nanmax(values, initial=0.0)) or 1.0), "{:.2f}".format)
    for tick, label in zip(cells.get_xticklabels(), labels, strict=True):
        tick.set_color(colours[label])
        tick.set_fontweight("bold")
    return figure


def branches(linkage: np.ndarray, order: Sequence[int]) -> np.ndarray:
    """Corners `[n − 1, 4, 2]` of the merges of a tree that grows to the left: (distance, place of the leaf).

    Example:
        >>> branches(np.array([[0, 1, 2.0, 2]]), [1, 0]).tolist()
        [[[0.0, 1.0], [2.0, 1.0], [2.0, 0.0], [0.0, 0.0]]]
    """
    leaves = len(order)
    at, height = np.zeros(2 * leaves - 1), np.zeros(2 * leaves - 1)
    at[list(order)] = np.arange(leaves)
    corners = np.zeros((len(linkage), 4, 2))
    for k, (a, b, distance, _) in enumerate(linkage):
        a, b = int(a), int(b)
        at[leaves + k], height[leaves + k] = (at[a] + at[b]) / 2, distance
        corners[k] = [(height[a], at[a]), (distance, at[a]), (distance, at[b]), (height[b], at[b])]
    return corners


def _tree(axis: Axes, linkage: np.ndarray, order: Sequence[int]) -> None:
    corners = branches(linkage, order)
    axis.add_collection(LineCollection(list(corners), colors=MUTED, linewidths=0.6 if len(order) > 100 else 0.9))
    far = float(corners[..., 0].max()) if len(corners) else 1.0
    axis.set(xlim=(1.03 * far or 1.0, 0), ylim=(len(order) - 0.5, -0.5))
    bare(axis)


def _bands(axis: Axes, cluster: np.ndarray, names: Sequence[int]) -> None:
    """From the units of each cluster to its row of the matrix; a cluster is contiguous in the tree."""
    for row, name in enumerate(names):
        leaves = np.flatnonzero(cluster == name)
        first, last = leaves.min() / len(cluster), (leaves.max() + 1) / len(cluster)
        low, high = (row + 0.06) / len(names), (row + 0.94) / len(names)
        corners = [(0, first), (0, last), (1, high), (1, low)]
        axis.add_patch(Polygon(corners, facecolor=RULE, edgecolor="white", linewidth=1, alpha=0.7))
    axis.set(xlim=(0, 1), ylim=(1, 0))
    bare(axis)
