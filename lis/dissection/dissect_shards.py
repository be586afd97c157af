"""The two passes of a dissection, in shards: quantiles of one half of the images, agreement on the other.

What a shard holds are integer counts, and the top images, so that thresholds and IoU depend neither on batches nor on
shards, and memory does not grow with the images.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from lis.context import Context
from lis.dissection.activations import record_activations
from lis.dissection.agreement import CURVE_LEVELS, AgreementCounts
from lis.dissection.concepts import ConceptSet
from lis.dissection.quantiles import QuantileSketch
from lis.dissection.receptive_fields import receptive_fields, sensitive_fields
from lis.dissection.scenes import Half, SceneBatch, Scenes
from lis.dissection.top_images import TOP, TopImages
from lis.dissection.upsampling import Border, Placement, Upsampling
from lis.shards import Shards
from lis.store import Draft

VERSION = 4
SIZE = 64
"""Largest height and width in pixels of the masks that units and concepts are compared at."""
_AT_ONCE = 2**22
"""Enlarged activations in memory at once."""


@dataclass(frozen=True)
class Job:
    """What all shards of a run share."""

    ctx: Context
    scenes: Scenes
    concepts: ConceptSet
    modules: Mapping[str, nn.Module]
    """The dissected layers, by name."""
    border: Border
    placement: Placement
    subset: Mapping[str, Any]
    """What says which images the halves hold, beside the inputs, for the keys of the shards."""
    inputs: tuple[str, ...]

    @cached_property
    def shapes(self) -> dict[str, tuple[int, int, int]]:
        """Units, height and width of the map of each layer.

        Raises:
            ValueError: a layer gives no map, or is not passed once.
        """
        maps = self.recorded(self.scenes.fit, torch.tensor([0])).maps
        return {name: (x.shape[1], x.shape[2], x.shape[3]) for name, x in maps.items()}

    @cached_property
    def upsamplings(self) -> dict[str, Upsampling]:
        """How the maps of each layer are laid over the masks.

        Raises:
            ValueError: as `receptive_fields`, where these place maps.
        """
        return placed(self.ctx, self.modules, self.placement, self.border)

    @cached_property
    def size(self) -> int:
        """Height and width of the masks in pixels."""
        return min(SIZE, self.scenes.fit.batch(torch.tensor([0])).visible.shape[-1])

    @torch.no_grad()
    def recorded(self, half: Half, rows: Tensor) -> Recorded:
        """What the layers give for the images `rows [n]` of a half."""
        scenes, r = half.batch(rows), list[Tensor]()

        def forward(image: Tensor) -> None:
            r.append(self.ctx.classifier.features(image))

        maps = record_activations(forward, self.modules, scenes.image)
        return Recorded(rows, scenes, {name: x.float().cpu() for name, x in maps.items()}, r[0].float().cpu())

    def batches(self, half: Half, rows: Tensor) -> Iterator[Recorded]:
        """`recorded` of many images, as many at once as there is room for."""
        units = sum(units for units, _, _ in self.shapes.values())
        beside = (4 * units + len(self.concepts.names)) * self.size**2
        return self.ctx.batches(half.finder, beside=beside).map(lambda some: self.recorded(half, some), rows)

    def of_layer(self, name: str) -> Job:
        """Of a single one of its layers."""
        return replace(self, modules={name: self.modules[name]})

    def gathered(self, rows: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Of images `rows [n]` of the scored half, maps `[n, units, h, w]` by layer and masks as of `masks`, whole."""
        maps = {name: torch.empty(len(rows), *shape) for name, shape in self.shapes.items()}
        masks = torch.empty(len(rows), len(self.concepts.names), self.size, self.size, dtype=torch.bool)
        start = 0
        for recorded in self.batches(self.scenes.score, rows):
            block = slice(start, start := start + len(recorded.rows))
            masks[block] = self.masks(recorded.scenes)
            for name, some in recorded.maps.items():
                maps[name][block] = some
        return maps, masks

    def masks(self, scenes: SceneBatch) -> Tensor:
        """Of the concepts, `[n, concepts, size, size]` bool."""
        return self.concepts.masks(scenes.visible, scenes.parts, self.size, scenes.factors).cpu()

    def blocks(self, half: str, thresholds: Mapping[str, Thresholds] | None = None) -> list[Block]:
        """Consecutive images of the half "fit" or "score", `shard_size` each."""
        images, size = len(getattr(self.scenes, half)), self.ctx.config.shard_size
        starts = range(0, images, size)
        return [Block(half, start, min(size, images - start), thresholds or {}) for start in starts]


