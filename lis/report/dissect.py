"""Which concept the units of a layer agree with, beside permuted images of their class (Bau et al. 2020)."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from lis.report.atlas import PAGE, marked_images, ranked
from lis.report.jobs import Job, stage_folder
from lis.report.layouts import mosaic
from lis.report.marks import axes_at, bare, names_down, picture, write
from lis.report.section import Picture, Section, Table, listed, metrics, section
from lis.report.source import Source
from lis.report.style import INK, MUTED, SERIES, WIDE, light_grid, plain, sheet
from lis.report.tables import known, records, split
from lis.report.wording import counted, listing, number, probability, sentences, share, words
from lis.statistics import SIGNIFICANT, fewest_called
from lis.store import Artifact

FIRST = 10
"""Rows of the table that stand there at first."""
_PICTURED = 8
"""Units in the picture."""
_MOST = 24
"""Concepts in a histogram."""
_UNSTEADY = 4
"""Times the share of active pixels that a quantile leaves, or of it, beyond which a threshold is called unsteady."""
_COLUMNS = 3
"""Histograms beside each other, at most."""
_NUMBERS = ("above_chance", "detectors", "same_images_detectors", "control", "both", "concepts")
_KINDS = ("part", "object", "colour", "quadrant", "factor")
"""Kinds of concepts, in the order of their colours."""
_HISTOGRAM = (
    "Units per concept. Bars: units with IoU > {0} whose highest IoU it is, the published criterion; full where that "
    "has q ≤ 0.05, above the best concept with masks of other images of the same class. Diamonds: units with q ≤ 0.05 "
    "whose IoU with it exceeds that at chance by the most standard deviations, whatever the IoU. Dots, the control: "
    "units with IoU > {0} when masks are permuted within classes (mean; lines: 95 % of permutations), to be held "
    "against the upright ticks: the units with IoU > {0} on the same images, which need not be all that are scored. "
    "{1}It does not show that the classifier uses a concept, nor that a unit stands for one alone."
)
_MORE = "The {} most frequent of {} concepts that any unit has. "
_TOP = (
    "The {} units of the highest IoU among those with q ≤ 0.05 for it (of all, where there are none), and the scored "
    "images in which each is most active; outside the mask of the unit (activation above its own {} quantile) they are "
    "darkened by half. They are selected as the best of all: the atlas has the others. Images that excite a unit do "
    "not show what it ignores."
)
_TABLE = (
    "Concept: of the highest IoU. Control: mean IoU with the masks of other images of the same class, beside the IoU "
    "of the same images. Stands out: the concept whose IoU exceeds its control by the most standard deviations; where "
    "figures stand at one position, a quadrant can have the highest IoU, in every permutation too. q: of either, "
    "against the best concept of each permutation, Benjamini–Hochberg over the units of a layer. Above chance: what "
    "stands out has q ≤ 0.05. Met: images on which unit and concept overlap; fewer than 5 label no unit. Average "
    "precision and Pearson's r, and the concept of the highest r, do without the threshold. Numbers of all concepts: "
    "tables/dissect/agreement.parquet."
)
_LAYERS = (
    "Units that meet each criterion. q ≤ 0.05: agree with some concept above chance; both: have such an IoU, with q ≤ "
    "0.05 for the same concept. At chance: units with IoU > {} when masks are permuted within classes, mean and 95 % "
    "of permutations; same images: units with such an IoU on the images of the permutations. Concepts: distinct ones "
    "of the units with such an IoU."
)
_MASKS = {
    "exact": "The masks of parts are those that the generator drew.",
    "segmenter": "Masks of parts are the few-shot segmenter's: its errors are in the IoU of parts and of the object.",
    "folder": "The masks of parts are those of the folder, as are the images.",
    "none": "The class set names no parts, so that there are no parts, no object and no background among the concepts.",
}


@section(600, "dissect", "units", "histogram", "layers", "top", "facts")
def dissection_of_units(source: Source) -> Section:
    """Units per concept, the best units, and a table of all."""
    units, facts = source.table("dissect", "units"), source.json("dissect", "facts")
    layers, histogram = source.table("dissect", "layers"), source.table("dissect", "histogram")
    figures = histograms("dissect-concepts", histogram, "layer", f"{facts['min_iou']:g}")
    best = best_units(units)
    if len(best):
        drawn = top_figure(best, source.arrays("dissect", "top"))
        told = _TOP.format(len(best), facts["quantile"])
        figures.append(Picture("dissect-units", drawn, told, "photo", alt=f"Images of {counted(len(best), 'unit')}."))
    tables = [_layers_table(layers, "layer", f"{facts['min_iou']:g}")] if len(layers) > 1 else []
    tables.append(_units_table(units))
    finding = _finding(records(layers), facts)
    made = Section("Dissection of units", _lead(records(layers), units, facts), figures, tables, finding=finding)
    return replace(made, page=PAGE)


def _finding(layers: Sequence[dict[str, Any]], facts: dict[str, Any]) -> str:
    """Of the layer with the largest share of units that agree with a concept above chance; it says of how many."""
    best = max(layers, key=lambda layer: layer["above_chance"] / layer["units"])
    several = f", the largest share of {len(layers)} layers" if len(layers) > 1 else ""
    subset = f" of {facts['permuted_images']:,} images" if facts["permuted_images"] < facts["images"] else ""
    return (
        f"{best['above_chance']} of {counted(best['units'], 'unit')} of {best['layer']} agree with a concept above "
        f"chance{several}; {best['same_images_detectors']} have IoU > {facts['min_iou']:g}{subset}, beside "
        f"{number(best['control'], 2)} at chance"
    )


def _lead(layers: Sequence[dict[str, Any]], units: pd.DataFrame, facts: dict[str, Any]) -> str:
    """What the two criteria have in common, what was compared with what, and what that is no evidence for."""
    of = [f" of {layer['layer']}" * (len(layers) > 1) for layer in layers]
    both = listing([f"{counted(layer['both'], 'unit')}{where}" for layer, where in zip(layers, of, strict=True)])
    absent = facts["absent"]
    dead = sum(layer["dead"] for layer in layers)
    fit = "of the folder" if facts["masks"] == "folder" else "of the train pairs"
    score = "of its other half" if facts["masks"] == "folder" else "of the test pairs"
    return sentences(
        f"{both} have IoU > {facts['min_iou']:g} and q ≤ {SIGNIFICANT} for the same concept; {facts['concepts']} "
        "concepts were compared.",
        f"No pixel of the scored images has {listing([words(name) for name in absent])}." if absent else "",
        f"Thresholds are from {facts['threshold_images']:,} images {fit}, IoU from {facts['images']:,} {score}; the "
        f"control is {facts['permutations']:,} permutations of {facts['permuted_images']:,} of these.",
        *_resized(facts["layers"].values(), facts["size"]),
        _placed(facts),
        _MASKS[facts["masks"]],
        f"{counted(dead, 'unit')} never exceeded the threshold." if dead else "",
        _unsteady(units, 1 - facts["quantile"]),
        _resolution(layers, facts["permutations"]),
    )


def _unsteady(units: pd.DataFrame, expected: float) -> str:
    """Of units whose threshold leaves another share of the scored pixels than of the images that it is from."""
    active = units["active"].to_numpy()
    off = (active < expected / _UNSTEADY) | (active > expected * _UNSTEADY)
    count = int(np.count_nonzero(off & ~units["dead"].to_numpy(bool)))
    return (
        f"{counted(count, 'unit')} exceed their thresholds on less than 1/{_UNSTEADY}, or more than {_UNSTEADY} times, "
        f"of the {share(expected)} of pixels that the quantile leaves: they differ between the halves, or hardly vary "
        "beside their mean, which thresholds resolve to 0.8 %."
        if count
        else ""
    )


def _resized(shapes: Iterable[Sequence[int]], size: int) -> list[str]:
    """What was done to the maps of layers, each (units, height, width), to compare them with masks of size × size."""
    by_verb: dict[str, list[str]] = {}
    for _, height, width in shapes:
        larger, smaller = (height > size or width > size), (height < size or width < size)
        verb = "averaged over areas" if larger else "enlarged" if smaller else ""
        by_verb.setdefault(verb, []).append(f"{height}×{width}")
    return [
        f"Maps of {listing(maps)} are {verb} to {size}×{size}." if verb else f"Maps of {listing(maps)} are as they are."
        for verb, maps in by_verb.items()
    ]


def _placed(facts: dict[str, Any]) -> str:
    """Where the samples of maps lie, of layers that do not span the image evenly."""
    shifted = {name: field for name, field in facts["fields"].items() if not _even(facts["layers"][name], *field)}
    if facts["placement"] == "even":
        return "Maps are laid over the image evenly, wherever their receptive fields lie."
    if not shifted:
        return ""
    told = [f"{name}: {scale:g} apart from pixel {offset:g}" for name, (scale, offset, _) in shifted.items()]
    size = next(iter(shifted.values()))[2]
    where = "they are sensitive to the image" if facts["placement"] == "sensitivity" else "their receptive fields do"
    return f"Maps lie where {where}, not evenly over the {size} pixels ({', '.join(told)})."


def _even(shape: Sequence[int], scale: float, offset: float, image: int) -> bool:
    return shape[1] * scale == image and offset == (scale - 1) / 2


def _resolution(layers: Sequence[dict[str, Any]], permutations: int) -> str:
    """How many units it takes that q can fall to 0.05 with so few permutations; nothing where one is enough."""
    units = max(layer["units"] - layer["dead"] for layer in layers)
    least = fewest_called(units, permutations)
    if least <= 1:
        return ""
    return (
        f"p is at least 1/{1 + permutations:,}, so that q ≤ {SIGNIFICANT} takes {least} of {units} units that no "
        f"permutation equals: dissect.permutations={math.ceil(units / SIGNIFICANT)} would tell a single one."
    )


def histograms(name: str, histogram: pd.DataFrame, by: str, min_iou: str) -> list[Picture]:
    """The picture of the units per concept; none where no unit meets a criterion.

    Args:
        name: of its file.
        histogram: table "histogram", also of several runs.
        by: its column with a panel each.
        min_iou: which detectors exceed, in words.
    """
    units, histogram = Counter[str](), known(histogram, "detectors")
    for row in records(histogram):
        units[row["concept"]] += max(row["detectors"], row["above_chance"])
    frequent = [concept for concept, count in units.most_common() if count]
    if not frequent:
        return []
    more = _MORE.format(_MOST, len(frequent)) if len(frequent) > _MOST else ""
    caption = _HISTOGRAM.format(min_iou, more)
    figure = concepts_figure(histogram, frequent[:_MOST], by)
    return [Picture(name, figure, caption, data=histogram)]


def concepts_figure(histogram: pd.DataFrame, concepts: Sequence[str], by: str) -> Figure:
    """Bars of units per concept, a panel for each value of a column of the table "histogram"."""
    panels = split(histogram, by)
    rows = -(-len(panels) // _COLUMNS)
    columns = -(-len(panels) // rows)
    width = 0.7 * WIDE if columns == 1 else WIDE
    figure, axes = sheet(width, rows * (0.7 + 0.2 * len(concepts)) + 0.3, rows, columns, sharey=True)
    for axis, (panel, table) in zip(axes.flat, panels.items(), strict=False):
        _bars(axis, _rows_of(table, concepts))
        axis.set_title(plain(str(panel)))
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    for row in axes:
        names_down(row[0], [plain(name) for name in concepts], row[1:], grid=False)
    kinds = {row["kind"] for row in records(histogram) if row["concept"] in concepts}
    figure.legend(handles=_keys(kinds), loc="outside lower center", ncols=8)
    return figure


def _keys(kinds: Collection[str]) -> list[Any]:
    """What colours and marks stand for."""
    colours = [Patch(color=SERIES[k], label=kind) for k, kind in enumerate(_KINDS) if kind in kinds]
    only = Patch(facecolor="none", edgecolor=MUTED, label="IoU only")
    labels = {"D": "stands out, q ≤ 0.05", "o": "IoU at chance", "|": "IoU on the same images"}
    marks = [Line2D([], [], ls="", color=INK, label=label, **_MARKS[mark]) for mark, label in labels.items()]
    return [*colours, only, *marks]


_MARKS: dict[str, dict[str, Any]] = {
    "D": {"marker": "D", "markersize": 4.5, "markerfacecolor": "white", "markeredgewidth": 1.1},
    "o": {"marker": "o", "markersize": 3.5},
    "|": {"marker": "|", "markersize": 9, "markeredgewidth": 1.4},
}


def _rows_of(histogram: pd.DataFrame, concepts: Sequence[str]) -> pd.DataFrame:
    """The rows of concepts, with the index of each; a run may lack some."""
    return pd.DataFrame({"concept": list(concepts)}).merge(histogram, how="left", on="concept").dropna(subset="kind")


def _bars(axis: Axes, table: pd.DataFrame) -> None:
    """A bar per row of the table "histogram": both criteria, and IoU only; what stands out, and the control."""
    rows = table.index.to_numpy()
    both, detectors, above = (table[name].to_numpy() for name in ("both", "detectors", "above_chance"))
    colours = [SERIES[_KINDS.index(kind)] for kind in table["kind"]]
    axis.barh(rows, both, color=colours, height=0.7)
    edges = np.where(detectors > both, 1.0, 0.0)
    axis.barh(rows, detectors - both, left=both, facecolor="none", edgecolor=colours, height=0.7, linewidth=edges)
    axis.hlines(rows, table["low"], table["high"], color=INK, linewidth=1.2)
    for mark, numbers in (("o", table["control"]), ("|", table["same_images_detectors"])):
        axis.plot(numbers, rows, ls="", color=INK, **_MARKS[mark])
    for row, count, colour in zip(rows, above, colours, strict=True):
        if count:
            axis.plot(count, row, ls="", color=colour, **_MARKS["D"])
    axis.set(
        xlabel="units",
        xlim=(0, 1.05 * max(1, *above, *detectors, *table["high"], *table["same_images_detectors"])),
    )
    axis.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    light_grid(axis)


def best_units(units: pd.DataFrame) -> pd.DataFrame:
    """The units of the highest IoU among those whose label is above chance, or among all where there are none."""
    labelled = ranked(known(units, "iou"))
    significant = pd.DataFrame(labelled[labelled["q"] <= SIGNIFICANT])
    return (significant if len(significant) else labelled).head(_PICTURED)


def top_figure(best: pd.DataFrame, top: dict[str, np.ndarray]) -> Figure:
    """Two columns of units, each with its images; rows of the table "units" and tensors "top"."""
    several = len({*best["layer"]}) > 1
    rows, side, gap = -(-len(best) // 2), WIDE / 2 - 0.15, 0.32
    strips = [mosaic([marked_images(top, int(row))]) for row in best.index]
    height = side * strips[0].shape[0] / strips[0].shape[1]
    figure = Figure(figsize=(WIDE, rows * (height + gap)))
    for k, (row, strip) in enumerate(zip(records(best), strips, strict=True)):
        left, above = (k % 2) * (WIDE / 2 + 0.05), (k // 2) * (height + gap)
        axis = axes_at(figure, left, above + gap - 0.05, side, height)
        picture(axis, strip)
        bare(axis)
        unit = f"{row['layer']} {row['unit']}" if several else f"unit {row['unit']}"
        told = f"{unit}: {plain(row['concept'])}"
        write(axis, 0.0, 1.0, told, color=INK, va="bottom", ha="left", transform=axis.transAxes)
        told = f"IoU {number(row['iou'], 2)} ({_compared(row)}), q {probability(row['q'])}"
        write(axis, 1.0, 1.0, told, color=MUTED, va="bottom", ha="right", transform=axis.transAxes)
    return figure


def _compared(row: dict[str, Any]) -> str:
    """The IoU of a unit on the images of the control, and the control."""
    return f"control images {number(row['same_images_iou'], 2)}, permuted {number(row['control'], 2)}"


def _layers_table(table: pd.DataFrame, name: str, min_iou: str) -> Table:
    """The numbers of layers, or of the layers of several runs; table "layers" with the column `name`."""
    columns = {
        name: lambda row: row[name],
        "units": lambda row: str(row["units"]),
        "dead": lambda row: str(row["dead"]),
        f"IoU > {min_iou}": lambda row: str(row["detectors"]),
        "same images": lambda row: str(row["same_images_detectors"]),
        "at chance": lambda row: f"{number(row['control'], 2)} [{number(row['low'], 2)}, {number(row['high'], 2)}]",
        "q ≤ 0.05": lambda row: str(row["above_chance"]),
        "both": lambda row: str(row["both"]),
        "concepts": lambda row: str(row["concepts"]),
    }
    return listed(_LAYERS.format(min_iou), records(table), columns)


def _units_table(units: pd.DataFrame) -> Table:
    """All units, those of the highest IoU first."""
    columns = {
        "layer": lambda row: row["layer"],
        "unit": lambda row: str(row["unit"]),
        "concept": lambda row: words(row["concept"]) or "–",
        "IoU": lambda row: number(row["iou"], 2),
        "same images": lambda row: number(row["same_images_iou"], 2),
        "control": lambda row: number(row["control"], 2),
        "q": lambda row: probability(row["q"]),
        "stands out": lambda row: words(row["specific"]) or "–",
        "its IoU": lambda row: number(row["specific_iou"], 2),
        "its control": lambda row: number(row["specific_control"], 2),
        "its q": lambda row: probability(row["specific_q"]),
        "above chance": lambda row: "yes" if row["above_chance"] else "no",
        "average precision": lambda row: number(row["auprc"], 2),
        "r": lambda row: number(row["pearson"], 2),
        "highest r": lambda row: words(row["correlated"]) or "–",
        "met": lambda row: str(int(row["images_met"])),
    }
    if len({*units["layer"]}) == 1:
        del columns["layer"]
    return replace(listed(_TABLE, records(ranked(units)), columns), first=FIRST, only="above chance")


@metrics("dissect")
def dissect_numbers(artifact: Artifact) -> dict[str, float]:
    """`dissect/above_chance`: units that agree with a concept, q ≤ 0.05; `dissect/detectors`: with IoU > min_iou;
    `dissect/same_images_detectors`: with such an IoU on the images of the permutations, and `dissect/control`, as many
    at chance; `dissect/both`; `dissect/concepts`: distinct ones of the detectors. Of the last layer.
    """
    layer = records(artifact.table("layers"))[-1]
    return {f"dissect/{name}": float(layer[name]) for name in _NUMBERS}


@section(600, page="comparison")
def dissection_of_models(jobs: Sequence[Job]) -> Section | None:
    """Units per concept of the runs of a sweep (Fig. S1)."""
    dissected = [job for job in jobs if (stage_folder(job.folder, "dissect") / "histogram.parquet").is_file()]
    if not dissected:
        return None
    histogram, layers = (_joined(dissected, name) for name in ("histogram", "layers"))
    levels = list(dict.fromkeys(f"{float(job.settings['dissect.min_iou']):g}" for job in dissected))
    min_iou = levels[0] if len(levels) == 1 else "dissect.min_iou of each"
    figures = histograms("dissect-models", histogram, "run", min_iou)
    return Section("Dissection of units", _models_lead(layers), figures, [_layers_table(layers, "run", min_iou)])


def _models_lead(layers: pd.DataFrame) -> str:
    """The span of the share of units that agree with a concept above chance."""
    shares = (layers["above_chance"] / layers["units"]).to_numpy()
    least, most = (f"{share(shares[k])} of {layers['run'][k]}" for k in (shares.argmin(), shares.argmax()))
    return f"From {least} to {most} agree with a concept above chance (q ≤ 0.05), as shares of the units."


def _joined(jobs: Sequence[Job], name: str) -> pd.DataFrame:
    """A table of the stage of several runs, with the run and, where it has several, the layer as the column run."""
    tables = []
    for job in jobs:
        table = pd.read_parquet(stage_folder(job.folder, "dissect") / f"{name}.parquet")
        several = len({*table["layer"]}) > 1
        tables.append(table.assign(run=[f"{job.name}, {layer}" if several else job.name for layer in table["layer"]]))
    return pd.concat(tables, ignore_index=True)
