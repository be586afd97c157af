"""What the stages of this package will do: draws of pairs, fits, distances between images, similarities."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from lis.config import MLPConfig
from lis.context import Context
from lis.workload import FLOAT, GENERATOR, SAMPLES, Blocks, Expected, Load, Operation, Workload, images, noise, repeated

if TYPE_CHECKING:
    import numpy as np

    from lis.linking.pairs import Block

LARGEST = 512
"""Units and dimensions of w at most of a fit that is timed: it grows with their cube."""
_ADDRESS = 16
"""Bytes of a pair's class and index."""
_FLAGS = 9
"""Bytes of a draw's prediction and whether it is accepted."""
_EPOCHS = "{stage}: as many epochs as link.max_epochs allows; it ends before where the loss no longer falls"
_APART = 3.0
"""Distance between the means of classes, in standard deviations, of the values that similarities are timed with."""


def pairs_work(ctx: Context, split: str, n: int, expected: Expected) -> Workload:
    """Of n accepted samples per class.

    Args:
        ctx: the run.
        split: whose stream they are drawn from.
        n: how many.
        expected: how many draws are accepted.
    """
    from lis.linking.pairs import SHARDS, Job

    blocks = pair_blocks(ctx, ctx.class_names, n, expected)
    drawn, job = sum(block.size for block in blocks), Job(ctx, split)
    pair = FLOAT * (ctx.classifier.units + ctx.generator.w_dim)
    accepted = drawn * (expected.acceptance if ctx.generator.num_classes else 1.0)
    return Workload(
        (Load(SAMPLES, drawn, shared=True), *images(ctx, drawn)),
        size=n * len(ctx.class_names) * (pair + _ADDRESS),
        shards=(
            Blocks(
                SHARDS.stage,
                len(blocks),
                round(accepted * pair + drawn * _FLAGS),
                lambda: (SHARDS.recipe(job, block) for block in blocks),
            ),
        ),
    )


def pair_blocks(ctx: Context, names: Sequence[str], n: int, expected: Expected) -> list[Block]:
    """The shards that n accepted samples of some classes take."""
    from lis.linking.pairs import Block, sources

    size = min(ctx.config.shard_size, 2 * n)
    count = math.ceil(n / expected.acceptance / size)
    return [Block(source, number, size) for source in sources(ctx, names) for number in range(count)]


def projection_work(ctx: Context, expected: Expected) -> Workload:
    """Of all training pairs, generated and read once more."""
    n, size = ctx.config.pairs.train * len(ctx.class_names), ctx.config.shard_size
    row = FLOAT * ctx.classifier.units
    return Workload(images(ctx, n), n * row, (Blocks("projection-shard", math.ceil(n / size), n * row),))


def link_work(ctx: Context, expected: Expected) -> Workload:
    """Of one fit; that of a network may end before."""
    config, n = ctx.config.link, ctx.config.pairs.train * len(ctx.class_names)
    epochs = config.max_epochs if isinstance(config, MLPConfig) else None
    known, w_dim = ctx.classifier.units, ctx.generator.w_dim
    ratio = max(known, w_dim) / min(max(known, w_dim), LARGEST)
    scale = ratio if isinstance(config, MLPConfig) else ratio**3  # a layer's products; those of a covariance
    notes = () if epochs is None else (_EPOCHS.format(stage="link"),)
    return Workload((Load(FIT, n * (epochs or 1), scale=scale),), FLOAT * (known + 1) * w_dim, notes=notes)


def _fits(ctx: Context) -> Callable[[int], object]:
    """Fits to random pairs: at least twice as many as there are units."""
    import torch

    from lis.build import build
    from lis.linking.link import BLOCKS, unit_table
    from lis.linking.training import LinkFit, Settings, TrainingPairs

    units, w_dim = min(ctx.classifier.units, LARGEST), min(ctx.generator.w_dim, LARGEST)
    config, settings = ctx.config.link, Settings(ctx.config.seed, ctx.device, ctx.progress)
    fit: LinkFit = build(replace(config, max_epochs=1) if isinstance(config, MLPConfig) else config)

    def run(count: int) -> None:
        numbers = torch.Generator().manual_seed(0)
        w = torch.randn(count + 2 * units, w_dim, generator=numbers)
        r = (w @ torch.randn(w_dim, units, generator=numbers)).relu() + 0.1 * torch.rand(
            len(w), units, generator=numbers
        )
        training = TrainingPairs.of(r, w, BLOCKS, r)
        fitted = fit.fit(training, settings)
        unit_table(training.moments, fitted.link, fitted.ridge)

    return run


