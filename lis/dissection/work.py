"""What the stages of this package will do: units of the classifier held against parts, ablated, and seen in twins."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from itertools import cycle, islice
from typing import TYPE_CHECKING

import torch

from lis.context import Context
from lis.dissection.receptive_fields import NOISE
from lis.dissection.top_images import TOP
from lis.segmentation.work import SEGMENTED, finder
from lis.units.work import controls, tuned_units
from lis.workload import (
    CLASSIFIER,
    GENERATOR,
    Blocks,
    Expected,
    Load,
    Operation,
    Workload,
    images,
    noise,
)

if TYPE_CHECKING:
    from lis.dissection.dissect_shards import Job
    from lis.dissection.scenes import Scenes
    from lis.dissection.tails import LayerTail

TIMED = 8
"""Units at most whose permutations are timed: they are independent of each other."""
MOST = 64
"""Images that a measurement takes at most."""
PICTURE = 96
"""Height and width in pixels of the images with the highest activations of a unit."""
ROW = 100
"""Bytes of a row of a table, about."""
_TOP_IMAGES = "dissect: at most as many images in which units are most active as are counted"
_ORDERS = "importance: a curve for each order of units, of which equal ones are made once"
_SHARED_UNITS = "importance: at most as many images of units that classes share as are counted"
_EXTREMES = "texture: at most as many images of units as are counted, and of restylings, where all images are grey"


def dissect_work(ctx: Context, expected: Expected) -> Workload:
    """Of each half of the images, of those that are permuted, and of those that are shown."""
    from lis.dissection.dissect import half_sizes, of_generator, permuted_classes

    generated, job = of_generator(ctx), _job(ctx, MOST)
    segmented = job.scenes.source == "segmenter"
    fit, score = half_sizes(ctx)
    units = sum(units for units, _, _ in job.shapes.values())
    sizes = permuted_classes(ctx).bincount()
    again = (int(sizes.sum()) + 2) * len(job.modules) + 2  # of the permutations, and where shapes are taken from
    shown = min(score, TOP * (units + ctx.classifier.units))
    made = (SEGMENTED if segmented else GENERATOR) if generated else ANNOTATED
    read = images(ctx, again, shared=False) if generated and not segmented else (Load(CLASSIFIER, again),)
    loads = (
        Load(thresholds_of(generated), fit, shared=True, calls=math.ceil(fit / ctx.config.shard_size)),
        Load(scores_of(generated), score, shared=True, calls=math.ceil(score / ctx.config.shard_size)),
        *read,
        *placing(ctx),
        Load(made, shown + (0 if generated and not segmented else again)),
        Load(PERMUTED, int((sizes > 0).sum()) * len(job.modules), scale=units / min(units, TIMED)),
    )
    concepts = len(job.concepts.names)
    tables = units * concepts * 90 + units * TOP * PICTURE**2 + shown * 3 * PICTURE**2
    return Workload(loads, tables, _shards(ctx, job, fit, score), (_TOP_IMAGES,))


def placing(ctx: Context) -> tuple[Load, ...]:
    """What it takes to know where maps lie (`dissect.placement`)."""
    passes = {"sensitivity": (Load(CLASSIFIER, 1), Load(SENSED, 1)), "receptive_field": (Load(CLASSIFIER, 1),)}
    return passes.get(ctx.config.dissect.placement, ())


def _sensed(ctx: Context) -> Callable[[int], object]:
    from lis.dissection.receptive_fields import receptive_fields, sensitive_fields

    classifier, size = ctx.classifier, ctx.generator.resolution
    layer = classifier.layers[next(reversed(classifier.layers))]
    fields = receptive_fields(classifier, {"layer": layer}, torch.zeros(1, 3, size, size, device=ctx.device))

    def run(count: int) -> None:
        for _ in range(count):
            sensitive_fields(classifier, {"layer": layer}, fields, size, ctx.device)

    return run


def _shards(ctx: Context, job: Job, fit: int, score: int) -> tuple[Blocks, ...]:
    from lis.dissection.dissect import of_generator
    from lis.dissection.dissect_blocks import dissect_blocks

    return dissect_blocks(job, fit, score, known=not of_generator(ctx))


def _job(ctx: Context, count: int) -> Job:
    """A dissection of so many images."""
    from lis.dissection.concepts import concept_set
    from lis.dissection.dissect import named_modules, of_generator
    from lis.dissection.dissect_shards import Job

    scenes, config = (_generated if of_generator(ctx) else _annotated)(ctx, count), ctx.config.dissect
    concepts, modules = concept_set(scenes.labels, scenes.factor_names), named_modules(ctx, config.layers)
    return Job(ctx, scenes, concepts, modules, config.border, config.placement, {}, ())


def _generated(ctx: Context, count: int) -> Scenes:
    """Images of mean style codes, with an untrained segmenter where one is needed."""
    from lis.dissection.scenes import PairScenes, Scenes, finds_parts
    from lis.linking.evaluation import TrueFactors
    from lis.units.parts import Parts

    generator, labels = ctx.generator, tuple(ctx.config.classes.labels)
    parts = Parts(labels, finder(ctx), ()) if finds_parts(ctx, ctx.config.dissect.masks) else None
    w = generator.mean_w[:1].float().cpu().repeat(count, 1)
    factors = tuple(generator.factor_names) if isinstance(generator, TrueFactors) else ()
    medians = generator.true_factors(w[:1])[0] if isinstance(generator, TrueFactors) else None
    half = PairScenes(ctx, w, torch.zeros(count, dtype=torch.int64), parts, medians)
    return Scenes(labels, ctx.class_names, factors, "exact" if parts is None else "segmenter", half, half)


def _annotated(ctx: Context, count: int) -> Scenes:
    """Pictures of the folder in turn."""
    from lis.dissection.annotated import annotated_pictures
    from lis.dissection.scenes import FolderScenes, Scenes

    pictures = islice(cycle(annotated_pictures(ctx.config)), count)
    half = FolderScenes.of(ctx, [(picture, 0) for picture in pictures])
    return Scenes(tuple(ctx.config.classes.labels), ctx.class_names, (), "folder", half, half)


def _read_annotated(ctx: Context) -> Callable[[int], object]:
    half = _annotated(ctx, MOST).fit
    return lambda count: [half.batch(torch.tensor([k])) for k in range(count)]


def _counted(ctx: Context) -> Callable[[int], object]:
    from lis.dissection.dissect_shards import Block, count_quantiles

    job = _job(ctx, MOST)
    return lambda count: count_quantiles(job, Block("fit", 0, count, {}))


def _scored(ctx: Context) -> Callable[[int], object]:
    from lis.dissection.agreement import CURVE_LEVELS
    from lis.dissection.dissect_shards import Block, Thresholds, count_agreement

    job = _job(ctx, MOST)
    thresholds = {
        name: Thresholds(torch.zeros(units), torch.linspace(-1, 1, len(CURVE_LEVELS)).repeat(units, 1))
        for name, (units, _, _) in job.shapes.items()
    }
    return lambda count: count_agreement(job, Block("score", 0, count, thresholds))


def _permuted(ctx: Context) -> Callable[[int], object]:
    """Classes of as many images as each will have, of the first layer."""
    from lis.dissection.dissect import permuted_classes

    job, config = _job(ctx, 1), ctx.config.dissect
    n, masks = int(permuted_classes(ctx).bincount().max()), (len(job.concepts.names), job.size, job.size)
    return permuting(n, next(iter(job.shapes.values())), masks, config.permutations)


def permuting(
    images: int, maps: tuple[int, int, int], masks: tuple[int, int, int], permutations: int
) -> Callable[[int], object]:
    """Permutations of so many images of a class, for some units of random maps and masks of these shapes."""
    import numpy as np

    from lis.dissection.permutation import PermutationCounts

    numbers, units = torch.Generator().manual_seed(0), min(maps[0], TIMED)
    activations = torch.randn(images, units, *maps[1:], generator=numbers)
    concepts = torch.rand(images, *masks, generator=numbers) > 0.5

    def run(count: int) -> None:
        counts = PermutationCounts(torch.full((units,), 2.0), masks[0], permutations, np.random.default_rng(0))
        for _ in range(count):
            counts.add(activations, concepts)
        counts.test()

    return run


def bridge_work(ctx: Context, expected: Expected) -> Workload:
    """Of all random directions beside each unit, and of shuffled names; nothing is generated."""
    loads = (controls(ctx), Load(NAME_SHUFFLES, ctx.config.bridge.shuffles))
    return Workload(loads, 2 * ROW * tuned_units(ctx))


def _renamed(ctx: Context) -> Callable[[int], object]:
    """Shuffles of random names of units, all of them planted."""
    import numpy as np
    import pandas as pd

    from lis.dissection.bridge import scored, shares_table

    rng, parts, units = np.random.default_rng(0), list(ctx.config.classes.labels), tuned_units(ctx)
    activation, cause, target = rng.choice(parts, (3, units))
    columns = {"unit": range(units), "by_activation": activation, "by_cause": cause}
    columns |= {"named_activation": True, "q_cause": 0.0, "own": 1.0, "reached": True}
    table = scored(pd.DataFrame(columns), ("part",) * units, tuple(target), parts)
    return lambda count: shares_table(table, count, rng)


def importance_work(ctx: Context, expected: Expected) -> Workload:
    """Of both splits the maps, and of every ablation of a sample what lies behind the layer."""
    from lis.dissection.ablation import removal_counts
    from lis.dissection.ablation_shards import CURVES, UNITS, UNITS_PER_SHARD
    from lis.dissection.importance import PICTURED
    from lis.dissection.layer_data import CHECKED
    from lis.dissection.room import map_shape
    from lis.dissection.tails import PENULTIMATE, WHOLE_PASS

    config, classes = ctx.config.importance, len(ctx.class_names)
    fit, score = (classes * min(config.samples, n) for n in (ctx.config.pairs.train, ctx.config.pairs.test))
    units = map_shape(ctx, "importance")[0]
    counts, orders = len(removal_counts(units)), 2 * classes + config.draws
    ablated, answers = (fit + score) * units + score * counts * orders, fit + 2 * score  # once more for correlations
    made = 0 if config.layer == PENULTIMATE else fit + score
    whole = _tail(ctx)[0].method == WHOLE_PASS
    shared = PICTURED * 3 * min(TOP, score) if classes >= 3 else 0
    loads = (
        *images(ctx, made, shared=False),
        *(images(ctx, answers, shared=False) if whole else (Load(ABLATED, answers),)),
        *(images(ctx, ablated) if whole else (Load(ABLATED, ablated, shared=True),)),
        Load(GENERATOR, shared + (2 * CHECKED if made else 0)),
        *(placing(ctx) if made else ()),
    )
    size = ROW * units * classes + shared * 4 * min(ctx.generator.resolution, 64) ** 2
    shards = (
        Blocks(UNITS.stage, 2 * math.ceil(units / UNITS_PER_SHARD), 2 * units * classes * 8),
        Blocks(CURVES.stage, orders, orders * (counts * classes + units) * 8),
    )
    return Workload(loads, size, shards, (_ORDERS, *([_SHARED_UNITS] if shared else [])))


def _tail(ctx: Context) -> tuple[LayerTail, torch.Tensor]:
    """What lies behind the layer of a run, and its activations `[1, U, …]` on an image of noise."""
    from lis.dissection.activations import record_activations
    from lis.dissection.tails import PENULTIMATE, find_layer, find_tail, head_tail

    layer, classifier, image = ctx.config.importance.layer, ctx.classifier, noise(ctx, 1)
    if layer == PENULTIMATE:
        return head_tail(classifier), torch.rand(1, classifier.units, generator=torch.Generator().manual_seed(0))
    module = find_layer(classifier, layer)
    maps = record_activations(classifier.features, {"map": module}, image)["map"]
    return find_tail(classifier, module, image), maps.cpu()


def _ablated(ctx: Context) -> Callable[[int], object]:
    """Answers without the first unit."""
    from lis.dissection.ablation import ablated_logits

    (behind, maps), image = _tail(ctx), noise(ctx, 1)

    def tail(x: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        return behind.logits(x.to(ctx.device), image)

    first, values = torch.zeros(1, dtype=torch.int64), torch.zeros(maps.shape[1])
    return lambda count: ablated_logits(tail, maps.expand(count, *maps.shape[1:]), first, values)


def texture_work(ctx: Context, expected: Expected) -> Workload:
    """Of all images and their restyled twins the maps, and of some units images of either end."""
    from lis.dissection.restyling import RESTYLINGS, images_behind, restylings
    from lis.dissection.room import map_shape
    from lis.dissection.texture import CONTROL, RESTYLED, image_classes
    from lis.dissection.texture_scores import EXTREMES
    from lis.dissection.user_pictures import of_folder

    classes, units = image_classes(ctx), map_shape(ctx, "texture")[0]
    folder, n = of_folder(ctx), len(classes)
    behind = [images_behind(name) for name in (RESTYLINGS if folder else restylings(ctx.generator))]
    shown = min(2 * EXTREMES, units) * min(TOP, n)
    twins = n * sum(behind) + sum(1 + shown * (1 + k) for k in behind)
    made = PICTURES if folder else GENERATOR
    scale = units / min(units, TIMED)
    loads = (
        Load(made, n),
        Load(CLASSIFIER, n),
        Load(OTHERS, int(classes.max()) + 1, scale=scale),
        Load(made, twins, shared=True),
        Load(CLASSIFIER, n * len(behind), shared=True),
        *placing(ctx),
        Load(RESPONSES, n * len(behind), shared=True, scale=scale),
    )
    size = len(behind) * (ROW * units + 8 * shown * min(ctx.generator.resolution, 64) ** 2)
    shards = (
        Blocks(CONTROL.stage, 1, 8 * units * ctx.config.texture.shuffles + n),
        Blocks(RESTYLED.stage, len(behind), size),
    )
    return Workload(loads, size, shards, (_EXTREMES,))


def _texture_maps(ctx: Context, count: int) -> torch.Tensor:
    """Random maps `[count, units, h, w]` of some units of the layer."""
    from lis.dissection.room import map_shape

    units, height, width = map_shape(ctx, "texture")
    return torch.rand(count, min(units, TIMED), height, width, generator=torch.Generator().manual_seed(0))


def _responded(ctx: Context) -> Callable[[int], object]:
    from lis.dissection.texture_scores import paired_response_iou

    maps = _texture_maps(ctx, MOST)
    return lambda count: paired_response_iou(maps[:count], maps[:count].flip(0))


def _paired(ctx: Context) -> Callable[[int], object]:
    """Classes of as many images as the largest has, with each other."""
    import numpy as np

    from lis.dissection.texture import image_classes
    from lis.dissection.texture_scores import same_class_iou

    n, rng = int(image_classes(ctx).bincount().max()), np.random.default_rng(0)
    maps, shuffles = _texture_maps(ctx, n), ctx.config.texture.shuffles
    of_class = torch.zeros(n, dtype=torch.int64)
    return lambda count: [same_class_iou(maps, of_class, shuffles, rng) for _ in range(count)]


def _pictures(ctx: Context) -> Callable[[int], object]:
    """Pictures of the folder, one after the other."""
    from lis.dissection.restyling import FolderImages
    from lis.dissection.scenes import picture_size
    from lis.dissection.texture import used_pictures

    pictures = used_pictures(ctx)
    source = FolderImages(pictures, picture_size(ctx), ctx.device)
    return lambda count: [source.images(torch.tensor([k % len(pictures)])) for k in range(count)]


_MADE = ((GENERATOR, 1.0), (CLASSIFIER, 1.0))


@cache
def thresholds_of(generated: bool) -> Operation:
    """Images of the half that thresholds are taken from, which a generator makes or not."""
    made = _MADE if generated else ()
    return Operation(
        "images behind thresholds", _counted, passes=int(generated), reads=1, constant=True, instead=made, most=MOST
    )


@cache
def scores_of(generated: bool) -> Operation:
    """Those of the other half."""
    made = _MADE if generated else ()
    return Operation(
        "images that units are scored on",
        _scored,
        passes=int(generated),
        reads=1,
        constant=True,
        instead=made,
        most=MOST,
    )


ANNOTATED = Operation("pictures that are read with their masks", _read_annotated, most=MOST)
PERMUTED = Operation("classes of permuted images", _permuted, constant=True, most=4)
SENSED = Operation("layers whose gradients are taken on noise", _sensed, reads=NOISE, backwards=NOISE, most=1)
NAME_SHUFFLES = Operation("shuffles of the names of units", _renamed, constant=True, most=4096)
ABLATED = Operation("answers behind an ablated layer", _ablated)
RESPONSES = Operation("images whose responses are held against their twins'", _responded, most=MOST)
OTHERS = Operation("classes whose images are held against each other", _paired, most=4)
PICTURES = Operation("pictures that are read", _pictures, most=MOST)
