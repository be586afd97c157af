"""What the stages of this package will do: samples followed along units, and matchers held against the truth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial

import torch
from torch import Tensor

from lis.context import Context
from lis.segmentation.work import finder
from lis.streams import Stream
from lis.types import Matcher
from lis.units.perturbation import Perturbation
from lis.workload import CLASSIFIER, FLOAT, GENERATOR, Blocks, Expected, Load, Operation, Workload, images, style_codes

KINDS = 4
"""Kinds of movement that are held against shuffled units."""


def motion_work(ctx: Context, expected: Expected) -> Workload:
    """Of every unit and sample a sequence that is aligned, and of the examples once more."""
    from lis.motion.matchers import matched_side

    config, classes = ctx.config.motion, len(ctx.class_names)
    single = ctx.config.unit is not None or ctx.config.direction is not None
    units, samples = 1 if single else min(config.units, ctx.classifier.units), config.seeds * classes
    examples = 2 * min(config.examples, units)
    track = tracks(config.steps)
    loads = (
        Load(track, units * samples, shared=True),
        *images(ctx, 2 * units * samples, shared=False),
        Load(track, examples),
        Load(SHUFFLES, KINDS * config.shuffles),
    )
    pixel = config.steps * (3 + 3 + 1 + 2 * FLOAT) + 2 * FLOAT
    shards = Blocks("motion-shard", units * classes, units * samples * config.steps * 60)
    return Workload(loads, examples * pixel * matched_side(ctx.generator) ** 2, (shards,))


@dataclass(frozen=True)
class Between:
    """In the place of directions: goes from one w to another, whatever is asked."""

    ends: Tensor
    """`[2, w_dim]` on the run's device."""

    def moved(self, r: Tensor, asked: Perturbation, values: Tensor) -> Tensor:
        """w `[1, steps, w_dim]`."""
        share = torch.linspace(0, 1, len(values), device=self.ends.device)[:, None]
        return torch.lerp(self.ends[:1], self.ends[1:], share)[None]


@cache
def tracks(steps: int) -> Operation:
    """Samples that are followed along a range, each in so many images."""
    return Operation(
        "samples followed along a unit",
        _followed,
        passes=steps,
        instead=((GENERATOR, steps), (MATCHED, 1.0)),
        most=64,
    )


def _followed(ctx: Context) -> Callable[[int], object]:
    from lis.motion.matchers import run_matcher
    from lis.motion.motion import Job, sample_track

    labels = len(ctx.config.classes.labels)
    generator, stream = ctx.generator, Stream("train pairs", ctx.config.seed)
    index = generator.class_names.index(ctx.class_names[0]) if generator.num_classes else None
    ends = generator.sample(index, torch.arange(2), stream, ctx.config.gan.truncation).to(ctx.device)
    masks = finder(ctx) if labels else None
    job = Job(ctx, Between(ends), run_matcher(ctx), masks, labels, ())  # pyright: ignore[reportArgumentType]
    along, r = Perturbation.of_unit(0, 0.0, 1.0), torch.zeros(1, ctx.classifier.units)
    return lambda count: [sample_track(job, r, along, ctx.config.motion.steps) for _ in range(count)]


def _matched(ctx: Context) -> Callable[[int], object]:
    """Sequences of one image that moves by a pixel a step."""
    from lis.generators.layers import image_and_maps
    from lis.images import smaller
    from lis.matching.align import align
    from lis.motion.matchers import run_matcher

    matcher, steps = run_matcher(ctx), ctx.config.motion.steps
    image, maps = image_and_maps(ctx.generator, style_codes(ctx, 1), matcher.layers)
    view = matcher.view(smaller(image), maps)
    views = torch.cat([view.roll(step, -1) for step in range(steps)])
    return lambda count: [align(matcher, views, fields=[steps - 1]) for _ in range(count)]


def matching_work(ctx: Context, expected: Expected) -> Workload:
    """Of pairs of both images for each matcher, and of every image of the sequences."""
    from lis.motion.matchers import matchers, run_name
    from lis.motion.matching import SHARDS, Job, pair_blocks, sequence_blocks, validate_matching

    generator, compared = validate_matching(ctx), matchers(ctx)
    name, n, steps = run_name(ctx, compared), ctx.config.matching.samples, ctx.config.motion.steps
    job, pairs, sequences = Job(ctx, generator, compared), pair_blocks(ctx, compared), sequence_blocks(ctx, name)
    blocks, followed = pairs + sequences, n * len(sequences)
    loads = (
        Load(GENERATOR, 2 * n * len(pairs) + steps * followed, shared=True),
        Load(DISPLACEMENTS, n * len(blocks), shared=True),
        *(Load(_pairs(block.matcher, _reads(compared[block.matcher])), n, shared=True) for block in pairs),
        *((Load(CLASSIFIER, steps * followed, shared=True),) if _reads(compared[name]) else ()),
        Load(MATCHED, followed, shared=True, scale=2 * (steps - 1) / steps),  # the field of every step, not of one
    )
    size = 150 * n * len(blocks)
    shards = Blocks(SHARDS.stage, len(blocks), size, lambda: (SHARDS.recipe(job, block) for block in blocks))
    return Workload(loads, size, (shards,))


def _reads(matcher: Matcher) -> bool:
    """Whether a matcher's view is what the classifier makes of an image."""
    from lis.matching.descriptors import FeatureMaps

    descriptor = getattr(matcher, "descriptor", None)
    return isinstance(descriptor, FeatureMaps) and descriptor.classifier is not None


@cache
def _pairs(name: str, reads: bool) -> Operation:
    """Pairs of images that a matcher finds displacements between."""
    return Operation(f"pairs of images by {name}", partial(_paired, name), reads=2 * reads, most=64)


def _paired(name: str, ctx: Context) -> Callable[[int], object]:
    """An image that moves by a pixel."""
    from lis.generators.layers import image_and_maps
    from lis.motion.matchers import matchers
    from lis.motion.matching import matched

    matcher = matchers(ctx)[name]
    image, maps = image_and_maps(ctx.generator, style_codes(ctx, 1), matcher.layers)
    pair = torch.cat([image, image.roll(1, -1)])
    both = {layer: x.repeat(2, 1, 1, 1) for layer, x in maps.items()}
    return lambda count: [matched(matcher, matcher.view(pair, both)) for _ in range(count)]


def _displaced(ctx: Context) -> Callable[[int], object]:
    from lis.motion.matching import trials, validate_matching

    generator = validate_matching(ctx)
    return lambda count: trials(generator, "pose", 0, count, 0)


def _shuffled(ctx: Context) -> Callable[[int], object]:
    import numpy as np

    from lis.motion.tuned import shuffled_p

    rng, config = np.random.default_rng(0), ctx.config.motion
    values = rng.standard_normal((config.units, config.seeds * len(ctx.class_names), 2))
    return lambda count: shuffled_p(values, count, rng)


MATCHED = Operation("sequences that are aligned", _matched, most=64)
SHUFFLES = Operation("shuffles of units", _shuffled, most=4096)
DISPLACEMENTS = Operation("true displacements", _displaced)
