"""PUMP's pyramid (Revaud et al. 2022): neighbouring cells vote for places that lie as they do, and votes come back.

Values are `[n, h, w, G₁, G₂]`: a map of image 2 for every corner of the grid of image 1. Level 1 stands on the corners
between cells, higher levels on the same corners, for areas twice as large each.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from lis.matching.correlation import rectified
from lis.matching.pooling import Pooled, pooled

_TINY = 1e-8


@dataclass(frozen=True)
class Rule:
    """How levels are made."""

    power: float
    border: float
    """How far a vote near the edge of image 2 is judged by the children that it can have there: 0 not, 1 fully."""
    min_shape: int
    """The last level has a side of at most so many pixels."""
    levels: int
    """At most so many levels above the correlations."""


@dataclass(frozen=True)
class Level:
    """One level on the way up."""

    value: Tensor
    """`[n, h, w, G₁, G₂]`, ≥ 0."""
    weight: Tensor
    """Cells that stand below every corner, `[G₁, G₂]`."""


def climb(below: Tensor, weight: Tensor, rule: Rule) -> tuple[list[Level], list[Pooled]]:
    """All levels above the correlations, and the pooling of those that have a level above them.

    Args:
        below: pooled correlations `[n, h, w, G₁, G₂]`, 0 for the cells that pad the grid to the size of its corners.
        weight: 1 for a cell, 0 for padding, `[G₁, G₂]`.
        rule: how levels are made.
    """
    levels: list[Level] = []
    pools: list[Pooled] = []
    while len(levels) < rule.levels and (level := _parent(below, weight, len(levels) + 1, rule)):
        levels.append(level)
        if min(level.value.shape[1:3]) <= rule.min_shape:
            break
        pools.append(pooled(level.value.flatten(3)))
        below, weight = pools[-1].whole.unflatten(3, level.weight.shape), level.weight
    return levels, pools


def descend(levels: list[Level], pools: list[Pooled]) -> Tensor:
    """What level 1 is worth with the votes of all levels above it, `[n, h, w, G₁, G₂]`; writes into the levels."""
    above = levels[-1].value
    for number in range(len(levels), 1, -1):
        lower, pool = levels[number - 2].value, pools[number - 2]
        votes = returned(above, number)
        given = torch.zeros_like(lower).flatten(3).flatten(1, 2)
        given.scatter_reduce_(1, pool.place.flatten(1, 2), votes.flatten(3).flatten(1, 2), "amax")
        lower += given.view_as(lower)
        above = lower
    return above


def returned(parent: Tensor, level: int) -> Tensor:
    """For every child the largest of its parents' values, each where the parent would have it; at least 0."""
    votes = torch.zeros_like(parent)
    for (a, s), (b, t) in _children(level):
        to, source = _pair(parent, (-s, -t, -a, -b))
        torch.maximum(votes[to], parent[source], out=votes[to])
    return votes


def _parent(below: Tensor, weight: Tensor, level: int, rule: Rule) -> Level | None:
    """The next level, from the pooled one below it; None where no corner has children."""
    zones = weight.new_full((3, 3, *weight.shape), _TINY)
    value = torch.zeros_like(below)
    weighted = below if level == 1 else below * weight  # a cell weighs 1, and padding is 0 anyway
    for (a, s), (b, t) in _children(level):
        to, source = _pair(below, (s, t, a, b))
        value[to] += weighted[source]
        # A child that is shifted up is missing in the first row of image 2, and so on.
        rows, columns = (slice(max(-k, 0), 3 + min(-k, 0)) for k in (s, t))
        zones[(rows, columns, *to[3:])] += weight[source[3:]]
    centre = zones[1, 1].clone()
    if float(centre.sum()) <= 2 * _TINY * centre.numel():
        return None
    scale = 1 / (centre ** (1 - rule.border) * zones**rule.border)
    for (i, rows), (j, columns) in product(_thirds(value.shape[1]), _thirds(value.shape[2])):
        value[:, rows, columns] *= scale[i, j]
    return Level(rectified(value, rule.power), centre)


def _offsets(level: int) -> tuple[int, int]:
    """Where the children of a corner stand along one side of the grid, before and after it.

    Cell (i, j) of the padded grid follows corner (i, j), so at level 1 these are the cells before and at the corner.
    """
    return (-1, 0) if level == 1 else (-(2 ** (level - 2)), 2 ** (level - 2))


def _children(level: int) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """The four children of a corner: offset in the grid and shift in image 2, along each side."""
    before, after = _offsets(level)
    sides = ((before, -1), (after, 1))
    return [(vertical, horizontal) for vertical in sides for horizontal in sides]


def _pair(maps: Tensor, shifts: tuple[int, ...]) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Where values go and come from, x[to] ← x[source] with source = to + shift, along all sides but the first."""
    sides = [_along(size, shift) for size, shift in zip(maps.shape[1:], shifts, strict=True)]
    to, source = zip(*sides, strict=True)
    return (slice(None), *to), (slice(None), *source)


def _along(size: int, shift: int) -> tuple[slice, slice]:
    kept = max(size - abs(shift), 0)
    return slice(max(-shift, 0), max(-shift, 0) + kept), slice(max(shift, 0), max(shift, 0) + kept)


def _thirds(size: int) -> tuple[tuple[int, slice], ...]:
    """First, inner and last rows or columns."""
    return (0, slice(0, 1)), (1, slice(1, size - 1)), (2, slice(size - 1, size))
