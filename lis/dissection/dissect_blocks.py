"""Which shards a dissection will make: how many, what they take, and, of a folder, what they are made from."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from lis.context import Context
from lis.dissection.agreement import CURVE_LEVELS
from lis.dissection.concepts import concept_set
from lis.dissection.dissect_shards import (
    AGREEMENT,
    QUANTILES,
    Block,
    Job,
    Thresholds,
    count_quantiles,
    find_thresholds,
    new_counts,
)
from lis.dissection.quantiles import BINS_PER_OCTAVE
from lis.dissection.scenes import folder_scenes
from lis.dissection.top_images import TOP
from lis.engine import InProcess
from lis.store import Recipe
from lis.workload import FLOAT, Blocks

_OCTAVES = 1.4
"""Octaves whose bins each doubling of the images opens at most; maps of normal values, rectified or not, open 1.0."""


def dissect_blocks(job: Job, fit: int, score: int, known: bool) -> tuple[Blocks, Blocks]:
    """Shards of the thresholds and of the scores.

    Args:
        job: a dissection of some images.
        fit: images of the half that thresholds are taken from.
        score: of the other one.
        known: whether the images are those of a folder, which are there before the work.
    """
    size = job.ctx.config.shard_size
    quantiles, agreement = (math.ceil(n / size) for n in (fit, score))
    return (
        Blocks(
            QUANTILES.stage,
            quantiles,
            quantiles * sketch_bytes(job, min(size, fit)),
            partial(_quantile_recipes, job.ctx) if known else None,
        ),
        Blocks(
            AGREEMENT.stage,
            agreement,
            agreement * _counts_bytes(job),
            partial(_agreement_recipes, job.ctx) if known else None,
        ),
    )


def sketch_bytes(job: Job, images: int) -> int:
    """Bytes of the sketches of so many images, about, from those of the first one.

    With every doubling of the values the smallest ones of a density that is finite at zero halve, which opens the bins
    of an octave of each sign; others fill up (`_OCTAVES`).
    """
    doublings, total = math.log2(max(1, images)), 0
    for sketch in count_quantiles(job, Block("fit", 0, 1, {})).values():
        tensors, (units, bins) = sketch.tensors(), sketch.counts.shape
        signs = units + int((sketch.minimum < 0).sum())
        opened = len(tensors["bin"]) + math.ceil(_OCTAVES * BINS_PER_OCTAVE * signs * doublings)
        opened = min(opened, units * min(bins, images * job.size**2))
        total += opened * sum(tensors[name].element_size() for name in ("bin", "count"))
        total += sum(_bytes(tensors[name]) for name in ("minimum", "maximum"))
    return total


def _counts_bytes(job: Job) -> int:
    """Bytes of the sums of a shard, and of its top images."""
    blank = {
        name: Thresholds(torch.zeros(units), torch.zeros(units, len(CURVE_LEVELS)))
        for name, (units, _, _) in job.shapes.items()
    }
    sums = sum(_bytes(x) for counts in new_counts(job, blank).values() for x in counts.tensors().values())
    maps = [*map(math.prod, job.shapes.values()), job.ctx.classifier.units]
    return sums + TOP * FLOAT * sum(maps)


def _bytes(x: Tensor) -> int:
    return x.numel() * x.element_size()


def _folder_job(ctx: Context) -> Job:
    """What the stage dissects, of a folder."""
    from lis.dissection.dissect import dissect, named_modules

    config, scenes = ctx.config.dissect, folder_scenes(ctx)
    concepts, modules = concept_set(scenes.labels, scenes.factor_names), named_modules(ctx, config.layers)
    also = dissect.also(ctx) if dissect.also else {}
    subset = {**also, "samples": config.samples, "seed": ctx.config.seed}
    return Job(replace(ctx, engine=InProcess()), scenes, concepts, modules, config.border, config.placement, subset, ())


def _quantile_recipes(ctx: Context) -> list[Recipe]:
    job = _folder_job(ctx)
    return [QUANTILES.recipe(job, block) for block in job.blocks("fit")]


def _agreement_recipes(ctx: Context) -> list[Recipe]:
    """None while thresholds, which they are made from, are not all in the store."""
    if not all(map(ctx.store.find, _quantile_recipes(ctx))):
        return []
    thresholds = find_thresholds(job := _folder_job(ctx), ctx.config.dissect.quantile)
    return [AGREEMENT.recipe(job, block) for block in job.blocks("score", thresholds)]
