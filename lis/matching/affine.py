"""Affine maps between two pictures: estimated from matches, applied, and taken apart.

A matrix M `[2, 3]` maps points of image 1 to image 2: p lies at M[:, :2] p + M[:, 2], in pixels, x right and y down.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import cv2
import numpy as np
import torch
from torch import Tensor

from lis.types import Matches

LEAST_INLIERS = 6
"""Fewer matches that agree say nothing: three define a map, chance brings along one or two."""
_TRIALS = 2000
_CONFIDENCE = 0.999
_POLISH, _SETTLED = 100, 1e-10
"""Reweighted fits at most, and the change of the map's entries below which it stands."""


@dataclass(frozen=True)
class AffineFit:
    """The affine map that most matches agree on."""

    matrix: Tensor
    """`[2, 3]` float64; NaN where there is none."""
    inliers: Tensor
    """Matches that agree, `[n]` bool."""
    reason: str = ""
    """Why there is none; empty where there is one."""

    @classmethod
    def failed(cls, matches: int, reason: str) -> Self:
        """No map, and why."""
        return cls(torch.full((2, 3), torch.nan, dtype=torch.float64), torch.zeros(matches, dtype=torch.bool), reason)


@dataclass(frozen=True)
class Motion:
    """What an affine map does to a picture; each field `[...]` float64, NaN where there is no map."""

    dx: Tensor
    """Displacement of the picture's centre to the right, pixels."""
    dy: Tensor
    """Downwards, pixels."""
    rotation: Tensor
    """Degrees in (−180, 180], counter-clockwise as seen."""
    scale: Tensor
    """Factor of lengths: √det; 1 keeps them."""
    shear: Tensor
    """≥ 0: the shift per unit height of a simple shear that changes shapes as much; 0 keeps shapes."""


def identity() -> Tensor:
    """The map that moves nothing, `[2, 3]` float64."""
    return torch.eye(2, 3, dtype=torch.float64)


def estimate(matches: Matches, threshold: float = 1.5) -> AffineFit:
    """The affine map that most matches agree on; always the same for the same, and nearly the same for nearly the same.

    RANSAC tells where it lies. From there on it is the weighted least-squares map in which a match counts by its score
    and the less the more the map leaves of it, nothing from twice `threshold` on (Tukey's biweight): a match that
    RANSAC takes or leaves by rounding does not move it.

    Args:
        matches: at least `LEAST_INLIERS`; their scores, ≥ 0, are weights.
        threshold: a match agrees when the map leaves at most so many pixels.

    Returns:
        The map, or NaN and the reason: too few matches, too few that agree, or a map that turns the picture over.

    Example:
        >>> xy = torch.tensor([[0.0, 0], [9, 0], [0, 9], [9, 9], [4, 5], [7, 2]])
        >>> estimate(Matches(xy, xy + torch.tensor([2.0, -1]), torch.ones(6))).matrix[:, 2].round().tolist()
        [2.0, -1.0]
    """
    count = len(matches)
    if count < LEAST_INLIERS:
        return AffineFit.failed(count, f"{count} matches: at least {LEAST_INLIERS} are needed for an affine map")
    source, target = (xy.double().cpu().numpy() for xy in (matches.xy1, matches.xy2))
    result, agree = cv2.estimateAffine2D(
        source, target, method=cv2.RANSAC, ransacReprojThreshold=threshold, maxIters=_TRIALS, confidence=_CONFIDENCE
    )
    inliers = torch.zeros(count, dtype=torch.bool) if agree is None else torch.from_numpy(agree[:, 0] > 0)
    if result is None or not np.isfinite(result).all() or int(inliers.sum()) < LEAST_INLIERS:
        return AffineFit.failed(count, f"no affine map: {int(inliers.sum())} of {count} matches agree")
    result = _settled(result, source, target, matches.score.double().cpu().numpy(), threshold)
    if np.linalg.det(result[:, :2]) <= 0:
        return AffineFit.failed(count, "no affine map: the matches turn the picture over")
    return AffineFit(torch.from_numpy(result), inliers)


