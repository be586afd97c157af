"""What the stage "dissect" will do: quantiles of one half of the images, agreement on the other, and permutations."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from lis.context import Context
from lis.segmentation.work import finder
from lis.workload import CLASSIFIER, FLOAT, GENERATOR, Blocks, Expected, Load, Operation, Workload, images

if TYPE_CHECKING:
    from lis.dissection.dissect_shards import Job

TIMED = 8
"""Units at most whose permutations are timed: they are independent of each other."""
_MOST = 64
"""Images that a measurement takes at most."""
_TOP = 5
"""Images with the highest activations that are shown of a unit."""
_PICTURE = 96
"""Height and width in pixels of these."""


def dissect_work(ctx: Context, expected: Expected) -> Workload:
    """Of each half of the images, of those that are permuted, and of those that are shown."""
    from lis.dissection.dissect import of_generator, permuted_classes

    if not of_generator(ctx):
        raise ValueError("images=<folder>: how long a user's own pictures take is not known before")
    config, classes = ctx.config.dissect, len(ctx.class_names)
    fit, score = (classes * min(config.samples, n) for n in (ctx.config.pairs.train, ctx.config.pairs.test))
    job = _job(ctx, _MOST)
    units = sum(units for units, _, _ in job.shapes.values())
    sizes = permuted_classes(ctx).bincount()
    permuted = int(sizes.sum()) * len(job.modules)
    shown = min(score, _TOP * (units + ctx.classifier.units))
    once = 2 + 2 * len(job.modules)
    loads = (
        Load(QUANTILES, fit, shared=True, calls=math.ceil(fit / ctx.config.shard_size)),
        Load(SCORES, score, shared=True, calls=math.ceil(score / ctx.config.shard_size)),
        *images(ctx, permuted + once, shared=False),
        Load(GENERATOR, shown),
        Load(PERMUTED, int((sizes > 0).sum()) * len(job.modules), scale=units / min(units, TIMED)),
    )
    concepts = len(job.concepts.names)
    tables = units * concepts * 90 + units * _TOP * _PICTURE**2 + shown * 3 * _PICTURE**2
    return Workload(loads, tables, _shards(ctx, job, fit, score, units * concepts))


def _shards(ctx: Context, job: Job, fit: int, score: int, cells: int) -> tuple[Blocks, ...]:
    size = ctx.config.shard_size
    rounds = [math.ceil(n / size) for n in (fit, score)]
    sketch = sum(_bytes(x) for x in _sketch(job).tensors().values())
    counts = cells * 200 + _TOP * sum(FLOAT * math.prod(shape) for shape in job.shapes.values())
    return (
        Blocks("dissect-quantiles-shard", rounds[0], rounds[0] * sketch),
        Blocks("dissect-agreement-shard", rounds[1], rounds[1] * counts),
    )


def _sketch(job: Job) -> Any:
    from lis.dissection.quantiles import QuantileSketch

    return QuantileSketch(sum(units for units, _, _ in job.shapes.values()))


def _bytes(x: torch.Tensor) -> int:
    return x.numel() * x.element_size()


def _job(ctx: Context, count: int) -> Job:
    """A dissection of so many images of mean style codes, with an untrained segmenter where one is needed."""
    from lis.dissection.concepts import concept_set
    from lis.dissection.dissect import named_modules
    from lis.dissection.dissect_shards import Job
    from lis.dissection.scenes import PairScenes, Scenes
    from lis.labels.labelled import TrueParts
    from lis.linking.evaluation import TrueFactors
    from lis.units.parts import Parts

    generator, labels, config = ctx.generator, tuple(ctx.config.classes.labels), ctx.config.dissect
    parts = Parts(labels, finder(ctx), ()) if labels and not isinstance(generator, TrueParts) else None
    w = generator.mean_w[:1].float().cpu().repeat(count, 1)
    factors = tuple(generator.factor_names) if isinstance(generator, TrueFactors) else ()
    medians = generator.true_factors(w[:1])[0] if isinstance(generator, TrueFactors) else None
    half = PairScenes(ctx, w, torch.zeros(count, dtype=torch.int64), parts, medians)
    scenes = Scenes(labels, ctx.class_names, factors, "exact" if parts is None else "segmenter", half, half)
    concepts, modules = concept_set(labels, factors), named_modules(ctx, config.layers)
    return Job(ctx, scenes, concepts, modules, config.border, {}, ())


def _counted(ctx: Context) -> Callable[[int], object]:
    from lis.dissection.dissect_shards import Block, count_quantiles

    job = _job(ctx, _MOST)
    return lambda count: count_quantiles(job, Block("fit", 0, count, {}))


def _scored(ctx: Context) -> Callable[[int], object]:
    from lis.dissection.agreement import CURVE_LEVELS
    from lis.dissection.dissect_shards import Block, Thresholds, count_agreement

    job = _job(ctx, _MOST)
    thresholds = {
        name: Thresholds(torch.zeros(units), torch.linspace(-1, 1, len(CURVE_LEVELS)).repeat(units, 1))
        for name, (units, _, _) in job.shapes.items()
    }
    return lambda count: count_agreement(job, Block("score", 0, count, thresholds))


def _permuted(ctx: Context) -> Callable[[int], object]:
    """Classes of as many images as each will have, of the first layer and some of its units."""
    import numpy as np

    from lis.dissection.dissect import permuted_classes
    from lis.dissection.permutation import PermutationCounts

    job, config = _job(ctx, 1), ctx.config.dissect
    units, height, width = next(iter(job.shapes.values()))
    n, units, concepts = int(permuted_classes(ctx).bincount().max()), min(units, TIMED), len(job.concepts.names)
    numbers = torch.Generator().manual_seed(0)
    maps = torch.randn(n, units, height, width, generator=numbers)
    masks = torch.rand(n, concepts, job.size, job.size, generator=numbers) > 0.5

    def run(count: int) -> None:
        rng = np.random.default_rng(0)
        counts = PermutationCounts(torch.full((units,), 2.0), concepts, config.permutations, rng, job.border)
        for _ in range(count):
            counts.add(maps, masks)
        counts.test(config.min_iou)

    return run


_MADE = ((GENERATOR, 1.0), (CLASSIFIER, 1.0))
QUANTILES = Operation("images behind thresholds", _counted, passes=1, reads=1, constant=True, instead=_MADE, most=_MOST)
SCORES = Operation(
    "images that units are scored on", _scored, passes=1, reads=1, constant=True, instead=_MADE, most=_MOST
)
PERMUTED = Operation("classes of permuted images", _permuted, constant=True, most=4)
