"""The order of units by what they change (paper §4.3, Fig. 5B, C)."""

from __future__ import annotations

import numpy as np
import pandas as pd

from lis.report.figures.unit_map import clusters as clusters_figure
from lis.report.figures.unit_map import unit_map as map_figure
from lis.report.frames import column, known, records
from lis.report.labels import counted, share, words
from lis.report.parts import colours
from lis.report.sections import Picture, Section, section
from lis.report.source import Source
from lis.units.unit_map import CROWD

_TITLE = "Map of units"
_NOTHING = "No label is large enough to be interpreted, so that units have no order by what they change."
_FEW = "There are too few units, or they are too much alike, for a map."
_MAP = (
    "Units by what they change (t-SNE over the mean changes of all labels and measures, each measure divided by its "
    f"largest; fewer than {CROWD} units: principal components), coloured by the label that they change most; larger "
    "dots change it more. Near units change alike; distances between groups mean little."
)
_TREE = (
    "Left: Ward's tree of the same vectors. Band: the label that each unit changes most. Right: mean scaled |change| "
    "of each label in the branches of the tree, numbered; a row with one dark cell is selective for one label, a row "
    "with several entangles them."
)


@section(350, "units", "map", "clusters", "tree")
def unit_map(source: Source) -> Section:
    """The plane and the tree."""
    units, clusters = source.table("units", "map"), source.table("units", "clusters")
    tree = source.json("units", "tree")
    if known(units, "strength").empty:
        return Section(_TITLE, _NOTHING)
    figures, placed = [], known(units, "x")
    if len(placed):
        figures.append(Picture("unit-map", map_figure(placed, colours(source)), _MAP))
    if len(tree["linkage"]):
        drawn = clusters_figure(np.asarray(tree["linkage"]), tree["order"], units, clusters, colours(source))
        figures.append(Picture("unit-clusters", drawn, _TREE))
    return Section(_TITLE, _lead(units, clusters), figures, notes=[] if len(placed) else [_FEW])


def _lead(units: pd.DataFrame, clusters: pd.DataFrame) -> str:
    """What most units change most, and the branch that is most selective."""
    counts = units["label"].value_counts()
    label, n = str(counts.index[0]), int(counts.iloc[0])
    found = [{**row, "share": _share(row, clusters)} for row in records(clusters)]
    best = max(found, key=lambda row: row["share"])
    return (
        f"The label that most units change most is {words(label)}: {n:,} of {len(units):,}. Of {len(found)} branches "
        f"of the tree, number {best['cluster']} ({counted(best['units'], 'unit')}) is the most selective: "
        f"{words(best['label'])} makes up {share(best['share'])} of its change. The largest branch holds "
        f"{counted(int(column(clusters, 'units').max()), 'unit')}."
    )


def _share(row: dict, clusters: pd.DataFrame) -> float:
    """Share of the strongest label in a branch's mean label vector."""
    values = [float(row[name]) for name in clusters.columns if name not in ("cluster", "units", "label")]
    return max(values) / sum(values) if sum(values) > 0 else 0.0
