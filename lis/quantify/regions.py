"""Shape and direction per connected region: two ears are two ellipses, not one (paper §3.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from lis.quantify.ellipse import Ellipse, to_angle
from lis.quantify.runs import Runs

_CANCELLED = 1e-9
"""Directions with a shorter mean cancel each other out."""


@dataclass(frozen=True)
class Regions:
    """The 8-connected regions of all labels of a batch of masks."""

    owner: Tensor
    """`[regions]` int64: image · labels + label − 1."""
    moments: Tensor
    """`[regions, 6]` float64: raw moments in the order of `lis.quantify.ellipse.POWERS`."""

    @classmethod
    def of(cls, runs: Runs, labels: int) -> Self:
        """Regions of masks that hold 0 (background), 1 … labels."""
        count, region = connected_components(runs.touching(), directed=False)
        one = np.empty(count, np.int64)
        one[region] = np.arange(len(region))
        part = runs.label[one] > 0
        owner = runs.picture[one] * labels + runs.label[one] - 1
        return cls(torch.from_numpy(owner[part]), torch.from_numpy(runs.moments(region, count)[part]))


def region_moments(masks: Tensor, labels: int) -> Tensor:
    """Eccentricity and angle of a label's connected regions, weighted by their areas.

    An ellipse with the same second moments is laid through every 8-connected region. The eccentricity is
    Σ aᵢ eᵢ / Σ aᵢ over the regions' areas and eccentricities. The angle θ is that of Σ aᵢ (cos 2θᵢ, sin 2θᵢ), the mean
    on the doubled angle, since an axis at −89° and one at 90° are near each other. A region whose ellipse is a circle
    (a single pixel, a square) has an eccentricity of 0 and nothing to say about the angle.

    Args:
        masks: `[n, h, w]` integers: 0 background, 1 … labels.
        labels: number of labels, without background.

    Returns:
        `[n, labels, 2]` float32 on the masks' device: eccentricity in [0, 1], angle in degrees in (−90, 90] between
        the horizontal and the major axis, counter-clockwise positive as one sees the picture. NaN where a label is
        absent; the angle also where every region is round or the regions' directions cancel out.

    Example:
        >>> region_moments(torch.tensor([[[1, 1, 1, 0, 1]]]), labels=1)
        tensor([[[0.7500, 0.0000]]])
    """
    return shapes(Runs.of(masks), labels).to(masks.device)


def shapes(runs: Runs, labels: int) -> Tensor:
    """`region_moments` of masks that are there as runs: `[n, labels, 2]` float32."""
    regions = Regions.of(runs, labels)
    ellipse = Ellipse.of(regions.moments)
    shape = torch.cat([torch.ones_like(ellipse.area[:, None]), ellipse.eccentricity[:, None], ellipse.direction], 1)
    sums = shape.new_zeros(runs.shape[0] * labels, 4).index_add_(0, regions.owner, ellipse.area[:, None] * shape)
    mean = sums[:, 1:] / sums[:, :1]
    direction = torch.where(mean[:, 1:].norm(dim=1, keepdim=True) < _CANCELLED, 0, mean[:, 1:])
    return torch.stack([mean[:, 0], to_angle(direction)], 1).view(runs.shape[0], labels, 2).float()
