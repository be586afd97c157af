"""What the classifier sees of training samples that are projected onto the first principal components of W.

"Each sample is then projected onto the first 10 PCs U and mapped through the GAN, classifier, and linking network"
(supplement S2). Up to the classifier that is the same in every step of a link's training, so it is done once, in
shards. `lis.linking.mlp.l2_loss` is what it is for, and says what the supplement leaves open.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lis.build import build
from lis.context import Context
from lis.linking.components import Components, principal_components
from lis.linking.pairs import train_pairs
from lis.linking.training import LinkFit, ProjectedFit
from lis.linking.work import projection_work
from lis.shards import Shards
from lis.stage import MODELS, stage
from lis.store import Artifact, Draft

VERSION = 1


def projected_components(ctx: Context) -> int | None:
    """Principal components of W that the run's fit wants its samples projected onto; None where it reads none."""
    fit: LinkFit = build(ctx.config.link)
    return fit.projected if isinstance(fit, ProjectedFit) else None


def require_components(components: int, w_dim: int) -> None:
    """Checks the number of principal components.

    Raises:
        ValueError: fewer than one, or more than w has dimensions.
    """
    if not 1 <= components <= w_dim:
        raise ValueError(f"components={components}: expected 1 to {w_dim}, the width of w; set link.components")


@dataclass(frozen=True)
class Job:
    """What all shards share."""

    ctx: Context
    components: Components
    inputs: tuple[str, ...]
    """Key of the training pairs."""


@dataclass(frozen=True, eq=False)
class Block:
    """Consecutive training pairs."""

    start: int
    w: Tensor
    """`[size, w_dim]`, not yet projected."""


def _config(job: Job, block: Block) -> dict[str, Any]:
    return {"components": job.components.axes.shape[1], "start": block.start, "size": len(block.w)}


@torch.inference_mode()
def _build(job: Job, block: Block, draft: Draft) -> None:
    ctx, codes = job.ctx, job.components.reconstruct(block.w)
    r = torch.cat(list(ctx.batches().map(ctx.encode, codes)))
    bad = (~r.isfinite()).any(1)
    if bad.any():
        raise ValueError(
            f"the activations of training pair {block.start + int(bad.nonzero()[0])}, projected onto "
            f"{job.components.axes.shape[1]} principal components of W, are not finite: expected finite numbers; check "
            f"the weights, or use link.pc_target=prediction, which generates no such images"
        )
    draft.tensors("block", {"r": r})


SHARDS = Shards("projection-shard", VERSION, _config, _build)
"""Tensors "block": `r [size, units]` float32. An activation that is not finite is a ValueError; it names the pair."""


@stage(
    "projection",
    version=VERSION,
    inputs=(train_pairs,),
    models=MODELS,
    also=lambda ctx: {"components": projected_components(ctx)},
    check=lambda ctx: require_components(projected_components(ctx) or 0, ctx.generator.w_dim),
    listed=False,
    work=projection_work,
)
def projection(ctx: Context, source: Artifact, draft: Draft) -> None:
    """For FC-L2: r of the training samples projected onto W's first principal components and generated again.

    That is r_U of every training pair, the features of the generated image of w_U = w̄ + UUᵀ(w − w̄).

    Tensors "projection": `r [n, units]` float32 (r_U, in the order of the pairs), w̄ as `mean [w_dim]` and U as
    `axes [w_dim, components]`, both float64. The same for any batch size and any split into shards.

    Raises:
        ValueError: the components are not 1 … w_dim, or an activation is not finite.
    """
    w = source.tensors("pairs")["w"]
    job = Job(ctx, principal_components(w, projected_components(ctx) or 0), (source.key,))
    size = ctx.config.shard_size
    blocks = [Block(start, w[start : start + size]) for start in range(0, len(w), size)]
    r = torch.empty(len(w), ctx.classifier.units)
    for block, artifact in zip(blocks, SHARDS.artifacts(job, blocks, "projected pairs (blocks)"), strict=True):
        r[block.start : block.start + len(block.w)] = artifact.tensors("block")["r"]
    draft.tensors("projection", {"r": r, "mean": job.components.mean, "axes": job.components.axes})
