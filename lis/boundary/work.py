"""What the stages of this package will do: searches step by step, the ways to their results, and heat on these."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from lis.context import Context
from lis.segmentation.work import MASKS, looked
from lis.workload import (
    CLASSIFIER,
    FLOAT,
    GENERATOR,
    Blocks,
    Expected,
    Load,
    Operation,
    Workload,
    gradients,
    images,
    noise,
    repeated,
    style_codes,
)

TAKEN = 0.1
"""Share of `max_steps` that a search is assumed to take; 4 to 10 of 100 on part world (experiments/counterfactuals)."""
_SEARCHES = "searches: assumed to take a tenth of counterfactuals.max_steps on average, and to succeed"
_ATTACKS = "steps in pixels: assumed to be a tenth of adversarial.max_steps on average"
_SHARD = "counterfactual-shard"
_PATHS = "boundary_truth: at most as many paths as are counted, of searches that succeed"


def crossing(steps: int) -> int:
    """Points of a path at which its boundary is looked for: those of so many even steps, and halvings of one of these.

    Example:
        >>> crossing(10)
        18
    """
    from lis.boundary.job import TOLERANCE

    return steps + 1 + max(0, math.ceil(math.log2(1 / (steps * TOLERANCE))))


def most_steps(ctx: Context) -> int:
    """Steps of a search, at most."""
    from lis.boundary.searches import search_settings

    return search_settings(ctx.config.counterfactuals).max_steps


def searches(ctx: Context, count: int, steps: int) -> tuple[Load, ...]:
    """So many searches of so many steps at most, and what their images are taken for."""
    from lis.boundary.job import STEPS

    taken, config = TAKEN * steps, ctx.config.counterfactuals
    looks = 3 + crossing(STEPS) + (0 if config.objective == "image" else taken / config.check_every)
    loads = images(ctx, count * looks)
    return (*gradients(ctx, count * taken), *loads) if config.objective == "image" else loads


def search_bytes(ctx: Context, count: int) -> int:
    """Bytes of the results of searches."""
    return count * FLOAT * (4 * ctx.classifier.units + 2 * ctx.generator.w_dim + _SPARE)


_SPARE = 16
"""Numbers of a search besides its vectors."""


def _searching(ctx: Context, per_pair: int, starts: int, steps: int, runs: int = 1, witnessed: bool = True) -> Workload:
    """The same number of searches for every ordered pair of classes, whose ends a witness sees where there is one."""
    from lis.boundary.searches import class_pairs

    pairs, block = len(class_pairs(ctx.config)), ctx.config.counterfactuals.sample_block
    count = pairs * per_pair * starts * runs
    shards = Blocks(_SHARD, pairs * math.ceil(per_pair / block) * runs, search_bytes(ctx, count))
    seen = _ends_seen(ctx, count) if witnessed else ()
    return Workload((*searches(ctx, count, steps), *seen), search_bytes(ctx, count), (shards,), (_SEARCHES,))


def _ends_seen(ctx: Context, count: int) -> tuple[Load, ...]:
    """Both ends of so many ways, made again for a witness; without one nothing."""
    return (Load(GENERATOR, 2 * count), Load(WITNESSED, 2 * count)) if ctx.witness else ()


def _witnessed(ctx: Context) -> Callable[[int], object]:
    witness = ctx.of_witness
    assert witness is not None  # without one nothing is counted
    return CLASSIFIER.prepare(witness)


def counterfactuals_work(ctx: Context, expected: Expected) -> Workload:
    """A search for every sample and ordered pair of classes."""
    return _searching(ctx, ctx.config.counterfactuals.samples, 1, most_steps(ctx))


def initialisations_work(ctx: Context, expected: Expected) -> Workload:
    """Searches from several starts."""
    config = ctx.config.counterfactuals
    return _searching(ctx, config.diversity_samples, config.initialisations, most_steps(ctx), witnessed=False)


def sparse_work(ctx: Context, expected: Expected) -> Workload:
    """Searches with every weight of the penalty."""
    config = ctx.config.counterfactuals
    return _searching(ctx, config.l1_samples, 1, config.l1_max_steps, runs=len(set(config.l1_sweep)))


def trajectories_work(ctx: Context, expected: Expected) -> Workload:
    """The first searches of some pairs, unless `counterfactuals` makes them, and the images on their ways."""
    from lis.boundary.searches import class_pairs
    from lis.stage import closure, requested

    config, work = ctx.config.counterfactuals, Workload()
    pairs, samples = len(class_pairs(ctx.config)[: config.trajectories]), min(config.samples, config.sample_block)
    if not any(stage.name == "counterfactuals" for stage in closure(requested(ctx), ctx)):
        count = pairs * samples
        shards = Blocks(_SHARD, pairs, search_bytes(ctx, count))
        work = Workload(searches(ctx, count, most_steps(ctx)), shards=(shards,), notes=(_SEARCHES,))
    shown = pairs * (config.steps + 2)
    way = (*looked(ctx, shown, shared=False), *images(ctx, pairs * crossing(config.steps - 1), shared=False))
    compared = Load(GENERATOR, pairs * (config.steps + 1))
    size = shown * (4 * min(ctx.generator.resolution, 256) ** 2 + FLOAT * ctx.generator.w_dim)
    return Workload((*work.loads, *way, compared), size, work.shards, work.notes)


def gradcam_work(ctx: Context, expected: Expected) -> Workload:
    """Of four images of every trajectory the heat for two classes."""
    from lis.boundary.gradcam import IMAGES
    from lis.boundary.searches import class_pairs

    pairs = len(class_pairs(ctx.config)[: ctx.config.counterfactuals.trajectories])
    count = len(IMAGES) * pairs
    size = count * ctx.generator.resolution**2 * (2 * FLOAT + 3)
    return Workload((Load(GENERATOR, count), Load(HEAT, 2 * count)), size)


def _heated(ctx: Context) -> Callable[[int], object]:
    from lis.boundary.gradcam import cam

    image, target = noise(ctx, 1), ctx.classifier.class_names.index(ctx.class_names[0])

    def heat(rows: Tensor) -> Tensor:
        with torch.inference_mode(False):
            classes = torch.full((len(rows),), target, device=ctx.device)
            return cam(ctx.classifier, image.repeat(len(rows), 1, 1, 1), classes)

    return repeated(ctx.batches(gradient=True), heat)


def adversarial_work(ctx: Context, expected: Expected) -> Workload:
    """Steps in pixels beside every counterfactual, of which all are taken to have succeeded."""
    from lis.boundary.adversarial import HALVINGS
    from lis.boundary.searches import class_pairs

    config, most = ctx.config.adversarial, ctx.config.counterfactuals.samples
    pairs = len(class_pairs(ctx.config))
    count = pairs * min(config.samples or most, most)
    loads = (
        Load(GENERATOR, 2 * count, shared=True),
        *((Load(MASKS, 2 * count, shared=True),) if ctx.config.classes.labels else ()),
        Load(ATTACKS, count * (1 + TAKEN * config.max_steps), shared=True),
        Load(CLASSIFIER, count * (HALVINGS + 2), shared=True),
        *images(ctx, count),
    )
    side = ctx.generator.resolution
    shown = min(pairs, ctx.config.counterfactuals.trajectories) * (4 + 2 * FLOAT) * 3 * side**2
    return Workload(
        loads, shown, (Blocks("adversarial-shard", pairs, pairs * (4 + 2 * FLOAT) * 3 * side**2),), (_ATTACKS,)
    )


def _attacked(ctx: Context) -> Callable[[int], object]:
    image = noise(ctx, 1)

    def gradient(rows: Tensor) -> Tensor:
        with torch.inference_mode(False), torch.enable_grad():
            x = image.repeat(len(rows), 1, 1, 1).requires_grad_()
            answers = ctx.classifier.head(ctx.classifier.features(x))
            return torch.autograd.grad(answers.sum(), x)[0].cpu()

    return repeated(ctx.batches(gradient=True), gradient)


def gan_counterfactuals_work(ctx: Context, expected: Expected) -> Workload:
    """The images on the way of every sample to every other class, and units of some in pictures."""
    config, classes = ctx.config.gan_counterfactuals, len(ctx.class_names)
    count = classes * (classes - 1) * config.samples
    shown = min(config.examples, classes) * (config.steps + config.units * ctx.config.view.steps)
    row = FLOAT * (2 * ctx.generator.w_dim + 2 * ctx.classifier.units) + config.steps * FLOAT * (5 * 8 + classes)
    size = shown * 4 * min(ctx.generator.resolution, 256) ** 2 + count * row
    shards = Blocks("gan-counterfactuals-shard", classes * (classes - 1), count * row)
    return Workload(
        (*looked(ctx, count * config.steps), *looked(ctx, shown, shared=False), *_ends_seen(ctx, count)),
        size,
        (shards,),
        ("gan_counterfactuals: at most as many pictures of units as are counted",),
    )


def boundary_truth_work(ctx: Context, expected: Expected) -> Workload:
    """Of every counterfactual Bayes' rule along its path and at three points of it; nothing is generated or read."""
    from lis.boundary.searches import class_pairs

    config, pairs = ctx.config.counterfactuals, class_pairs(ctx.config)
    points = crossing(int(10 * config.path_end)) + 3
    count, shown = len(pairs) * config.samples, len(pairs[: config.trajectories]) * config.steps
    size = 100 * count + 40 * (shown + len(pairs)) * (1 + len(getattr(ctx.generator, "factor_names", ())))
    return Workload((Load(POSTERIORS, count * points + shown),), size, notes=(_PATHS,))


def _posteriors(ctx: Context) -> Callable[[int], object]:
    from lis.boundary.boundary_truth import validate_bayes

    generator = validate_bayes(ctx.generator)
    return lambda count: generator.log_posterior(style_codes(ctx, count)).cpu()


WITNESSED = Operation("images that the witness sees", _witnessed, reads=1)
ATTACKS = Operation("steps in pixels", _attacked, reads=1, backwards=1, instead=((CLASSIFIER, 3.0),))
HEAT = Operation("GradCAM", _heated, reads=1, backwards=1, instead=((CLASSIFIER, 3.0),))
POSTERIORS = Operation("answers of Bayes' rule", _posteriors)
