"""How well the masks of units agree with those of concepts (Bau et al. 2020), counted over any number of images."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lis.dissection.upsampling import EVEN, Upsampling

MIN_IOU = 0.04
"""IoU above which a unit detects a concept (Bau et al. 2020)."""
MIN_IMAGES = 5
"""Images on which the masks of a unit and of a concept must overlap before one labels the other."""
CURVE_LEVELS = (*(k / 20 for k in range(1, 18)), *(1 - 10 ** (-k / 8) for k in range(7, 33)))
"""Quantiles of a unit that bound the bins of its precision–recall and ROC curves, denser at the upper end."""
_AT_ONCE = 2**21
"""Enlarged activations in memory at once."""
_BOUNDS = ("thresholds", "edges", "upsampling")
"""What counts are taken with, beside the sums."""


class AgreementCounts:
    """Sums over pixels, from which every measure of agreement between units and concepts follows.

    The counts are integers; the result depends neither on batches nor on their order (the sums of `pearson`, which are
    float64, to rounding).

    Args:
        thresholds: t, above which (strictly) a unit is active, `[units]`.
        concepts: how many.
        edges: bounds of the bins of `auprc` and `auc`, `[units, bins - 1]`, ascending; those are not counted without.
        upsampling: of maps to the size of the masks.

    Raises:
        ValueError: edges of other units than the thresholds, or that descend.
    """

    def __init__(
        self, thresholds: Tensor, concepts: int, edges: Tensor | None = None, upsampling: Upsampling = EVEN
    ) -> None:
        if edges is not None and (len(edges) != len(thresholds) or bool((edges.diff(dim=1) < 0).any())):
            raise ValueError(f"edges {list(edges.shape)}: expected ascending [{len(thresholds)}, bins - 1]")
        units, device = len(thresholds), thresholds.device
        self.thresholds, self.edges = thresholds, edges
        self.upsampling = upsampling
        self.images, self.pixels = 0, 0
        pairs = {"dtype": torch.int64, "device": device}
        self.intersection = torch.zeros(units, concepts, **pairs)
        self.images_met = torch.zeros(units, concepts, **pairs)
        self.area_unit = torch.zeros(units, **pairs)
        self.area_concept = torch.zeros(concepts, **pairs)
        bins = 0 if edges is None else edges.shape[1] + 1
        self._positive = torch.zeros(units, bins, concepts, **pairs)
        self._all = torch.zeros(units, bins, **pairs)
        self._sum = torch.zeros(units, dtype=torch.float64, device=device)
        self._squares = torch.zeros(units, dtype=torch.float64, device=device)
        self._product = torch.zeros(units, concepts, dtype=torch.float64, device=device)

    def add(self, maps: Tensor, concepts: Tensor) -> None:
        """Count images.

        Args:
            maps: `[n, units, h, w]` floating.
            concepts: masks `[n, concepts, H, W]` bool, at the resolution that maps are enlarged to.

        Raises:
            ValueError: other numbers of images, units or concepts; activations that are not finite.
        """
        shapes = (len(maps), len(self.thresholds)), (len(concepts), len(self.area_concept))
        if len(maps) != len(concepts) or (tuple(maps.shape[:2]), tuple(concepts.shape[:2])) != shapes:
            raise ValueError(
                f"maps {list(maps.shape)} and concepts {list(concepts.shape)}: expected the same images, "
                f"{len(self.thresholds)} units and {len(self.area_concept)} concepts"
            )
        for map_part, concept_part in _chunks(maps, concepts):
            activations = self.upsampling(map_part.float(), _size(concepts)).flatten(2)
            self._add(activations, concept_part.flatten(2))

    def _add(self, activations: Tensor, concepts: Tensor) -> None:
        """Count `activations [n, units, pixels]` and `concepts [n, concepts, pixels]`."""
        exact = activations.double()
        total = exact.sum((0, 2))
        if not bool(total.isfinite().all()):
            raise ValueError(f"activations of units {(~total.isfinite()).nonzero().flatten().tolist()} are not finite")
        active = activations > self.thresholds[:, None]
        overlap = _overlap(active, concepts)
        self.images += len(activations)
        self.pixels += len(activations) * activations.shape[2]
        self.intersection += overlap.sum(0)
        self.images_met += (overlap > 0).sum(0)
        self.area_unit += active.sum((0, 2))
        self.area_concept += concepts.sum((0, 2))
        self._sum += total
        self._squares += exact.square().sum((0, 2))
        self._product += (exact @ concepts.double().mT).sum(0)
        if self.edges is not None:
            self._count_bins(activations, concepts)

    def _count_bins(self, activations: Tensor, concepts: Tensor) -> None:
        """Histograms of the activations, of all pixels and of those of each concept.

        Pixels with the same set of concepts are counted together, then each set is counted for its concepts.
        """
        assert self.edges is not None
        sets, member = concepts.movedim(1, 2).flatten(0, 1).unique(dim=0, return_inverse=True)
        values = activations.movedim(1, 0).flatten(1).contiguous()
        units, bins = self._all.shape
        index = torch.searchsorted(self.edges.contiguous(), values)
        index += torch.arange(units, device=values.device)[:, None] * bins
        counts = torch.bincount((index * len(sets) + member).flatten(), minlength=units * bins * len(sets))
        counts = counts.reshape(units, bins, len(sets))
        self._all += counts.sum(2)
        self._positive += (counts.double() @ sets.double()).long()

    def tensors(self) -> dict[str, Tensor]:
        """What a shard keeps, by name: all sums, and what they were counted with."""
        values = {**vars(self), "upsampling": self.upsampling.settings}
        return {name: torch.as_tensor(value) for name, value in values.items() if value is not None}

    def add_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Add what `tensors` of other counts with the same thresholds, edges and concepts has given.

        Raises:
            ValueError: the thresholds, the edges or the upsampling are others, or a sum is missing or of another shape;
                nothing is added.
        """
        self._require_alike(tensors)
        for name in tensors.keys() - _BOUNDS:
            current, value = getattr(self, name), tensors[name]
            setattr(self, name, current + (int(value) if isinstance(current, int) else value.to(current.device)))

    def _require_alike(self, tensors: Mapping[str, Tensor]) -> None:
        expected = self.tensors()
        for name in sorted(expected.keys() | tensors.keys()):
            a, b = expected.get(name), tensors.get(name)
            shapes = [None if x is None else list(x.shape) for x in (a, b)]
            if shapes[0] != shapes[1]:
                raise ValueError(f"counts with {name} of shape {shapes[1]}: expected {shapes[0]}, as of these counts")
            if name in _BOUNDS and a is not None and b is not None and not torch.equal(a, b.to(a)):
                raise ValueError(
                    f"counts with other {name} ({b.flatten()[:3].tolist()} …) than these ({a.flatten()[:3].tolist()} "
                    "…) cannot be added: count with the same"
                )

    @property
    def iou(self) -> Tensor:
        """I / (A + G − I), `[units, concepts]` float64 in [0, 1]; NaN of a dead unit and of an absent concept."""
        union = self.area_unit[:, None] + self.area_concept - self.intersection
        live = (self.area_unit[:, None] > 0) & (self.area_concept > 0)
        return (self.intersection.double() / union).where(live, math.nan)

    @property
    def pearson(self) -> Tensor:
        """Pearson's r of activation and mask over all pixels, `[units, concepts]`; NaN where one side is constant."""
        n = self.pixels
        covariance = self._product - self._sum[:, None] * self.area_concept / n
        variance_unit = self._squares - self._sum.square() / n
        variance_concept = self.area_concept * (1 - self.area_concept / n)
        varies = (variance_unit > 1e-12 * self._squares)[:, None] & (variance_concept > 0)
        return (covariance / (variance_unit[:, None] * variance_concept).sqrt()).where(varies, math.nan).clamp(-1, 1)

    @property
    def auprc(self) -> Tensor:
        """Average precision Σ_k (R_k − R_{k−1}) P_k of the binned activation, `[units, concepts]`.

        The control is the share of pixels of the concept, `area_concept / pixels`. NaN where there is no pixel, or
        every pixel, of the concept.

        Raises:
            ValueError: there are no edges.
        """
        positive, everything = self._cumulative()
        precision = positive / everything.clamp(min=1)[..., None]
        return self._curve((positive.diff(dim=1, prepend=torch.zeros_like(positive[:, :1])) * precision).sum(1), False)

    @property
    def auc(self) -> Tensor:
        """Area under the ROC curve of the binned activation, trapezoidal, `[units, concepts]`; 0.5 is chance.

        NaN as of `auprc`.

        Raises:
            ValueError: there are no edges.
        """
        positive, everything = self._cumulative()
        start = torch.zeros_like(positive[:, :1])
        hits, alarms = torch.cat([start, positive], 1), torch.cat([start, everything[..., None] - positive], 1)
        return self._curve(((hits[:, 1:] + hits[:, :-1]) / 2 * alarms.diff(dim=1)).sum(1), True)

    def _cumulative(self) -> tuple[Tensor, Tensor]:
        """Pixels at or above each bin, highest first: of concepts `[units, bins, concepts]`, of all `[units, bins]`."""
        if self.edges is None:
            raise ValueError("auprc and auc need bins of activations: pass edges=sketch.quantile(CURVE_LEVELS)")
        return tuple(counts.flip(1).cumsum(1).double() for counts in (self._positive, self._all))  # type: ignore[return-value]

    def _curve(self, area: Tensor, both: bool) -> Tensor:
        """An area in units of pixels as a share: of the positive pixels, or of the pairs with the negative ones."""
        negative = self.pixels - self.area_concept
        defined = (self.area_concept > 0) & (negative > 0)
        return (area / (self.area_concept * (negative if both else 1))).where(defined, math.nan)


