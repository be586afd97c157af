"""The units of a layer of a generator: their agreement with parts, their levels, and what sees parts in pixels."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional as F

from lis.context import Context
from lis.costs import layer_names
from lis.dissection.activations import upsample_activations
from lis.dissection.agreement import concept_iou
from lis.dissection.painting import PixelSegmenter, UnitEdit
from lis.dissection.permutation import PermutationTest, permutation_test
from lis.dissection.quantiles import unit_quantiles
from lis.dissection.top_images import TopImages, top_mask
from lis.generators.layers import requested_layers, require_editable
from lis.generators.partworld import PartWorld
from lis.generators.partworld.part_network import load_part_network, weights_path
from lis.memory import Batches
from lis.streams import Stream
from lis.types import Editable

TOP = 5
"""Images of a unit in the atlas."""
INSERTED = 0.995
"""Quantile that units are set to where something is inserted (Bau et al. 2020)."""


def pixel_segmenter(ctx: Context) -> PixelSegmenter:
    """What segments the images of a run's generator by their pixels.

    Raises:
        ValueError: there is nothing that does.
    """
    if not isinstance(ctx.generator, PartWorld):
        raise ValueError(
            f"nothing segments the pixels of images of {type(ctx.generator).__name__}, and its features cannot tell "
            "what an edit of them did: expected gan=partworld, or in Python a function of images, "
            "s.paint(…, segmenter=PixelSegmenter(labels, function))"
        )
    name = ctx.generator.world.figures.name
    network = load_part_network(name).to(ctx.device).to(memory_format=torch.channels_last)  # faster on a CPU
    digest = hashlib.sha256(weights_path(name).read_bytes()).hexdigest()
    return PixelSegmenter(network.labels, network.segment, digest)


def edited_layer(ctx: Context, layer: str | None) -> str:
    """The layer of a run's generator of this name; None: the one in the middle.

    Raises:
        ValueError: the generator cannot be edited, or has no such layer.
    """
    require_editable(ctx.generator)
    names = layer_names(ctx.generator, ctx.device)
    return requested_layers([names[len(names) // 2] if layer is None else layer], names)[0]


def drawn_codes(ctx: Context, first: int, count: int) -> Tensor:
    """Style codes `[n, w_dim]` of the run's classes, in order: samples first, …, first + count − 1 of each.

    A generator without classes gives `count` in all.
    """
    generator, stream = ctx.generator, Stream("dissect_gan", ctx.config.seed)
    classes = [generator.class_names.index(c) for c in ctx.class_names] if generator.num_classes else [None]
    index = torch.arange(first, first + count)
    return torch.cat([generator.sample(c, index, stream, ctx.config.gan.truncation).float().cpu() for c in classes])


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

        maps, parts = (torch.cat(column) for column in zip(*ctx.images().map(seen, w), strict=True))
        return cls(layer, maps, parts, segmenter.labels)

    def quantiles(self, level: float) -> Tensor:
        """A quantile of each unit over its maps, enlarged to the size of the parts, `[U]`."""
        size = (self.parts.shape[1], self.parts.shape[2])
        return torch.cat(
            [unit_quantiles(upsample_activations(some, size), level) for some in self.maps.split(8, dim=1)]
        )

    def iou(self, thresholds: Tensor) -> Tensor:
        """IoU of each unit above its threshold `[U]` with each part, `[U, C]` float64; NaN as of `concept_iou`."""
        return concept_iou(self.maps, self.masks, thresholds)

    def control(self, thresholds: Tensor, classes: int, permutations: int, seed: int) -> PermutationTest:
        """The IoU beside that with the parts of other images of the same class, as many of each class in order."""
        class_index = torch.arange(classes).repeat_interleave(len(self.maps) // classes)
        return permutation_test(self.maps, thresholds, self.masks, class_index, permutations, seed)

    def top(self, thresholds: Tensor, size: int) -> tuple[Tensor, Tensor]:
        """The images in which each unit is most active, `[U, 5]` int64, and where it is, `[U, 5, size, size]` bool."""
        top = TopImages.of(self.maps, torch.arange(len(self.maps)), TOP)
        return top.row, top_mask(top.maps, thresholds, size)

    @property
    def masks(self) -> Tensor:
        """Of the parts, `[n, C, H, W]` bool."""
        return F.one_hot(self.parts, 1 + len(self.labels))[..., 1:].permute(0, 3, 1, 2).bool()

    @property
    def mean(self) -> Tensor:
        """Of each unit, `[U]`."""
        return self.maps.double().mean((0, 2, 3)).float()

    @property
    def variance(self) -> Tensor:
        """Of each unit over images and positions, `[U]` float64."""
        return self.maps.double().var((0, 2, 3), correction=0)

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
        return cls(require_editable(ctx.generator), segmenter, ctx.images(), ctx.device, w)

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
