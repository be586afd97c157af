"""Maxima over 3 × 3 windows, every second pixel: where PUMP's pyramid halves image 2."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Pooled:
    """Maxima of maps `[n, h, w, cells]`; h' and w' are h and w halved, rounded up."""

    whole: Tensor
    """Maxima of all windows, `[n, h', w', cells]`."""
    peak: Tensor
    """The same without the last row and column of the maps: where values go on the way down."""
    place: Tensor
    """The first pixel where `peak` is reached, y · w + x: `[n, h', w', cells]` integers."""


def pooled(maps: Tensor) -> Pooled:
    """Pools maps `[n, h, w, cells]` that are at least 2 × 2."""
    peak, place = maxima(maps)
    leave_last_column(maps, peak, place)
    leave_last_row(maps, peak, place)
    return Pooled(completed(peak, maps[:, -1], maps[:, :, -1]), peak, place)


def completed(peak: Tensor, last_row: Tensor, last_column: Tensor) -> Tensor:
    """Maxima over all pixels, from those without the last row `[n, w, cells]` and column `[n, h, cells]`."""
    whole = peak.clone()
    torch.maximum(whole[:, -1], _line_maxima(last_row), out=whole[:, -1])
    torch.maximum(whole[:, :, -1], _line_maxima(last_column), out=whole[:, :, -1])
    return whole


def maxima(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Maxima of windows around every second pixel of `[n, h, w, cells]`, and their places y · w + x (int64)."""
    rows, columns = halved(maps.shape[1]), halved(maps.shape[2])
    value, place = _pooled(maps, (3, 3), (1, 1))
    return value[:, :rows, :columns], place[:, :rows, :columns]


def leave_last_column(maps: Tensor, peak: Tensor, place: Tensor) -> None:
    """Finds the maxima `[n, h', w', cells]` of the last column's windows again, without that column; in place."""
    first, last = _last_window(maps.shape[2])
    value, at = _pooled(maps[:, :, first:last], (3, last - first), (1, 0))
    rows = peak.shape[1]
    peak[:, :, -1:] = value[:, :rows]
    place[:, :, -1:] = _placed(at[:, :rows], last - first, maps.shape[2], first)


def leave_last_row(maps: Tensor, peak: Tensor, place: Tensor) -> None:
    """Finds those of the last row's windows again, without that row and the last column; in place."""
    width = maps.shape[2]
    first, last = _last_window(maps.shape[1])
    value, at = _pooled(maps[:, first:last, :-1], (last - first, 3), (0, 1))
    peak[:, -1:] = value
    place[:, -1:] = _placed(at, width - 1, width, first * width)


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
    found = F.max_pool2d_with_indices(maps.permute(0, 3, 1, 2), kernel, (2, 2), padding, ceil_mode=True)
    value, place = (x.permute(0, 2, 3, 1) for x in found)
    return value, place


def _placed(at: Tensor, strip: int, width: int, offset: int) -> Tensor:
    """Places in a strip of some width as places in the maps."""
    return at // strip * width + at % strip + offset
