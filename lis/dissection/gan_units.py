"""The units of a layer of a generator: their agreement with parts, their levels, and images of edited maps."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from lis.context import Context
from lis.costs import generator_cost, layer_names
from lis.dissection.agreement import AgreementCounts
from lis.dissection.dissect import require_images
from lis.dissection.painting import PixelSegmenter, UnitEdit
from lis.dissection.quantiles import unit_quantiles
from lis.dissection.room import require_bytes
from lis.dissection.top_images import TOP, TopImages, top_mask
from lis.dissection.upsampling import upsample_activations
from lis.generators.editing import InterceptedGenerator, edited
from lis.generators.layers import requested_layers
from lis.memory import Batches
from lis.shards import Shards
from lis.store import Draft
from lis.streams import Stream
from lis.types import Editable

INSERTED = 0.995
"""Quantile that units are set to where something is inserted (Bau et al. 2020)."""
_UNITS_AT_ONCE = 8
"""Units whose enlarged maps are in memory at once."""
_SORTING = 32
"""Bytes of an enlarged activation while a quantile is taken, a bound that was not measured."""


def edited_layer(ctx: Context, layer: str | None) -> str:
    """The layer of a run's generator of this name; None: the one in the middle.

    Raises:
        ValueError: the generator has no such layer, or its map cannot be edited.
    """
    names, generator = layer_names(ctx.generator, ctx.device), edited(ctx.generator)
    name = requested_layers([names[len(names) // 2] if layer is None else layer], names)[0]
    if isinstance(generator, InterceptedGenerator):
        generator.source(name, drawn_codes(ctx, 0, 1)[:1].to(ctx.device))
    return name


def edited_images(ctx: Context) -> Batches:
    """How many style codes at once are made images of an edited map.

    A pass of an `InterceptedGenerator` has all maps, and beside them the edited one twice.
    """
    if not isinstance(edited(ctx.generator), InterceptedGenerator):
        return ctx.images()
    shapes = generator_cost(ctx.generator, ctx.device, True).shapes
    largest = max(map(math.prod, shapes.values()), default=0)
    return ctx.images(True, beside=2 * torch.float32.itemsize * largest)


def drawn_classes(ctx: Context, count: int) -> Tensor:
    """Class of each of `count` samples per class, in the order of `drawn_codes`: `[n]` int64; 0 without classes."""
    return torch.arange(len(ctx.class_names) if ctx.generator.num_classes else 1).repeat_interleave(count)


def drawn_codes(ctx: Context, first: int, count: int) -> Tensor:
    """Style codes `[n, w_dim]` of the run's classes, in order: samples first, …, first + count − 1 of each.

    A generator without classes gives `count` in all.
    """
    generator, stream = ctx.generator, Stream("dissect_gan", ctx.config.seed)
    classes = [generator.class_names.index(c) for c in ctx.class_names] if generator.num_classes else [None]
    index = torch.arange(first, first + count)
    return torch.cat([generator.sample(c, index, stream, ctx.config.gan.truncation).float().cpu() for c in classes])


@torch.no_grad()
def unit_shape(ctx: Context, layer: str) -> tuple[int, int, int]:
    """Units, height and width of the maps of a layer."""
    _, maps = ctx.generator.synthesize(drawn_codes(ctx, 0, 1)[:1].to(ctx.device), [layer])
    return maps[layer].shape[1], maps[layer].shape[2], maps[layer].shape[3]


@torch.no_grad()
def parts_shape(ctx: Context, segmenter: PixelSegmenter) -> tuple[int, int]:
    """Height and width of what a segmenter makes of the generator's images."""
    image = ctx.generator.synthesize(drawn_codes(ctx, 0, 1)[:1].to(ctx.device))
    parts = segmenter.segment(cast(Tensor, image))
    return parts.shape[1], parts.shape[2]


