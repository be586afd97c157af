"""What every search and every path of a run share: link, loss, metric, and how an image is looked at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from lis.boundary.search import OPTIMIZERS, Found, Landscape, Problems, Settings, data_metric, search
from lis.config import CounterfactualsConfig, RunConfig
from lis.context import Context
from lis.linking.link import link, load_link
from lis.linking.pairs import pairs
from lis.look import Looker
from lis.peaks import FLOAT, width
from lis.shards import Shards
from lis.store import Draft
from lis.streams import Stream
from lis.types import Link
from lis.units.direction import class_pair

STARTS = 2**20
"""Starts that a sample can have."""
VERSION = 3
TOLERANCE = 1e-3
"""Length of path within which a boundary is located, as a fraction of the path from the original to its end."""
STEPS = 10
"""Even steps at which a path is looked at first."""


@dataclass(frozen=True)
class Job:
    """Shared by all shards of a run."""

    ctx: Context
    link: Link
    """On the run's device."""
    metric: Tensor | None
    """As in `Landscape`."""
    spread: Tensor
    """Standard deviation of each unit over the training pairs, `[units]`."""
    nonnegative: bool
    """No activation of a training pair is below 0."""
    looker: Looker
    """Reads activations and answers."""
    inputs: tuple[str, ...]
    """Keys of the artifacts that it follows from."""

    @classmethod
    def of(cls, ctx: Context) -> Self:
        """The job of a run."""
        linked, train, device = link(ctx), pairs(ctx, "train"), ctx.device
        units, r = linked.table("units"), train.tensors("pairs")["r"]
        by_pairs = OPTIMIZERS[ctx.config.counterfactuals.optimizer].metric == "pairs"
        model = load_link(linked).to(device)
        spread = torch.tensor(np.asarray(units["std"]), dtype=torch.float32, device=device)
        nonnegative = bool((units["minimum"] >= 0).all())
        metric = data_metric(r).to(device, torch.float64) if by_pairs else None  # in which products are summed
        return cls(ctx, model, metric, spread, nonnegative, Looker.tuned(ctx), (linked.key, train.key))

    def land(self, settings: Settings) -> Landscape:
        """Where the searches go down."""
        return Landscape(self.link, self.ctx.classifier.head, self.metric, self.spread, self.nonnegative, settings)

    def codes(self, r: Tensor) -> Tensor:
        """f(r): w̃ `[n, w_dim]` on the run's device of `r [n, units]`."""
        with torch.inference_mode():
            return self.link(r.to(self.ctx.device))

    def predict(self, r: Tensor) -> Tensor:
        """Class of the image of f(r) among the classifier's, `[n]` int64 where `r [n, units]` is."""
        return self.answers(r).argmax(1)

    def answers(self, r: Tensor) -> Tensor:
        """Logarithm of the probability of each of the classifier's classes for the image of f(r), `[n, known]`."""
        known = len(self.ctx.classifier.class_names)
        answers = self.looker(self.codes(r)).softmax if len(r) else r.new_empty(0, known)
        return answers.to(r.device).clamp(min=torch.finfo(torch.float32).tiny).log()

    def along(self, r: Tensor, shift: Tensor, position: Tensor) -> Tensor:
        """r + t Δr `[n, units]` at positions t `[n]`, not below 0 where R is non-negative."""
        moved = r + position.to(r)[:, None] * shift
        return moved.clamp(min=0) if self.nonnegative else moved


def search_arrays(ctx: Context) -> int:
    """Bytes of a block of searches and its gradients, and of what is kept of all of them."""
    config, classes = ctx.config.counterfactuals, len(ctx.class_names)
    every = classes * max(classes - 1, 1) * config.samples
    return (16 * config.sample_block * config.initialisations + 6 * every) * width(ctx) * FLOAT


def search_settings(config: CounterfactualsConfig) -> Settings:
    """The settings of a search, with the optimizer's own learning rate where none is given."""
    subset = OPTIMIZERS[config.optimizer].learning_rate
    return Settings(
        optimizer=config.optimizer,
        learning_rate=subset if config.learning_rate is None else config.learning_rate,
        max_steps=config.max_steps,
        check_every=config.check_every,
        lambda1=config.lambda1,
        lambda2=config.lambda2,
        l1=config.l1,
    )


