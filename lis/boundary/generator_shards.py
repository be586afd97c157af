"""Samples on their way to their counterparts in another class, read off image by image (supplement S8)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lis.context import Context
from lis.linking.shards import STREAMS
from lis.look import Looker
from lis.shards import Shards
from lis.store import Draft
from lis.streams import Stream
from lis.types import Counterparts

VERSION = 2


@dataclass(frozen=True)
class Job:
    """What all shards of a run share."""

    ctx: Context
    looker: Looker
    inputs: tuple[str, ...]
    """Key of the artifact of the segmenter."""


@dataclass(frozen=True)
class Block:
    """Test samples of one class, on their way to another."""

    origin: str
    target: str
    sample_index: tuple[int, ...]
    """Indices in the stream of the test pairs."""


def validate_counterparts(ctx: Context) -> Counterparts:
    """The generator of a run, as one that can change the class of a sample.

    Raises:
        ValueError: it cannot, there is only one class, or more samples are wanted than there are test pairs.
    """
    generator, samples = ctx.generator, ctx.config.gan_counterfactual.samples
    if not generator.num_classes or not isinstance(generator, Counterparts):
        what = "has no `counterpart`" if generator.num_classes else "has no classes"
        raise ValueError(
            f"{type(generator).__name__} {what}: the same z in another class needs a generator that takes the class; "
            "use gan=partworld or gan=imagenet256, or leave gan_counterfactuals out of analysis.stages"
        )
    if len(ctx.class_names) < 2:
        raise ValueError(f"classes.names is {list(ctx.class_names)}: expected two classes or more, to go between")
    if samples > ctx.config.pairs.test:
        raise ValueError(
            f"gan_counterfactual.samples={samples}: expected at most pairs.test={ctx.config.pairs.test}, "
            "the samples per class that there are"
        )
    return generator


def ends(ctx: Context, block: Block) -> tuple[Tensor, Tensor]:
    """w of the samples of a block and of their counterparts, `[n, w_dim]` each, on the run's device."""
    generator, names = validate_counterparts(ctx), ctx.generator.class_names
    stream, indices = Stream(STREAMS["test"], ctx.config.seed), torch.tensor(block.sample_index)
    origin, target, psi = names.index(block.origin), names.index(block.target), ctx.config.gan.truncation
    return (
        ctx.generator.sample(origin, indices, stream, psi).to(ctx.device),
        generator.counterpart(origin, indices, stream, target, psi).to(ctx.device),
    )


def between(first: Tensor, last: Tensor, steps: int) -> Tensor:
    """Evenly from one row to another: `[n, d]` twice → `[n, steps, d]`, both ends included.

    Example:
        >>> between(torch.tensor([[0.0, 4.0]]), torch.tensor([[2.0, 4.0]]), 3).tolist()
        [[[0.0, 4.0], [1.0, 4.0], [2.0, 4.0]]]
    """
    position = torch.linspace(0, 1, steps, device=first.device, dtype=first.dtype)[:, None]
    return (1 - position) * first[:, None] + position * last[:, None]


def _config(job: Job, block: Block) -> dict[str, Any]:
    ctx = job.ctx
    return {
        "seed": ctx.config.seed,
        "truncation": ctx.config.gan.truncation,
        "origin": block.origin,
        "target": block.target,
        "classes": list(ctx.class_names),
        "samples": list(block.sample_index),
        "steps": ctx.config.gan_counterfactual.steps,
    }


@torch.inference_mode()
def _build(job: Job, block: Block, draft: Draft) -> None:
    first, last = ends(job.ctx, block)
    w = between(first, last, job.ctx.config.gan_counterfactual.steps)
    look = job.looker(w)
    both = {"w": w[:, [0, -1]].float().cpu(), "r": look.r[:, [0, -1]]}
    draft.tensors("block", both | look.tensors(("measures", "probability", "prediction")))


SHARDS = Shards("gan-counterfactuals-shard", VERSION, _config, _build)
"""Tensors "block" of n samples and T steps: w `[n, 2, w_dim]` and r `[n, 2, units]` of the first and the last image;
measures `[n, T, K, 5]`, probability `[n, T, C]` and prediction `[n, T]` of all of them. An answer that is not finite is
a ValueError."""
