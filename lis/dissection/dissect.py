"""Which concept every unit of a layer agrees with, held against images of the same class (Bau et al. 2020)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lis.classifiers.cut import layer_module
from lis.config.fields import choice, number
from lis.context import Context
from lis.dissection.activations import record_activations, upsample_activations
from lis.dissection.agreement import CURVE_LEVELS, MIN_IMAGES, MIN_IOU, AgreementCounts, Border, label_units
from lis.dissection.concepts import ConceptSet, concept_set
from lis.dissection.dissect_tables import Scores, agreement_table, layers_table, units_table
from lis.dissection.permutation import permutation_test
from lis.dissection.quantiles import unit_quantiles
from lis.dissection.top_images import top_activating, top_mask
from lis.images import to_uint8
from lis.labels.labelled import TrueParts, exact_masks
from lis.linking.pairs import test_pairs, train_pairs
from lis.peaks import picture_arrays
from lis.segmentation.segmenter import segmenter
from lis.stage import MODELS, stage
from lis.store import Artifact, Draft
from lis.types import Generator, require_sight
from lis.units.parts import Parts

SIZE = 64
"""Largest height and width in pixels of the masks, and of the images of the atlas."""
VALUES = 2**25
"""Enlarged activations in memory at once."""
TOP = 5
"""Images of a unit in the atlas."""
FEWEST = 5
"""Activations of the map above its threshold below which a quantile is not trusted."""


@dataclass
class DissectConfig:
    """Dissection of the units of a layer of the classifier."""

    layer: str | None = None
    """A layer of the classifier that gives a map; null: the last map of its convolutions (cam_layer)."""
    samples: int = number(100, low=2)
    """Samples per class of the train pairs (thresholds) and of the test pairs (scores), at most as there are."""
    quantile: float = number(0.99, low=0.5, high=1)
    """Level of the threshold of each unit among its own activations."""
    border: str = choice("fade", ("fade", "clamp"))
    """What maps are enlarged with beyond their outer centres: zeros, or the outermost values."""
    min_iou: float = number(MIN_IOU, low=0, high=1)
    """IoU above which a unit counts as a detector."""
    permutations: int = number(1000, low=19)
    """Permutations of the images within their classes, the control."""


def _check(ctx: Context) -> None:
    require_sight(ctx.classifier, "maps of units are compared with the masks of an image")
    _named_module(ctx, vars(ctx.config)["dissect"])


def _named_module(ctx: Context, config: DissectConfig) -> tuple[str, nn.Module]:
    """The layer that a run asks for, by name."""
    name = config.layer or ctx.classifier.cam_layer
    if name is None:
        known = ", ".join(ctx.classifier.layers) or "none"
        raise ValueError(
            f"{type(ctx.classifier).__name__} names no last map of its convolutions (cam_layer): expected a layer, as "
            f"dissect.layer=…; it has {known}"
        )
    return name, layer_module(ctx.classifier, name, "dissect.layer")


def _needs_segmenter(ctx: Context) -> bool:
    return bool(ctx.config.classes.labels) and not isinstance(ctx.generator, TrueParts)


@stage(
    "dissect",
    version=1,
    inputs=(train_pairs, test_pairs, segmenter.when(_needs_segmenter)),
    config=DissectConfig,
    seed=True,
    models=MODELS,
    also=lambda ctx: {"classes": list(ctx.class_names), "labels": list(ctx.config.classes.labels)},
    check=_check,
    arrays=picture_arrays,
)
def dissect(
    ctx: Context, config: DissectConfig, train: Artifact, test: Artifact, _segmenter: Artifact | None, draft: Draft
) -> None:
    """The concept that each unit of a layer agrees with most (thresholds: train pairs; scores: test pairs).

    Masks are exact where the generator knows its parts, else those of the segmenter. Table "units": layer, unit,
    concept (empty: none), kind, iou, control (mean IoU under permutations of the images within their classes), p, q,
    threshold, detector (iou > min_iou), above_chance (q ≤ 0.05), auprc, pearson, images_met, dead. Table "agreement",
    a row per unit and concept: layer, unit, concept, kind, iou, control, p, q, auprc, pearson, auc, images_met. Table
    "layers": layer, units, dead, detectors, concepts (distinct ones of the detectors), above_chance. Tensors "top":
    image `[n, 3, s, s]` uint8 (all scored images), index `[units, 5]` into it by descending maximum of the map, mask
    `[units, 5, s, s]` bool. Json "facts": layer, units, map (height and width), threshold_images, images, concepts,
    masks ("exact", "segmenter" or "none"), min_iou, quantile, permutations, border.

    A concept labels no unit that it meets on fewer than 5 images, and the background none. Values of dead units are
    NaN, and so is q where a pair was not tested.

    Raises:
        ValueError: an unknown layer, one that gives no map, or too few images for the quantile.
    """
    layer = Layer.of(ctx, config)
    fitted, scored = (layer.samples(pairs.tensors("pairs"), config.samples) for pairs in (train, test))
    size, border = scored.masks.shape[-1], cast(Border, config.border)
    thresholds = enlarged_quantiles(fitted.maps, config.quantile, size, border)
    counts = AgreementCounts(thresholds, len(layer.concepts.names), curve_edges(fitted.maps), border)
    counts.add(scored.maps, scored.masks)
    null = permutation_test(
        scored.maps, thresholds, scored.masks, scored.class_index, config.permutations, ctx.config.seed, border
    )
    ignored = [k for k, kind in enumerate(layer.concepts.kinds) if kind == "background"]
    labels = label_units(counts.iou, config.min_iou, counts.images_met, MIN_IMAGES, ignored)
    scores = Scores(layer.name, layer.concepts, counts, null, labels)
    draft.table("units", units_table(scores))
    draft.table("agreement", agreement_table(scores))
    draft.table("layers", layers_table(scores))
    draft.tensors("top", top_images(scored, thresholds, border))
    facts = {"layer": layer.name, "units": len(thresholds), "map": list(scored.maps.shape[2:]), "masks": layer.source}
    facts |= {"threshold_images": len(fitted.maps), "images": len(scored.maps), "concepts": len(layer.concepts.names)}
    facts |= {name: getattr(config, name) for name in ("min_iou", "quantile", "permutations", "border")}
    draft.json("facts", facts)


@dataclass(frozen=True)
class Samples:
    """What a layer gives for images, beside the concepts in them."""

    maps: Tensor
    """`[n, units, h, w]` float32."""
    masks: Tensor
    """`[n, concepts, s, s]` bool."""
    image: Tensor
    """`[n, 3, s, s]` uint8."""
    class_index: Tensor
    """`[n]` int64 into the run's class names."""


