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
    level = (luma * LEVELS).long().clamp(0, LEVELS - 1)
    sums = _sums_by_opencv(level) if level.device.type == "cpu" else _sums(level)
    pixels = _pixels_in_window(*luma.shape[1:]).to(sums)
    return (pixels.log2() - sums / pixels).clamp(min=0)


def _sums(level: Tensor) -> Tensor:
    """Σ_b c_b log₂ c_b `[n, H, W]`, with c_b the count of level b in the window: for any device."""
    pictures = F.one_hot(level, LEVELS).permute(0, 3, 1, 2).float()
    counts = F.avg_pool2d(pictures, WINDOW, stride=1, padding=_HALF, divisor_override=1)
    return torch.xlogy(counts, counts).sum(1) / math.log(2)


def _sums_by_opencv(level: Tensor) -> Tensor:
    """The same several times faster on a processor: counts are bytes, their logarithms are looked up."""
    n, height, width = level.shape
    values, table = np.arange(LEVELS, dtype=np.uint8)[:, None, None], _table()
    sums = np.empty((n, height, width), np.float32)
    # One tall picture per image, a band per level; empty rows keep the bands apart.
    bands = np.zeros((LEVELS, height + _HALF, width), np.uint8)
    for picture, out in zip(level.to(torch.uint8).numpy(), sums, strict=True):
        np.equal(picture, values, out=bands[:, :height].view(bool))
        tall = bands.reshape(-1, width)
        counts = cv2.boxFilter(tall, -1, (WINDOW, WINDOW), normalize=False, borderType=cv2.BORDER_CONSTANT)
        cv2.LUT(counts, table).reshape(bands.shape)[:, :height].sum(0, out=out)
    return torch.from_numpy(sums)


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
