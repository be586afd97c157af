"""Is an IoU above chance? The control: concept masks of other images of the same class."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from lis.dissection.activations import Border, upsample_activations
from lis.dissection.agreement import MIN_IOU, AgreementCounts, label_units
from lis.statistics import EXCEEDED, q_values

PERMUTATIONS = 1000
_AT_ONCE = 2**24
"""Numbers of a chunk of units in memory at once."""


@dataclass(frozen=True)
class PermutationTest:
    """IoU of units and concepts beside that with the masks of other images; each field is `[units, concepts]` float64.

    NaN of a dead unit and of an absent concept.
    """

    iou: Tensor
    """Observed, in [0, 1]."""
    mean: Tensor
    """Mean over the permutations: the IoU at chance."""
    sd: Tensor
    """Standard deviation over the permutations."""
    p_counted: Tensor
    """(1 + permutations with at least the observed IoU) / (1 + permutations), in (0, 1]."""
    p: Tensor
    """`p_counted` where at least `EXCEEDED` permutations exceed, or where the control does not vary. Otherwise it is
    counted among the standardised controls of all units for the concept: (1 + exceeding) / (1 + all of them). Units
    share permutations, so that these are fewer independent draws than their number."""
    q: Tensor
    """Benjamini–Hochberg over units × concepts."""
    p_label: Tensor
    """Of a concept as the label of a unit, the best of many: (1 + permutations in which the standardised IoU of any
    concept that may label the unit is as high) / (1 + permutations), the single-step maxT of Westfall & Young (1993).
    Unlike the pooled `p` it is exact for concepts in few images, whose control is skewed."""
    detectors: Tensor
    """Detectors at chance: units whose highest IoU is with a concept and above the least one, in each permutation,
    `[permutations, concepts]` int64."""


def permutation_test(
    maps: Tensor,
    thresholds: Tensor,
    concepts: Tensor,
    class_index: Tensor,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
    border: Border = "fade",
    min_iou: float = MIN_IOU,
    ignore: Sequence[int] = (),
) -> PermutationTest:
    """Compare the IoU of units and concepts with that of pairs of different images of the same class.

    A permutation gives each image the concept masks of another one of its class (a derangement). Where figures stand at
    the same position in all images, a unit that fires there has a high IoU, and one as high at chance. It tests whether
    a unit follows the concept from image to image, not whether it would among images of another class.

    The overlaps of all pairs of images of a class are computed once, in time ∝ Σ n_k² · units · concepts · pixels; a
    permutation sums n of them. An image that is alone in its class stays with its own masks.

    Args:
        maps: `[n, units, h, w]` floating.
        thresholds: `[units]`; a unit is active strictly above.
        concepts: `[n, concepts, H, W]` bool.
        class_index: class of each image, `[n]` int64.
        permutations: how many.
        seed: of the permutations.
        border: of `upsample_activations`.
        min_iou: a detector is above it.
        ignore: indices of concepts that label no unit.

    Raises:
        ValueError: the classes have fewer derangements than permutations.

    Source:
        Phipson & Smyth 2010, "Permutation p-values should never be zero".
    """
    groups = [(class_index == k).nonzero().flatten() for k in class_index.unique()]
    orders = _derangements([len(group) for group in groups], permutations, np.random.default_rng(seed))
    counts = AgreementCounts(thresholds, concepts.shape[1], border=border)
    counts.add(maps, concepts)
    null = torch.zeros(permutations, *counts.iou.shape, dtype=torch.int32)
    for group, order in zip(groups, orders, strict=True):
        rows = torch.arange(len(group)) * len(group) + order
        for units in torch.arange(len(thresholds)).split(_units_at_once(len(group), concepts)):
            active = _active(maps[group][:, units], thresholds[units], concepts, border)
            null[:, units] += _permuted(_pair_overlap(active, concepts[group]), rows)
    return _test(counts, null, _detectors(counts, null, min_iou, ignore), ignore)


def _derangements(sizes: list[int], draws: int, rng: np.random.Generator) -> list[Tensor]:
    """Of each class, drawn orders without a fixed point, `[draws, n]` int64; a single image stays."""
    number = math.prod(_subfactorial(n) for n in sizes if n > 1) if max(sizes, default=0) > 1 else 0
    if number < draws:
        raise ValueError(
            f"classes of {sizes} images have {number} ways to exchange them all: expected at least {draws}; give more "
            "images of a class"
        )
    return [_class_derangements(n, draws, rng) for n in sizes]


def _subfactorial(n: int) -> int:
    """Number of derangements, !n = n !(n − 1) + (−1)ⁿ."""
    result = 1
    for k in range(1, n + 1):
        result = k * result + (-1) ** k
    return result


def _class_derangements(n: int, draws: int, rng: np.random.Generator) -> Tensor:
    """Uniform derangements `[draws, n]` by rejection: one of e orders has no fixed point."""
    accepted = np.zeros((draws if n == 1 else 0, n), dtype=np.int64)
    while len(accepted) < draws:
        orders = rng.permuted(np.tile(np.arange(n), (draws, 1)), axis=1)
        accepted = np.concatenate([accepted, orders[(orders != np.arange(n)).all(1)]])
    return torch.from_numpy(accepted[:draws])


def _units_at_once(images: int, concepts: Tensor) -> int:
    each = images * max(math.prod(concepts.shape[2:]), images * concepts.shape[1])
    return max(1, _AT_ONCE // each)


def _active(maps: Tensor, thresholds: Tensor, concepts: Tensor, border: Border) -> Tensor:
    """Masks `[n, units, H, W]` bool at the resolution of the concepts."""
    size = concepts.shape[-2], concepts.shape[-1]
    return upsample_activations(maps.float(), size, border) > thresholds[:, None, None]


def _pair_overlap(active: Tensor, concepts: Tensor) -> Tensor:
    """P[i, j, u, c]: pixels of unit u in image i that concept c has in image j, `[n, n, units, concepts]` float32.

    Of concepts that hold for whole images, as factors do, these are all pixels of the unit, or none.
    """
    units, masks = active.flatten(2).float(), concepts.flatten(2)
    of_images = (masks == masks[..., :1]).all(2).all(0)
    n, count = units.shape[:2]
    result = torch.empty(n, n, count, masks.shape[1])
    products = units.flatten(0, 1) @ masks[:, ~of_images].flatten(0, 1).float().T
    result[..., ~of_images] = products.reshape(n, count, n, -1).movedim(2, 1)
    result[..., of_images] = units.sum(2)[:, None, :, None] * masks[None, :, None, of_images, 0]
    return result


def _permuted(overlap: Tensor, rows: Tensor) -> Tensor:
    """Σ_i P[i, π(i)] of each permutation, `[permutations, units, concepts]` int32; `rows` are i n + π(i)."""
    sums = F.embedding_bag(rows, overlap.flatten(0, 1).flatten(1), mode="sum")
    return sums.reshape(len(rows), *overlap.shape[2:]).round().int()


def _detectors(counts: AgreementCounts, null: Tensor, min_iou: float, ignore: Sequence[int]) -> Tensor:
    """Detectors of each concept in each permutation of `null [permutations, units, concepts]`."""
    areas = counts.area_unit[:, None] + counts.area_concept
    rows = [label_units(each / (areas - each), min_iou, ignore=ignore) for each in map(torch.Tensor.double, null)]
    units = [labels.best_concept[labels.detector] for labels in rows]
    return torch.stack([torch.bincount(each, minlength=areas.shape[1]) for each in units])


def _test(counts: AgreementCounts, null: Tensor, detectors: Tensor, ignore: Sequence[int]) -> PermutationTest:
    """Results, of the intersections at chance `null [permutations, units, concepts]`.

    The areas are the same in all permutations, so that IoU and intersection order them alike.
    """
    areas = counts.area_unit[:, None] + counts.area_concept
    mean, sd, p_pooled = (torch.empty(areas.shape, dtype=torch.float64) for _ in range(3))
    live = ~counts.iou.isnan()
    for c in range(areas.shape[1]):
        control = null[..., c].double() / (areas[:, c] - null[..., c])
        mean[:, c], sd[:, c] = control.mean(0), control.std(0, correction=0)
        p_pooled[:, c] = _pooled_p(counts.iou[:, c], control, live[:, c])
    exceeding = (null >= counts.intersection).sum(0)
    p_counted = ((1 + exceeding.double()) / (1 + len(null))).where(live, math.nan)
    p = p_counted.where((exceeding >= EXCEEDED) | p_pooled.isnan(), p_pooled)
    mean, sd = (x.where(live, math.nan) for x in (mean, sd))
    p_label = _label_p(counts, null, mean, sd, ignore)
    return PermutationTest(counts.iou, mean, sd, p_counted, p, q_values(p)[0], p_label, detectors)


def _label_p(counts: AgreementCounts, null: Tensor, mean: Tensor, sd: Tensor, ignore: Sequence[int]) -> Tensor:
    """`PermutationTest.p_label`; NaN where the control does not vary, and of the concepts that label none."""
    areas = counts.area_unit[:, None] + counts.area_concept
    candidates = [c for c in range(areas.shape[1]) if c not in ignore]
    highest = torch.full(null.shape[:2], -math.inf, dtype=torch.float64)
    for c in candidates:
        z = (null[..., c].double() / (areas[:, c] - null[..., c]) - mean[:, c]) / sd[:, c]
        highest = torch.fmax(highest, z.where(sd[:, c] > 0, -math.inf))
    observed = ((counts.iou - mean) / sd).where(sd > 0, math.nan)
    result = torch.full(areas.shape, math.nan, dtype=torch.float64)
    for c in candidates:
        p = (1 + (highest >= observed[:, c]).sum(0).double()) / (1 + len(null))
        result[:, c] = p.where(~observed[:, c].isnan(), math.nan)
    return result


def _pooled_p(observed: Tensor, control: Tensor, live: Tensor) -> Tensor:
    """p `[units]` among the standardised controls of all live units, of one concept.

    Args:
        observed: IoU `[units]`.
        control: IoU of permutations `[permutations, units]`.
        live: units whose IoU is defined, `[units]` bool.

    Returns:
        float64; NaN where the control does not vary.
    """
    mean, sd = control.mean(0), control.std(0, correction=0)
    varies = live & (sd > 0)
    pool = ((control - mean) / sd)[:, varies].flatten().sort().values
    exceeding = len(pool) - torch.searchsorted(pool, ((observed - mean) / sd).nan_to_num())
    return ((1 + exceeding.double()) / (1 + len(pool))).where(varies, math.nan)
