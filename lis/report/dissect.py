"""Which concept the units of a layer agree with, beside permuted images of their class (Bau et al. 2020)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lis.report.atlas import PAGE, marked_images, ranked
from lis.report.layouts import mosaic
from lis.report.marks import axes_at, bare, names_down, picture, write
from lis.report.section import Picture, Section, Table, listed, metrics, section
from lis.report.source import Source
from lis.report.style import INK, MUTED, SERIES, WIDE, light_grid, plain, sheet
from lis.report.tables import known, records, split, where
from lis.report.wording import counted, number, probability, sentences, words
from lis.store import Artifact

FIRST = 10
"""Rows of the table that stand there at first."""
_PICTURED = 8
"""Units in the picture."""
_KINDS = ("part", "object", "colour", "quadrant", "factor")
"""Kinds of concepts, in the order of their colours."""
_HISTOGRAM = (
    "Units per concept, each counted for the concept of its highest IoU. Filled: q ≤ 0.05, the IoU is above that with "
    "masks of other images of the same class. Open: IoU > {} only, the published criterion, which chance alone can "
    "meet where a concept is large or always at one position. It does not show that the classifier uses a concept, "
    "nor that a unit stands for one alone."
)
_TOP = (
    "The {} units of the highest IoU among those with q ≤ 0.05 (of all, where there are none), and the images of the "
    "test pairs in which each is most active; outside the mask of the unit (activation above its own {} quantile) they "
    "are darkened by half. They are selected as the best of all: the atlas has the others. Images that excite a unit "
    "do not show what it ignores."
)
_TABLE = (
    "Control: mean IoU with the masks of other images of the same class. q: Benjamini–Hochberg over all units and "
    "concepts. Met: images on which unit and concept overlap; fewer than 5 label no unit. Average precision and "
    "Pearson's r do without the threshold. Numbers of all concepts: tables/dissect/agreement.parquet."
)
_MASKS = {
    "exact": "The masks of parts are those that the generator drew.",
    "segmenter": "The masks of parts are those of the few-shot segmenter: its errors are in every IoU.",
    "none": "The class set names no parts, so that only colours and quadrants are compared.",
}


@section(600, "dissect", "units", "layers", "top", "facts")
def dissection_of_units(source: Source) -> Section:
    """Units per concept, the best units, and a table of all."""
    units, facts = source.table("dissect", "units"), source.json("dissect", "facts")
    layer = records(source.table("dissect", "layers"))[0]
    caption = _HISTOGRAM.format(number(facts["min_iou"], 1))
    figures = []
    if len(_histogram(units)):
        figures.append(Picture("dissect-concepts", concepts_figure(units), caption, data=_histogram(units)))
    best = best_units(units)
    if len(best):
        drawn = top_figure(best, source.arrays("dissect", "top"))
        told = _TOP.format(len(best), number(facts["quantile"], 3))
        figures.append(Picture("dissect-units", drawn, told, "photo", alt=f"Images of {counted(len(best), 'unit')}."))
    finding = (
        f"{layer['above_chance']} of {counted(layer['units'], 'unit')} of {facts['layer']} agree with a concept above "
        f"chance; {layer['detectors']} have IoU > {number(facts['min_iou'], 1)}"
    )
    made = Section("Dissection of units", _lead(units, layer, facts), figures, [_table(units)], finding=finding)
    return replace(made, page=PAGE)


def _lead(units: pd.DataFrame, layer: dict[str, Any], facts: dict[str, Any]) -> str:
    """What the two criteria have in common, what was compared with what, and what that is no evidence for."""
    both = len(where(units, detector=True, above_chance=True))
    dead = f"{counted(layer['dead'], 'unit')} never exceeded the threshold." if layer["dead"] else ""
    return sentences(
        f"{both} units meet both criteria; the detectors have {counted(layer['concepts'], 'distinct concept')} of "
        f"{facts['concepts']}.",
        f"Thresholds are from {facts['threshold_images']:,} images of the train pairs, scores from "
        f"{facts['images']:,} of the test pairs; maps of {facts['map'][0]}×{facts['map'][1]} are enlarged.",
        _MASKS[facts["masks"]],
        dead,
    )


def _histogram(units: pd.DataFrame) -> pd.DataFrame:
    """Units per concept that meet each criterion, the most frequent first."""
    rows = []
    for concept, subset in split(units, "concept").items():
        above, only = where(subset, above_chance=True), where(subset, above_chance=False, detector=True)
        rows.append((concept, records(subset)[0]["kind"], len(above), len(only)))
    table = pd.DataFrame(rows, columns=pd.Index(["concept", "kind", "above_chance", "iou_only"]))
    table = pd.DataFrame(table[table["above_chance"] + table["iou_only"] > 0])
    table["all"] = table["above_chance"] + table["iou_only"]
    return table.sort_values("all", ascending=False, kind="stable").drop(columns="all")


def concepts_figure(units: pd.DataFrame) -> Figure:
    """Bars of units per concept; table "units"."""
    table = _histogram(units)
    figure, axes = sheet(0.7 * WIDE, 0.9 + 0.24 * len(table))
    axis, rows = axes[0, 0], np.arange(len(table))
    filled, opened = (table[name].to_numpy() for name in ("above_chance", "iou_only"))
    colours = [SERIES[_KINDS.index(kind)] for kind in table["kind"]]
    axis.barh(rows, filled, color=colours, height=0.7)
    axis.barh(rows, opened, left=filled, facecolor="none", edgecolor=colours, height=0.7, linewidth=1.0)
    for kind in dict.fromkeys(table["kind"]):
        axis.barh([0], [0], color=SERIES[_KINDS.index(kind)], label=kind)
    axis.barh([0], [0], facecolor="none", edgecolor=MUTED, label="IoU only")
    names_down(axis, [plain(name) for name in table["concept"]], grid=False)
    axis.set(xlabel="units", xlim=(0, None))
    light_grid(axis)
    axis.legend(loc="lower right")
    return figure


def best_units(units: pd.DataFrame) -> pd.DataFrame:
    """The units of the highest IoU among those above chance, or among all where there are none."""
    labelled = ranked(known(units, "iou"))
    significant = where(labelled, above_chance=True)
    return (significant if len(significant) else labelled).head(_PICTURED)


def top_figure(best: pd.DataFrame, top: dict[str, np.ndarray]) -> Figure:
    """Two columns of units, each with its images; rows of the table "units" and tensors "top"."""
    rows, side, gap = -(-len(best) // 2), WIDE / 2 - 0.15, 0.32
    strips = [mosaic([marked_images(top, int(unit))]) for unit in best["unit"]]
    height = side * strips[0].shape[0] / strips[0].shape[1]
    figure = Figure(figsize=(WIDE, rows * (height + gap)))
    for k, (row, strip) in enumerate(zip(records(best), strips, strict=True)):
        left, above = (k % 2) * (WIDE / 2 + 0.05), (k // 2) * (height + gap)
        axis = axes_at(figure, left, above + gap - 0.05, side, height)
        picture(axis, strip)
        bare(axis)
        told = f"unit {row['unit']}: {plain(row['concept'])}"
        write(axis, 0.0, 1.0, told, color=INK, va="bottom", ha="left", transform=axis.transAxes)
        told = f"IoU {number(row['iou'], 2)} (control {number(row['control'], 2)}), q {probability(row['q'])}"
        write(axis, 1.0, 1.0, told, color=MUTED, va="bottom", ha="right", transform=axis.transAxes)
    return figure


def _table(units: pd.DataFrame) -> Table:
    """All units, those of the highest IoU first."""
    columns = {
        "unit": lambda row: str(row["unit"]),
        "concept": lambda row: words(row["concept"]) or "–",
        "kind": lambda row: row["kind"] or "–",
        "IoU": lambda row: number(row["iou"], 2),
        "control": lambda row: number(row["control"], 2),
        "q": lambda row: probability(row["q"]),
        "above chance": lambda row: "yes" if row["above_chance"] else "no",
        "average precision": lambda row: number(row["auprc"], 2),
        "r": lambda row: number(row["pearson"], 2),
        "met": lambda row: str(int(row["images_met"])),
    }
    return replace(listed(_TABLE, records(ranked(units)), columns), first=FIRST, only="above chance")


@metrics("dissect")
def dissect_numbers(artifact: Artifact) -> dict[str, float]:
    """`dissect/above_chance`: units with q ≤ 0.05; `dissect/detectors`: with IoU > min_iou; `dissect/concepts`."""
    layer = records(artifact.table("layers"))[0]
    return {f"dissect/{name}": float(layer[name]) for name in ("above_chance", "detectors", "concepts")}
