"""PUMP's pyramid (Revaud et al. 2022): neighbouring cells vote for pixels that lie as they do, and votes come back.

Values are `[n, h, w, G₁, G₂]`: a map of image 2 for every corner of the grid of image 1. Level 1 stands on the corners
between cells, higher levels on the same corners, for areas twice as large each.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor
from torch.nn import functional as F

_TINY = 1e-8
_BAND_BYTES = 2**24
"""Memory that one band of correlations may take: what a processor's cache holds."""


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
        given.scatter_reduce_(1, pool.index.flatten(1, 2), votes.flatten(3).flatten(1, 2), "amax")
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


def _children(level: int) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """The four children of a corner: offset in the grid and shift in image 2, along each side.

    Cell (i, j) of the padded grid follows corner (i, j), so at level 1 these are the cells before and at the corner.
    """
    before, after = (-1, 0) if level == 1 else (-(2 ** (level - 2)), 2 ** (level - 2))
    sides = ((before, -1), (after, 1))
    return [(vertical, horizontal) for vertical, horizontal in product(sides, sides)]


def _pair(maps: Tensor, shifts: tuple[int, ...]) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Where values go and come from, x[to] ← x[source] with source = to + shift, along all sides but the first."""
    sides = [_along(size, shift) for size, shift in zip(maps.shape[1:], shifts, strict=True)]
    to, source = zip(*sides, strict=True)
    return (slice(None), *to), (slice(None), *source)


def _along(size: int, shift: int) -> tuple[slice, slice]:
    to, source, length = max(-shift, 0), max(shift, 0), max(size - abs(shift), 0)
    return slice(to, to + length), slice(source, source + length)


def _thirds(size: int) -> tuple[tuple[int, slice], ...]:
    """First, inner and last rows or columns."""
    return (0, slice(0, 1)), (1, slice(1, size - 1)), (2, slice(size - 1, size))


@dataclass(frozen=True)
class Correlation:
    """What is kept of the correlations `[n, h, w, cells]` of image 2's pixels with image 1's cells."""

    pooled: Pooled
    best: Tensor
    """Largest of all cells, of every pixel: `[n, h, w]`."""
    last_row: Tensor
    """Correlations of the last row, which no window of `pooled.peak` covers: `[n, w, cells]`."""
    last_column: Tensor
    """Those of the last column, `[n, h, cells]`."""


def correlate(cells: Tensor, pixels: Tensor, power: float) -> Correlation:
    """max(⟨descriptor, descriptor⟩, 0)^power, pooled.

    Image 2 is worked through in bands of rows, so that the correlations themselves are never held at once. The power
    keeps the order of values and is taken of the maxima alone.

    Args:
        cells: descriptors of image 1, `[n, channels, cells]`.
        pixels: descriptors of image 2, `[n, channels, h, w]`, at least 2 × 2.
        power: above 0; larger ones favour strong correlations.
    """
    n, _, height, width = pixels.shape
    count, rows = cells.shape[-1], halved(height)
    peak = cells.new_empty(n, rows, halved(width), count)
    index = torch.empty_like(peak, dtype=torch.int32)
    best, last_column = cells.new_empty(n, height, width), cells.new_empty(n, height, count)
    last_row = cells.new_empty(n, width, count)
    step = max(_BAND_BYTES // (8 * n * width * count), 1)
    for start in range(0, rows, step):
        first, last = max(2 * start - 2, 0), min(2 * (start + step), height)
        band = _correlations(cells, pixels[:, :, first:last])
        best[:, first:last], last_column[:, first:last] = band.amax(-1), band[:, :, -1]
        top, at = maxima(band)
        leave_last_column(band, top, at)
        if last == height:
            last_row[:] = band[:, -1]
            leave_last_row(band, top, at)
        new = start - first // 2  # all but the window that the band before has found
        peak[:, start : start + step] = top[:, new:]
        torch.add(at[:, new:], first * width, out=index[:, start : start + step])
    peak, best, last_row, last_column = (rectified(x, power) for x in (peak, best, last_row, last_column))
    return Correlation(Pooled(completed(peak, last_row, last_column), peak, index), best, last_row, last_column)


def rectified(values: Tensor, power: float) -> Tensor:
    """Non-negative values to a power, in place."""
    return values.mul_(values.sqrt()) if power == 1.5 else values.pow_(power)


def _correlations(cells: Tensor, pixels: Tensor) -> Tensor:
    """max(⟨descriptor, descriptor⟩, 0), `[n, h, w, cells]`."""
    product = pixels.flatten(2).transpose(1, 2) @ cells
    return product.clamp_(min=0).unflatten(1, pixels.shape[-2:])


@dataclass(frozen=True)
class Pooled:
    """Maxima of maps `[n, h, w, cells]`; h' and w' are h and w halved, rounded up."""

    whole: Tensor
    """Maxima of all windows, `[n, h', w', cells]`."""
    peak: Tensor
    """The same without the last row and column of the maps: where values go on the way down."""
    index: Tensor
    """The first pixel where `peak` is reached, y · w + x: `[n, h', w', cells]` integers."""


def pooled(maps: Tensor) -> Pooled:
    """Pools maps `[n, h, w, cells]` that are at least 2 × 2."""
    peak, index = maxima(maps)
    leave_last_column(maps, peak, index)
    leave_last_row(maps, peak, index)
    return Pooled(completed(peak, maps[:, -1], maps[:, :, -1]), peak, index)


def completed(peak: Tensor, last_row: Tensor, last_column: Tensor) -> Tensor:
    """Maxima over all pixels, from those without the last row `[n, w, cells]` and column `[n, h, cells]`."""
    whole = peak.clone()
    torch.maximum(whole[:, -1], _line_maxima(last_row), out=whole[:, -1])
    torch.maximum(whole[:, :, -1], _line_maxima(last_column), out=whole[:, :, -1])
    return whole


def maxima(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Maxima of windows around every second pixel of `[n, h, w, cells]`, and their indices y · w + x (int64)."""
    rows, columns = halved(maps.shape[1]), halved(maps.shape[2])
    value, index = _pooled(maps, (3, 3), (1, 1))
    return value[:, :rows, :columns], index[:, :rows, :columns]


