"""What the stage "dissect_gan" will do: units of the generator held against parts, removed and inserted."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import torch

from lis.context import Context
from lis.dissection.top_images import TOP
from lis.dissection.work import MOST, PICTURE, ROW, TIMED, permuting
from lis.store import Recipe
from lis.workload import FLOAT, GENERATOR, SAMPLES, Blocks, Expected, Load, Operation, Workload, noise, style_codes

if TYPE_CHECKING:
    from lis.dissection.gan_order import OrderJob
    from lis.dissection.gan_units import Edited

_SHAPES = 4
"""Images at most that names and shapes of layers are taken from."""
_TOP_IMAGES = "dissect_gan: at most as many images in which units are most active as are counted"


def dissect_gan_work(ctx: Context, expected: Expected) -> Workload:
    """Of both halves, of every edit of some images of the second one, and of those that are shown."""
    from lis.dissection.dissect_gan import removed_counts, tested_counts
    from lis.dissection.gan_movies import IMAGES, STEPS
    from lis.dissection.gan_units import drawn_classes

    config, (layer, parts) = ctx.config.dissect_gan, _gan_layer(ctx)
    units, classes = layer[0], int(drawn_classes(ctx, 1).numel())
    half, edited = config.samples * classes, config.edited * classes
    counts, draws = len(removed_counts(config, units)), len(tested_counts(config, units)) * config.draws
    edits = len(parts) * (edited * (counts + draws) + 2 * config.insertions)
    frames = min(IMAGES, classes) * (2 * counts + 2 * 2 * STEPS)  # image and parts; twice before and after
    shown = min(half, TOP * units)
    loads = (
        Load(SAMPLES, 2 * half),
        Load(GAN_UNITS, 2 * half),
        Load(EDITED, edits, shared=True),
        Load(EDITED, frames),
        Load(GENERATOR, shown + _SHAPES),
        Load(GAN_PERMUTED, classes, scale=units / min(units, TIMED)),
    )
    pictures = (shown * 3 + units * TOP) * PICTURE**2 + 2 * frames * ctx.generator.resolution**2
    size = pictures + ROW * units * len(parts)
    return Workload(loads, size, _edit_shards(ctx, len(parts), edited, counts, draws), (_TOP_IMAGES,))


def _edit_shards(ctx: Context, parts: int, edited: int, counts: int, draws: int) -> tuple[Blocks, ...]:
    """Of the order of the units, of the removals of the best and of random ones, and of insertions."""
    from lis.dissection import gan_order, insertion, removal

    config, units, row = ctx.config.dissect_gan, _gan_layer(ctx)[0][0], 2 * FLOAT * (1 + parts)
    sets = [math.ceil(parts * n / removal.DRAWS_PER_SHARD) for n in (counts, draws)]
    cells = parts * math.ceil(config.insertions / insertion.CELLS_PER_SHARD)
    size = row * parts * edited * (counts + draws)
    return (
        Blocks(gan_order.ORDER.stage, 1, 2 * FLOAT * units * (1 + parts), partial(_order, ctx)),
        Blocks(removal.SHARDS.stage, sum(sets), size, partial(_removals, ctx)),
        Blocks(insertion.SHARDS.stage, cells, row * parts * 2 * config.insertions, partial(_insertions, ctx)),
    )


def _order_job(ctx: Context) -> OrderJob:
    from lis.dissection.dissect_gan import edited_layer, order_job

    return order_job(ctx, edited_layer(ctx, ctx.config.dissect_gan.layer))


def _order(ctx: Context) -> list[Recipe]:
    from lis.dissection.gan_order import ORDER

    return [ORDER.recipe(_order_job(ctx), None)]


def _removals(ctx: Context) -> list[Recipe]:
    """What removals are made from; none while the order of the units is not in the store."""
    from lis.dissection.dissect_gan import removed_counts, tested_counts
    from lis.dissection.removal import SHARDS, RemovalJob, best_sets, random_sets, removal_blocks

    if (order := (ranking := _order_job(ctx)).find()) is None:
        return []
    config, (units, variance), settings = ctx.config.dissect_gan, (order["order"], order["variance"]), ranking.edits
    job = RemovalJob(ctx, _nothing_edited(ranking), settings["layer"], variance, settings)
    tested, counts = tested_counts(config, len(variance)), removed_counts(config, len(variance))
    random = random_sets(units, variance, tested, config.draws, ctx.config.seed)
    return [SHARDS.recipe(job, block) for sets in (best_sets(units, counts), random) for block in removal_blocks(sets)]


def _insertions(ctx: Context) -> list[Recipe]:
    """What insertions are made from; none while the order of the units is not in the store."""
    from lis.dissection.dissect_gan import inserted_count
    from lis.dissection.gan_units import drawn_classes
    from lis.dissection.insertion import SHARDS, InsertionJob, insertion_blocks
    from lis.dissection.removal import layer_strata

    if (order := (ranking := _order_job(ctx)).find()) is None:
        return []
    config, (units, variance), settings = ctx.config.dissect_gan, (order["order"], order["variance"]), ranking.edits
    (_, *size), images = _gan_layer(ctx)[0], len(drawn_classes(ctx, config.edited))
    edited, base = _nothing_edited(ranking), torch.zeros(images, 1, 1, dtype=torch.int64)
    job = InsertionJob(ctx, edited, base, settings["layer"], (size[0], size[1]), variance, settings)
    best = units[:, : inserted_count(config, len(variance))].tolist()
    blocks = insertion_blocks(best, layer_strata(variance), config.insertions, math.prod(size), images, ctx.config.seed)
    return [SHARDS.recipe(job, block) for block in blocks]


def _nothing_edited(ranking: OrderJob) -> Edited:
    """No style codes through the generator of a run: of a shard that is only looked for."""
    from lis.dissection.gan_units import Edited

    return Edited.of(ranking.ctx, ranking.segmenter, ranking.ctx.generator.mean_w[:0])


def _gan_layer(ctx: Context) -> tuple[tuple[int, int, int], tuple[str, ...]]:
    """Units, height and width of the dissected layer of the generator, and the parts that they are held against."""
    from lis.costs import generator_cost
    from lis.dissection.dissect_gan import edited_layer, pixel_segmenter

    name = edited_layer(ctx, ctx.config.dissect_gan.layer)
    units, height, width = generator_cost(ctx.generator, ctx.device, [name]).shapes[name]
    return (units, height, width), pixel_segmenter(ctx).labels


def _gan_measured(ctx: Context) -> Callable[[int], object]:
    """Images with the maps of the layer, a quantile of each unit, and its agreement with each part."""
    from lis.dissection.agreement import CURVE_LEVELS
    from lis.dissection.dissect_gan import edited_layer, pixel_segmenter
    from lis.dissection.gan_units import GanUnits

    config, segmenter = ctx.config.dissect_gan, pixel_segmenter(ctx)
    layer = edited_layer(ctx, config.layer)

    def run(count: int) -> None:
        units = GanUnits.of(ctx, layer, segmenter, style_codes(ctx, count).cpu())
        levels = units.quantiles((config.quantile, *CURVE_LEVELS))
        units.agreement(levels[:, 0].contiguous(), levels[:, 1:].contiguous())

    return run


def _edited(ctx: Context) -> Callable[[int], object]:
    """Images without the first half of the units."""
    from lis.dissection.dissect_gan import edited_layer, pixel_segmenter
    from lis.dissection.gan_units import Edited
    from lis.dissection.painting import UnitEdit

    segmenter, layer = pixel_segmenter(ctx), edited_layer(ctx, ctx.config.dissect_gan.layer)
    edited = Edited.of(ctx, segmenter, style_codes(ctx, 1).cpu())
    edit = UnitEdit(layer, range(_gan_layer(ctx)[0][0] // 2))
    return lambda count: edited.map(torch.zeros(count, dtype=torch.int64), edit, segmenter.fractions)


def _gan_permuted(ctx: Context) -> Callable[[int], object]:
    from lis.dissection.dissect_gan import pixel_segmenter

    config, (layer, parts) = ctx.config.dissect_gan, _gan_layer(ctx)
    height, width = pixel_segmenter(ctx).segment(noise(ctx, 1)).shape[1:]
    return permuting(config.samples, layer, (len(parts), height, width), config.permutations)


GAN_UNITS = Operation(
    "images whose parts units of the generator are held against",
    _gan_measured,
    passes=1,
    instead=((GENERATOR, 1.0),),
    most=MOST,
)
EDITED = Operation("images of which units are edited", _edited, passes=1, instead=((GENERATOR, 1.0),))
GAN_PERMUTED = Operation("classes of permuted images of the generator", _gan_permuted, constant=True, most=4)
