"""Is an IoU above chance? The control: concept masks of other images of the same class."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from lis.dissection.agreement import MIN_IMAGES, MIN_IOU, AgreementCounts, label_units
from lis.dissection.upsampling import EVEN, Upsampling
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
    """Observed on the images of the permutations, in [0, 1]."""
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
    Mean and standard deviation are over the permutations and the observed value, which is one of the exchangeable
    ones, so that the test is exact for any number of permutations; a concept whose control does not vary has 0."""
    excess: Tensor
    """That standardised IoU: standard deviations above the mean at chance."""
    detectors: Tensor
    """Detectors at chance: units whose highest IoU is with a concept and above the least one, in each permutation,
    `[permutations, concepts]` int64. As those observed, they overlap with it on `MIN_IMAGES` images or more."""
    observed_detectors: Tensor
    """Detectors of each concept on the same images, without permutation, `[concepts]` int64."""


def permutation_test(
    maps: Tensor,
    thresholds: Tensor,
    concepts: Tensor,
    class_index: Tensor,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
    upsampling: Upsampling = EVEN,
    min_iou: float = MIN_IOU,
    ignore: Sequence[int] = (),
) -> PermutationTest:
    """Compare the IoU of units and concepts with that of the concept masks of other images of the same class.

    A permutation gives each image the concept masks of any one of its class. That may be itself, once per class on
    average: without these, the observed pairs would be none of the pairs drawn from, and p too small where a concept is
    in few images. Where figures stand at the same position in all images, a unit that fires there has a high IoU, and
    one as high at chance. It tests whether a unit follows the concept from image to image, not whether it would among
    images of another class.

    The overlaps of all pairs of images of a class are computed once, in time ∝ Σ n_k² · units · concepts · pixels; a
    permutation sums n of them. An image that is alone in its class stays with its own masks.

    Args:
        maps: `[n, units, h, w]` floating.
        thresholds: `[units]`; a unit is active strictly above.
        concepts: `[n, concepts, H, W]` bool.
        class_index: class of each image, `[n]` int64.
        permutations: how many.
        seed: of the permutations.
        upsampling: of maps to the size of the masks.
        min_iou: a detector is above it.
        ignore: indices of concepts that label no unit.

    Raises:
        ValueError: as `require_orders`.

    Source:
        Phipson & Smyth 2010, "Permutation p-values should never be zero".
    """
    require_orders(class_index, permutations)
    counts = PermutationCounts(thresholds, concepts.shape[1], permutations, np.random.default_rng(seed), upsampling)
    for k in class_index.unique():
        counts.add(maps[class_index == k], concepts[class_index == k])
    return counts.test(min_iou, ignore)


def require_orders(class_index: Tensor, permutations: int) -> None:
    """Check that images can be exchanged within their classes in as many orders as there are permutations.

    Args:
        class_index: class of each image, `[n]` int64.
        permutations: how many.

    Raises:
        ValueError: no class has two images, or there are fewer orders than permutations.
    """
    sizes = class_index.unique(return_counts=True)[1].tolist()
    if max(sizes, default=0) < 2:
        raise ValueError(
            "no class has two scored images: expected two of a class, whose masks are exchanged for the control; give "
            "more images of a class (a folder: four pictures of a class, of which half are scored)"
        )
    number = math.prod(map(math.factorial, sizes))
    if number < permutations:
        raise ValueError(
            f"classes of {sizes} images have {number} orders within them: expected at least {permutations}; give more "
            "images of a class, or ask for fewer permutations"
        )


