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

from lis.generators.layers import require_editable
from lis.types import Generator

BAND = 2.58
"""Standard errors to each side of a mean: 99 % of a normal distribution."""
Segment = Callable[[Tensor], Tensor]
"""Labels `[n, h, w]` int64, 0 the background, of images `[n, 3, H, W]` in [-1, 1]: it sees pixels alone."""


def edit_of(
    units: Sequence[int] | Tensor, value: float | Tensor = 0.0, mask: Tensor | None = None
) -> Callable[[Tensor], Tensor]:
    """A function that sets units of a map: x[u] ← (1 − m) x[u] + m v, out of place.

    Args:
        units: indices of the units, `[k]`.
        value: v, one for all units or `[k]`, such as their quantiles.
        mask: m in [0, 1], `[h, w]` or one per image `[n, h, w]`, at any resolution: a cell of the map gets the mean of
            what it covers. None: 1 everywhere.

    Returns:
        a function of maps `[n, channels, h, w]`. It raises ValueError where the map has not these units, or the mask is
        of another number of images.

    Raises:
        ValueError: as many values as units are not given, or a mask beyond [0, 1] or of another shape.

    Example:
        >>> edit_of([1], 5.0)(torch.zeros(1, 2, 1, 1)).flatten().tolist()
        [0.0, 5.0]
    """
    index = torch.as_tensor(units, dtype=torch.int64)
    values = torch.as_tensor(value, dtype=torch.float32)
    if values.dim() and values.shape != index.shape:
        raise ValueError(f"{list(values.shape)} values for {len(index)} units: expected one for all, or one per unit")
    if mask is not None:
        _validate_mask(mask)

    def edit(x: Tensor) -> Tensor:
        if len(index) and not 0 <= int(index.min()) <= int(index.max()) < x.shape[1]:
            raise ValueError(f"units {index.tolist()} of a map of {x.shape[1]}: expected 0 to {x.shape[1] - 1}")
        selected, v = x[:, index.to(x.device)], values.to(x).view(-1, 1, 1)
        m = x.new_ones(1, 1, 1, 1) if mask is None else _averaged(mask, x)
        result = x.clone()
        result[:, index.to(x.device)] = selected * (1 - m) + v * m
        return result

    return edit


def _validate_mask(mask: Tensor) -> None:
    if mask.dim() not in (2, 3) or not mask.numel():
        raise ValueError(f"the mask has shape {list(mask.shape)}: expected [h, w] or [n, h, w]")
    if not 0 <= float(mask.min()) <= float(mask.max()) <= 1:
        raise ValueError(f"the mask goes from {float(mask.min()):g} to {float(mask.max()):g}: expected 0 to 1")


def _averaged(mask: Tensor, x: Tensor) -> Tensor:
    """A mask as the mean over each cell of a map x `[n, channels, h, w]`: `[n or 1, 1, h, w]`."""
    m = mask.to(x)[None, None] if mask.dim() == 2 else mask.to(x)[:, None]
    if len(m) not in (1, len(x)):
        raise ValueError(f"{len(m)} masks for {len(x)} images: expected one for all, or one per image")
    return F.interpolate(m, x.shape[-2:], mode="area")


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


def removal_curve(
    fraction: Callable[[Sequence[int]], Tensor], order: Sequence[int], counts: Sequence[int]
) -> FractionChange:
    """What the removal of the first k units of an order takes of a concept, for every k: shapes `[counts]`.

    Args:
        fraction: fraction of each image that shows the concept `[n]`, given the units that are removed.
        order: units, the first one is removed first.
        counts: the k, each at most as many as there are units.

    Raises:
        ValueError: more units are to be removed than the order has.
    """
    if counts and not 0 <= min(counts) <= max(counts) <= len(order):
        raise ValueError(f"counts {list(counts)} of {len(order)} units: expected 0 to {len(order)}")
    base = fraction([])
    changes = [concept_fraction_change(base, fraction(order[:k])) for k in counts]
    return FractionChange(*(torch.stack([getattr(c, name) for c in changes]) for name in ("change", "low", "high")))


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
    """Variance of Δ pixels over the insertions of the context (over n), `[K, C]`; NaN below `min_count`."""


