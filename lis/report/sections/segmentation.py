"""How well the parts are found, on which everything that is measured rests (supplement S4; Fig. S6–S8)."""

from __future__ import annotations

from typing import Any

import pandas as pd

from lis.report.figures.masks import Example, mask_examples
from lis.report.figures.segmentation import ious, left_out_ious, main_kind
from lis.report.frames import ends, mean, where
from lis.report.labels import number, words
from lis.report.sections import Picture, Section, Table, crossed, metrics, prefixed, section
from lis.report.source import Source
from lis.report.style import label_colours
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


@section(310, "segmentation", "iou", "summary", "examples")
def parts(source: Source) -> Section:
    """IoU per label, a class without labels, and the masks of single images."""
    table, summary = source.table("segmentation", "iou"), source.json("segmentation", "summary")
    colours, name = label_colours(summary["labels"]), summary["left_out"]
    pictures = [Picture("iou", ious(where(table, left_out=False), colours), _IOU)]
    if name is not None:
        caption = _LEFT_OUT.format(words(name), _against(summary, main_kind(table)))
        pictures.append(Picture("iou-left-out", left_out_ious(table, colours, name), caption))
    figure = mask_examples(_examples(source), colours)
    pictures.append(Picture("masks", figure, _EXAMPLES, "photo"))
    return Section("Parts", _lead(table, summary), pictures, [_table(table, summary)], _notes(source, summary))


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
    found = _mean(summary[kind]["left_out"])
    return f"{lead}. On {words(summary['left_out'])}, whose labels were not trained on, it is {found}."


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
    found = {name: values.numpy() for name, values in source.tensors("segmentation", "examples").items()}
    names = source.facts.class_names if source.facts.conditional else ("all",)
    image = found["image"].transpose(0, 2, 3, 1)
    rows: dict[str, dict[str, Example]] = {}
    for k, rank in enumerate(found["rank"]):
        example = Example(image[k], found["true"][k], found["predicted"][k], float(found["iou"][k]))
        rows.setdefault(names[found["class_index"][k]], {})[RANKS[rank]] = example
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
