"""Accuracies without units of a layer, in shards: single units in blocks, and a removal curve for each order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lis.context import Context
from lis.dissection.ablation import ablated_accuracy, ablation_values, unit_accuracies, unit_removal_curve
from lis.dissection.layer_data import LayerData, layer_data
from lis.shards import Shards
from lis.store import Draft

if TYPE_CHECKING:
    from lis.dissection.importance import ImportanceConfig

UNITS_PER_SHARD = 16


@dataclass(frozen=True, eq=False)
class AblationJob:
    """What all ablations share: a layer over the samples of a split, and the constants of ablated units."""

    ctx: Context
    config: ImportanceConfig
    pairs: dict[str, Tensor]
    """`w`, `r` and `class_index` of the split."""
    inputs: tuple[str, ...]
    constants: Tensor | None = None
    """What replaces the activations of each unit, `[U]`; None: those of this split, as the settings say."""

    def __getstate__(self) -> dict[str, Any]:
        """Without the maps, which another process makes anew."""
        return {name: value for name, value in vars(self).items() if name != "data"}

    @cached_property
    def data(self) -> LayerData:
        """The first samples of each class, through the layer."""
        return layer_data(self.ctx, self.config, self.pairs)

    @cached_property
    def values(self) -> Tensor:
        """What replaces the activations of each unit, `[U]`."""
        if self.constants is not None:
            return self.constants
        return ablation_values(self.data.activations, self.config.value, self.config.quantile)  # pyright: ignore[reportArgumentType]

    @property
    def settings(self) -> dict[str, Any]:
        """What every shard follows from, beside the pairs."""
        config = self.config
        value = {"value": config.value} | ({"quantile": config.quantile} if config.value == "quantile" else {})
        return {"layer": config.layer, "samples": config.samples, "classes": list(self.ctx.class_names)} | value


@dataclass(frozen=True)
class UnitBlock:
    """Units `[start, stop)`, each of which is ablated alone."""

    start: int
    stop: int


def _units_config(job: AblationJob, block: UnitBlock) -> dict[str, Any]:
    return job.settings | {"start": block.start, "stop": block.stop}


def _ablate(job: AblationJob, block: UnitBlock, draft: Draft) -> None:
    data, units = job.data, torch.arange(block.start, block.stop)
    accuracy = unit_accuracies(data.tail, data.activations, data.class_index, units, job.values)
    draft.tensors("block", {"accuracy": accuracy})


UNITS = Shards("unit-ablation-shard", 1, _units_config, _ablate)
"""Tensors "block": balanced accuracies, `accuracy [units, C]` float64."""


@dataclass(frozen=True)
class OrderBlock:
    """An order in which units are ablated, and the numbers of those that are."""

    order: tuple[int, ...]
    counts: tuple[int, ...]


def _order_config(job: AblationJob, block: OrderBlock) -> dict[str, Any]:
    return job.settings | {"order": list(block.order), "counts": list(block.counts)}


def _remove(job: AblationJob, block: OrderBlock, draft: Draft) -> None:
    data, order = job.data, torch.tensor(block.order)
    curve = unit_removal_curve(data.tail, data.activations, data.class_index, order, block.counts, job.values)
    draft.tensors("block", {"curve": curve[None]})


CURVES = Shards("removal-curve-shard", 1, _order_config, _remove)
"""Tensors "block": balanced accuracies, `curve [1, counts, C]` float64."""


def unit_importance(job: AblationJob, label: str) -> Tensor:
    """`unit_class_importance` of all units of the layer, `[U, C]`; the label is that of the progress."""
    data = job.data
    base = ablated_accuracy(
        data.tail, data.activations, data.class_index, torch.zeros(0, dtype=torch.int64), job.values
    )
    units = len(job.values)
    starts = range(0, units, UNITS_PER_SHARD)
    blocks = [UnitBlock(start, min(start + UNITS_PER_SHARD, units)) for start in starts]
    return base - UNITS.tensors(job, blocks, label)["accuracy"]


def removal_curves(job: AblationJob, orders: Tensor, counts: Sequence[int], label: str) -> Tensor:
    """`unit_removal_curve` along each of `orders [m, U]`, `[m, counts, C]`; those that are equal are taken once."""
    blocks = [OrderBlock(tuple(order), tuple(counts)) for order in orders.tolist()]
    distinct = list(dict.fromkeys(blocks))
    return CURVES.tensors(job, distinct, label)["curve"][[distinct.index(block) for block in blocks]]
