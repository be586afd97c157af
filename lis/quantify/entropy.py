"""Local entropy of a part: how rough its surface is (paper §3.2: "entropy (smoothness)")."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

LEVELS = 16
"""Grey levels that the luma is quantised to."""
FULL = 0.5
"""Share of a window that has to be the part's own pixels: below, so few say nothing about its surface."""
_PIXELS_PER_RADIUS = 32
_NARROW = 8
"""Columns of the narrowest boxes on a processor."""
_AT_ONCE = 2**13
"""Pixels at once on a processor: as many as stay in its cache with all levels."""
_ON_DEVICE = 2**24
"""Pixels times levels at once on another device: 64 MB for each of the few maps of them."""
_BITS = 32
"""Labels that a bit set of a pixel has room for, with the background."""
_COUNTS = np.arange(2**16, dtype=np.float32)
_LOG = np.log2(np.maximum(_COUNTS, 1))
_C_LOG = _COUNTS * _LOG
"""log₂ c and c log₂ c of every count c that two bytes hold."""


def window(height: int, width: int) -> int:
    """Side of the window in pixels, odd: 9 for masks of 128 pixels, 5 for 64, and in proportion; 3 at the least.

    The paper names no window.

    Example:
        >>> [window(size, size) for size in (28, 32, 64, 128, 256)]
        [3, 3, 5, 9, 17]
    """
    return 2 * max(1, round(min(height, width) / _PIXELS_PER_RADIUS)) + 1


def part_entropy(luma: Tensor, masks: Tensor, labels: int) -> Tensor:
    """Mean local entropy of every part.

    At a pixel H = −Σ_b p_b log₂ p_b, with p_b the share of level b of `LEVELS` equal steps among the pixels of the same
    part in the `window` around. Pixels whose window is the part's by less than `FULL` are left out, those of other
    parts do not count: neither a part's outline nor what lies behind it is its surface.

    Args:
        luma: `[n, h, w]` in [0, 1], at the resolution of the masks.
        masks: `[n, h, w]` integers: 0 background, 1 … labels.
        labels: number of labels, without background.

    Returns:
        `[n, labels]` float32 in bits, in [0, log₂ LEVELS], on the masks' device; NaN where no window counts: the label
        is absent or too thin everywhere.

    Example:
        >>> luma = torch.tensor([0.1, 0.1, 0.9]).repeat(4)[:9].expand(1, 9, 9)
        >>> masks = torch.ones(1, 9, 9, dtype=torch.int64)
        >>> part_entropy(luma, masks, labels=2).round(decimals=3)
        tensor([[0.8420,    nan]])
    """
    level = (luma * LEVELS).clamp(0, LEVELS - 1).to(torch.uint8)
    side = window(*masks.shape[1:])
    means = _on_processor if masks.device.type == "cpu" and labels < _BITS else _on_any_device
    return means(level, masks, labels, side)