def start_bound(config: CounterfactualsConfig) -> float:
    """Bound of the uniform start."""
    return OPTIMIZERS[config.optimizer].start if config.start is None else config.start


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
    """Original and target, places among the classes of the run.

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
    """Original and target, places among the classes of the run."""
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
        "start": start_bound(config.counterfactuals),
        "settings": asdict(block.settings),
    }


def _build(job: Job, block: Block, draft: Draft) -> None:
    problems = problems_of(job, block)
    result = search(job.land(block.settings), job.answers, problems)
    k, n = len(block.sample_index), block.initialisations
    draft.tensors(
        "block",
        {
            "sample_index": block.sample_index.repeat_interleave(n),
            "initialisation": torch.arange(n).repeat(k),
            "steps": result.steps,
            "success": result.success,
            "diverged": result.diverged,
            "r": problems.r,
            "shift": result.shift,
            **_read(job, problems, result),
        },
    )


SHARDS = Shards("counterfactual-shard", VERSION, _config, _build)
"""A row per sample and start, the starts running fastest.

Tensors "block": sample_index, initialisation, steps, before, after (classes among the classifier's) `[n]` int64,
success, diverged `[n]` bool, probability (of the target) `[n]`, boundary `[n]` (NaN without), r, shift, reencoded,
reencoded_original `[n, units]`, w, w_original `[n, w_dim]` float32. An answer that is not finite is a ValueError."""


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


def problems_of(job: Job, block: Block) -> Problems:
    """The problems of a block, on the run's device."""
    ctx, n = job.ctx, block.initialisations
    known = ctx.classifier.class_names
    origin, target = (known.index(name) for name in names_of(ctx.config, block.pair))
    config = ctx.config.counterfactuals
    start = starts(
        ctx.config.seed,
        config.optimizer,
        start_bound(config),
        (origin, target),
        block.sample_index,
        n,
        ctx.classifier.units,
    )
    r = block.r.repeat_interleave(n, 0).to(ctx.device)
    indices = [torch.full((len(r),), index, device=ctx.device) for index in (origin, target)]
    return Problems(r, indices[0], indices[1], start.flatten(0, 1).to(ctx.device))


def _read(job: Job, problems: Problems, result: Found) -> dict[str, Tensor]:
    """What the images of the original and of the counterfactual are taken for, and where the boundary lies between."""
    w_original, w = job.codes(problems.r), job.codes(problems.r + result.shift)
    first, last, target = job.looker(w_original), job.looker(w), problems.target.cpu()
    return {
        "w_original": w_original,
        "w": w,
        "reencoded_original": first.r,
        "reencoded": last.r,
        "before": first.prediction,
        "after": last.prediction,
        "probability": last.softmax.gather(1, target[:, None])[:, 0],
        "boundary": _boundary(job, problems, result).mean(1).float(),
    }


def _boundary(job: Job, problems: Problems, result: Found) -> Tensor:
    """Positions before and after the boundary `[n, 2]`, NaN where there is none."""
    r, shift, target = (x[result.success.to(x.device)] for x in (problems.r, result.shift, problems.target))

    def inside(path: Tensor, position: Tensor) -> Tensor:
        moved = job.along(r[path], shift[path], position)
        return (job.predict(moved) == target[path]).cpu()

    both = torch.full((len(result.steps), 2), torch.nan, dtype=torch.float64)
    both[result.success] = enter(inside, len(r))
    return both


def enter(inside: Callable[[Tensor, Tensor], Tensor], n: int, end: float = 1.0, steps: int = STEPS) -> Tensor:
    """The last point before and the first point after n paths first enter a class.

    A path is looked at in even steps from 0 to `end`. Between the last step outside and the first one inside, the
    distance is halved until it is at most `TOLERANCE · end`. A path that leaves and enters again between two steps is
    taken as one that stayed.

    Args:
        inside: places `[k]` of paths and positions `[k]` float64 on them → whether they are inside, `[k]` bool.
        n: paths.
        end: the last position.
        steps: the even ones.

    Returns:
        Positions before and after, `[n, 2]` float64; NaN where a path begins inside or is nowhere inside.

    Example:
        >>> before, after = enter(lambda path, t: t > 0.3, 1)[0].tolist()
        >>> before <= 0.3 < after, after - before < 1e-3
        (True, True)
    """
    grid, result = torch.linspace(0, end, steps + 1, dtype=torch.float64), torch.full((n, 2), torch.nan).double()
    paths = torch.arange(n).repeat_interleave(steps + 1)
    hits = inside(paths, grid.repeat(n)).unflatten(0, (n, steps + 1))
    first = hits.int().argmax(1)  # 0 where it begins inside, and where it is nowhere inside
    crossed = first.nonzero()[:, 0]
    result[crossed] = torch.stack([grid[first[crossed] - 1], grid[first[crossed]]], 1)
    while len(crossed) and float((result[crossed, 1] - result[crossed, 0]).max()) > TOLERANCE * end:
        middle = result[crossed].mean(1)
        result[crossed, inside(crossed, middle).long()] = middle
    return result
