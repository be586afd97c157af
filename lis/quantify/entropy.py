"""Local entropy of a part: how rough its surface is (paper §3.2: "entropy (smoothness)")."""

from __future__ import annotations

import math

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
_ROWS = 128
"""Rows at once on a processor: as many as stay in its cache."""


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
        tensor([[0.918,   nan]])
    """
    level = (luma * LEVELS).clamp(0, LEVELS - 1).to(torch.uint8)
    side = window(*masks.shape[1:])
    fits = side**2 <= np.iinfo(np.uint8).max
    means = _on_processor if masks.device.type == "cpu" and fits else _on_any_device
    return means(level, masks, labels, side)


def _on_any_device(level: Tensor, masks: Tensor, labels: int, side: int) -> Tensor:
    """Label by label."""
    levels = F.one_hot(level.long(), LEVELS).permute(0, 3, 1, 2).float()
    means = []
    for label in range(1, labels + 1):
        inside = masks == label
        counts = F.avg_pool2d(levels * inside[:, None], side, stride=1, padding=side // 2, divisor_override=1)
        pixels = counts.sum(1)
        entropy = pixels.log2() - torch.xlogy(counts, counts).sum(1) / (math.log(2) * pixels)
        seen = inside & (pixels >= FULL * side**2)
        means.append(torch.where(seen, entropy, torch.nan).flatten(1).nanmean(1))
    return torch.stack(means, 1).clamp(min=0)


def _on_processor(level: Tensor, masks: Tensor, labels: int, side: int) -> Tensor:
    """The same several times faster: only rows that a part has, counts in bytes, their logarithms looked up.

    The rows of all parts of all images lie under each other in one tall picture, in which every other pixel is empty.
    `side // 2` empty rows follow each part, and as many empty columns each row: enough that no window reaches into the
    next one.
    """
    half = side // 2
    mask, grey = (np.pad(x.to(torch.uint8).numpy(), ((0, 0), (0, half), (0, half))) for x in (masks, level))
    image, part, row = _rows(mask, labels, half)
    inside = mask[image, row] == part[:, None]
    picture = np.full((len(row) + 2 * half, mask.shape[2]), LEVELS, np.uint8)
    np.copyto(picture[half : half + len(row)], grey[image, row], where=inside)
    of_row = np.zeros((2, len(row)))
    for start in range(0, len(row), _ROWS):
        block = slice(start, start + _ROWS)
        entropy, pixels = _in_windows(picture[start : start + _ROWS + 2 * half], side)
        counted = inside[block] & (pixels >= FULL * side**2)
        of_row[:, block] = np.where(counted, entropy, 0).sum(1), counted.sum(1)
    of_part = [np.bincount(image * labels + part - 1, x, len(masks) * labels) for x in of_row]
    mean = np.divide(*of_part, out=np.full(len(masks) * labels, np.nan), where=of_part[1] > 0)
    return torch.from_numpy(mean.reshape(-1, labels)).float().clamp(min=0)


def _rows(mask: NDArray[np.uint8], labels: int, half: int) -> tuple[NDArray[np.intp], ...]:
    """Image, part (from 1) and row of each line of the tall picture.

    A part takes the rows from its first to its last, and `half` below, which `mask [n, h + half, w]` has as empty ones.
    """
    has = np.zeros((len(mask), 1 + labels, mask.shape[1]), bool)
    image, row, column = np.nonzero(mask)
    has[image, mask[image, row, column], row] = True
    first, last = has.argmax(2), mask.shape[1] - 1 - has[..., ::-1].argmax(2)
    row = np.arange(mask.shape[1])
    taken = (row >= first[..., None]) & (row <= last[..., None] + half) & has.any(2, keepdims=True)
    return np.nonzero(taken)


def _in_windows(picture: NDArray[np.uint8], side: int) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Entropy and number of pixels in the window around each, without the first and last `side // 2` rows."""
    rows, columns = picture.shape
    margin = side // 2 * (columns + 1)
    buffer = np.zeros(2 * margin + LEVELS * rows * columns, np.uint8)
    levels = buffer[margin:-margin].reshape(LEVELS, rows * columns)
    np.equal(picture.reshape(-1), np.arange(LEVELS, dtype=np.uint8)[:, None], out=levels.view(bool))
    counts = _window_sums(_window_sums(buffer, 1, side), columns, side).reshape(LEVELS, rows, columns)
    counts = np.ascontiguousarray(counts[:, side // 2 : rows - side // 2])
    pixels, logarithm = counts.sum(0, dtype=np.uint8), np.log2(np.maximum(np.arange(256, dtype=np.float32), 1))
    sums = cv2.LUT(counts.reshape(LEVELS, -1), np.arange(256, dtype=np.float32) * logarithm).sum(0)
    return logarithm[pixels] - sums.reshape(pixels.shape) / np.maximum(pixels, 1), pixels


def _window_sums(x: NDArray[np.uint8], step: int, side: int) -> NDArray[np.uint8]:
    """xᵢ + xᵢ₊ₛ + … of `side` numbers, s = `step` apart: those of half as many added to themselves, and one for odd."""
    if side == 1:
        return x
    if side % 2:
        return _window_sums(x, step, side - 1)[:-step] + x[(side - 1) * step :]
    half = _window_sums(x, step, side // 2)
    return half[: -side // 2 * step] + half[side // 2 * step :]
