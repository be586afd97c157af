"""What edits of a generator's units do to its images: removal, insertion by context, painting (Bau et al. 2020).

Activations of a style-based generator pass leaky ReLUs, so zero is a value like others and not "off": the value that
units are set to is always the caller's. What an edit changes is read by a segmenter that sees pixels alone; one that
reads the edited features would find what was put there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from lis.dissection.activations import edit_of
from lis.generators.editing import edited
from lis.types import Editable, Edits, Generator

BAND = 2.58
"""Standard errors to each side of a mean: 99 % of a normal distribution."""
APPEARS = 0.05
"""Least share of the mask of a label that appears; less is what a segmentation flickers at the edges of parts."""


@dataclass(frozen=True)
class PixelSegmenter:
    """What segments images by their pixels alone."""

    labels: tuple[str, ...]
    segment: Callable[[Tensor], Tensor]
    """Labels `[n, h, w]` int64 (0 the background, k: `labels[k - 1]`) of images `[n, 3, H, W]` in [-1, 1]."""
    fingerprint: str = ""
    """SHA-256 over its weights, where results are kept."""

    def fractions(self, image: Tensor) -> Tensor:
        """Fraction of each image that shows each label, the background first: `[n, 1 + labels]` float64."""
        parts = self.segment(image).flatten(1)
        return self.count(parts).double() / parts.shape[1]

    def count(self, parts: Tensor) -> Tensor:
        """Pixels of each label, the background first: `[n, 1 + labels]` int64 of `parts [n, pixels]`."""
        return torch.stack([(parts == label).sum(1) for label in range(1 + len(self.labels))], 1)


@dataclass(frozen=True)
class UnitEdit:
    """Units of a layer and what they are set to."""

    layer: str
    units: Sequence[int] | Tensor
    """Indices `[k]`."""
    value: float | Tensor = 0.0
    """One number, or `[k]`: 0 or their mean to remove, a high quantile to insert."""

    def edits(self, mask: Tensor | None = None) -> Edits:
        """As `synthesize_edited` takes it, under a mask as of `edit_of`.

        Raises:
            ValueError: as `edit_of`.
        """
        return {self.layer: edit_of(self.units, self.value, mask)}


@dataclass(frozen=True)
class FractionChange:
    """How much of a concept an edit takes away, with its 99 % band; shapes `[…]`."""

    change: Tensor
    """y = −mean Δ / baseline: 1 is all of it, negative is more of it, NaN where there was none."""
    low: Tensor
    high: Tensor


def concept_fraction_change(base_fraction: Tensor, edited_fraction: Tensor) -> FractionChange:
    """y = −mean(edited − base) / mean(base) over images, ± 2.58 standard errors of the mean (Bau et al. 2020).

    Args:
        base_fraction: fraction of each image that shows the concept, `[n, …]` in [0, 1].
        edited_fraction: of the same images after the edit.

    Raises:
        ValueError: the shapes differ, or fewer than two images.

    Example:
        >>> concept_fraction_change(torch.tensor([0.2, 0.2]), torch.tensor([0.1, 0.1])).change.item()
        0.5
    """
    if base_fraction.shape != edited_fraction.shape or len(base_fraction) < 2:
        raise ValueError(
            f"fractions {list(base_fraction.shape)} before and {list(edited_fraction.shape)} after: expected the same "
            "images in both, two or more"
        )
    base, delta = base_fraction.double().mean(0), (edited_fraction.double() - base_fraction.double())
    base = base.where(base > 0, torch.nan)
    change, error = -delta.mean(0) / base, delta.std(0) / len(delta) ** 0.5 / base
    return FractionChange(change, change - BAND * error, change + BAND * error)


@dataclass(frozen=True)
class ContextEffects:
    """What an insertion changes, by the label that was there; K contexts, C concepts."""

    context: Tensor
    """Labels `[K]` int64, ascending."""
    count: Tensor
    """Insertions at each, `[K]` int64."""
    mean: Tensor
    """Mean Δ pixels of every concept, `[K, C]`; NaN below `min_count`."""
    variance: Tensor
    """Unbiased variance of Δ pixels over the insertions of the context, `[K, C]`; 0 of one, NaN below `min_count`."""


def insertion_by_context(delta: Tensor, context: Tensor, min_count: int = 1000) -> ContextEffects:
    """Mean and variance of what insertions change, by the original label at the cell that was edited.

    Moments are of all insertions of a context at once; the running variance of the published code shrinks the part
    between batches and is not that.

    Args:
        delta: pixels of every concept after less before, `[m, C]`, of m insertions.
        context: label at the cell before, `[m]` integers, such as `cell_labels` gives.
        min_count: contexts with fewer insertions are NaN.

    Raises:
        ValueError: as many contexts as insertions are not given.

    Example:
        >>> insertion_by_context(torch.tensor([[1.0], [3.0]]), torch.tensor([4, 4]), 2).variance
        tensor([[2.]], dtype=torch.float64)
    """
    if delta.dim() != 2 or context.shape != delta.shape[:1]:
        raise ValueError(f"delta {list(delta.shape)} and context {list(context.shape)}: expected [m, C] and [m]")
    labels, index, count = context.long().unique(return_inverse=True, return_counts=True)
    sums = delta.new_zeros(len(labels), delta.shape[1], dtype=torch.float64)
    mean = sums.index_add(0, index, delta.double()) / count[:, None]
    variance = sums.index_add(0, index, (delta.double() - mean[index]).square()) / (count - 1).clamp(min=1)[:, None]
    enough = (count >= min_count)[:, None]
    return ContextEffects(labels, count, mean.where(enough, torch.nan), variance.where(enough, torch.nan))


def cell_labels(parts: Tensor, height: int, width: int) -> Tensor:
    """Label of the pixel at the centre of each cell of a coarser grid, rounded down: `[n, height, width]`.

    Args:
        parts: labels `[n, h, w]`.
        height: of the grid, at most h.
        width: of the grid, at most w.

    Example:
        >>> cell_labels(torch.arange(16).view(1, 4, 4), 2, 2).tolist()
        [[[5, 7], [13, 15]]]
    """
    rows, columns = (
        ((torch.arange(cells) + 0.5) * pixels / cells).long()
        for cells, pixels in ((height, parts.shape[1]), (width, parts.shape[2]))
    )
    return parts[:, rows][:, :, columns]


def cell_masks(cells: Tensor, height: int, width: int) -> Tensor:
    """Masks `[n, height, width]` float32 that are 1 at one cell each, numbered row by row: `cells [n]` int64."""
    return F.one_hot(cells, height * width).float().unflatten(1, (height, width))


@dataclass(frozen=True)
class Painted:
    """Images before and after units were set under a mask, and what a segmenter of pixels finds in them."""

    before: Tensor
    """`[n, 3, H, W]` in [-1, 1]."""
    after: Tensor
    parts_before: Tensor
    """Labels `[n, h, w]` int64, 0 the background."""
    parts_after: Tensor
    covered: Tensor
    """Share of the mask that each label has after the edit, `[n, 1 + labels]` in [0, 1]."""
    inside: Tensor
    """What each label gains of it, `[n, 1 + labels]` in [-1, 1]: 0 of a label that was there before and still is."""
    outside: Tensor
    """The same outside the mask, as a fraction of what lies outside; NaN where nothing does."""
    refused: Tensor
    """Whether the generator refuses, `[n]` bool: after the edit the label covers less than `APPEARS` of the mask,
    whether or not it was there before (`inside` says what it gained); without a label, less than that of the mask has
    another label than before."""


@torch.no_grad()
def paint(
    generator: Generator | Editable,
    w: Tensor,
    edit: UnitEdit,
    mask: Tensor,
    segmenter: PixelSegmenter,
    label: int | None = None,
) -> Painted:
    """Set units of a layer under a mask, and see what comes of it, in one pass through generator and segmenter.

    Args:
        generator: any, edited as of `lis.generators.editing.edited`.
        w: style codes `[n, w_dim]`.
        edit: the units, and what they are set to.
        mask: `[h, w]` in [0, 1], no smaller than the map of the layer; a pixel of at least 1/2 is painted.
        segmenter: reads pixels alone.
        label: what is painted, its number as in `Painted.parts_after`; None: whatever the units bring.

    Raises:
        ValueError: a layer that is unknown or cannot be edited, an unknown unit or label, or a mask of another shape,
            without a painted pixel.
    """
    labels = len(segmenter.labels)
    if label is not None and not 0 <= label <= labels:
        raise ValueError(f"label {label}: expected 0, the background, to {labels}")
    if mask.dim() != 2:
        raise ValueError(f"the mask has shape {list(mask.shape)}: expected [h, w], the same for all images")
    masks = torch.stack([torch.zeros_like(mask), mask]).repeat_interleave(len(w), 0)
    image = edited(generator).synthesize_edited(torch.cat([w, w]), edit.edits(masks))
    parts = segmenter.segment(image)
    before, after = parts.chunk(2)
    size = (parts.shape[1], parts.shape[2])
    under = F.adaptive_avg_pool2d(mask.to(image)[None], size)[0] >= 0.5
    if not under.any():
        raise ValueError(f"no pixel of the mask {list(mask.shape)} is at least 1/2: expected one that is painted")
    inside, outside = (
        (segmenter.count(after[:, where]) - segmenter.count(before[:, where])).double() / where.sum()
        for where in (under, ~under)
    )
    covered = segmenter.count(after[:, under]).double() / under.sum()
    changed = (before != after)[:, under].double().mean(1)
    refused = (changed if label is None else covered[:, label]) < APPEARS
    first, second = image.chunk(2)
    return Painted(first, second, before, after, covered, inside, outside, refused)
