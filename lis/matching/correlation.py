"""All pixels of image 2 against all cells of image 1, without keeping what only its maxima are needed of."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lis.matching.pooling import Pooled, completed, halved, leave_last_column, leave_last_row, maxima

_BAND_BYTES = 2**24
"""Memory that one band of correlations may take: what a processor's cache holds."""


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
    place = torch.empty_like(peak, dtype=torch.int32)
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
        own = start - first // 2  # all but the window that the band before has found
        peak[:, start : start + step] = top[:, own:]
        torch.add(at[:, own:], first * width, out=place[:, start : start + step])
    peak, best, last_row, last_column = (rectified(x, power) for x in (peak, best, last_row, last_column))
    return Correlation(Pooled(completed(peak, last_row, last_column), peak, place), best, last_row, last_column)


def rectified(values: Tensor, power: float) -> Tensor:
    """Non-negative values to a power, in place."""
    return values.mul_(values.sqrt()) if power == 1.5 else values.pow_(power)


def _correlations(cells: Tensor, pixels: Tensor) -> Tensor:
    """max(⟨descriptor, descriptor⟩, 0), `[n, h, w, cells]`."""
    product = pixels.flatten(2).transpose(1, 2) @ cells
    return product.clamp_(min=0).unflatten(1, pixels.shape[-2:])
