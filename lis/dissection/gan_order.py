"""The order in which units of a generator are edited, in the store, so that a plan knows which edits are there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from lis.context import Context
from lis.dissection.painting import PixelSegmenter
from lis.shards import Shards
from lis.store import Draft


@dataclass(frozen=True)
class OrderJob:
    """U units of a layer, ranked by their agreement with C parts."""

    ctx: Context
    segmenter: PixelSegmenter
    edits: dict[str, Any]
    """What shards of edits follow from beside their block."""
    quantile: float
    """Level of the thresholds that units are ranked at."""
    measured: Mapping[str, Tensor] | None = None
    """As the shard has it; None before the work, when only its key is known."""
    inputs: tuple[str, ...] = ()

    def find(self) -> dict[str, Tensor] | None:
        """What an earlier run has measured, if it is in the store."""
        artifact = self.ctx.store.find(ORDER.recipe(self, None))
        return None if artifact is None else artifact.tensors("order")

    def keep(self) -> None:
        """Write what was measured into the store, unless it is there, as a shard of the stage that is made."""
        list(self.ctx.store.shared((ORDER.shard(self, block) for block in (None,)), 1))


def _config(job: OrderJob, _: None) -> dict[str, Any]:
    return job.edits | {"quantile": job.quantile}


def _build(job: OrderJob, _: None, draft: Draft) -> None:
    if job.measured is None:
        raise ValueError("the order of units was not measured: expected `measured`, of which the shard is made")
    draft.tensors("order", dict(job.measured))


def _weights(job: OrderJob, _: None) -> dict[str, str]:
    return {"generator": job.ctx.generator.fingerprint, "segmenter": job.segmenter.fingerprint}


ORDER = Shards("unit-order-shard", 1, _config, _build, _weights)
"""Tensors "order": `order [C, U]` int64, by descending agreement, and `variance [U]` float64 of the units."""
