"""A block of tuning: some samples of one class along some perturbations, and what is read off their images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lis.context import Context
from lis.look import Looker
from lis.shards import Shards
from lis.store import Draft
from lis.types import Link
from lis.units.perturbation import Perturbation, perturbed, require_finite

VERSION = 2


@dataclass(frozen=True)
class Job:
    """What all shards of a run share."""

    ctx: Context
    link: Link
    """On the run's device."""
    looker: Looker
    spread: Tensor
    """Standard deviation of each unit, infinite for units that are not live: `[units]` on the CPU."""
    inputs: tuple[str, ...]
    """Keys of the artifacts of the link and of the segmenter."""


@dataclass(frozen=True, eq=False)
class Block:
    """Samples of one class and perturbations."""

    class_name: str
    sample_index: Tensor
    """`[n]` int64."""
    r: Tensor
    """`[n, units]`."""
    perturbations: tuple[Perturbation, ...]
    steps: int


def _config(job: Job, block: Block) -> dict[str, Any]:
    config = job.ctx.config
    return {
        "seed": config.seed,
        "truncation": config.gan.truncation,
        "class": block.class_name,
        "classes": list(job.ctx.class_names),
        "samples": block.sample_index.tolist(),
        "perturbations": [[p.name, p.low, p.high, p.relative] for p in block.perturbations],
        "steps": block.steps,
    }


@torch.inference_mode()
def _build(job: Job, block: Block, draft: Draft) -> None:
    w = torch.stack([_linked(job, block, perturbation) for perturbation in block.perturbations])
    look = job.looker(w)
    encoded = zip(block.perturbations, look.r[:, :, 0], look.r[:, :, -1], strict=True)
    realised, others = zip(*(arrived(p, first, last, job.spread) for p, first, last in encoded), strict=True)
    draft.tensors(
        "block",
        look.tensors(("measures", "probability", "prediction"))
        | {
            "realised": torch.stack(realised),
            "others": torch.stack(others),
            "step_norm": (w[:, :, -1] - w[:, :, 0]).norm(dim=2),
        },
    )


def _linked(job: Job, block: Block, perturbation: Perturbation) -> Tensor:
    """w̃ `[n, steps, w_dim]` of a block along one perturbation."""
    values = perturbation.values(block.steps)
    w = perturbed(job.link, block.r.to(job.ctx.device), perturbation, values)
    require_finite(w, perturbation)
    return w


SHARDS = Shards("tuning-shard", VERSION, _config, _build)
"""Tensors "block" of P perturbations, n samples and T steps, as in `lis.units.tuned.Tuned`: measures, probability,
prediction `[P, n, T, …]`, and realised, others, step_norm `[P, n]`. A style code or an answer that is not finite is a
ValueError."""


def arrived(perturbation: Perturbation, first: Tensor, last: Tensor, spread: Tensor) -> tuple[Tensor, Tensor]:
    """What of a perturbation is found when its images are encoded again.

    With r̃ the activations of an image and Δr̃ = r̃(last) − r̃(first): realised is Δr̃·d / (v(last) − v(first)), and
    others the root mean square over the other live units of the rest, Δr̃ − (Δr̃·d) d, in standard deviations.

    Args:
        perturbation: d and its range.
        first: r̃ of the first images, `[n, units]`.
        last: r̃ of the last images.
        spread: standard deviation of each unit, `[units]`; infinite for units that are not live.

    Returns:
        realised and others, `[n]` float32; NaN where nothing was asked, or where there is no other unit.

    Example:
        >>> unit = Perturbation.of_unit(0, low=0.0, high=4.0)
        >>> first, last = torch.tensor([[0.0, 1.0, 9.0]]), torch.tensor([[1.0, 3.0, 9.0]])
        >>> [float(x) for x in arrived(unit, first, last, torch.tensor([1.0, 2.0, torch.inf]))]
        [0.25, 1.0]
    """
    change = last - first
    realised = perturbation.project(change) / (perturbation.high - perturbation.low or torch.nan)
    rest = perturbation.without(change) / spread
    return realised, (rest.square().sum(1) / (int(spread.isfinite().sum()) - 1 or torch.nan)).sqrt()