def _on_any_device(level: Tensor, masks: Tensor, labels: int, side: int) -> Tensor:
    """Label by label, all levels of as many images at once as memory allows."""
    at_once = max(1, _ON_DEVICE // (LEVELS * masks[0].numel()))
    parts = [_of_labels(*part, labels, side) for part in zip(level.split(at_once), masks.split(at_once), strict=True)]
    return torch.cat(parts)


def _of_labels(level: Tensor, masks: Tensor, labels: int, side: int) -> Tensor:
    """`part_entropy` of images that fit into memory with all their levels."""
    means = [level.new_empty(len(level), 0, dtype=torch.float32)]
    has_level = level[:, None] == torch.arange(LEVELS, dtype=level.dtype, device=level.device)[:, None, None]
    for label in range(1, labels + 1):
        inside = masks == label
        pixels = _in_window(inside[:, None], side)[:, 0]
        counts = _in_window(inside[:, None] & has_level, side)
        logs = torch.xlogy(counts, counts).sum(1)
        entropy = pixels.log2() - logs / (math.log(2) * pixels)
        seen = inside & (pixels >= FULL * side**2)
        means.append(torch.where(seen, entropy, torch.nan).flatten(1).nanmean(1)[:, None])
    return torch.cat(means, 1).clamp(min=0)


def _in_window(inside: Tensor, side: int) -> Tensor:
    """How many pixels of the window around each are inside: `[n, c, h, w]` float32 of `[n, c, h, w]` bool."""
    x, half = inside.float(), side // 2
    down = F.avg_pool2d(x, (side, 1), stride=1, padding=(half, 0), divisor_override=1)
    return F.avg_pool2d(down, (1, side), stride=1, padding=(0, half), divisor_override=1)


def _on_processor(level: Tensor, masks: Tensor, labels: int, side: int) -> Tensor:
    """The same many times faster: only where a part is, counts in bytes, logarithms only of its own pixels.

    The boxes around all parts of all images lie under each other in a few tall pictures, one for the boxes of up to 8
    columns, one for those of up to 16, and so on.
    """
    mask, grey = (np.pad(x.to(torch.uint8).numpy(), ((0, 0), (0, side // 2), (0, 1))) for x in (masks, level))
    boxes, sums, fewer = _Boxes.of(mask, labels), np.zeros((2, len(masks) * labels)), 0
    for columns in (_NARROW << k for k in range(9)):
        alike = boxes.subset((boxes.width > fewer) & (boxes.width <= columns))
        if len(alike.image):
            of_row, inside, picture = alike.below_each_other(mask, grey, columns, side // 2)
            sums += _sums((alike.image * labels + alike.part)[of_row], inside, picture, side, sums.shape[1])
        fewer = columns
    mean = np.divide(*sums, out=np.full(sums.shape[1], np.nan), where=sums[1] > 0)
    return torch.from_numpy(mean.reshape(len(masks), labels)).float().clamp(min=0)


@dataclass(frozen=True)
class _Boxes:
    """Boxes around the parts of some images, one for each part that an image has; each field `[boxes]`."""

    image: NDArray[np.intp]
    part: NDArray[np.intp]
    """From 0."""
    top: NDArray[np.intp]
    left: NDArray[np.intp]
    height: NDArray[np.intp]
    width: NDArray[np.intp]

    @classmethod
    def of(cls, mask: NDArray[np.uint8], labels: int) -> _Boxes:
        """Around the parts 1 … `labels` of `mask [n, h, w]`."""
        bit = np.left_shift(np.uint32(1), mask, dtype=np.uint32)
        part = np.arange(1, 1 + labels, dtype=np.uint32)[:, None]
        rows, columns = (np.bitwise_or.reduce(bit, axis)[:, None] >> part & 1 > 0 for axis in (2, 1))
        there = rows.any(2)
        (top, bottom), (left, right) = (
            (has.argmax(2)[there], has.shape[2] - has[..., ::-1].argmax(2)[there]) for has in (rows, columns)
        )
        image, number = np.nonzero(there)
        return cls(image, number, top, left, bottom - top, right - left)

    def subset(self, chosen: NDArray[np.bool_]) -> _Boxes:
        """The boxes that are chosen."""
        return _Boxes(*(values[chosen] for values in vars(self).values()))

    def below_each_other(
        self, mask: NDArray[np.uint8], grey: NDArray[np.uint8], columns: int, half: int
    ) -> tuple[NDArray[np.intp], NDArray[np.bool_], NDArray[np.uint8]]:
        """The boxes as one tall picture, of which only the parts' own pixels are not empty.

        `half` empty rows follow each box and as many empty columns each row: enough that no window reaches into another
        box.

        Args:
            mask: `[n, h + half, w + 1]`, empty beyond h and w.
            grey: levels, of the same shape.
            columns: at least as many as the widest box has.
            half: half of the window.

        Returns:
            The box of each row, `[rows]`; which pixels are a part's own, `[rows, columns + half]`; their levels, with
            `half` empty rows above: `[half + rows, columns + half]`.
        """
        lines = self.height + half
        of_row = np.repeat(np.arange(len(lines)), lines)
        row = np.arange(len(of_row)) - np.repeat(lines.cumsum() - lines - self.top, lines)
        column = np.minimum(self.left[:, None] + np.arange(columns + half), mask.shape[2] - 1)
        pixel = ((self.image[of_row] * mask.shape[1] + row) * mask.shape[2])[:, None] + column[of_row]
        inside = mask.take(pixel) == (1 + self.part[of_row]).astype(np.uint8)[:, None]
        picture = np.full((half + len(of_row), columns + half), LEVELS, np.uint8)
        np.copyto(picture[half:], grey.take(pixel), where=inside)
        return of_row, inside, picture


def _sums(
    group: NDArray[np.intp], inside: NDArray[np.bool_], picture: NDArray[np.uint8], side: int, groups: int
) -> NDArray[np.float64]:
    """Sum of the entropies of the own pixels that count, and their number, by the group of each row: `[2, groups]`."""
    sums, half = np.zeros((2, groups)), side // 2
    picture = np.concatenate([picture, np.full((half, picture.shape[1]), LEVELS, np.uint8)])
    at_once = max(1, _AT_ONCE // picture.shape[1])
    for start in range(0, len(group), at_once):
        subset = np.flatnonzero(inside[start : start + at_once])
        if not len(subset):  # rows between two boxes, or between a part's regions
            continue
        counts = _counts(picture[start : start + at_once + 2 * half], side).take(subset, 1)
        pixels = counts.sum(0, dtype=counts.dtype)
        logs = cv2.LUT(counts, _C_LOG[:256]) if counts.dtype == np.uint8 else _C_LOG.take(counts)
        entropy = _LOG.take(pixels) - logs.sum(0) / pixels
        counted = pixels >= FULL * side**2
        of = group[start + subset[counted] // picture.shape[1]]
        sums += [np.bincount(of, weights, groups) for weights in (entropy[counted], None)]
    return sums


def _counts(picture: NDArray[np.uint8], side: int) -> NDArray[np.unsignedinteger]:
    """Pixels of each level in the window around each pixel but those of the first and last `side // 2` rows.

    `[LEVELS, pixels]`, bytes where a window has no more pixels than that, else of two bytes.
    """
    rows, columns = picture.shape
    margin = side // 2 * (columns + 1)
    buffer = np.zeros(2 * margin + LEVELS * rows * columns, np.uint8 if side**2 < 2**8 else np.uint16)
    levels = buffer[margin:-margin].reshape(LEVELS, rows * columns)
    levels[:] = picture.reshape(-1) == np.arange(LEVELS, dtype=np.uint8)[:, None]
    counts = _window_sums(_window_sums(buffer, 1, side), columns, side).reshape(LEVELS, rows * columns)
    return counts[:, side // 2 * columns : (rows - side // 2) * columns]


def _window_sums(x: NDArray[np.unsignedinteger], step: int, side: int) -> NDArray[np.unsignedinteger]:
    """xᵢ + xᵢ₊ₛ + … of `side` numbers, s = `step` apart: those of half as many added to themselves, and one for odd."""
    if side == 1:
        return x
    if side % 2:
        return _window_sums(x, step, side - 1)[:-step] + x[(side - 1) * step :]
    half = _window_sums(x, step, side // 2)
    return half[: -side // 2 * step] + half[side // 2 * step :]
