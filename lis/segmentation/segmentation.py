"""How well the parts are found: on new labelled images, and where they are known on many more (S6–S8)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lis.context import Context
from lis.labels.labelled import Drawn, TrueParts, draw, exact_masks, labelled, reduced_masks, without_parts
from lis.labels.reading import Labelled
from lis.peaks import picture_arrays
from lis.segmentation.networks import FewShotSegmenter
from lis.segmentation.segmenter import Masks, load_segmenter, segment, segmenter
from lis.segmentation.training import part_images
from lis.segmentation.work import segmentation_work
from lis.stage import stage
from lis.store import Artifact, Draft

ALL = "all"
"""Row of all classes whose labels were trained on."""
RANKS = ("worst", "average", "best")


@dataclass(frozen=True)
class Judged:
    """Masks of new images beside the true ones."""

    kind: str
    classes: np.ndarray
    """Name of each image's class `[n]`; "all" from a generator without classes."""
    sample_index: Tensor
    true: Tensor
    """`[n, size, size]` uint8."""
    predicted: Tensor
    counts: Tensor
    """`[n, 1 + labels, 1 + labels]`, see `confusions`."""

    @property
    def means(self) -> np.ndarray:
        """Mean IoU of every image over the labels in either of its masks `[n]`; NaN for one without parts."""
        return iou(self.counts).nanmean(1).numpy()

    def of(self, classes: list[str]) -> np.ndarray:
        """Which images are of one of these classes: `[n]` bool."""
        return np.isin(self.classes, classes)


def _also(ctx: Context) -> dict[str, Any]:
    config = ctx.config.labels
    return {"test": config.test if config.folder is None else None, "exact": config.exact}


@stage(
    "segmentation",
    version=1,
    inputs=(segmenter,),
    models=("generator",),
    also=_also,
    omitted=without_parts,
    images=part_images,
    arrays=picture_arrays,
    work=segmentation_work,
)
def segmentation(ctx: Context, parts: Artifact, draft: Draft) -> None:
    """IoU of the segmenter on labelled images and on exact masks, worst to best examples; none that it was trained on.

    Kinds: `labelled`, the labelled test images; `exact`, `labels.exact` images in all of a generator that knows its
    parts, against their exact masks. A class that was left out of the training is flagged as `left_out`.

    Table "iou": kind, class, left_out, label, iou (over the pixels of all images; NaN where the label is in no mask),
    n (images in which it is in either mask); the class `all` pools the classes that were trained on. Table "images", a
    row per image: kind, class, left_out, sample_index, iou (mean over the labels in either mask). Tensors "examples",
    the worst, the most average and the best labelled test image of every class: image `[k, 3, H, W]` uint8, predicted
    and true `[k, size, size]` uint8, class_index, sample_index, rank (index into `RANKS`), iou `[k]`. Json "summary":
    kind → iou (mean over the labels of `all`), left_out (the same of the left out class, else null), images, accuracy
    (share of pixels); a list of labels, and the name of the class that was left out.

    Raises:
        ValueError: as the stage `segmenter`, or a folder without test images.
    """
    model = load_segmenter(ctx, parts)
    images = labelled(ctx, "test", model.size)
    judged = [_judge(ctx, model, "labelled", images)]
    if ctx.config.labels.exact and isinstance(ctx.generator, TrueParts):
        judged.append(_judge(ctx, model, "exact", draw(ctx, "exact", ctx.config.labels.exact)))
    groups = class_groups(ctx)
    draft.table("iou", pd.concat([iou_table(one, model.labels, groups) for one in judged], ignore_index=True))
    draft.table("images", pd.concat([_image_table(one, groups) for one in judged], ignore_index=True))
    draft.tensors("examples", _examples(judged[0], images))
    labels = {"labels": list(model.labels), "left_out": ctx.config.labels.left_out}
    draft.json("summary", {one.kind: _summary(one, groups) for one in judged} | labels)


def class_groups(ctx: Context) -> dict[str, bool]:
    """The classes that images can have, and whether each was left out of the training."""
    names = ctx.class_names if ctx.generator.num_classes else ()
    return {name: name == ctx.config.labels.left_out for name in names}


def iou_table(judged: Judged, labels: tuple[str, ...], groups: dict[str, bool]) -> pd.DataFrame:
    """The rows of one kind in the table "iou" of `segmentation`."""
    rows = []
    for name, left_out in [*groups.items(), (ALL, False)]:
        counts = judged.counts[judged.of(_pooled(groups)) if name == ALL else judged.of([name])]
        present = iou(counts).isfinite().sum(0)
        for label, value, n in zip(labels, iou(counts.sum(0)).tolist(), present.tolist(), strict=True):
            rows.append((judged.kind, name, left_out, label, value, n))
    return pd.DataFrame(rows, columns=["kind", "class", "left_out", "label", "iou", "n"])


def ranked(means: np.ndarray) -> dict[int, int]:
    """Index of the worst, the most average and the best image, by index into `RANKS`, each image once.

    Args:
        means: IoU of every image; those that are NaN are not looked at.

    Example:
        >>> ranked(np.array([0.7, np.nan, 0.1, 0.9, 0.6])), ranked(np.array([0.5]))
        ({0: 2, 1: 4, 2: 3}, {1: 0})
    """
    order = [int(k) for k in np.argsort(means, kind="stable") if np.isfinite(means[k])]
    if len(order) < 2:
        return dict.fromkeys([1], order[0]) if order else {}
    ends = {0: order[0], 2: order[-1]}
    between = order[1:-1]
    middle = min(between, key=lambda k: abs(means[k] - np.nanmean(means)), default=None)
    return dict(sorted((ends if middle is None else ends | {1: middle}).items()))


