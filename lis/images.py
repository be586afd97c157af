"""Images between networks and files."""

from __future__ import annotations

import torch
from torch import Tensor


def to_uint8(image: Tensor) -> Tensor:
    """Images in [-1, 1] as 0…255 (uint8) on the CPU.

    Example:
        >>> to_uint8(torch.tensor([-1.0, 0.0, 1.0, 7.0])).tolist()
        [0, 128, 255, 255]
    """
    return ((image.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).cpu()
