"""The searches of a run: from which class to which, from which starts, in shards, and as a table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from lis.boundary.job import Job
from lis.boundary.judged import judged
from lis.boundary.optimizers import OPTIMIZERS
from lis.boundary.search import MOST_STEPS, Problems, Settings, search
from lis.config import CounterfactualsConfig, RunConfig
from lis.context import Context
from lis.linking.link import link
from lis.linking.pairs import pairs, test_pairs, train_pairs
from lis.peaks import FLOAT, width
from lis.shards import Shards
from lis.stage import MODELS, Stage, stage
from lis.store import Draft
from lis.streams import Stream
from lis.units.direction import class_pair
from lis.workload import Expected, Workload

STARTS = 2**20
"""Starts that a sample can have."""
SHARD_VERSION = 5
SEARCHED = (link, train_pairs, test_pairs)
"""What every search follows from."""


def search_stage(
    name: str,
    *settings: str,
    version: int,
    work: Callable[[Context, Expected], Workload],
    models: Sequence[str] = MODELS,
) -> Callable[[Callable[..., None]], Stage]:
    """`stage` for searches alone; `settings` of `counterfactuals` are in the key besides what every search has."""
    return stage(
        name,
        version=version,
        inputs=SEARCHED,
        models=models,
        also=lambda ctx: search_key(ctx, *settings),
        check=lambda ctx: validate_counterfactual(ctx.config),
        arrays=search_arrays,
        work=work,
    )


def search_key(ctx: Context, *settings: str) -> dict[str, Any]:
    """What every search follows from, with the pairs of classes and these settings of `counterfactuals`."""
    config = ctx.config.counterfactuals
    return {
        "seed": ctx.config.seed,
        "accept": ctx.config.pairs.accept,
        "truncation": ctx.config.gan.truncation,
        "classes": list(ctx.class_names),
        "pairs": config.pairs,
        "settings": search_settings(config).described(),
        **{name: getattr(config, name) for name in settings},
    }


def search_arrays(ctx: Context) -> int:
    """Bytes of a block of searches and its gradients, and of what is retained of all of them."""
    config, classes = ctx.config.counterfactuals, len(ctx.class_names)
    every = classes * max(classes - 1, 1) * config.samples
    return (16 * config.sample_block * config.initialisations + 6 * every) * width(ctx) * FLOAT


def search_settings(config: CounterfactualsConfig) -> Settings:
    """The settings of a search, with the usual ones of objective and optimizer where none are given."""
    optimizer = OPTIMIZERS[config.optimizer]
    usual: dict[str, Any] = {"learning_rate": optimizer.learning_rate[config.objective], "start": optimizer.start}
    usual |= {"max_steps": MOST_STEPS[config.objective], "until": None, "near": None}
    given = {field.name: getattr(config, field.name) for field in fields(Settings)}
    return Settings(**{name: usual[name] if value is None else value for name, value in given.items()})


def validate_counterfactual(config: RunConfig) -> None:
    """Checks, before any work, that there are pairs of classes, and samples to begin with.

    Raises:
        ValueError: a single class, an unknown pair or one that is named twice, or too few test pairs.
    """
    class_pairs(config)
    for key in ("samples", "diversity_samples", "l1_samples"):
        value = getattr(config.counterfactuals, key)
        if value > config.pairs.test:
            raise ValueError(
                f"counterfactuals.{key}={value}: expected at most pairs.test={config.pairs.test}, the samples per class"
            )


def class_pairs(config: RunConfig) -> list[tuple[int, int]]:
    """Original and target, indices among the classes of the run.

    Those that are named, or all: first every class and the next one, then every class and the one after that, ….

    Raises:
        ValueError: as `validate_counterfactual`.

    Example:
        >>> from lis.config import ClassesConfig
        >>> class_pairs(RunConfig(classes=ClassesConfig(name="three", names=["a", "b", "c"])))
        [(0, 1), (1, 2), (2, 0), (0, 2), (1, 0), (2, 1)]
    """
    names, requested = config.classes.names, config.counterfactuals.pairs
    if len(names) < 2:
        raise ValueError(f"a counterfactual needs two classes: classes.names has {len(names)} ({', '.join(names)})")
    if requested is None:
        return [(k, (k + d) % len(names)) for d in range(1, len(names)) for k in range(len(names))]
    if not requested:
        raise ValueError("counterfactuals.pairs is empty: expected <from>-<to>, or null for every pair")
    result = [class_pair(text, names, key="counterfactuals.pairs=") for text in requested]
    if len(set(result)) < len(result):
        raise ValueError(f"counterfactuals.pairs={','.join(requested)}: expected every pair once")
    return result


def starts(
    seed: int, optimizer: str, bound: float, indices: tuple[int, int], sample_index: Tensor, n: int, units: int
) -> Tensor:
    """Uniform starts in the coordinates of the optimizer's metric; one does not depend on the others.

    Args:
        seed: of the run.
        optimizer: says whether they may be negative.
        bound: below which they lie.
        indices: original and target among the classifier's classes.
        sample_index: samples `[k]` in the stream of test pairs.
        n: starts per sample.
        units: of the classifier.

    Returns:
        `[k, n, units]` float32.
    """
    stream, (origin, target) = Stream("counterfactual starts", seed), indices
    draws = torch.empty(len(sample_index), n, units)
    for row, sample in enumerate(sample_index.tolist()):
        for start in range(n):
            rng = stream.rng(origin * STARTS + target, sample * STARTS + start)
            draws[row, start] = torch.from_numpy(rng.random(units, dtype="float32"))
    return bound * (2 * draws - 1 if OPTIMIZERS[optimizer].signed else draws)


def names_of(config: RunConfig, pair: Sequence[int]) -> tuple[str, str]:
    """Names of original and target."""
    return config.classes.names[pair[0]], config.classes.names[pair[1]]


@dataclass(frozen=True, eq=False)
class Block:
    """Samples of one class, and where they are to go."""

    pair: tuple[int, int]
    """Original and target, indices among the classes of the run."""
    sample_index: Tensor
    """`[k]` int64, in the stream of the test pairs."""
    r: Tensor
    """`[k, units]`."""
    initialisations: int
    """Starts per sample."""
    settings: Settings


def _config(job: Job, block: Block) -> dict[str, Any]:
    config = job.ctx.config
    return {
        "seed": config.seed,
        "truncation": config.gan.truncation,
        "accept": config.pairs.accept,
        "pair": list(names_of(config, block.pair)),
        "samples": block.sample_index.tolist(),
        "initialisations": block.initialisations,
        "settings": block.settings.described(),
    }


def _search(job: Job, block: Block, draft: Draft) -> None:
    problems = problems_of(job, block)
    result = search(job.land(block.settings), job.judge(block.settings), problems)
    k, n = len(block.sample_index), block.initialisations
    address = {"sample_index": block.sample_index.repeat_interleave(n), "initialisation": torch.arange(n).repeat(k)}
    draft.tensors("block", address | {"r": problems.r} | judged(job, problems, result, block.settings))


SHARDS = Shards("counterfactual-shard", SHARD_VERSION, _config, _search)
"""A row per sample and start, the starts running fastest.

