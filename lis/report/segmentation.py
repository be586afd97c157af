"""How well the parts are found, on which everything that is measured rests (supplement S4; Fig. S6–S8)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from lis.report.layouts import mosaic, overlay
from lis.report.marks import axes_at, names_down, note, picture, write
from lis.report.section import Picture, Section, Table, crossed, folded, metrics, prefixed, section
from lis.report.source import Source
from lis.report.style import HALF, INK, LINK_RED, MUTED, WIDE, label_colours, plain, sheet
from lis.report.tables import column, ends, known, mean, where
from lis.report.wording import number, words
from lis.store import Artifact

RANKS = ("worst", "average", "best")
"""What `rank` of the tensors "examples" points into."""
_KINDS = {"exact": "the exact masks of {} new images", "labelled": "{} labelled test images"}
_IOU = (
    "Intersection over union of each part, over the pixels of all test images. Large dots: all classes together, "
    "filled against exact masks and open against labelled images; small dots: single classes."
)
_LEFT_OUT = (
    "The same of {}, whose labels were not trained on (diamonds), beside the classes whose labels were (dots), against "
    "{}."
)
_EXAMPLES = (
    "Of the labelled test images of each class, that with the worst, the most average and the best IoU (mean over its "
    "parts): the image, its labels, the parts that were found, and in red the pixels where the two differ."
)
_EXAMPLE = ("class_index", "rank", "image", "true", "predicted", "iou")
_FACES = {"exact": "exact masks", "labelled": "labelled images"}
_NOWHERE = np.array([np.nan])
"""A dot that only the legend shows."""
_ROW, _REST = 0.27, 1.05
"""Inches of a label, and of everything else."""
COLUMNS = ("image", "labelled", "found", "differs")
_NAME, _HEAD, _FOOT, _GAP, _LINE = 0.95, 0.42, 0.32, 0.14, 0.20
"""Inches left, above and below the pictures, between blocks, and for the note below each."""
_CELL = 0.92
"""Largest side of a picture in inches."""
_TINT, _PALE = 0.55, 0.45
"""How strongly parts are tinted, and how dark the grey image is."""
_LETTER, _MARK = 0.075, 0.34
"""Inches of the legend per letter and per mark."""


@section(700, "segmentation", "iou", "summary", "examples")
def parts(source: Source) -> Section:
    """IoU per label, a class without labels, and the masks of single images."""
    table, summary = source.table("segmentation", "iou"), source.json("segmentation", "summary")
    colours, name = label_colours(summary["labels"]), summary["left_out"]
    finding, lead = _finding(table, summary), _lead(table, summary)
    pictures = [Picture("iou", ious(where(table, left_out=False), colours), _IOU, data=table, alt=f"{finding}.")]
    if name is not None:
        caption = _LEFT_OUT.format(words(name), _against(summary, main_kind(table)))
        drawn, alt = left_out_ious(table, colours, name), f"{lead.split('. ')[-1].rstrip('.')}."
        pictures.append(Picture("iou-left-out", drawn, caption, data=where(table, left_out=True), alt=alt))
    pictures += folded(*_masks(source, colours))
    return Section("Parts", lead, pictures, folded(_table(table, summary)), _notes(source, summary), finding)


def _finding(table: pd.DataFrame, summary: dict[str, Any]) -> str:
    """The mean IoU, and the label that is found worst."""
    kind = main_kind(table)
    rows = known(where(table, kind=kind, left_out=False, **{"class": "all"}), "iou")
    told = f"The parts are found with a mean IoU of {_mean(summary[kind]['iou'])}"
    if len(rows) < 2:
        return told
    worst = ends(rows, "iou")[0]
    return f"{told} (worst: {words(worst['label'])}, {number(worst['iou'], 2)})"


def _masks(source: Source, colours: Mapping[str, str]) -> list[Picture]:
    """Single images with their labels and the parts that were found."""
    if not (rows := _examples(source)):
        return []
    told = [{"class": name, "rank": rank, "iou": one.iou} for name, row in rows.items() for rank, one in row.items()]
    data = pd.DataFrame(told)
    low, high = (number(row["iou"], 2) for row in ends(data, "iou"))
    alt = f"IoU of the images that are drawn goes from {low} to {high}."
    return [Picture("masks", mask_examples(rows, colours), _EXAMPLES, "photo", data, alt)]


def _lead(table: pd.DataFrame, summary: dict[str, Any]) -> str:
    """The mean over the labels, and the labels that are found best and worst."""
    kind = main_kind(table)
    rows = where(table, kind=kind, **{"class": "all"}).dropna()
    lead = f"The parts are found with a mean IoU of {_mean(summary[kind]['iou'])} against {_against(summary, kind)}"
    if len(rows) > 1:
        worst, best = ends(rows, "iou")
        lead += f", best for {words(best['label'])} ({number(best['iou'], 2)}) and worst for {words(worst['label'])}"
        lead += f" ({number(worst['iou'], 2)})"
    if summary["left_out"] is None:
        return f"{lead}."
    left_out = _mean(summary[kind]["left_out"])
    return f"{lead}. On {words(summary['left_out'])}, whose labels were not trained on, it is {left_out}."


def _notes(source: Source, summary: dict[str, Any]) -> list[str]:
    """What the segmenter was trained on."""
    if not source.has("segmenter", "fit"):
        return []
    fit = source.json("segmenter", "fit")
    return [
        f"The segmenter ({source.facts.settings['segmenter.network']}, {fit['parameters']:,} weights) read "
        f"{fit['channels']:,} channels of {fit['layers']} layers of the generator and was trained on {fit['images']} "
        f"labelled images in {number(fit['seconds'], 2)} s."
    ]


def _table(table: pd.DataFrame, summary: dict[str, Any]) -> Table:
    """IoU of every label (rows) in every class (columns), against the kind with more images."""
    kind = main_kind(table)
    rows = where(table, kind=kind)
    return crossed(
        f"Intersection over union against {_against(summary, kind)}.",
        summary["labels"],
        dict.fromkeys(rows["class"]),
        lambda label, name: number(mean(where(rows, label=label, **{"class": name}), "iou"), 2),
        heads=words,
    )


def _examples(source: Source) -> dict[str, dict[str, Example]]:
    """Class → rank → example."""
    arrays = source.arrays("segmentation", "examples")
    names = source.facts.class_names if source.facts.conditional else ("all",)
    rows: dict[str, dict[str, Example]] = {}
    for c, rank, *example in zip(*(arrays[x] for x in _EXAMPLE), strict=True):
        rows.setdefault(names[c], {})[RANKS[rank]] = Example(*example)
    return rows


def _against(summary: dict[str, Any], kind: str) -> str:
    return _KINDS[kind].format(f"{summary[kind]['images']:,}")


def _mean(value: float | None) -> str:
    return "–" if value is None else number(value, 3)


@metrics("segmentation")
def segmentation_numbers(artifact: Artifact) -> dict[str, float]:
    """`segmentation/iou_{labelled, exact}`: mean IoU over the labels, on labelled images and on exact masks."""
    summary = artifact.json("summary")
    return prefixed("segmentation", {f"iou_{kind}": (summary.get(kind) or {}).get("iou") for kind in _KINDS})


def ious(table: pd.DataFrame, colours: Mapping[str, str]) -> Figure:
    """IoU per label over all classes, against exact masks (filled) and labelled ones (open); small dots are classes.

    Args:
        table: kind, class, label, iou; without a class that was left out of the training.
        colours: of the labels, which are the rows from top to bottom.
    """
    figure, axes = sheet(HALF, _REST + _ROW * len(colours))
    axis, everything = axes[0, 0], where(table, **{"class": "all"})
    single = where(pd.DataFrame(table[table["class"] != "all"]), kind=main_kind(table))
    for at, (label, colour) in enumerate(colours.items()):
        values = column(where(single, label=label), "iou")
        axis.plot(values, np.full(len(values), at), ".", color=colour, alpha=0.55, markersize=5)
        for kind in _FACES:
            _dot(axis, column(where(everything, label=label, kind=kind), "iou"), at, colour, kind == "exact")
    for kind in [kind for kind in _FACES if kind in set(table["kind"])]:
        _dot(axis, _NOWHERE, 0, INK, kind == "exact", label=_FACES[kind])
    if len(set(table["class"])) > 2:
        axis.plot([], [], ".", color=INK, alpha=0.55, markersize=5, label="single classes")
    _finish(figure, axis, list(colours))
    return figure


def left_out_ious(table: pd.DataFrame, colours: Mapping[str, str], name: str) -> Figure:
    """IoU per label of the class that was never labelled (diamonds), beside that of the classes that were (dots).

    Args:
        table: kind, class, label, iou.
        colours: of the labels, which are the rows from top to bottom.
        name: the class that was left out.
    """
    figure, axes = sheet(HALF, _REST + _ROW * len(colours))
    axis, rows = axes[0, 0], where(table, kind=main_kind(table))
    diamond: dict[str, Any] = {"marker": "D", "markersize": 6}
    for at, (label, colour) in enumerate(colours.items()):
        trained, new = (column(where(rows, label=label, **{"class": one}), "iou") for one in ("all", name))
        if len(trained) and len(new):
            axis.plot([trained[0], new[0]], [at, at], color=colour, alpha=0.5)
        _dot(axis, trained, at, colour, True)
        _dot(axis, new, at, colour, False, **diamond)
    _dot(axis, _NOWHERE, 0, INK, True, label="classes with labels")
    _dot(axis, _NOWHERE, 0, INK, False, **diamond, label=f"{plain(name)}, without labels")
    _finish(figure, axis, list(colours))
    return figure


def main_kind(table: pd.DataFrame) -> str:
    """The kind with more images: `exact` where the parts are known."""
    return "exact" if "exact" in set(table["kind"]) else "labelled"


def _dot(axis: Axes, values: np.ndarray, at: float, colour: str, filled: bool, **style: Any) -> None:
    face: dict[str, Any] = {"color": colour if filled else "white", "markeredgecolor": colour, "markeredgewidth": 1.5}
    kind: dict[str, Any] = {"marker": "o", "markersize": 7, "linestyle": "none"}
    axis.plot(values, np.full(len(values), at), **(kind | face | style))


def _finish(figure: Figure, axis: Axes, labels: list[str]) -> None:
    """Rows, a scale that ends at 1, and the legend above."""
    names_down(axis, [plain(label) for label in labels])
    axis.set(xlim=(min(0.5, axis.get_xlim()[0]), 1.0), xlabel="intersection over union")
    figure.legend(loc="outside upper left", ncols=3, handletextpad=0.2, columnspacing=1.2)


@dataclass(frozen=True)
class Example:
    """A test image with both of its masks."""

    image: np.ndarray
    """`[h, w, 3]` uint8."""
    true: np.ndarray
    """`[size, size]` integers, 0 background."""
    predicted: np.ndarray
    iou: float


def mask_examples(rows: Mapping[str, Mapping[str, Example]], colours: Mapping[str, str]) -> Figure:
    """A row per class, a block per rank: the image, its true mask, the mask found, and where they differ.

    Args:
        rows: class → rank (`worst`, …) → example.
        colours: of the labels.
    """
    ranks = list(dict.fromkeys(rank for row in rows.values() for rank in row))
    cell = min(_CELL, (WIDE - _NAME - len(ranks) * _GAP) / len(COLUMNS) / len(ranks))
    width, height = len(COLUMNS) * cell, _HEAD + len(rows) * (cell + _LINE) + _FOOT
    figure = Figure(figsize=(WIDE, height))
    for line, (name, row) in enumerate(rows.items()):
        top = _HEAD + line * (cell + _LINE)
        figure.text((_NAME - 0.09) / WIDE, 1 - (top + cell / 2) / height, plain(name), ha="right", va="center")
        for index, rank in enumerate(ranks):
            axis = axes_at(figure, _NAME + index * (width + _GAP), top, width, cell)
            axis.axis("off")
            if line == 0:
                _heading(axis, rank)
            if rank in row:
                picture(axis, mosaic([np.stack(panels(row[rank], list(colours.values())))]))
                write(axis, 0, -0.05, f"IoU {row[rank].iou:.2f}", color=MUTED, va="top")
    left, y = _NAME, 0.12 / height
    for label, colour in colours.items():
        figure.text(left / WIDE, y, "■", color=colour, size=11, va="center")
        figure.text((left + 0.16) / WIDE, y, plain(label), color=INK, size=9, va="center")
        left += _MARK + _LETTER * len(label)
    return figure


def panels(example: Example, colours: Sequence[str]) -> list[np.ndarray]:
    """The pictures of an example in the order of `COLUMNS`, each `[side, side, 3]` uint8.

    The last is the image in pale grey, with red pixels where the masks differ.
    """
    image = overlay(example.image, np.zeros_like(example.true), colours)
    true, predicted = (overlay(example.image, mask, colours, fill=_TINT) for mask in (example.true, example.predicted))
    pale = 255 - _PALE * (255 - image.mean(2, keepdims=True))
    rows, columns = (np.arange(side) * len(example.true) // side for side in image.shape[:2])
    wrong = (example.true != example.predicted)[rows][:, columns, None]
    differs = np.where(wrong, 255 * np.array(to_rgb(LINK_RED)), pale)
    return [image, true, predicted, differs.round().astype(np.uint8)]


def _heading(axis: Axes, rank: str) -> None:
    """The rank above a block, and what its columns are."""
    note(axis, rank, (0, 1), (0, 15), xycoords="axes fraction", size=10, weight="bold", ha="left")
    for index, name in enumerate(COLUMNS):
        note(axis, name, ((index + 0.5) / len(COLUMNS), 1), (0, 3), xycoords="axes fraction", color=MUTED)
