"""Pairs of pictures as single channels of grey levels, which classical methods read, and enlarged."""

from __future__ import annotations

import cv2
import numpy as np
from torch import Tensor

from lis.types import Matches

LARGE = 128
"""Height in pixels from which pictures are large enough as they are."""
LEAST_CONTRAST = 2.0
"""Standard deviation in grey levels (of 255) below which a picture has no texture to be matched."""
_BLOCK = 5
"""Height and width of the window of a pixel's structure tensor."""
_STRONG = 0.1
"""Its smaller eigenvalue, as a share of the picture's largest, from which on all corners count equally."""


def gray_pair(image1: Tensor, image2: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Both pictures along the colour direction in which they vary most, so that equal brightness hides no edge.

    That is the first principal component of the pixels of both, without stretching the contrast. The levels are not
    rounded: two images of one style code differ in the last digits with the batch and the threads that made them, and
    a level that flips for that would move the flow by more than the digits.

    Args:
        image1, image2: `[3, H, W]` in [-1, 1].

    Returns:
        Two `[H, W]` float32 in [0, 255].
    """
    both = np.stack(
        [(image.permute(1, 2, 0).double().cpu().numpy().clip(-1, 1) + 1) * 127.5 for image in (image1, image2)]
    )
    centred = both - both.mean((0, 1, 2))
    _, vectors = np.linalg.eigh(np.einsum("nhwc,nhwd->cd", centred, centred))
    axis = vectors[:, -1] * np.where(vectors[:, -1].sum() < 0, -1, 1)
    # A unit direction can reach √3 times as far as a single channel.
    levels = (centred @ axis / np.sqrt(3) + 127.5).clip(0, 255).astype(np.float32)
    return levels[0], levels[1]


def untextured(picture: np.ndarray) -> bool:
    """Whether a picture `[H, W]` of grey levels has no texture to be matched."""
    return float(picture.std()) < LEAST_CONTRAST


def texture(picture: np.ndarray) -> np.ndarray:
    """How much every pixel says of where it goes (Shi and Tomasi 1994): `[H, W]` in [0, 1], 1 at corners."""
    corner = cv2.cornerMinEigenVal(picture, _BLOCK)
    return np.minimum(corner / max(_STRONG * float(corner.max()), 1e-12), 1)


def usual_enlargement(side: int) -> int:
    """Factor by which matchers enlarge pictures of `side` pixels unless told otherwise: 2 below `LARGE`, then 1."""
    return 2 if side < LARGE else 1


def reduced(matches: Matches, factor: int) -> Matches:
    """Matches of enlarged pictures in pixels of the pictures as they came."""
    xy1, xy2 = ((xy + 0.5) / factor - 0.5 for xy in (matches.xy1, matches.xy2))
    return Matches(xy1, xy2, matches.score)


def enlarged(picture: np.ndarray, factor: int) -> np.ndarray:
    """A picture `[H, W]` of `factor` times the height and width."""
    if factor == 1:
        return picture
    return cv2.resize(picture, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
