"""Which cell of image 1 and which pixel of image 2 choose each other."""

from __future__ import annotations

from itertools import product

import torch
from torch import Tensor

from lis.matching.correlation import Correlation

BLOCK = 4
"""Side of the blocks of image 2 that choose one cell each: the stride of the grid."""


def best_pixels(total: Tensor, correlation: Correlation) -> tuple[Tensor, Tensor]:
    """The best pixel of every cell: its place y · w + x `[n, cells]` int64, and its value `[n, cells]`.

    A value that comes down is added where its window has its maximum. So no pixel beats the best of these, but for
    those of the last row and column, which no window covers.

    Args:
        total: maximum of every window plus what comes down to it, `[n, h', w', cells]`.
        correlation: of the same images.
    """
    height, width = correlation.best.shape[1:]
    value, window = _first_largest(total)
    place = correlation.pooled.place.flatten(1, 2).gather(1, window[:, None])[:, 0].long()
    row, x = correlation.last_row.max(1)
    column, y = correlation.last_column.max(1)
    for other, spot in ((row, x + (height - 1) * width), (column, y * width + width - 1)):
        better = other > value
        value, place = torch.where(better, other, value), torch.where(better, spot, place)
    return place, value


def best_of_blocks(total: Tensor, correlation: Correlation) -> Tensor:
    """The largest value over all cells, of every block of image 2: `[n, ⌈h / 4⌉, ⌈w / 4⌉]`."""
    best = _block_maxima(correlation.best)
    width = correlation.best.shape[2]
    place = correlation.pooled.place
    rows, columns = (2 * torch.arange(size, device=place.device, dtype=torch.int32) for size in total.shape[1:3])
    for odd_y, odd_x in product((0, 1), repeat=2):
        values, places = total[:, odd_y::2, odd_x::2], place[:, odd_y::2, odd_x::2]
        start = rows[odd_y::2, None, None] * width
        above = None if odd_y else places < start
        before = None if odd_x else _any_of(places - start - columns[odd_x::2, None], (-width - 1, -1, width - 1))
        for mask, (up, left) in _zones(above, before):
            found = values.amax(-1) if mask is None else torch.where(mask, values, 0).amax(-1)
            _raise(best, found, up, left)
    return best


def _any_of(values: Tensor, wanted: tuple[int, ...]) -> Tensor:
    found = values == wanted[0]
    for one in wanted[1:]:
        found |= values == one
    return found


def _zones(above: Tensor | None, before: Tensor | None) -> list[tuple[Tensor | None, tuple[int, int]]]:
    """Which maxima lie in the block before along each side: windows around a block's first row reach back."""
    vertical = [(None, 0)] if above is None else [(above, 1), (~above, 0)]
    horizontal = [(None, 0)] if before is None else [(before, 1), (~before, 0)]
    return [
        (x if y is None else y if x is None else x & y, (up, left))
        for (y, up), (x, left) in product(vertical, horizontal)
    ]


def _raise(best: Tensor, found: Tensor, up: int, left: int) -> None:
    """Raise blocks `[n, rows, columns]` to the maxima of the windows that begin with them, or with the next ones."""
    rows, columns = found.shape[1:]
    found = found[:, up:, left:]
    target = best[:, : rows - up, : columns - left]
    found = found[:, : target.shape[1], : target.shape[2]]
    torch.maximum(target, found, out=target)


def _block_maxima(maps: Tensor) -> Tensor:
    """Maxima of blocks of `[n, h, w]`."""
    return torch.nn.functional.max_pool2d(maps[:, None], BLOCK, ceil_mode=True)[:, 0]


def _first_largest(values: Tensor) -> tuple[Tensor, Tensor]:
    """Largest over `[n, h, w, cells]` for every cell `[n, cells]`, and the first place y · w + x that has it."""
    largest = values.amax(2)
    y = largest.max(1).indices
    row = values.gather(1, y[:, None, None].expand(-1, 1, values.shape[2], -1))[:, 0]
    value, x = row.max(1)
    return value, y * values.shape[2] + x