Tensors "block": sample_index, initialisation `[n]` int64, r `[n, units]`, and what `judged` gives. An answer that is
not finite is a ValueError."""


def blocks(job: Job, samples: int, initialisations: int, settings: Settings | None = None) -> list[Block]:
    """All blocks of a run: its pairs of classes, and so many samples and starts of each; None: the run's settings."""
    config, test = job.ctx.config, pairs(job.ctx, "test").tensors("pairs")
    settings = settings or search_settings(config.counterfactuals)
    return [
        Block(pair, test["sample_index"][rows], test["r"][rows], initialisations, settings)
        for pair in class_pairs(config)
        for rows in (test["class_index"] == pair[0]).nonzero()[:samples, 0].split(config.counterfactuals.sample_block)
    ]


def searched(job: Job, requested: Sequence[Block], label: str) -> dict[str, Tensor]:
    """Everything that the shards of these blocks hold, one after the other; besides origin and target `[n]`."""
    sizes = torch.tensor([len(block.sample_index) * block.initialisations for block in requested])
    ends = torch.tensor([block.pair for block in requested]).repeat_interleave(sizes, 0)
    return SHARDS.tensors(job, requested, label) | {"origin": ends[:, 0], "target": ends[:, 1]}


def first_problems(job: Job, r: Tensor, ends: Tensor, sample_index: Tensor, settings: Settings) -> Problems:
    """The problems of samples each with its classes, from the first start that the stages give to such a sample.

    Args:
        job: whose device they are put on.
        r: activations `[n, units]`.
        ends: original and target among the classifier's classes, `[n, 2]` int64.
        sample_index: `[n]` int64, as in `starts`.
        settings: whose optimizer and start are taken.
    """
    origin, target = ends.to(job.ctx.device).unbind(1)
    units, rows = job.ctx.classifier.units, zip(ends.tolist(), sample_index.split(1), strict=True)
    first = [
        starts(job.ctx.config.seed, settings.optimizer, settings.start, (pair[0], pair[1]), index, 1, units)[:, 0]
        for pair, index in rows
    ]
    return Problems(r.to(job.ctx.device), origin, target, torch.cat(first).to(job.ctx.device))


def problems_of(job: Job, block: Block) -> Problems:
    """The problems of a block, on the run's device."""
    ctx, n = job.ctx, block.initialisations
    known = ctx.classifier.class_names
    origin, target = (known.index(name) for name in names_of(ctx.config, block.pair))
    settings, pair, units = block.settings, (origin, target), ctx.classifier.units
    start = starts(ctx.config.seed, settings.optimizer, settings.start, pair, block.sample_index, n, units)
    r = block.r.repeat_interleave(n, 0).to(ctx.device)
    ends = [torch.full((len(r),), index, device=ctx.device) for index in (origin, target)]
    return Problems(r, ends[0], ends[1], start.flatten(0, 1).to(ctx.device))
