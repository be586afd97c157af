"""How strongly each part moves within a figure, once the movement of the whole is taken out (paper §3.2, S5.2).

A field can be found between any two pictures. What it says depends on whether the pictures agree where it leads.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from lis.matching.gray import gray_pair, texture
from lis.matching.matches import pixel_grid

AGREEMENT = 0.75
"""Least agreement of two pictures whose field is taken for a motion.

Measured on part world (experiments/fig4c): no pair that differs in pose or in parts has less, and almost every pair of
pictures of other things, or of a figure and colour noise, has.
"""
_WINDOW = 3.0
"""Standard deviation in pixels of the window in which pictures are correlated."""
_FLAT = 1.0
"""Variance in squared grey levels that counts as none."""


@dataclass(frozen=True)
class Local:
    """Of one field; K labels."""

    figure: Tensor
    """Mean length over all parts, pixels; over the whole picture where no parts are known. A number, or NaN."""
    strength: Tensor
    """Mean length over the pixels of each part, `[K]` float32 pixels; NaN for a part that is nowhere known."""
    drift: Tensor
    """Mean displacement of each part, `[K, 2]` float32 pixels, to the right and down."""


def local_motion(field: Tensor, mask: Tensor, labels: int) -> Local:
    """What a field does to the parts of its first picture.

    Args:
        field: displacement `[H, W, 2]` in pixels, NaN where it is not known.
        mask: parts of the first picture, `[h, w]` integers: 0 background, then the labels; enlarged to the field.
        labels: how many there are.

    Example:
        >>> field = torch.tensor([[[3.0, 4.0], [0.0, 0.0], [0.0, 1.0]]])
        >>> found = local_motion(field, torch.tensor([[1, 0, 2]]), 3)
        >>> found.figure.item(), found.strength.tolist(), found.drift[0].tolist()
        (3.0, [5.0, 1.0, nan], [3.0, 4.0])
    """
    at = enlarged(mask, (field.shape[0], field.shape[1]))
    known, length = ~field.isnan().any(2), field.norm(dim=2)
    figure = length[known & (at > 0 if labels else torch.ones_like(known))].mean()
    own = [known & (at == label) for label in range(1, labels + 1)]
    strength = [length[part].mean() for part in own]
    drift = [field[part].mean(0) for part in own]
    return Local(figure, torch.stack(strength), torch.stack(drift)) if labels else Local(figure, *_none())


def agreement(first: Tensor, last: Tensor, field: Tensor) -> float:
    """How alike two pictures are where a field leads, whatever their colours and contrast: from 0 to 1.

    The |correlation| of the first picture and the last one, brought back by the field, in a Gaussian window around
    every pixel; the mean over pixels, each weighted by its texture in the first picture.

    Args:
        first, last: `[3, H, W]` in [-1, 1].
        field: displacement from the first to the last, `[H, W, 2]` pixels; where it is NaN is left out.

    Returns:
        NaN where no textured pixel has a displacement.

    Example:
        >>> picture = torch.rand(3, 32, 32)
        >>> round(agreement(picture, -picture, torch.zeros(32, 32, 2)), 3)
        1.0
    """
    one, other = gray_pair(first, last)
    known = ~field.isnan().any(2).numpy()
    to = (pixel_grid(*known.shape) + field.nan_to_num()).float().numpy()
    back = cv2.remap(other, to[..., 0], to[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    weight = texture(one) * known
    if not weight.sum() > 0:
        return float("nan")
    return float((weight * _correlation(one, back, known)).sum() / weight.sum())


def _correlation(one: np.ndarray, other: np.ndarray, known: np.ndarray) -> np.ndarray:
    """|Correlation| of two pictures in a window around every pixel, over the pixels that are known: `[H, W]`."""
    there = known.astype(np.float64)

    def mean(x: np.ndarray) -> np.ndarray:
        return cv2.GaussianBlur(x * there, (0, 0), _WINDOW) / cv2.GaussianBlur(there, (0, 0), _WINDOW).clip(1e-6)

    one, other = one.astype(np.float64), other.astype(np.float64)
    first, second = one - mean(one), other - mean(other)
    spread = mean(first * first).clip(_FLAT) * mean(second * second).clip(_FLAT)
    return np.abs(mean(first * second)) / np.sqrt(spread)


def enlarged(mask: Tensor, size: tuple[int, int]) -> Tensor:
    """A mask `[h, w]` of integers at another size, each pixel from the nearest one."""
    return F.interpolate(mask[None, None].float(), size=size, mode="nearest")[0, 0].to(mask.dtype)


def _none() -> tuple[Tensor, Tensor]:
    return torch.empty(0), torch.empty(0, 2)
