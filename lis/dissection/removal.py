"""What the removal of units takes from parts, beside as many random units of the same variance (Bau et al. 2020)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lis.context import Context
from lis.dissection.gan_units import Edited
from lis.dissection.painting import UnitEdit
from lis.shards import Shards
from lis.store import Draft
from lis.streams import Stream

TESTED = (4, 8, 16)
"""Numbers of units whose removal is held against random units."""
STRATA = 4
"""Groups of units of similar variance."""
UNITS_PER_STRATUM = 8
"""Units that each group has at least."""
MIN_UNITS = 2 * min(TESTED)
"""Units of a layer whose better half can be removed."""
DRAWS_PER_SHARD = 25


def variance_strata(variance: Tensor, strata: int) -> Tensor:
    """The stratum of each unit by the rank of its variance, of equal sizes but for one: `[U]` int64 of `[U]`.

    Example:
        >>> variance_strata(torch.tensor([0.1, 9.0, 0.2, 5.0]), 2).tolist()
        [0, 1, 0, 1]
    """
    rank = variance.argsort(stable=True).argsort(stable=True)
    return rank * strata // len(variance)


def layer_strata(variance: Tensor) -> Tensor:
    """`variance_strata` of a layer: `STRATA` of them, fewer so that each has `UNITS_PER_STRATUM` or more."""
    return variance_strata(variance, max(1, min(STRATA, len(variance) // UNITS_PER_STRATUM)))


def matched_draw(units: Sequence[int], strata: Tensor, rng: np.random.Generator) -> list[int]:
    """As many random units of each stratum as `units` has in it, without replacement.

    Any unit of the layer may be drawn, also those of `units`: were these no different from others of their variance,
    they would be one more such draw, so that the share of draws that do as much is a p (a permutation test within
    strata).

    Args:
        units: indices that are to be matched.
        strata: of every unit of the layer, `[U]` int64.
        rng: draws.
    """
    count = strata[list(units)].bincount(minlength=int(strata.max()) + 1).tolist()
    members = [np.flatnonzero(strata.numpy() == k) for k in range(len(count))]
    return [int(u) for pool, n in zip(members, count, strict=True) for u in rng.choice(pool, n, replace=False)]


def matched_p(effect: Tensor, draws: Tensor) -> Tensor:
    """p = (k + 1) / (n + 1), k of n draws at least as large: `[…]` float64 of `effect […]`, `draws [n, …]`.

    NaN where the effect is (Davison & Hinkley 1997, §4.2.5).

    Example:
        >>> matched_p(torch.tensor([2.0]), torch.tensor([[1.0], [3.0], [0.0]])).item()
        0.5
    """
    exceeding = (draws >= effect).double().sum(0)
    return ((exceeding + 1) / (len(draws) + 1)).where(~effect.isnan(), torch.nan)


@dataclass(frozen=True)
class RemovalJob:
    """What all shards of removals share."""

    ctx: Context
    edited: Edited
    layer: str
    levels: Tensor
    """What each unit is set to, `[U]`."""
    settings: dict[str, Any]
    """What codes and levels follow from."""
    inputs: tuple[str, ...] = ()

    def fractions(self, units: Sequence[int]) -> Tensor:
        """Fraction of each image that shows each label without some units: `[n, 1 + C]` float64."""
        return self.edited.fractions(UnitEdit(self.layer, units, self.levels[list(units)]))

    def without(self, sets: Sequence[Sequence[int]], label: str) -> Tensor:
        """`fractions` without each of some sets of units, from shards: `[sets, n, 1 + C]` float64."""
        return SHARDS.tensors(self, removal_blocks(sets), label)["fraction"]


@dataclass(frozen=True)
class RemovalBlock:
    """Sets of units that are removed, one after the other."""

    units: tuple[tuple[int, ...], ...]


def _config(job: RemovalJob, block: RemovalBlock) -> dict[str, Any]:
    return job.settings | {"units": [list(units) for units in block.units]}


def _build(job: RemovalJob, block: RemovalBlock, draft: Draft) -> None:
    draft.tensors("block", {"fraction": torch.stack([job.fractions(units) for units in block.units])})


def _weights(job: RemovalJob, _: RemovalBlock) -> dict[str, str]:
    return {"generator": job.ctx.generator.fingerprint, "segmenter": job.edited.segmenter.fingerprint}


SHARDS = Shards("removal-shard", 1, _config, _build, _weights)
"""Tensors "block": `fraction [sets, n, 1 + C]` float64."""


def removal_blocks(sets: Sequence[Sequence[int]]) -> list[RemovalBlock]:
    """Sets of units, `DRAWS_PER_SHARD` a shard."""
    size = DRAWS_PER_SHARD
    return [RemovalBlock(tuple(map(tuple, sets[k : k + size]))) for k in range(0, len(sets), size)]


def best_sets(order: Tensor, counts: Sequence[int]) -> list[list[int]]:
    """The best units of each part, so many of them; arguments as of `remove`."""
    return [units[:n].tolist() for units in order for n in counts]


def random_sets(order: Tensor, variance: Tensor, tested: Sequence[int], draws: int, seed: int) -> list[list[int]]:
    """Random units, matched to the best ones of each part; arguments as of `remove`, and the run's seed."""
    strata, stream, sets = layer_strata(variance), Stream("dissect_gan", seed), []
    for part, units in enumerate(order):
        for n in tested:
            rng = stream.rng(index=100 * part + n)
            sets += [matched_draw(units[:n].tolist(), strata, rng) for _ in range(draws)]
    return sets