@torch.inference_mode()
def _judge(ctx: Context, model: FewShotSegmenter, kind: str, images: Labelled | Drawn) -> Judged:
    """Masks `[n, size, size]` uint8, batch by batch; a person's are reduced to the model's size."""
    labels = len(model.labels)

    def both(rows: Tensor) -> tuple[Tensor, Tensor]:
        w = images.w[rows].to(ctx.device)
        predicted = segment(model, ctx.generator.synthesize(w, features=model.layers)[1])
        if isinstance(images, Labelled):
            true = reduced_masks(images.masks[rows], labels, model.size)
        else:
            true = exact_masks(ctx.generator, w, model.labels, model.size)
        return true.cpu(), predicted.to(torch.uint8).cpu()

    parts = ctx.tuned_batches(Masks(model), classified=False).map(both, torch.arange(len(images.w)))
    true, predicted = (torch.cat(masks) for masks in zip(*parts, strict=True))
    names = np.asarray(ctx.class_names if ctx.generator.num_classes else (ALL,))
    counts = confusions(true, predicted, labels)
    return Judged(kind, names[images.class_index.numpy()], images.sample_index, true, predicted, counts)


def _pooled(groups: dict[str, bool]) -> list[str]:
    """The classes behind the row `all`."""
    return [name for name, left_out in groups.items() if not left_out] or [ALL]


def _image_table(judged: Judged, groups: dict[str, bool]) -> pd.DataFrame:
    columns = {"kind": judged.kind, "class": judged.classes}
    columns |= {"left_out": [groups.get(name, False) for name in judged.classes]}
    return pd.DataFrame(columns | {"sample_index": judged.sample_index, "iou": judged.means})


def _examples(judged: Judged, images: Labelled) -> dict[str, Tensor]:
    """The tensors "examples" of `segmentation`."""
    chosen, means = [], judged.means
    for name in dict.fromkeys(judged.classes):
        members = np.flatnonzero(judged.of([name]))
        chosen += [(int(members[index]), rank) for rank, index in ranked(means[members]).items()]
    rows = torch.tensor([row for row, _ in chosen], dtype=torch.int64)
    columns = {name: getattr(images, name)[rows] for name in ("image", "class_index", "sample_index")}
    columns |= {"predicted": judged.predicted[rows], "true": judged.true[rows], "iou": torch.from_numpy(means)[rows]}
    return columns | {"rank": torch.tensor([rank for _, rank in chosen], dtype=torch.int64)}


def _summary(judged: Judged, groups: dict[str, bool]) -> dict[str, Any]:
    """One kind of the json "summary" of `segmentation`."""
    trained = judged.counts[judged.of(_pooled(groups))].sum(0)
    left_out = [name for name, left in groups.items() if left]
    other = judged.counts[judged.of(left_out)].sum(0) if left_out else None
    return {
        "iou": _mean(trained),
        "left_out": None if other is None else _mean(other),
        "images": len(judged.true),
        "accuracy": float(trained.diagonal().sum() / trained.sum()),
    }


def _mean(counts: Tensor) -> float | None:
    """Mean IoU over the labels that occur; None where none does."""
    value = float(iou(counts).nanmean())
    return value if np.isfinite(value) else None


def confusions(true: Tensor, predicted: Tensor, labels: int) -> Tensor:
    """Pixels of every image by true and predicted value: `[n, 1 + labels, 1 + labels]` int64.

    Args:
        true: masks `[n, h, w]` of integers from 0 (background) to `labels`.
        predicted: masks of the same shape.
        labels: number of parts.

    Raises:
        ValueError: masks of different shapes, or a value that is no label.

    Example:
        >>> confusions(torch.tensor([[[0, 1]]]), torch.tensor([[[1, 1]]]), 1).tolist()
        [[[0, 1], [0, 1]]]
    """
    if true.shape != predicted.shape:
        raise ValueError(f"masks of shape {list(true.shape)} and {list(predicted.shape)}: expected the same")
    values, n = 1 + labels, len(true)
    both = torch.stack([true.flatten(1).long(), predicted.flatten(1).long()])
    if both.numel() and not 0 <= int(both.min()) <= int(both.max()) <= labels:
        raise ValueError(f"a mask has values from {int(both.min())} to {int(both.max())}: expected 0 to {labels}")
    cells = torch.arange(n, device=true.device)[:, None] * values**2 + both[0] * values + both[1]
    return torch.bincount(cells.flatten(), minlength=n * values**2).view(n, values, values)


def iou(confusion: Tensor) -> Tensor:
    """|A ∩ B| / |A ∪ B| of every label: `[..., labels]` float64 of counts `[..., 1 + labels, 1 + labels]`.

    NaN where a label is in neither mask. Sum the counts of many images for the IoU over all of their pixels.

    Example:
        >>> iou(torch.tensor([[5, 1, 0], [1, 2, 0], [0, 0, 0]])).tolist()
        [0.5, nan]
    """
    both = confusion.diagonal(dim1=-2, dim2=-1).double()
    either = confusion.sum(-1) + confusion.sum(-2) - both
    return (both / either)[..., 1:]