def _settled(
    matrix: np.ndarray, source: np.ndarray, target: np.ndarray, score: np.ndarray, threshold: float
) -> np.ndarray:
    """The weighted least-squares map `[2, 3]` near a first one; that one where the matches do not define another."""
    design, result = np.concatenate([source, np.ones_like(source[:, :1])], 1), matrix
    for _ in range(_POLISH):
        away = np.linalg.norm(design @ result.T - target, axis=1) / (2 * threshold)
        weight = np.sqrt(score) * (1 - away.clip(max=1) ** 2)  # the root of the biweight
        solution, _, rank, _ = np.linalg.lstsq(weight[:, None] * design, weight[:, None] * target)
        if rank < 3:
            return matrix
        result, before = solution.T, result
        if np.abs(result - before).max() < _SETTLED:
            break
    return result


def apply(matrix: Tensor, xy: Tensor) -> Tensor:
    """Where points `xy [..., 2]` lie after the map `[2, 3]`; in the points' dtype."""
    matrix = matrix.to(xy)
    return xy @ matrix[:, :2].T + matrix[:, 2]


def compose(outer: Tensor, inner: Tensor) -> Tensor:
    """First `inner [..., 2, 3]`, then `outer [..., 2, 3]`, as one map."""
    return outer[..., :2] @ inner + torch.cat([torch.zeros_like(outer[..., :2]), outer[..., 2:]], -1)


def invert(matrix: Tensor) -> Tensor:
    """The way back, `[..., 2, 3]`."""
    inverse = torch.linalg.inv(matrix[..., :2])
    return torch.cat([inverse, -inverse @ matrix[..., 2:]], -1)


def about_centre(linear: Tensor, shift: Tensor, size: tuple[int, int]) -> Tensor:
    """The map `[2, 3]` that applies `linear [2, 2]` about the picture's centre and then moves by `shift [2]`."""
    centre = _centre(size).to(linear)
    return torch.cat([linear, (centre + shift - linear @ centre)[:, None]], 1)


def decompose(matrix: Tensor, size: tuple[int, int]) -> Motion:
    """Translation, rotation, scale and shear of affine maps.

    The linear part L = [[a, b], [c, d]] is R·S with R the nearest rotation and S symmetric (polar decomposition). The
    angle of R is atan2(c − b, a + d), its sign turned because y points down. With σ₁ ≥ σ₂ the singular values of L,
    scale = √(σ₁σ₂) and shear = (σ₁ − σ₂) / scale.

    Args:
        matrix: `[..., 2, 3]`; NaN gives NaN.
        size: height and width of the picture, whose centre the translation is that of.

    Example:
        >>> motion = decompose(torch.tensor([[1.0, 0.0, 3.0], [0.0, 1.0, -2.0]]), (5, 5))
        >>> [float(value) for value in (motion.dx, motion.dy, motion.rotation, motion.scale, motion.shear)]
        [3.0, -2.0, 0.0, 1.0, 0.0]
    """
    matrix = matrix.double()
    centre = _centre(size).to(matrix)
    dx, dy = ((matrix[..., :2] @ centre) + matrix[..., 2] - centre).unbind(-1)
    (a, b), (c, d) = (row.unbind(-1) for row in matrix[..., :2].unbind(-2))
    rotation = -torch.rad2deg(torch.atan2(c - b, a + d)) + 0.0  # no −0
    # (σ₁ + σ₂)² and (σ₁ − σ₂)² of a map that does not turn the picture over.
    together, apart = torch.hypot(a + d, c - b), torch.hypot(a - d, b + c)
    scale = ((together**2 - apart**2) / 4).clamp(min=0).sqrt()
    return Motion(dx, dy, rotation, scale, apart / scale)


def _centre(size: tuple[int, int]) -> Tensor:
    height, width = size
    return torch.tensor([(width - 1) / 2, (height - 1) / 2], dtype=torch.float64)