def placed(
    ctx: Context, modules: Mapping[str, nn.Module], placement: Placement, border: Border = "fade"
) -> dict[str, Upsampling]:
    """How the maps of layers are laid over what the classifier of a run sees of images, by name.

    Args:
        ctx: the run; its models may be without weights.
        modules: the layers, by name.
        placement: where maps lie.
        border: beyond their outer centres.

    Raises:
        ValueError: as `receptive_fields`, where these place maps.
    """
    if placement == "even":
        return dict.fromkeys(modules, Upsampling(border))
    blank = torch.zeros(1, 3, ctx.generator.resolution, ctx.generator.resolution, device=ctx.device)
    fields = receptive_fields(ctx.classifier, modules, blank)
    if placement == "sensitivity":
        fields = sensitive_fields(ctx.classifier, modules, fields, ctx.generator.resolution, ctx.device)
    return {name: Upsampling(border, fields.get(name)) for name in modules}


def placement_of(ctx: Context) -> Placement:
    """Where the maps of a run's classifier lie by its settings, `dissect.placement`."""
    return vars(ctx.config)["dissect"].placement


def layer_placed(ctx: Context, name: str, module: nn.Module) -> Upsampling:
    """How the maps of a layer are laid over images, for pictures.

    Raises:
        ValueError: as `receptive_fields`, where these place maps.
    """
    return placed(ctx, {name: module}, placement_of(ctx))[name]


@dataclass(frozen=True)
class Recorded:
    """Images, and what a network gives for them."""

    rows: Tensor
    """Which of the half, `[n]` int64."""
    scenes: SceneBatch
    maps: dict[str, Tensor]
    """By layer, `[n, units, h, w]` float32 on the CPU."""
    r: Tensor
    """`[n, units]` of the penultimate layer."""


@dataclass(frozen=True, eq=False)
class Thresholds:
    """What the units of a layer are cut at."""

    level: Tensor
    """The quantile that a unit is active above, `[units]` float32."""
    edges: Tensor
    """Bounds of the bins of the curves, `[units, bins − 1]` float32."""

    @property
    def digest(self) -> str:
        """SHA-256 of both."""
        return hashlib.sha256(self.level.numpy().tobytes() + self.edges.numpy().tobytes()).hexdigest()


@dataclass(frozen=True, eq=False)
class Block:
    """Images `[start, start + size)` of a half."""

    half: str
    start: int
    size: int
    thresholds: Mapping[str, Thresholds]
    """By layer; none of the first pass, which counts what they are taken from."""

    @property
    def rows(self) -> Tensor:
        """`[size]` int64."""
        return torch.arange(self.start, self.start + self.size)


def _config(job: Job, block: Block) -> dict[str, Any]:
    return {
        **job.subset,
        "layers": list(job.modules),
        "upsampling": {name: each.settings.tolist() for name, each in job.upsamplings.items()},
        "start": block.start,
        "size": block.size,
    }


def _scored_config(job: Job, block: Block) -> dict[str, Any]:
    thresholds = [each.digest for each in block.thresholds.values()]
    return {**_config(job, block), "concepts": list(job.concepts.names), "thresholds": thresholds}


