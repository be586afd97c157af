"""Local entropy: how rough an image is around each pixel (paper §3.2: "entropy (smoothness)")."""

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
WINDOW = 9
"""Height and width of the window in pixels."""
_HALF = WINDOW // 2


def local_entropy(luma: Tensor) -> Tensor:
    """Entropy in bits of the grey levels in the window around each pixel.

    H = −Σ_b p_b log₂ p_b, with p_b the share of level b of `LEVELS` equal steps in the `WINDOW` × `WINDOW` pixels
    around, of which only those inside the image count.

    Args:
        luma: `[n, H, W]` in [0, 1].

    Returns:
        `[n, H, W]` float32 in [0, log₂ LEVELS].

    Example:
        >>> local_entropy(torch.tensor([[[0.1, 0.1, 0.9, 0.9]]]))
        tensor([[[1., 1., 1., 1.]]])
    """
    level = (luma * LEVELS).clamp(0, LEVELS - 1).to(torch.uint8)
    sums = _sums_on_processor(level) if level.device.type == "cpu" else _sums(level)
    pixels = _pixels_in_window(*luma.shape[1:]).to(sums)
    return (pixels.log2() - sums / pixels).clamp(min=0)


def _sums(level: Tensor) -> Tensor:
    """Σ_b c_b log₂ c_b `[n, H, W]`, with c_b the count of level b in the window: for any device."""
    pictures = F.one_hot(level.long(), LEVELS).permute(0, 3, 1, 2).float()
    counts = F.avg_pool2d(pictures, WINDOW, stride=1, padding=_HALF, divisor_override=1)
    return torch.xlogy(counts, counts).sum(1) / math.log(2)


def _sums_on_processor(level: Tensor) -> Tensor:
    """The same several times faster on a processor: counts are bytes, their logarithms are looked up.

    An image lies in memory as a picture per level (1 where a pixel has it), with `_HALF` empty pixels behind each row
    and as many empty rows behind each picture: enough that no window reaches into the next one.
    """
    n, height, width = level.shape
    size, row = (height + _HALF, width + _HALF), width + _HALF
    padded = np.full((n, *size), LEVELS, np.uint8)
    padded[:, :height, :width] = level.numpy()
    pixels, reach = size[0] * size[1], _HALF * (row + 1)
    values, table = np.arange(LEVELS, dtype=np.uint8)[:, None], _table()
    pictures = np.zeros(reach + LEVELS * pixels + reach, np.uint8)
    of_level = pictures[reach:-reach].reshape(LEVELS, pixels)
    sums = np.empty((n, *size), np.float32)
    for picture, out in zip(padded.reshape(n, -1), sums.reshape(n, -1), strict=True):
        np.equal(picture, values, out=of_level.view(bool))
        counts = _window_sums(_window_sums(pictures, 1), row)
        cv2.LUT(counts.reshape(LEVELS, pixels), table).sum(0, out=out)
    return torch.from_numpy(np.ascontiguousarray(sums[:, :height, :width]))


def _window_sums(x: NDArray[np.uint8], step: int) -> NDArray[np.uint8]:
    """xᵢ + xᵢ₊ₛ + … of `WINDOW` = 9 = 2·2·2 + 1 numbers, s = `step` apart: four additions instead of eight."""
    two = x[:-step] + x[step:]
    four = two[: -2 * step] + two[2 * step :]
    eight = four[: -4 * step] + four[4 * step :]
    return eight[:-step] + x[8 * step :]


def _table() -> NDArray[np.float32]:
    """c log₂ c of every byte."""
    counts = np.arange(256)
    return (counts * np.log2(np.maximum(counts, 1))).astype(np.float32)


def _pixels_in_window(height: int, width: int) -> Tensor:
    """How many pixels of the window lie inside the image, `[H, W]`."""
    rows, columns = (_in_reach(size) for size in (height, width))
    return rows[:, None] * columns


def _in_reach(size: int) -> Tensor:
    place = torch.arange(size)
    return (place + _HALF).clamp(max=size - 1) - (place - _HALF).clamp(min=0) + 1