def insertion_by_context(delta: Tensor, context: Tensor, min_count: int = 1000) -> ContextEffects:
    """Mean and variance of what insertions change, by the original label at the cell that was edited.

    Moments are of all insertions of a context at once; the running variance of the published code shrinks the part
    between batches and is not that.

    Args:
        delta: pixels of every concept after less before, `[m, C]`, of m insertions.
        context: label at the cell before, `[m]` integers.
        min_count: contexts with fewer insertions are NaN.

    Raises:
        ValueError: as many contexts as insertions are not given.

    Example:
        >>> insertion_by_context(torch.tensor([[1.0], [3.0]]), torch.tensor([4, 4]), 2).variance
        tensor([[1.]], dtype=torch.float64)
    """
    if delta.dim() != 2 or context.shape != delta.shape[:1]:
        raise ValueError(f"delta {list(delta.shape)} and context {list(context.shape)}: expected [m, C] and [m]")
    labels, index, count = context.long().unique(return_inverse=True, return_counts=True)
    sums = delta.new_zeros(len(labels), delta.shape[1], dtype=torch.float64)
    mean = sums.index_add(0, index, delta.double()) / count[:, None]
    variance = sums.index_add(0, index, (delta.double() - mean[index]).square()) / count[:, None]
    enough = (count >= min_count)[:, None]
    return ContextEffects(labels, count, mean.where(enough, torch.nan), variance.where(enough, torch.nan))


@dataclass(frozen=True)
class Painted:
    """Images before and after units were set under a mask, and what an RGB segmenter sees in them."""

    before: Tensor
    """`[n, 3, H, W]` in [-1, 1]."""
    after: Tensor
    parts_before: Tensor
    """Labels `[n, h, w]` int64, 0 the background."""
    parts_after: Tensor
    inside: Tensor
    """Change of every label's area under the mask, `[n, 1 + labels]`, as a fraction of the mask."""
    outside: Tensor
    """The same outside the mask, as a fraction of what lies outside."""
    refused: Tensor
    """Whether what was painted does not appear, `[n]` bool: under the mask the RGB segmentation shows no more of the
    label than before; without a label, no pixel under the mask has another one than before."""


@torch.no_grad()
def paint(
    generator: Generator,
    w: Tensor,
    layer: str,
    units: Sequence[int] | Tensor,
    value: float | Tensor,
    mask: Tensor,
    segment: Segment,
    labels: int,
    label: int | None = None,
) -> Painted:
    """Set units of a layer under a mask, and see what comes of it, in one pass through generator and segmenter.

    Args:
        generator: one whose maps can be edited.
        w: style codes `[n, w_dim]`.
        layer: name of the layer.
        units: indices of its units `[k]`.
        value: what they are set to, one number or `[k]`: 0 or a low quantile to remove, a high quantile to paint.
        mask: `[h, w]` in [0, 1], at any resolution.
        segment: reads pixels alone.
        labels: how many labels it knows besides the background.
        label: what is painted, 1 to `labels` (0: the background); None: whatever the units bring.

    Raises:
        ValueError: a generator that cannot be edited, an unknown layer, unit or label, or a mask of another shape,
            without a pixel of at least 1/2.
    """
    if label is not None and not 0 <= label <= labels:
        raise ValueError(f"label {label}: expected 0, the background, to {labels}")
    if mask.dim() != 2:
        raise ValueError(f"the mask has shape {list(mask.shape)}: expected [h, w], the same for all images")
    masks = torch.stack([torch.zeros_like(mask), mask]).repeat_interleave(len(w), 0)
    edits = {layer: edit_of(units, value, masks)}
    image = require_editable(generator).synthesize_edited(torch.cat([w, w]), edits)
    parts = segment(image)
    before, after = parts.chunk(2)
    under = _averaged(mask, image.new_empty(1, 1, *parts.shape[-2:]))[0, 0] >= 0.5
    if not under.any():
        raise ValueError(f"no pixel of the mask {list(mask.shape)} is at least 1/2: expected one that is painted")
    inside, outside = (_area_change(before, after, where, labels) for where in (under, ~under))
    unchanged = (before == after)[:, under].all(1)
    refused = unchanged if label is None else inside[:, label] <= 0
    first, second = image.chunk(2)
    return Painted(first, second, before, after, inside, outside, refused)


def _area_change(before: Tensor, after: Tensor, where: Tensor, labels: int) -> Tensor:
    """Fraction of the pixels of a region that each label gains, `[n, 1 + labels]`; NaN for a region without pixels."""
    shares = [F.one_hot(parts[:, where], labels + 1).double().mean(1) for parts in (before, after)]
    return shares[1] - shares[0]