def evaluation_work(ctx: Context, expected: Expected) -> Workload:
    """Of every test pair the image, twice, in two orders, and that of the cycle; and of a partner in each batch."""
    n, classes = ctx.config.pairs.test * len(ctx.class_names), len(ctx.class_names)
    batches = math.ceil(n / min(ctx.config.batch_size, ctx.batches().size))
    shown = 2 * min(ctx.config.evaluation.examples, ctx.config.pairs.test) * classes
    cycled = images(ctx, n, shared=False)
    originals = Load(GENERATOR, (3 if len(cycled) == 1 else 2) * n + 2 * batches + shown)
    metrics = 2 + len(_distances(ctx))
    loads = (originals, *cycled, Load(DISTANCES, 3 * n), Load(SUMMARIES, metrics * n, calls=metrics))
    return Workload(loads, size=shown * 3 * ctx.generator.resolution**2 + 20 * metrics * n)


def _distances(ctx: Context) -> list[Any]:
    from lis.linking.distances import choose

    return choose(ctx.config.evaluation, ctx.generator.resolution).load(ctx.device)


def _compared(ctx: Context) -> Callable[[int], object]:
    distances, image = _distances(ctx), noise(ctx, 1)

    def apart(rows: Any) -> list[Any]:
        one = image.repeat(len(rows), 1, 1, 1)
        return [distance(one, one.flip(-1)).cpu() for distance in distances]

    return repeated(ctx.batches(), apart)


def _summarised(ctx: Context) -> Callable[[int], object]:
    import numpy as np

    from lis.linking.evaluation import PAIRINGS, summarise

    def run(count: int) -> None:
        rng = np.random.default_rng(0)
        values = {pairing: rng.random(count + 1) for pairing in PAIRINGS}
        summarise(values, ctx.config.evaluation.resamples, rng)

    return run


def similarity_work(ctx: Context, expected: Expected) -> Workload:
    """Of subsets of the test pairs; with random classes also their pairs."""
    config, classes = ctx.config.similarity, len(ctx.class_names)
    repetitions, random = config.repetitions + config.random_classes, ()
    if config.random_classes:
        from lis.linking.pairs import known_classes

        known = len(known_classes(ctx))
        drawn = known * (1 - (1 - classes / known) ** config.random_classes)
        draws = drawn * sum(block.size for block in pair_blocks(ctx, ctx.class_names[:1], config.examples, expected))
        random = (Load(SAMPLES, draws), *images(ctx, draws, shared=False))
    return Workload((Load(SIMILARITIES, repetitions), Load(PERMUTATIONS, config.permutations), *random), 20_000)


def _clustered(ctx: Context) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Random r, w and classes of as many samples as a repetition has."""
    import numpy as np

    rng, classes = np.random.default_rng(0), len(ctx.class_names)
    labels = np.arange(classes).repeat(ctx.config.similarity.examples)
    widths = (ctx.classifier.units, ctx.generator.w_dim)
    means = (_APART / width**0.5 * rng.standard_normal((classes, width)) for width in widths)
    r, w = (mean[labels] + rng.standard_normal((len(labels), mean.shape[1])) for mean in means)
    return r, w, labels


def _similarities(ctx: Context) -> Callable[[int], object]:
    from lis.linking.similarity import statistics

    r, w, labels = _clustered(ctx)
    return lambda count: [statistics(r, w, labels, seed) for seed in range(count)]


def _permuted(ctx: Context) -> Callable[[int], object]:
    import numpy as np

    from lis.linking.similarity import permuted

    r, w, labels = _clustered(ctx)
    return lambda count: permuted(r, w, labels, 0, count, np.random.default_rng(0))


FIT = Operation("pairs that a link is fitted to", _fits, fit=True, most=4096)
DISTANCES = Operation("distances between images", _compared)
SUMMARIES = Operation("values behind a mean with its interval", _summarised, fit=True, most=4096)
SIMILARITIES = Operation("repetitions of the similarity", _similarities)
PERMUTATIONS = Operation("permutations of the similarity", _permuted, constant=True, most=64)
