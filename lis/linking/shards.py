"""A block of consecutive samples of one stream: drawn, shown to the classifier, and kept where accepted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lis.context import Context
from lis.shards import Shards
from lis.store import Draft
from lis.streams import Stream

VERSION = 2
STREAMS = {"train": "train pairs", "test": "test pairs", "tuning": "tuning"}
"""The stream that the samples of a split are drawn from."""


@dataclass(frozen=True)
class Source:
    """Where the samples of a class come from, and what the classifier has to call them."""

    name: str | None
    """Class of the samples; None where the generator draws the class inside."""
    index: int | None
    """Place of the class in `generator.class_names`."""
    target: int | None
    """Place of the class in `classifier.class_names`."""


@dataclass(frozen=True)
class Block:
    """Samples `[number · size, (number + 1) · size)` of a source."""

    source: Source
    number: int
    size: int


@dataclass(frozen=True)
class Job:
    """What all shards of a split share."""

    ctx: Context
    split: str
    inputs: tuple[str, ...] = ()


def _config(job: Job, block: Block) -> dict[str, Any]:
    """The number of pairs that a run wants is not part of it."""
    ctx, source = job.ctx, block.source
    return {
        "stream": STREAMS[job.split],
        "seed": ctx.config.seed,
        "class": source.name,
        "class_index": source.index,
        "target": source.target,
        "start": block.number * block.size,
        "size": block.size,
        "truncation": ctx.config.gan.truncation,
        "accept": ctx.config.pairs.accept,
    }


def _build(job: Job, block: Block, draft: Draft) -> None:
    ctx, start = job.ctx, block.number * block.size
    indices = torch.arange(start, start + block.size)
    parts = ctx.batches().map(lambda some: _shown(ctx, job.split, block.source, some), indices)
    w, r, prediction = (torch.cat(column) for column in zip(*parts, strict=True))
    accepted = torch.ones_like(prediction, dtype=torch.bool)
    if ctx.config.pairs.accept == "correct" and block.source.target is not None:
        accepted = prediction == block.source.target
    draft.tensors("flags", {"accepted": accepted, "prediction": prediction})
    draft.tensors("pairs", {"r": r[accepted], "w": w[accepted]})


SHARDS = Shards("pairs-shard", VERSION, _config, _build)
"""Tensors "flags": `accepted [size]` bool, `prediction [size]` int64 (index into the classifier's classes); tensors
"pairs": `r [accepted, units]` and `w [accepted, w_dim]` float32 of the accepted samples, in index order. From a
generator without classes every sample is kept, since its class is only known from the prediction. A style code or an
activation that is not finite is a ValueError, which names the class and the index of the sample."""


@torch.inference_mode()
def _shown(ctx: Context, split: str, source: Source, indices: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """w, r and prediction of samples `indices [n]` of a source, on the CPU."""
    stream = Stream(STREAMS[split], ctx.config.seed)
    w = ctx.generator.sample(source.index, indices, stream, ctx.config.gan.truncation).to(ctx.device)
    r = ctx.classifier.features(ctx.generator.synthesize(w))
    _require_finite(w, "style code", source, indices, stream)
    _require_finite(r, "activation of the classifier", source, indices, stream)
    return w.float().cpu(), r.float().cpu(), ctx.classifier.head(r).argmax(1).cpu()


def _require_finite(values: Tensor, what: str, source: Source, indices: Tensor, stream: Stream) -> None:
    bad = (~values.isfinite()).any(1).cpu()
    if bad.any():
        owner = "a generator without classes" if source.name is None else f"class {source.name!r}"
        raise ValueError(
            f"the {what} of sample {int(indices[bad][0])} of {owner} (stream {stream.name!r}, seed {stream.seed}) is "
            f"not finite: expected finite numbers; check the weights and gan.truncation, or take another seed"
        )
