"""Masks as horizontal runs: far fewer than pixels, and enough for connectivity, moments and sums."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import coo_array
from torch import Tensor

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
    def of(cls, masks: Tensor) -> Self:
        """Runs of `masks [n, h, w]` of integers, found on the processor."""
        pixels = masks.to(torch.int16).cpu().numpy()
        begins = np.ones(masks.shape, bool)
        np.not_equal(pixels[..., 1:], pixels[..., :-1], out=begins[..., 1:])
        start = np.flatnonzero(begins)
        return cls(pixels.shape, start, pixels.reshape(-1)[start].astype(np.int64))

    @property
    def stop(self) -> NDArray[np.int64]:
        """The pixel behind the last `[runs]`, counted through all masks."""
        return np.append(self.start[1:], np.prod(self.shape))

    @property
    def picture(self) -> NDArray[np.int64]:
        """Number of the mask `[runs]`."""
        return self.start // (self.shape[1] * self.shape[2])

    def touching(self) -> coo_array:
        """Which runs of one label lie in neighbouring rows of a mask and share a side or a corner: `[runs, runs]`.

        Those of the background are left out.
        """
        _, height, width = self.shape
        above = np.flatnonzero((self.label > 0) & (self.start // width % height < height - 1))
        row = self.start[above] // width * width
        left = np.maximum(self.start[above] - 1, row) + width
        right = np.minimum(self.stop[above], row + width - 1) + width
        of_pixel = np.repeat(np.arange(len(self.start), dtype=np.int32), self.stop - self.start)
        first, last = of_pixel[left], of_pixel[right]
        a, b = np.repeat(above, last - first + 1), _ranges(first, last)
        same = self.label[a] == self.label[b]
        return coo_array((same[same], (a[same], b[same])), shape=(len(self.start),) * 2)

    def areas(self, labels: int) -> NDArray[np.float64]:
        """Pixels of each label in each mask, `[n, labels]`; without background."""
        return self._by_label(self.stop - self.start, labels)

    def sums(self, values: NDArray[np.floating], labels: int) -> NDArray[np.float64]:
        """Sum of `values [n, h, w]` over the pixels of each label in each mask, `[n, labels]`; without background."""
        return self._by_label(np.add.reduceat(values.reshape(-1), self.start), labels)

    def moments(self, group: NDArray[np.integer], count: int) -> NDArray[np.float64]:
        """Raw moments `[count, 6]`, in the order of `POWERS`, of the groups `[runs]` that the runs belong to."""
        _, height, width = self.shape
        x, y = self.start % width, self.start // width % height
        ends = _sums_before(x + self.stop - self.start)
        along = [end - begin for begin, end in zip(_sums_before(x), ends, strict=True)]
        sums = [np.bincount(group, (along[p] * y**q).astype(float), count) for p, q in POWERS]
        return np.stack(sums, 1, dtype=np.float64)

    def _by_label(self, of_run: NDArray[np.number], labels: int) -> NDArray[np.float64]:
        group, groups = self.picture * (1 + labels) + self.label, self.shape[0] * (1 + labels)
        total = np.bincount(group, of_run.astype(float), groups).astype(np.float64, copy=False)
        return total.reshape(-1, 1 + labels)[:, 1:]


def _sums_before(x: NDArray[np.int64]) -> tuple[NDArray[np.int64], ...]:
    """Σ tᵖ over t = 0 … x − 1, for p = 0, 1, 2."""
    return x, x * (x - 1) // 2, x * (x - 1) * (2 * x - 1) // 6


def _ranges(first: NDArray[np.integer], last: NDArray[np.integer]) -> NDArray[np.int64]:
    """The numbers first … last of every pair, one range after another."""
    sizes = last - first + 1
    offsets = np.cumsum(sizes) - sizes
    return np.repeat(first - offsets, sizes) + np.arange(sizes.sum())
