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

from lis.matching.affine import apply
from lis.matching.align import Alignment
from lis.matching.gray import gray_pair, texture
from lis.types import pixel_grid

AGREEMENT = 0.75
"""Least agreement of two pictures whose field is taken for a motion.

Measured on part world (experiments/fig4c): no pair of images of a figure in other poses or with other parts has less,
one in 40 in other colours has; of pairs with nothing in common all or almost all have.
"""
_WINDOW = 3.0
"""Standard deviation in pixels of the window in which pictures are compared."""
_FLAT = 1.0
"""Variance of a colour in squared grey levels that counts as none."""


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
        >>> result = local_motion(field, torch.tensor([[1, 0, 2]]), 3)
        >>> result.figure.item(), result.strength.tolist(), result.drift[0].tolist()
        (3.0, [5.0, 1.0, nan], [3.0, 4.0])
    """
    at = enlarged(mask, (field.shape[0], field.shape[1]))
    known, length = ~field.isnan().any(2), field.norm(dim=2)
    if not labels:
        return Local(length[known].mean(), torch.empty(0), torch.empty(0, 2))
    parts = [known & (at == label) for label in range(1, labels + 1)]
    strength, drift = [length[part].mean() for part in parts], [field[part].mean(0) for part in parts]
    return Local(length[known & (at > 0)].mean(), torch.stack(strength), torch.stack(drift))


def whole_field(result: Alignment) -> Tensor:
    """Displacement `[H, W, 2]` from the first image to the last: what is local, then what is not."""
    at = pixel_grid(*result.valid.shape[1:])
    return apply(result.total[-1], at + result.local[-1]) - at


def agreement(first: Tensor, last: Tensor, field: Tensor) -> float:
    """How alike two pictures are where a field leads, whatever their colours: from 0 to 1.

    R = √(Σ explained / Σ variance) of the first picture's colours by a linear function of the last one's, brought back
    by the field, in a Gaussian window around every pixel (a multiple correlation); the mean over pixels, each weighted
    by its texture in the first picture.

    Args:
        first, last: `[3, H, W]` in [-1, 1].
        field: displacement from the first to the last, `[H, W, 2]` pixels; where it is NaN is left out.

    Returns:
        NaN where no textured pixel has a displacement.

    Example:
        >>> picture = torch.rand(3, 32, 32)
        >>> round(agreement(picture, -picture.flip(0), torch.zeros(32, 32, 2)), 2)
        1.0
    """
    known = ~field.isnan().any(2).numpy()
    to = (pixel_grid(*known.shape) + field.nan_to_num()).float().numpy()
    back = cv2.remap(_levels(last), to[..., 0], to[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    weight = texture(gray_pair(first, last)[0]) * known
    if not weight.sum() > 0:
        return float("nan")
    return float((weight * _correlation(_levels(first), back, known)).sum() / weight.sum())


def _levels(image: Tensor) -> np.ndarray:
    """`[H, W, 3]` float64 in [0, 255]."""
    return np.ascontiguousarray((image.permute(1, 2, 0).double().cpu().numpy().clip(-1, 1) + 1) * 127.5)


def _correlation(one: np.ndarray, other: np.ndarray, known: np.ndarray) -> np.ndarray:
    """R of every pixel's window, over the pixels that are known: `[H, W]`."""
    there = known.astype(np.float64)
    share = cv2.GaussianBlur(there, (0, 0), _WINDOW).clip(1e-6)

    def mean(x: np.ndarray) -> np.ndarray:
        values = cv2.GaussianBlur(x * there[..., None], (0, 0), _WINDOW).reshape(x.shape)
        return values / share[..., None]

    def covariance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.stack([mean(a[..., c, None] * b) for c in range(a.shape[2])], -2)

    first, second = one - mean(one), other - mean(other)
    shared, flat = covariance(first, second), _FLAT * np.eye(3)
    slopes = np.linalg.solve(covariance(second, second) + flat, np.swapaxes(shared, -1, -2))
    explained = np.einsum("hwij,hwji->hw", shared, slopes)
    return np.sqrt(explained / np.trace(covariance(first, first) + flat, axis1=-2, axis2=-1))


def enlarged(mask: Tensor, size: tuple[int, int]) -> Tensor:
    """A mask `[h, w]` of integers at another size, each pixel from the nearest one."""
    return F.interpolate(mask[None, None].float(), size=size, mode="nearest")[0, 0].to(mask.dtype)