def _chunks(maps: Tensor, concepts: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Images as many as are enlarged at once."""
    size = max(1, _AT_ONCE // max(1, maps.shape[1] * math.prod(_size(concepts))))
    return zip(maps.split(size), concepts.split(size), strict=True)


def _size(concepts: Tensor) -> tuple[int, int]:
    return concepts.shape[-2], concepts.shape[-1]


def _overlap(active: Tensor, concepts: Tensor) -> Tensor:
    """Pixels in both, `[n, units, concepts]` int64, of `active [n, units, pixels]` and `[n, concepts, pixels]`."""
    return (active.float() @ concepts.float().mT).round().long()


def concept_iou(maps: Tensor, concepts: Tensor, thresholds: Tensor, upsampling: Upsampling = EVEN) -> Tensor:
    """IoU of the thresholded units with concepts, of pixels counted over all images.

    Args:
        maps: `[n, units, h, w]`.
        concepts: `[n, concepts, H, W]` bool.
        thresholds: `[units]`; a unit is active strictly above.
        upsampling: of maps to the size of the masks.

    Returns:
        `[units, concepts]` float64 in [0, 1]; NaN of a dead unit and of an absent concept.

    Example:
        >>> left = torch.tensor([[[[True, False]]]])
        >>> concept_iou(torch.ones(1, 1, 1, 1), left, torch.zeros(1))
        tensor([[0.5000]], dtype=torch.float64)
    """
    counts = AgreementCounts(thresholds, concepts.shape[1], upsampling=upsampling)
    counts.add(maps, concepts)
    return counts.iou


@dataclass(frozen=True)
class UnitLabels:
    """The concept that each unit agrees with most."""

    best_concept: Tensor
    """`[units]` int64; −1 where there is none."""
    best_iou: Tensor
    """`[units]` in [0, 1]; NaN of a dead unit, and where no concept may label the unit."""
    detector: Tensor
    """`[units]` bool: the IoU exceeds the least one."""

    def of_best(self, values: Tensor, otherwise: float = math.nan) -> Tensor:
        """What `values [units, concepts]` has of the best concept of each unit, `[units]`; `otherwise` without one."""
        best = self.best_concept.to(values.device)
        return values.gather(1, best.clamp(min=0)[:, None])[:, 0].where(best >= 0, otherwise)

    def names(self, concepts: Sequence[str]) -> np.ndarray:
        """What the best concept of each unit is called, of the names of all: `[units]`; "" without one."""
        return np.array(["", *concepts])[self.best_concept.cpu().numpy() + 1]


def label_units(
    iou: Tensor,
    min_iou: float = MIN_IOU,
    images_met: Tensor | None = None,
    min_images: int = MIN_IMAGES,
    ignore: Sequence[int] = (),
) -> UnitLabels:
    """The concept of the highest IoU of each unit, and whether it detects it.

    Args:
        iou: `[units, concepts]`; NaN never wins.
        min_iou: a detector is above it.
        images_met: images on which both masks overlap, `[units, concepts]`.
        min_images: concepts with fewer of these do not label the unit.
        ignore: indices of concepts that label none, such as that of the background.

    Example:
        >>> label_units(torch.tensor([[0.9, 0.1], [0.0, 0.0], [torch.nan, torch.nan]]), ignore=(0,))
        UnitLabels(best_concept=tensor([ 1, -1, -1]), best_iou=tensor([0.1000, 0.0000,    nan]), \
detector=tensor([ True, False, False]))
    """
    candidate = ~iou.isnan()
    candidate[:, list(ignore)] = False
    if images_met is not None:
        candidate &= images_met >= min_images
    best_iou, best_concept = iou.where(candidate, -1).max(1)
    return UnitLabels(best_concept.where(best_iou > 0, -1), best_iou.where(best_iou >= 0, math.nan), best_iou > min_iou)