def count_quantiles(job: Job, block: Block) -> dict[str, QuantileSketch]:
    """Sketches of the enlarged maps of a block, by layer."""
    sketches = {name: QuantileSketch(units) for name, (units, _, _) in job.shapes.items()}
    for recorded in job.batches(job.scenes.fit, block.rows):
        for name, maps in recorded.maps.items():
            for some in maps.split(max(1, _AT_ONCE // (maps.shape[1] * job.size**2))):
                sketches[name].add(job.upsamplings[name](some, job.size))
    return sketches


def _count_quantiles(job: Job, block: Block, draft: Draft) -> None:
    for k, sketch in enumerate(count_quantiles(job, block).values()):
        draft.tensors(f"sketch-{k}", sketch.tensors())


QUANTILES = Shards("dissect-quantiles-shard", VERSION, _config, _count_quantiles)
"""Tensors "sketch-<number of the layer>": those of its `QuantileSketch` over the enlarged maps."""


def count_agreement(job: Job, block: Block) -> tuple[dict[str, AgreementCounts], dict[str, TopImages]]:
    """Counts and top images of a block, by layer; top images of the penultimate one under the empty name."""
    counts = new_counts(job, block.thresholds)
    top: dict[str, TopImages] = {}
    for recorded in job.batches(job.scenes.score, block.rows):
        masks = job.masks(recorded.scenes)
        for name, maps in recorded.maps.items():
            counts[name].add(maps, masks)
        _merge(top, _top_of(recorded))
    return counts, top


def _score(job: Job, block: Block, draft: Draft) -> None:
    counts, top = count_agreement(job, block)
    for k, name in enumerate(job.modules):
        draft.tensors(f"counts-{k}", counts[name].tensors())
        draft.tensors(f"top-{k}", vars(top[name]))
    draft.tensors("top-penultimate", vars(top[""]))


AGREEMENT = Shards("dissect-agreement-shard", VERSION, _scored_config, _score)
"""Tensors "counts-<number of the layer>": the sums of its `AgreementCounts`; "top-<number>", "top-penultimate": its
`TopImages`, rows of the scored half."""


def _top_of(recorded: Recorded) -> dict[str, TopImages]:
    """By layer; of the penultimate one, whose units have no map, under the empty name."""
    maps = {**recorded.maps, "": recorded.r[..., None, None]}
    return {name: TopImages.of(x, recorded.rows, TOP) for name, x in maps.items()}


def _merge(top: dict[str, TopImages], later: Mapping[str, TopImages]) -> None:
    """Take in the top images of later rows."""
    top |= {name: top[name].merged(each, TOP) if name in top else each for name, each in later.items()}


def new_counts(job: Job, thresholds: Mapping[str, Thresholds]) -> dict[str, AgreementCounts]:
    """Counts of no images yet, by layer."""
    concepts = len(job.concepts.names)
    return {name: AgreementCounts(t.level, concepts, t.edges, job.upsamplings[name]) for name, t in thresholds.items()}


def find_thresholds(job: Job, quantile: float) -> dict[str, Thresholds]:
    """Thresholds of each layer, from all images of the fit half.

    Args:
        job: what is dissected.
        quantile: level of the thresholds.
    """
    sketches = {name: QuantileSketch(units) for name, (units, _, _) in job.shapes.items()}
    for shard in QUANTILES.artifacts(job, job.blocks("fit"), "thresholds (blocks)"):
        for k, sketch in enumerate(sketches.values()):
            sketch.add_tensors(shard.tensors(f"sketch-{k}"))
    return {
        name: Thresholds(sketch.quantile(quantile), sketch.quantile(CURVE_LEVELS)) for name, sketch in sketches.items()
    }


def score_units(job: Job, thresholds: Mapping[str, Thresholds]) -> tuple[dict[str, AgreementCounts], list[TopImages]]:
    """Counts and top images of all images of the scored half.

    Returns:
        Counts by layer; top images of each layer, and behind these of the penultimate one.
    """
    counts, top = new_counts(job, thresholds), dict[str, TopImages]()
    for shard in AGREEMENT.artifacts(job, job.blocks("score", thresholds), "scores (blocks)"):
        for k, name in enumerate(job.modules):
            counts[name].add_tensors(shard.tensors(f"counts-{k}"))
        files = {name: f"top-{k}" for k, name in enumerate(job.modules)} | {"": "top-penultimate"}
        _merge(top, {name: TopImages.of_tensors(shard.tensors(file)) for name, file in files.items()})
    return counts, list(top.values())


def permuted_rows(class_index: Tensor, most: int) -> Tensor:
    """The images of the permutation test: as many of each class, the first ones.

    Classes of a single image are left out, which nothing could be exchanged with, and, where `most` has no room for
    two images of each class, the last classes.

    Args:
        class_index: `[n]` int64.
        most: images at most.

    Returns:
        Rows, `[at most most]` int64, ordered by class.

    Example:
        >>> permuted_rows(torch.tensor([0, 0, 0, 1, 2, 2]), 4).tolist()
        [0, 1, 4, 5]
    """
    groups = [(class_index == k).nonzero()[:, 0] for k in class_index.unique()]
    groups = [group for group in groups if len(group) > 1]
    per_class = max(2, most // max(1, len(groups)))
    rows = [group[:per_class] for group in groups[: max(1, most // 2)]]
    return torch.cat(rows) if rows else torch.zeros(0, dtype=torch.int64)
