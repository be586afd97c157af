"""Masks as horizontal runs: far fewer than pixels, and enough for connectivity and moments."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array

from lis.quantify.ellipse import POWERS


@dataclass(frozen=True)
class Runs:
    """The longest stretches of equal pixels in each row of a batch of masks, background too, in reading order."""

    shape: tuple[int, ...]
    """Of the masks: n, h, w."""
    start: NDArray[np.int64]
    """First pixel `[runs]`, counted through all masks."""
    label: NDArray[np.int64]
    """`[runs]`; 0 is background."""

    @classmethod
    def of(cls, masks: NDArray[np.integer]) -> Self:
        """Runs of `masks [n, h, w]`."""
        begins = np.ones(masks.shape, bool)
        np.not_equal(masks[..., 1:], masks[..., :-1], out=begins[..., 1:])
        start = np.flatnonzero(begins)
        return cls(masks.shape, start, masks.reshape(-1)[start].astype(np.int64))

    @property
    def stop(self) -> NDArray[np.int64]:
        """The pixel behind the last `[runs]`, counted through all masks."""
        return np.append(self.start[1:], np.prod(self.shape))

    @property
    def picture(self) -> NDArray[np.int64]:
        """Number of the mask `[runs]`."""
        return self.start // (self.shape[1] * self.shape[2])

    def touching(self) -> coo_array:
        """Which runs of one label lie in neighbouring rows of a mask and share a side or a corner: `[runs, runs]`."""
        _, height, width = self.shape
        above = np.flatnonzero(self.start // width % height < height - 1)
        row = self.start[above] // width * width
        left = np.maximum(self.start[above] - 1, row) + width
        right = np.minimum(self.stop[above], row + width - 1) + width
        first, last = (np.searchsorted(self.start, pixel, "right") - 1 for pixel in (left, right))
        a, b = np.repeat(above, last - first + 1), _ranges(first, last)
        same = self.label[a] == self.label[b]
        return coo_array((same[same], (a[same], b[same])), shape=(len(self.start),) * 2)

    def moments(self, group: NDArray[np.integer], count: int) -> NDArray[np.float64]:
        """Raw moments `[count, 6]`, in the order of `POWERS`, of the groups `[runs]` that the runs belong to."""
        _, height, width = self.shape
        x, y = self.start % width, self.start // width % height
        ends = _sums_before(x + self.stop - self.start)
        along = [end - begin for begin, end in zip(_sums_before(x), ends, strict=True)]
        sums = [np.bincount(group, (along[p] * y**q).astype(float), count) for p, q in POWERS]
        return np.stack(sums, 1, dtype=np.float64)


def _sums_before(x: NDArray[np.int64]) -> tuple[NDArray[np.int64], ...]:
    """Σ tᵖ over t = 0 … x − 1, for p = 0, 1, 2."""
    return x, x * (x - 1) // 2, x * (x - 1) * (2 * x - 1) // 6


def _ranges(first: NDArray[np.int64], last: NDArray[np.int64]) -> NDArray[np.int64]:
    """The numbers first … last of every pair, one range after another."""
    sizes = last - first + 1
    offsets = np.cumsum(sizes) - sizes
    return np.repeat(first - offsets, sizes) + np.arange(sizes.sum())