class PermutationCounts:
    """Overlaps of units and concepts under permutations, taken in a class at a time.

    Args:
        thresholds: `[units]`; a unit is active strictly above.
        concepts: how many.
        permutations: how many.
        rng: of the permutations.
        upsampling: of maps to the size of the masks.
    """

    def __init__(
        self,
        thresholds: Tensor,
        concepts: int,
        permutations: int,
        rng: np.random.Generator,
        upsampling: Upsampling = EVEN,
    ) -> None:
        self._counts = AgreementCounts(thresholds, concepts, upsampling=upsampling)
        shape = permutations, len(thresholds), concepts
        self._intersection, self._images_met = (torch.zeros(shape, dtype=torch.int32) for _ in range(2))
        self._permutations, self._rng = permutations, rng

    def add(self, maps: Tensor, concepts: Tensor) -> None:
        """Count the images of a class.

        Args:
            maps: `[n, units, h, w]` floating.
            concepts: `[n, concepts, H, W]` bool.
        """
        self._counts.add(maps, concepts)
        thresholds, size = self._counts.thresholds, (concepts.shape[-2], concepts.shape[-1])
        rows = torch.arange(len(maps)) * len(maps) + _orders(len(maps), self._permutations, self._rng)
        for units in torch.arange(len(thresholds)).split(_units_at_once(len(maps), concepts)):
            active = self._counts.upsampling(maps[:, units].float(), size) > thresholds[units][:, None, None]
            overlap = _pair_overlap(active, concepts)
            self._intersection[:, units] += _permuted(overlap, rows)
            self._images_met[:, units] += _permuted(overlap.clamp_(max=1), rows)

    def test(self, min_iou: float = MIN_IOU, ignore: Sequence[int] = ()) -> PermutationTest:
        """What `permutation_test` returns; arguments as there."""
        counts, null = self._counts, self._intersection
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
        (p_label, excess), (observed, *detectors) = _label_p(counts, null, ignore), self._detectors(min_iou, ignore)
        return PermutationTest(
            counts.iou, mean, sd, p_counted, p, q_values(p)[0], p_label, excess, torch.stack(detectors), observed
        )

    def _detectors(self, min_iou: float, ignore: Sequence[int]) -> Iterator[Tensor]:
        """Detectors of each concept `[concepts]`: those observed, then those of each permutation."""
        areas = self._counts.area_unit[:, None] + self._counts.area_concept
        live = ~self._counts.iou.isnan()
        observed = self._counts.intersection, self._counts.images_met
        for intersection, met in [observed, *zip(self._intersection, self._images_met, strict=True)]:
            iou = (intersection.double() / (areas - intersection)).where(live, math.nan)
            labels = label_units(iou, min_iou, met, MIN_IMAGES, ignore)
            yield torch.bincount(labels.best_concept[labels.detector], minlength=areas.shape[1])


def permutation_bytes(
    shape: tuple[int, int, int], images: int, concepts: int, size: int, permutations: int = PERMUTATIONS
) -> int:
    """Bytes that `PermutationCounts` and what it is given take.

    Args:
        shape: units, height and width of the maps.
        images: of the largest class.
        concepts: how many.
        size: height and width of the masks in pixels.
        permutations: how many.
    """
    pixels = size**2
    given = images * (4 * math.prod(shape) + 5 * concepts * pixels)
    chunk = 12 * max(_AT_ONCE, images * max(pixels, images * concepts))
    return given + chunk + permutations * shape[0] * (16 * concepts + 64)


def _orders(images: int, draws: int, rng: np.random.Generator) -> Tensor:
    """Drawn orders of the images of a class, `[draws, images]` int64."""
    return torch.from_numpy(rng.permuted(np.tile(np.arange(images), (draws, 1)), axis=1))


def _units_at_once(images: int, concepts: Tensor) -> int:
    each = images * max(math.prod(concepts.shape[2:]), images * concepts.shape[1])
    return max(1, _AT_ONCE // each)


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


def _label_p(counts: AgreementCounts, null: Tensor, ignore: Sequence[int]) -> tuple[Tensor, Tensor]:
    """`p_label` and `excess` of `PermutationTest`, of the intersections at chance `[permutations, units, concepts]`.

    The areas are the same in all permutations, so that IoU and intersection order them alike.
    """
    areas = counts.area_unit[:, None] + counts.area_concept
    candidates = [c for c in range(areas.shape[1]) if c not in ignore]
    highest = torch.full((1 + len(null), len(areas)), -math.inf, dtype=torch.float64)
    p, excess = (torch.full(areas.shape, math.nan, dtype=torch.float64) for _ in range(2))
    for c in candidates:
        overlap = torch.cat([counts.intersection[None, :, c], null[..., c]])
        standard = _standardised(overlap.double() / (areas[:, c] - overlap))
        highest, excess[:, c] = torch.maximum(highest, standard), standard[0]
    for c in candidates:
        p[:, c] = (highest >= excess[:, c]).double().mean(0)
    live = ~counts.iou.isnan()
    return p.where(live, math.nan), excess.where(live, math.nan)


def _standardised(values: Tensor) -> Tensor:
    """z = (x − mean) / standard deviation of each column of `values [n, units]`; 0 where a column does not vary."""
    varies = values.amax(0) > values.amin(0)
    return ((values - values.mean(0)) / values.std(0, correction=0)).where(varies, 0.0)


def _pooled_p(observed: Tensor, control: Tensor, live: Tensor) -> Tensor:
    """p `[units]` among the standardised controls of all live units, of one concept.

    Mean and standard deviation are over the control and the observed value.

    Args:
        observed: IoU `[units]`.
        control: IoU of permutations `[permutations, units]`.
        live: units whose IoU is defined, `[units]` bool.

    Returns:
        float64; NaN where the control does not vary.
    """
    varies = live & (control.amax(0) > control.amin(0))
    standard = _standardised(torch.cat([observed[None], control]))
    pool = standard[1:, varies].flatten().sort().values
    exceeding = len(pool) - torch.searchsorted(pool, standard[0].contiguous())
    return ((1 + exceeding.double()) / (1 + len(pool))).where(varies, math.nan)
