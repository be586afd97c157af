"""The images that activate a unit most, darkened where it is not active (Bau et al. 2020).

Functions of the published code, tested against its results: `top_activating`, `conditional_top_activating` (which no
stage uses), `top_mask` with `masked_pictures`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional as F

from lis.dissection.upsampling import EVEN, Upsampling
from lis.images import to_uint8

TOP = 5
"""Images of a unit."""
DARKENED = 0.5
"""Brightness outside the mask, as a share; rounded down."""
_YELLOW = (255, 255, 0)


def top_activating(peaks: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The images with the highest peaks of each unit, the highest first; of equal peaks the earlier image.

    Args:
        peaks: largest activation of each image in the resolution of the map, `maps.amax((2, 3))`, `[n, units]`.
        k: how many.

    Returns:
        Peaks `[units, k]` and indices of images `[units, k]` int64.

    Raises:
        ValueError: there are fewer images.

    Example:
        >>> top_activating(torch.tensor([[1.0], [3.0], [3.0]]), 2)
        (tensor([[3., 3.]]), tensor([[1, 2]]))
    """
    if not 1 <= k <= len(peaks):
        raise ValueError(f"k={k} of {len(peaks)} images: expected 1 to {len(peaks)}")
    values, index = peaks.T.sort(dim=1, descending=True, stable=True)
    return values[:, :k], index[:, :k]


def conditional_top_activating(peaks: Tensor, class_index: Tensor, k: int) -> dict[int, tuple[Tensor, Tensor]]:
    """`top_activating` among the images of each class alone: what a unit answers to within a class.

    The published code takes all images of a class, whatever k is.

    Args:
        peaks: as of `top_activating`, `[n, units]`.
        class_index: of each image, `[n]` int64.
        k: how many; of a class with fewer images, all.

    Returns:
        Of each class with an image, in ascending order: peaks `[units, k]`, and indices of images `[units, k]` int64
        into all of them.

    Raises:
        ValueError: k is not positive.

    Example:
        >>> conditional_top_activating(torch.tensor([[1.0], [3.0], [2.0]]), torch.tensor([0, 1, 0]), 1)
        {0: (tensor([[2.]]), tensor([[2]])), 1: (tensor([[3.]]), tensor([[1]]))}
    """
    result = {}
    for index in class_index.unique().tolist():
        rows = (class_index == index).nonzero()[:, 0]
        values, order = top_activating(peaks[rows], min(k, len(rows)))
        result[index] = values, rows[order]
    return result


def thumbnails(image: Tensor, size: int) -> Tensor:
    """Images `[n, 3, H, H]` in [-1, 1] of at most `size` pixels a side, uint8, on the CPU."""
    return to_uint8(F.adaptive_avg_pool2d(image, min(size, image.shape[-1]))).cpu()


@dataclass(frozen=True)
class TopImages:
    """The images with the highest peaks of each unit, of any number of images, in memory that does not grow with them.

    Equal peaks stand in the order of the images, as in `top_activating`, where these are added in ascending order.
    """

    peak: Tensor
    """`[units, k]`, descending."""
    row: Tensor
    """Indices of the images, `[units, k]` int64."""
    maps: Tensor
    """Map of the unit in each of its images, `[units, k, h, w]`."""

    @classmethod
    def of(cls, maps: Tensor, rows: Tensor, k: int) -> Self:
        """The top k, or all where there are fewer, of `maps [n, units, h, w]` of the images `rows [n]`."""
        peak, index = top_activating(maps.amax((2, 3)), min(k, len(maps)))
        return cls(peak, rows[index], maps[index, torch.arange(maps.shape[1])[:, None]])

    @classmethod
    def of_tensors(cls, tensors: Mapping[str, Tensor]) -> Self:
        """What was stored under the names of the fields."""
        return cls(**tensors)

    def merged(self, later: TopImages, k: int) -> TopImages:
        """The top k of both; those of `later` are behind at equal peaks."""
        joined = {name: torch.cat([value, vars(later)[name]], 1) for name, value in vars(self).items()}
        order = joined["peak"].sort(dim=1, descending=True, stable=True).indices[:, :k]
        units = torch.arange(len(order))[:, None]
        return TopImages(**{name: value[units, order] for name, value in joined.items()})


def top_mask(maps: Tensor, thresholds: Tensor, size: int | tuple[int, int], upsampling: Upsampling = EVEN) -> Tensor:
    """Where a unit is active in its images.

    Args:
        maps: of the top images of each unit, only its own map, `[units, k, h, w]`.
        thresholds: `[units]`.
        size: of the pictures.
        upsampling: of the maps to the size of the pictures.

    Returns:
        `[units, k, H, W]` bool.
    """
    return upsampling(maps, size) > thresholds[:, None, None, None]


def mask_border(mask: Tensor) -> Tensor:
    """The pixels outside masks `[…, H, W]` bool that touch them, by a side or a corner: bool, one pixel wide."""
    flat = mask.reshape(-1, 1, *mask.shape[-2:]).float()
    return (F.max_pool2d(flat, 3, stride=1, padding=1) > 0).reshape(mask.shape) & ~mask


def masked_pictures(image: Tensor, mask: Tensor, colour: tuple[int, int, int] = _YELLOW) -> Tensor:
    """Pictures that are darkened outside a mask, which has a border of one pixel.

    Args:
        image: `[…, 3, H, W]` uint8.
        mask: `[…, H, W]` bool.
        colour: of the border, RGB of 0 to 255.

    Returns:
        `[…, 3, H, W]` uint8.
    """
    bright = mask.unsqueeze(-3)
    result = image.where(bright, (image * DARKENED).to(torch.uint8))
    paint = torch.tensor(colour, dtype=torch.uint8, device=image.device)[:, None, None]
    return paint.where(mask_border(mask).unsqueeze(-3), result)
