"""Is the IoU of a unit with a concept above that with masks of other images of the same class?"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from lis.dissection.activations import Border, upsample_activations
from lis.statistics import q_values
from lis.streams import Stream

_AT_ONCE = 2**25
"""Overlaps of pairs of images in memory at once."""


@dataclass(frozen=True)
class PermutationTest:
    """The IoU under permutations of the images within their classes; NaN of dead units and absent concepts."""

    mean: Tensor
    """Of the permutations, `[units, concepts]` float64 in [0, 1]."""
    sd: Tensor
    p: Tensor
    """(1 + permutations that reach the IoU) / (1 + permutations), `[units, concepts]`."""
    q: Tensor
    """Benjamini–Hochberg over all units and concepts, `[units, concepts]`."""


def permutation_test(
    maps: Tensor,
    thresholds: Tensor,
    concepts: Tensor,
    class_index: Tensor,
    permutations: int = 1000,
    seed: int = 0,
    border: Border = "fade",
) -> PermutationTest:
    """Test of the IoU of units with concepts, where masks of concepts are permuted among images of the same class.

    Permutations keep the area of every unit and concept, so that only the intersection changes. What holds of a class
    as a whole (figures stand in the middle) is in the null, too.

    Args:
        maps: `[n, units, h, w]` floating.
        thresholds: `[units]`; a unit is active strictly above.
        concepts: masks `[n, concepts, H, W]` bool.
        class_index: `[n]` int64.
        permutations: draws of the null.
        seed: of the run.
        border: of `upsample_activations`.
    """
    classes = [(class_index == c).nonzero()[:, 0] for c in class_index.unique()]
    orders = [_orders(len(rows), permutations, seed, c) for c, rows in enumerate(classes)]
    largest = max(len(rows) for rows in classes)
    at_once = max(1, _AT_ONCE // (largest**2 * concepts.shape[1]))
    statistics = []
    for units in torch.arange(maps.shape[1]).split(at_once):
        part = upsample_activations(maps[:, units].float(), (concepts.shape[2], concepts.shape[3]), border)
        active = (part > thresholds[units, None, None]).flatten(2)
        statistics.append(_tested(active, concepts.flatten(2), classes, orders))
    mean, sd, p = (torch.cat(column) for column in zip(*statistics, strict=True))
    return PermutationTest(mean, sd, p, q_values(p)[0])


def _orders(n: int, permutations: int, seed: int, index: int) -> Tensor:
    """Permutations `[1 + permutations, n]` of the images of a class, the first of which changes nothing."""
    rng = Stream("dissect", seed).rng(index=index)
    drawn = [torch.from_numpy(rng.permutation(n)) for _ in range(permutations)]
    return torch.stack([torch.arange(n), *drawn])


def _tested(
    active: Tensor, concepts: Tensor, classes: list[Tensor], orders: list[Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, standard deviation and p of `active [n, units, pixels]` against `concepts [n, concepts, pixels]`."""
    intersection = sum(
        _intersections(active[rows], concepts[rows], order) for rows, order in zip(classes, orders, strict=True)
    )
    area_unit, area_concept = active.sum((0, 2)), concepts.sum((0, 2))
    live = (area_unit > 0)[:, None] & (area_concept > 0)
    iou = intersection / (area_unit[:, None] + area_concept - intersection)
    null = iou[1:]
    p = (1 + (null >= iou[0]).sum(0)).double() / (1 + len(null))
    mean, sd, p = (x.where(live, math.nan) for x in (null.mean(0), null.std(0), p))
    return mean, sd, p


def _intersections(active: Tensor, concepts: Tensor, orders: Tensor) -> Tensor:
    """Pixels in both, `[1 + permutations, units, concepts]` float64, when image i meets the masks of image order[i]."""
    n, units = active.shape[:2]
    overlap = torch.einsum("iup,jcp->ijuc", active.float(), concepts.float()).round().double()
    pairs = torch.arange(n) * n + orders
    return F.embedding_bag(pairs, overlap.reshape(n * n, -1), mode="sum").unflatten(1, (units, -1))
