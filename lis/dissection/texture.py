"""Whether a unit responds to texture or to shape: the same image and its restyled twin (Bau et al. 2020)."""

from __future__ import annotations

import torch
from torch import Tensor

from lis.dissection.ablation import ablation_values


def paired_response_iou(original: Tensor, restyled: Tensor, q: float = 0.99) -> Tensor:
    """Set IoU of where a unit responds in images and in their restyled twins: I / (A + B − I), at native resolution.

    Each set has its own threshold, the quantile of the unit over all its images and positions; a response lies strictly
    above it. The published score holds thresholds of upsampled maps against native ones and takes both areas to be
    1 %: it is not computed here.

    Args:
        original: maps `[n, U, h, w]`.
        restyled: of the same images in the same order, `[n, U, h, w]`.
        q: the quantile, in [0, 1].

    Returns:
        `[U]` float64 in [0, 1]; NaN for a unit that responds in neither set.

    Raises:
        ValueError: the shapes differ.

    Example:
        >>> maps = torch.arange(8.0).reshape(2, 1, 2, 2)
        >>> paired_response_iou(maps, maps.flip(0), q=0.75).tolist()
        [0.0]
    """
    if original.shape != restyled.shape:
        raise ValueError(
            f"maps {tuple(original.shape)} and {tuple(restyled.shape)}: expected pairs of the same layer and images"
        )
    a, b = (maps > _threshold(maps, q) for maps in (original, restyled))
    intersection, union = ((x.transpose(0, 1).flatten(1).sum(1)).double() for x in (a & b, a | b))
    return torch.where(union > 0, intersection / union, torch.nan)


def _threshold(maps: Tensor, q: float) -> Tensor:
    return ablation_values(maps, "quantile", q)[:, None, None].to(maps)