def leave_last_column(maps: Tensor, peak: Tensor, index: Tensor) -> None:
    """Finds the maxima `[n, h', w', cells]` of the last column's windows again, without that column; in place."""
    first, last = _last_window(maps.shape[2])
    value, at = _pooled(maps[:, :, first:last], (3, last - first), (1, 0))
    rows = peak.shape[1]
    peak[:, :, -1:] = value[:, :rows]
    index[:, :, -1:] = _shifted(at[:, :rows], last - first, maps.shape[2], first)


def leave_last_row(maps: Tensor, peak: Tensor, index: Tensor) -> None:
    """Finds those of the last row's windows again, without that row and the last column; in place."""
    width = maps.shape[2]
    first, last = _last_window(maps.shape[1])
    value, at = _pooled(maps[:, first:last, :-1], (last - first, 3), (0, 1))
    peak[:, -1:] = value
    index[:, -1:] = _shifted(at, width - 1, width, first * width)


def halved(size: int) -> int:
    """Windows along a side."""
    return (size + 1) // 2


def _line_maxima(line: Tensor) -> Tensor:
    """Maxima of windows of 3 around every second pixel of `[n, w, cells]`: `[n, w', cells]`."""
    return _pooled(line[:, None], (1, 3), (0, 1))[0][:, 0, : halved(line.shape[1])]


def _last_window(size: int) -> tuple[int, int]:
    """What the last window along a side covers without its last pixel."""
    return max((size - 1) // 2 * 2 - 1, 0), size - 1


def _pooled(maps: Tensor, kernel: tuple[int, int], padding: tuple[int, int]) -> tuple[Tensor, Tensor]:
    # As channels in the last dimension, which torch pools many at a time.
    result = F.max_pool2d_with_indices(maps.permute(0, 3, 1, 2), kernel, (2, 2), padding, ceil_mode=True)
    value, index = (x.permute(0, 2, 3, 1) for x in result)
    return value, index


def _shifted(at: Tensor, part_width: int, width: int, offset: int) -> Tensor:
    """Indices into a part of some width as indices into the maps."""
    return at // part_width * width + at % part_width + offset
