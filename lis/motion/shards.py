"""A block of motion: some samples of one class along one unit, aligned step by step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lis.context import Context
from lis.images import smaller
from lis.look import generated
from lis.matching.align import Alignment, align
from lis.motion.local import AGREEMENT, agreement, local_motion
from lis.shards import Shards
from lis.store import Draft
from lis.types import Link, Matcher
from lis.units.parts import Finder
from lis.units.perturbation import Perturbation, perturbed, require_finite

VERSION = 2
LOST = "lost: the last image is too unlike the first to say where anything went"
"""Why a sample has no motion whose images could be aligned, but do not agree then."""


@dataclass(frozen=True)
class Job:
    """What all shards of a run share."""

    ctx: Context
    link: Link
    """On the CPU."""
    matcher: Matcher
    masks: Finder
    labels: int
    inputs: tuple[str, ...]
    """Keys of the artifacts of the link and of the segmenter."""


@dataclass(frozen=True, eq=False)
class Block:
    """Samples of one class and one perturbation."""

    class_name: str
    sample_index: Tensor
    """`[n]` int64."""
    r: Tensor
    """`[n, units]`."""
    perturbation: Perturbation
    steps: int


def _config(job: Job, block: Block) -> dict[str, Any]:
    config, along = job.ctx.config, block.perturbation
    direction = None if along.direction is None else along.direction.tolist()
    return {
        "seed": config.seed,
        "truncation": config.gan.truncation,
        "class": block.class_name,
        "samples": block.sample_index.tolist(),
        "perturbation": [along.unit, direction, along.low, along.high, along.relative],
        "steps": block.steps,
        "labels": job.labels,
    }


def _weights(job: Job, block: Block) -> dict[str, str]:
    return {"generator": job.ctx.generator.fingerprint, "matcher": job.matcher.fingerprint}


def _build(job: Job, block: Block, draft: Draft) -> None:
    tracks = [_track(job, block, r[None]) for r in block.r]
    names = ("total", "figure", "strength", "drift", "agreement")
    draft.tensors("tracks", {name: torch.stack([track[name] for track, _ in tracks]) for name in names})
    draft.json("reasons", {"reasons": [reason for _, reason in tracks]})


SHARDS = Shards("motion-shard", VERSION, _config, _build, _weights)
"""Tensors "tracks" of n samples in T steps: total `[n, T, 2, 3]` float64 (the affine map from the first image to each),
figure `[n]`, strength `[n, K]` and drift `[n, K, 2]` float32 (`Local`, of the last step), agreement `[n]` (of the first
image and the last one, aligned); all but the last NaN where that is below `AGREEMENT`. Json "reasons": why a sample has
none. A style code that is not finite is a ValueError."""


def _track(job: Job, block: Block, r: Tensor) -> tuple[dict[str, Tensor], str]:
    """What is kept of a sample `r [1, units]`, and why it has no motion, if so."""
    found, views, masks = follow(job, r, block.perturbation, block.steps, [block.steps - 1])
    local = local_motion(found.local[-1], masks[0], job.labels)
    track = {"total": found.total, "figure": local.figure, "strength": local.strength, "drift": local.drift}
    agrees = agreement(views[0, :3], found.aligned[-1, :3], found.local[-1])
    reason = next(filter(None, found.reason), "" if agrees >= AGREEMENT else LOST)
    if reason == LOST:
        track = {name: torch.full_like(values, torch.nan) for name, values in track.items()}
    return track | {"agreement": torch.tensor(agrees)}, reason


@torch.inference_mode()
def follow(
    job: Job, r: Tensor, along: Perturbation, steps: int, fields: Sequence[int] | None = None
) -> tuple[Alignment, Tensor, Tensor]:
    """One sample `r [1, units]` along its range: aligned, its views `[T, 3 + c, H, W]`, and their masks `[T, h, w]`.

    The views stay on the run's device, where they are matched; all else lies on the CPU.
    `fields` are the steps whose local field is wanted; None: all.
    """
    w = perturbed(job.link, r, along, along.values(steps))
    require_finite(w, along)
    seen = [_view(job, code[None]) for code in w[0]]  # one by one: the same images come out whatever the batch
    views, masks = (torch.cat(parts) for parts in zip(*seen, strict=True))
    return align(job.matcher, views, fields=fields), views, masks


def _view(job: Job, w: Tensor) -> tuple[Tensor, Tensor]:
    """What is matched of the image of `w [1, w_dim]`, on the run's device, and its mask, on the CPU."""
    image, mask, maps = generated(job.ctx, w, job.masks if job.labels else None, job.matcher.layers)
    return job.matcher.view(smaller(image), maps), mask.cpu()
