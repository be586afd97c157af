"""The ellipse with the second moments of a set of pixels: how long it is, and where it points (paper §3.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

POWERS = ((0, 0), (1, 0), (0, 1), (2, 0), (1, 1), (0, 2))
"""Exponents of x and y in raw moments: the sums of xᵖ yᵠ over pixels."""


@dataclass(frozen=True)
class Ellipse:
    """Area, shape and direction; single pixels are points, so a straight row of them has an eccentricity of 1."""

    area: Tensor
    """`[...]` float64, pixels; 0 for an empty set."""
    eccentricity: Tensor
    """`[...]` float64 in [0, 1]: √(1 − λ₂/λ₁) of the covariance's eigenvalues; 0 for a single pixel."""
    direction: Tensor
    """`[..., 2]` float64: cos 2θ and sin 2θ of the major axis' angle θ; (0, 0) where λ₁ = λ₂."""

    @classmethod
    def of(cls, moments: Tensor) -> Self:
        """From raw moments `[..., 6]` in the order of `POWERS`, with x to the right and y down, in pixels."""
        area, x, y, xx, xy, yy = moments.double().unbind(-1)
        # Covariances times area²: whole numbers, so that round shapes are found exactly.
        width, height, shear = area * xx - x * x, area * yy - y * y, 2 * (area * xy - x * y)
        stretch = torch.hypot(width - height, shear)
        longest = (width + height + stretch) / 2
        direction = torch.stack([width - height, -shear], -1)
        eccentricity = _ratio(stretch, longest).clamp(max=1).sqrt()
        return cls(area, eccentricity, _ratio(direction, stretch[..., None]))


def label_moments(masks: Tensor, labels: int) -> Tensor:
    """Eccentricity and angle of the ellipse of all pixels of a label together.

    Args:
        masks: `[n, h, w]` integers: 0 background, 1 … labels.
        labels: number of labels, without background.

    Returns:
        `[n, labels, 2]` float32 on the masks' device: eccentricity in [0, 1], angle in degrees in (−90, 90] as in
        `to_angle`. NaN where a label is absent; the angle also where it has no orientation (λ₁ = λ₂).

    Example:
        >>> label_moments(torch.tensor([[[1, 0], [0, 1]]]), labels=1)
        tensor([[[  1., -45.]]])
    """
    x, y = (torch.arange(size, device=masks.device)[:, None] ** torch.arange(3) for size in masks.shape[:0:-1])
    rows = one_hot(masks, labels).float() @ x.float()
    sums = y.double().T @ rows.double()
    result = Ellipse.of(torch.stack([sums[..., q, p] for p, q in POWERS], -1))
    eccentricity = torch.where(result.area > 0, result.eccentricity, torch.nan)
    return torch.stack([eccentricity, to_angle(result.direction)], -1).float()


def one_hot(masks: Tensor, labels: int) -> Tensor:
    """Which pixels a label has: `[n, labels, h, w]` bool of `masks [n, h, w]`, without background."""
    return masks[:, None] == torch.arange(1, labels + 1, device=masks.device)[:, None, None]


def to_angle(direction: Tensor) -> Tensor:
    """Angle θ in degrees in (−90, 90] of (cos 2θ, sin 2θ) `[..., 2]`, whatever its length; NaN where that is 0.

    The angle lies between the horizontal and the axis, counter-clockwise positive as one sees the picture.
    """
    cos, sin = direction.unbind(-1)
    angle = half_circle(torch.rad2deg(torch.atan2(sin, cos)) / 2)
    return torch.where((cos == 0) & (sin == 0), torch.nan, angle)


def half_circle(degrees: Tensor) -> Tensor:
    """The same axis in (−90, 90] degrees.

    Example:
        >>> half_circle(torch.tensor([-90.0, 100.0, 170.0, -30.0]))
        tensor([ 90., -80., -10., -30.])
    """
    within = 90 - torch.remainder(90 - degrees, 180)
    return torch.where(within <= -90, 90, within)


def _ratio(a: Tensor, b: Tensor) -> Tensor:
    """a / b, and 0 where b is 0."""
    return torch.where(b > 0, a / b, 0)