def require_samples(ctx: Context, layer: str, segmenter: PixelSegmenter, quantile: float, halves: int) -> None:
    """Check that the samples suffice for quantiles and that the maps of all of them fit into memory.

    Args:
        ctx: the run.
        layer: whose maps.
        segmenter: to whose size they are enlarged.
        quantile: the highest one.
        halves: of the samples, whose maps are in memory together.

    Raises:
        ValueError: there are too few samples, or too many.
    """
    n = vars(ctx.config)["dissect_gan"].samples
    images = n * (len(ctx.class_names) if ctx.generator.num_classes else 1)
    units, height, width = unit_shape(ctx, layer)
    remedy = "raise dissect_gan.samples, choose a layer of larger maps, or lower dissect_gan.quantile if it is that"
    require_images(images, height, width, quantile, "the quantile", remedy)
    rows, columns = parts_shape(ctx, segmenter)
    maps = 4 * (halves + 1) * units * height * width  # one half is in memory twice while its batches are joined
    need = images * (maps + rows * columns * (8 * halves + _SORTING * _UNITS_AT_ONCE))
    require_bytes(
        need,
        f"dissect_gan.samples={n}: the maps of {layer} over {halves * images} images take",
        lambda share: f"dissect_gan.samples={int(n * share)} fits, or choose an earlier layer, dissect_gan.layer=…",
    )


@dataclass(frozen=True)
class GanUnits:
    """U units of a layer over the images of a half of the samples, beside C parts."""

    layer: str
    maps: Tensor
    """`[n, U, h, w]` float32."""
    parts: Tensor
    """Labels `[n, H, W]` int64 of the images."""
    labels: tuple[str, ...]

    @classmethod
    @torch.no_grad()
    def of(cls, ctx: Context, layer: str, segmenter: PixelSegmenter, w: Tensor) -> GanUnits:
        """Those of the images of `w [n, w_dim]`."""

        def seen(some: Tensor) -> tuple[Tensor, Tensor]:
            image, maps = ctx.generator.synthesize(some.to(ctx.device), [layer])
            return maps[layer].float().cpu(), segmenter.segment(image).cpu()

        maps, parts = (torch.cat(column) for column in zip(*ctx.images([layer]).map(seen, w), strict=True))
        return cls(layer, maps, parts, segmenter.labels)

    def quantiles(self, level: float | Sequence[float]) -> Tensor:
        """A quantile of each unit over its maps, enlarged to the size of the parts, `[U]`; of several `[U, levels]`."""
        size = (self.parts.shape[1], self.parts.shape[2])
        return self._of_units(lambda maps: unit_quantiles(upsample_activations(maps, size), level))

    def _of_units(self, measure: Callable[[Tensor], Tensor]) -> Tensor:
        """`[U, …]` of what is measured on the maps of some units `[n, k, h, w]`, `[k, …]`."""
        return torch.cat([measure(maps) for maps in self.maps.split(_UNITS_AT_ONCE, dim=1)])

    def top(self, thresholds: Tensor, size: int) -> tuple[Tensor, Tensor]:
        """The images in which each unit is most active, `[U, 5]` int64, and where it is, `[U, 5, size, size]` bool."""
        top = TopImages.of(self.maps, torch.arange(len(self.maps)), TOP)
        return top.row, top_mask(top.maps, thresholds, size)

    @property
    def masks(self) -> Tensor:
        """Of the parts, `[n, C, H, W]` bool."""
        return torch.stack([self.parts == k for k in range(1, 1 + len(self.labels))], 1)

    def agreement(self, thresholds: Tensor, edges: Tensor | None = None) -> AgreementCounts:
        """Of each unit above its threshold `[U]` with each part; with `edges` of `AgreementCounts` also its curves."""
        counts = AgreementCounts(thresholds, len(self.labels), edges)
        counts.add(self.maps, self.masks)
        return counts

    @property
    def mean(self) -> Tensor:
        """Of each unit, `[U]`."""
        return self._of_units(lambda maps: maps.double().mean((0, 2, 3))).float()

    @property
    def variance(self) -> Tensor:
        """Of each unit over images and positions, `[U]` float64."""
        return self._of_units(lambda maps: maps.double().var((0, 2, 3), correction=0))

    def levels(self, value: str, quantile: float) -> Tensor:
        """What removes a unit, `[U]`: "zero", its "mean", or a "quantile" of it."""
        if value == "zero":
            return torch.zeros(self.maps.shape[1])
        return self.mean if value == "mean" else self.quantiles(quantile)