@dataclass(frozen=True)
class Layer:
    """A layer of a run's classifier, and the concepts that it is compared with."""

    ctx: Context
    config: DissectConfig
    name: str
    module: nn.Module
    parts: Parts | None
    """What finds parts; None where the generator knows them."""
    concepts: ConceptSet

    @classmethod
    def of(cls, ctx: Context, config: DissectConfig) -> Layer:
        """The layer that a run asks for; the segmenter is trained where it is needed."""
        name, module = _named_module(ctx, config)
        parts = Parts.of(ctx) if _needs_segmenter(ctx) else None
        return cls(ctx, config, name, module, parts, concept_set(ctx.config.classes.labels))

    @property
    def source(self) -> str:
        """Where the masks of parts are from."""
        if not self.ctx.config.classes.labels:
            return "none"
        return "exact" if self.parts is None else "segmenter"

    def samples(self, pairs: dict[str, Tensor], per_class: int) -> Samples:
        """The first samples of each class of pairs, through the layer.

        Raises:
            ValueError: the layer gives no map, or too few images for the quantile.
        """
        classes = pairs["class_index"]
        rows = torch.cat([(classes == c).nonzero()[:per_class, 0] for c in range(len(self.ctx.class_names))])
        each = [*self.ctx.batches(beside=self._mask_bytes).map(self._batch, pairs["w"][rows])]
        maps, masks, image = (torch.cat(column) for column in zip(*each, strict=True))
        require_images(maps, self.config.quantile)
        return Samples(maps, masks, image, classes[rows])

    @property
    def _mask_bytes(self) -> int:
        return len(self.concepts.names) * SIZE**2

    @torch.no_grad()
    def _batch(self, w: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Maps, masks of concepts, and images of style codes `w [n, w_dim]`."""
        size = min(SIZE, self.ctx.generator.resolution)
        image, parts = self._pictured(w.to(self.ctx.device), size)
        maps = record_activations(self.ctx.classifier.features, {self.name: self.module}, image)[self.name]
        masks = self.concepts.masks(image, parts, size, None)
        small = F.adaptive_avg_pool2d(image, size)
        return maps.float().cpu(), masks.cpu(), to_uint8(small).cpu()

    def _pictured(self, w: Tensor, size: int) -> tuple[Tensor, Tensor]:
        """Images `[n, 3, H, W]` in [-1, 1], and parts `[n, h, w]` (k: the label k − 1)."""
        generator: Generator = self.ctx.generator
        if self.parts is not None:
            image, maps = generator.synthesize(w, self.parts.masks.layers)
            return image, self.parts.masks(maps)
        image = generator.synthesize(w)
        if self.source == "none":
            return image, torch.zeros(len(w), size, size, dtype=torch.int64, device=w.device)
        return image, exact_masks(generator, w, self.ctx.config.classes.labels, size).long()


def require_images(maps: Tensor, quantile: float) -> None:
    """Check that maps `[n, units, h, w]` are enough for a quantile.

    Raises:
        ValueError: fewer than `FEWEST` activations of a unit are expected above it.
    """
    n, _, height, width = maps.shape
    if n * height * width * (1 - quantile) < FEWEST:
        images = math.ceil(FEWEST / (height * width * (1 - quantile))) if quantile < 1 else "∞"
        raise ValueError(
            f"dissect.quantile={quantile} of {n} maps of {height}×{width}: expected {FEWEST} activations above it, so "
            f"{images} images in all; raise dissect.samples and pairs.train and pairs.test, or lower dissect.quantile"
        )


def enlarged_quantiles(maps: Tensor, quantile: float, size: int, border: Border) -> Tensor:
    """Quantile of each unit over its enlarged maps: `[units]` of maps `[n, units, h, w]`."""
    at_once = max(1, VALUES // (len(maps) * size**2))
    parts = maps.split(at_once, dim=1)
    return torch.cat([unit_quantiles(upsample_activations(part, size, border), quantile) for part in parts])


def curve_edges(maps: Tensor) -> Tensor:
    """Bounds `[units, bins - 1]` of the bins of the curves: quantiles of maps `[n, units, h, w]` as they are."""
    return unit_quantiles(maps, CURVE_LEVELS)


def top_images(scored: Samples, thresholds: Tensor, border: Border) -> dict[str, Tensor]:
    """Tensors "top" of the stage: the images with the largest maxima of the maps, equal ones in the order of samples.

    Args:
        scored: of the test pairs.
        thresholds: `[units]`.
        border: as of `upsample_activations`.
    """
    _, index = top_activating(scored.maps.amax((2, 3)), min(TOP, len(scored.maps)))
    maps = scored.maps[index, torch.arange(len(thresholds))[:, None]]
    mask = top_mask(maps, thresholds, scored.image.shape[-1], border)
    return {"image": scored.image, "index": index, "mask": mask}
