"""Images between networks and files."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

LARGEST = 256
"""Height and width from which images are kept smaller: a page shows them at a third of that."""


def to_uint8(image: Tensor) -> Tensor:
    """Images in [-1, 1] as 0…255 (uint8) on the CPU.

    Example:
        >>> to_uint8(torch.tensor([-1.0, 0.0, 1.0, 7.0])).tolist()
        [0, 128, 255, 255]
    """
    return ((image.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).cpu()


def smaller(image: Tensor) -> Tensor:
    """Images `[n, 3, H, W]` averaged down to at most `LARGEST` pixels, by a whole factor."""
    factor = -(-image.shape[2] // LARGEST)
    return F.avg_pool2d(image, factor) if factor > 1 else image


def page_image(image: Tensor) -> Tensor:
    """Images in [-1, 1] as a page shows them: uint8 on the CPU, at most `LARGEST` pixels high."""
    return to_uint8(smaller(image))