@dataclass(frozen=True)
class Edited:
    """Style codes through a generator whose maps are edited, to areas of parts."""

    generator: Editable
    segmenter: PixelSegmenter
    batches: Batches
    device: torch.device
    w: Tensor
    """Style codes `[n, w_dim]`."""

    @classmethod
    def of(cls, ctx: Context, segmenter: PixelSegmenter, w: Tensor) -> Edited:
        """Of a run's generator."""
        return cls(edited(ctx.generator), segmenter, edited_images(ctx), ctx.device, w)

    @torch.no_grad()
    def map(self, rows: Tensor, edit: UnitEdit, read: Callable[[Tensor], Tensor], mask: Tensor | None = None) -> Tensor:
        """What is read off the edited images of some codes: `[m, …]` on the CPU.

        Args:
            rows: of the codes, `[m]` int64.
            edit: the same of all.
            read: of images `[k, 3, H, W]` in [-1, 1].
            mask: one per row `[m, h, w]`; None: everywhere.
        """

        def made(index: Tensor) -> Tensor:
            edits = edit.edits(None if mask is None else mask[index])
            image = self.generator.synthesize_edited(self.w[rows[index]].to(self.device), edits)
            return read(cast(Tensor, image)).cpu()

        return torch.cat(list(self.batches.map(made, torch.arange(len(rows)))))

    def fractions(self, edit: UnitEdit) -> Tensor:
        """Fraction of each image that shows each label, the background first: `[n, 1 + C]` float64."""
        return self.map(torch.arange(len(self.w)), edit, self.segmenter.fractions)


@dataclass(frozen=True)
class LevelsJob:
    """Levels of the units of a layer over samples of the run's classes."""

    ctx: Context
    segmenter: PixelSegmenter
    layer: str
    quantile: float
    inputs: tuple[str, ...] = ()


def _levels_config(job: LevelsJob, _: None) -> dict[str, Any]:
    ctx = job.ctx
    config = {"layer": job.layer, "quantile": job.quantile, "samples": vars(ctx.config)["dissect_gan"].samples}
    config |= {"classes": list(ctx.class_names), "truncation": ctx.config.gan.truncation, "seed": ctx.config.seed}
    return config | {"size": list(parts_shape(ctx, job.segmenter))}


def _build_levels(job: LevelsJob, _: None, draft: Draft) -> None:
    ctx, samples = job.ctx, vars(job.ctx.config)["dissect_gan"].samples
    require_samples(ctx, job.layer, job.segmenter, job.quantile, 1)
    units = GanUnits.of(ctx, job.layer, job.segmenter, drawn_codes(ctx, 0, samples))
    draft.tensors("levels", {"level": units.quantiles(job.quantile)})


def _generator(job: LevelsJob, _: None) -> dict[str, str]:
    return {"generator": job.ctx.generator.fingerprint}


LEVELS = Shards("unit-levels-shard", 1, _levels_config, _build_levels, _generator)
"""Tensors "levels": `level [U]`, a quantile of each unit. Of the segmenter they follow from its size alone."""


def measured_levels(ctx: Context, layer: str, segmenter: PixelSegmenter, quantile: float) -> Tensor:
    """A quantile of each unit of a layer over samples of the run's classes, `[U]`, kept in the store.

    Raises:
        ValueError: as `require_samples`.
    """
    return LEVELS.shard(LevelsJob(ctx, segmenter, layer, quantile), None).tensors("levels")["level"]
