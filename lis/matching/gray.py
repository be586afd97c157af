"""Pairs of pictures as single channels of 8 bits: what classical methods read."""

from __future__ import annotations

import cv2
import numpy as np
from torch import Tensor

from lis.images import to_uint8

LEAST_CONTRAST = 2.0
"""Standard deviation in grey levels (of 255) below which a picture has no texture to be matched."""


def gray_pair(image1: Tensor, image2: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Both pictures along the colour direction in which they vary most, so that equal brightness hides no edge.

    That is the first principal component of the pixels of both, without stretching the contrast.

    Args:
        image1, image2: `[3, H, W]` in [-1, 1].

    Returns:
        Two `[H, W]` uint8.
    """
    both = np.stack([to_uint8(image).permute(1, 2, 0).numpy() for image in (image1, image2)]).astype(np.float64)
    centred = both - both.mean((0, 1, 2))
    _, vectors = np.linalg.eigh(np.einsum("nhwc,nhwd->cd", centred, centred))
    axis = vectors[:, -1] * np.where(vectors[:, -1].sum() < 0, -1, 1)
    # A unit direction can reach √3 times as far as a single channel.
    levels = (centred @ axis / np.sqrt(3) + 127.5).clip(0, 255).round().astype(np.uint8)
    return levels[0], levels[1]


def untextured(picture: np.ndarray) -> bool:
    """Whether a picture `[H, W]` uint8 has no texture to be matched."""
    return float(picture.std()) < LEAST_CONTRAST


def enlarged(picture: np.ndarray, factor: int) -> np.ndarray:
    """A picture `[H, W]` uint8 of `factor` times the height and width."""
    if factor == 1:
        return picture
    return cv2.resize(picture, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
