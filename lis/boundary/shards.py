"""A block of counterfactuals: some samples of one class towards another, from some starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from lis.boundary.crossing import enter
from lis.boundary.job import Job, search_settings, start_bound
from lis.boundary.search import Found, Problems, Settings, search
from lis.boundary.wanted import class_pairs, names_of, starts
from lis.linking.pairs import pairs
from lis.shards import Shards
from lis.store import Draft

VERSION = 3


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
        "start": start_bound(config.counterfactual),
        "settings": asdict(block.settings),
    }


def _build(job: Job, block: Block, draft: Draft) -> None:
    problems = problems_of(job, block)
    found = search(job.land(block.settings), job.answers, problems)
    k, n = len(block.sample_index), block.initialisations
    draft.tensors(
        "block",
        {
            "sample_index": block.sample_index.repeat_interleave(n),
            "initialisation": torch.arange(n).repeat(k),
            "steps": found.steps,
            "success": found.success,
            "diverged": found.diverged,
            "r": problems.r,
            "shift": found.shift,
            **_read(job, problems, found),
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
    settings = settings or search_settings(config.counterfactual)
    return [
        Block(pair, test["sample_index"][rows], test["r"][rows], initialisations, settings)
        for pair in class_pairs(config)
        for rows in (test["class_index"] == pair[0]).nonzero()[:samples, 0].split(config.counterfactual.sample_block)
    ]


def searched(job: Job, wanted: Sequence[Block], label: str) -> dict[str, Tensor]:
    """Everything that the shards of these blocks hold, one after the other; besides origin and target `[n]`."""
    sizes = torch.tensor([len(block.sample_index) * block.initialisations for block in wanted])
    ends = torch.tensor([block.pair for block in wanted]).repeat_interleave(sizes, 0)
    return SHARDS.tensors(job, wanted, label) | {"origin": ends[:, 0], "target": ends[:, 1]}


def problems_of(job: Job, block: Block) -> Problems:
    """The problems of a block, on the run's device."""
    ctx, n = job.ctx, block.initialisations
    known = ctx.classifier.class_names
    origin, target = (known.index(name) for name in names_of(ctx.config, block.pair))
    config = ctx.config.counterfactual
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
    places = [torch.full((len(r),), place, device=ctx.device) for place in (origin, target)]
    return Problems(r, places[0], places[1], start.flatten(0, 1).to(ctx.device))


def _read(job: Job, problems: Problems, found: Found) -> dict[str, Tensor]:
    """What the images of the original and of the counterfactual are taken for, and where the boundary lies between."""
    w_original, w = job.codes(problems.r), job.codes(problems.r + found.shift)
    first, last, target = job.looker(w_original), job.looker(w), problems.target.cpu()
    return {
        "w_original": w_original,
        "w": w,
        "reencoded_original": first.r,
        "reencoded": last.r,
        "before": first.prediction,
        "after": last.prediction,
        "probability": last.softmax.gather(1, target[:, None])[:, 0],
        "boundary": _boundary(job, problems, found).mean(1).float(),
    }


def _boundary(job: Job, problems: Problems, found: Found) -> Tensor:
    """Positions before and after the boundary `[n, 2]`, NaN where there is none."""
    r, shift, target = (x[found.success.to(x.device)] for x in (problems.r, found.shift, problems.target))

    def inside(path: Tensor, position: Tensor) -> Tensor:
        moved = job.along(r[path], shift[path], position)
        return (job.predict(moved) == target[path]).cpu()

    both = torch.full((len(found.steps), 2), torch.nan, dtype=torch.float64)
    both[found.success] = enter(inside, len(r))
    return both