@dataclass(frozen=True)
class Removal:
    """Removals of the best units of each of C parts; counts are the numbers of units removed."""

    base: Tensor
    """Fraction of each image that shows each label, the background first: `[n, 1 + C]` float64."""
    counts: tuple[int, ...]
    """From 0."""
    best: Tensor
    """The same without the best units of each part, `[C, counts, n, 1 + C]`."""
    tested: tuple[int, ...]
    draws: Tensor
    """Mean over the images without random units, matched to the best of each part: `[C, tested, draws, 1 + C]`."""
    variance: Tensor
    """Mean variance of the best units, and of all that were drawn for them: `[C, tested, 2]`."""

    @property
    def change(self) -> Tensor:
        """−mean Δ / baseline of each label, as of `concept_fraction_change`: `[C, tested, 1 + C]`."""
        index = [self.counts.index(n) for n in self.tested]
        return self._relative(self.best.mean(2)[:, index])

    @property
    def control(self) -> Tensor:
        """The same of each draw, `[C, tested, draws, 1 + C]`."""
        return self._relative(self.draws)

    def _relative(self, fraction: Tensor) -> Tensor:
        base = self.base.mean(0)
        return (base - fraction) / base.where(base > 0, torch.nan)


def remove(
    job: RemovalJob, order: Tensor, variance: Tensor, counts: Sequence[int], tested: Sequence[int], draws: int
) -> Removal:
    """Remove the best units of each part, and random ones of the same variance.

    Args:
        job: codes, layer and levels.
        order: units by descending agreement with each part, `[C, U]` int64.
        variance: of each unit, `[U]`.
        counts: numbers of best units, from 0.
        tested: those of them that are held against random units.
        draws: random sets for each part and number.
    """
    best, sets = best_sets(order, counts), random_sets(order, variance, tested, draws, job.ctx.config.seed)
    fraction = job.without(best, "removal of the best units").unflatten(0, (len(order), len(counts)))
    random = job.without(sets, "removal of random units").mean(1)
    shape = (len(order), len(tested), draws)
    drawn = [variance[list(units)].mean() for units in sets]
    means = torch.stack(drawn).view(shape).mean(2)
    chosen = torch.stack([torch.stack([variance[units[:n]].mean() for n in tested]) for units in order])
    pairs = torch.stack([chosen, means], 2)
    return Removal(fraction[0, 0], tuple(counts), fraction, tuple(tested), random.unflatten(0, shape), pairs)
