"""Where a part can be inserted: units set high at one cell, by location and by what was there (Bau et al. 2020)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lis.context import Context
from lis.dissection.gan_units import Edited
from lis.dissection.painting import UnitEdit, cell_labels, cell_masks
from lis.dissection.removal import matched_draw
from lis.shards import Shards
from lis.store import Draft
from lis.streams import Stream

CELLS_PER_SHARD = 64
_DRAWS = 10**6
"""First index of the draws of insertions in the stage's stream, behind those of removals."""


@dataclass(frozen=True)
class InsertionJob:
    """What all shards of insertions share."""

    ctx: Context
    edited: Edited
    base: Tensor
    """Labels `[n, H, W]` int64 of the images without an edit."""
    layer: str
    size: tuple[int, int]
    """Height and width of the layer's maps."""
    levels: Tensor
    """What each unit is set to, `[U]`."""
    settings: dict[str, Any]
    """What codes and levels follow from."""
    inputs: tuple[str, ...] = ()

    def changes(self, units: Sequence[int], image: Tensor, cell: Tensor) -> Tensor:
        """Pixels that each label gains where units are set at a cell of each image: `[m, 1 + C]` int64.

        Args:
            units: that are set.
            image: rows of the images, `[m]` int64.
            cell: of each, counted row by row, `[m]` int64.
        """
        segmenter = self.edited.segmenter
        edit = UnitEdit(self.layer, units, self.levels[list(units)])
        masks = cell_masks(cell, *self.size)
        parts = self.edited.map(image, edit, segmenter.segment, masks).flatten(1)
        return segmenter.count(parts) - segmenter.count(self.base[image].flatten(1))


@dataclass(frozen=True)
class InsertionBlock:
    """Cells of images at which the units of a part, and random ones, are set."""

    units: tuple[int, ...]
    random: tuple[int, ...]
    image: tuple[int, ...]
    cell: tuple[int, ...]


def _config(job: InsertionJob, block: InsertionBlock) -> dict[str, Any]:
    return job.settings | vars(block)


def _build(job: InsertionJob, block: InsertionBlock, draft: Draft) -> None:
    image, cell = torch.tensor(block.image), torch.tensor(block.cell)
    sets = {"best": block.units, "random": block.random}
    draft.tensors("block", {name: job.changes(units, image, cell) for name, units in sets.items()})


def _weights(job: InsertionJob, _: InsertionBlock) -> dict[str, str]:
    return {"generator": job.ctx.generator.fingerprint, "segmenter": job.edited.segmenter.fingerprint}


SHARDS = Shards("insertion-shard", 1, _config, _build, _weights)
"""Tensors "block": `best` and `random [m, 1 + C]` int64, the pixels that each label gains."""


@dataclass(frozen=True)
class Insertions:
    """m insertions of each of C parts."""

    cell: Tensor
    """Where, counted row by row: `[C, m]` int64."""
    context: Tensor
    """Label at the centre of the cell before, `[C, m]` int64."""
    best: Tensor
    """Pixels that each label gains by the units of the part, `[C, m, 1 + C]` int64."""
    random: Tensor
    """The same by random units of the same variance."""


def insertion_blocks(
    units: Sequence[Sequence[int]], strata: Tensor, count: int, cells: int, images: int, seed: int
) -> list[InsertionBlock]:
    """Where the units of each part, and random ones, are set: every cell as often as any other, of images at random.

    Args:
        units: of each part.
        strata: of every unit, as of `matched_draw`; one random set for `CELLS_PER_SHARD` insertions.
        count: insertions of each part.
        cells: of the layer's maps.
        images: how many.
        seed: of the run.
    """
    stream, blocks = Stream("dissect_gan", seed), []
    for part, best in enumerate(units):
        rng = stream.rng(index=_DRAWS + part)
        cell = [int(k) for _ in range(-(-count // cells)) for k in rng.permutation(cells)][:count]
        image = rng.integers(images, size=count).tolist()
        for k in range(0, count, CELLS_PER_SHARD):
            some = slice(k, k + CELLS_PER_SHARD)
            random = tuple(matched_draw(best, strata, rng))
            blocks.append(InsertionBlock(tuple(best), random, tuple(image[some]), tuple(cell[some])))
    return blocks


def insert(job: InsertionJob, units: Sequence[Sequence[int]], strata: Tensor, count: int) -> Insertions:
    """Set the units of each part, and random ones, at the cells of `insertion_blocks`; arguments as there.

    Args:
        job: codes, layer and levels.
        units: of each part.
        strata: of every unit.
        count: insertions of each part.
    """
    cells, seed = job.size[0] * job.size[1], job.ctx.config.seed
    blocks = insertion_blocks(units, strata, count, cells, len(job.base), seed)
    gained = SHARDS.tensors(job, blocks, "insertions")
    image, cell = (torch.tensor([k for b in blocks for k in getattr(b, name)]) for name in ("image", "cell"))
    context = cell_labels(job.base, *job.size).flatten(1)[image, cell]
    return Insertions(*(x.unflatten(0, (len(units), count)) for x in (cell, context, gained["best"], gained["random"])))
