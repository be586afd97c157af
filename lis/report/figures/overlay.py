"""Masks drawn over images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.colors import to_rgb
from PIL import Image

from lis.report.figures.marks import enlarged


def overlay(image: np.ndarray, mask: np.ndarray, colours: Sequence[str], fill: float = 0.0) -> np.ndarray:
    """An image, enlarged, with the outlines of its parts.

    Args:
        image: `[h, w, 3]` uint8.
        mask: `[h', w']` integers, 0 background; its outlines are smoothed.
        colours: of the values from 1.
        fill: how strongly the parts are tinted, from 0 to 1.

    Returns:
        `[H, W, 3]` uint8, at least 192 pixels high.
    """
    large = enlarged(image).astype(np.float64)
    smooth = _smoothed(mask, large.shape[0], large.shape[1])
    ink = 255 * np.array([(0, 0, 0), *map(to_rgb, colours)])[smooth]
    line = _outline(smooth, max(2, round(len(large) / 96)))
    share = np.where(line, 1.0, fill * (smooth > 0))[..., None]
    return ((1 - share) * large + share * ink).round().astype(np.uint8)


def _smoothed(mask: np.ndarray, height: int, width: int) -> np.ndarray:
    """The mask at another size: every pixel gets the value whose share there is largest."""
    values = np.unique(mask)
    pictures = [Image.fromarray(np.where(mask == value, 255, 0).astype(np.uint8)) for value in values]
    shares = [np.asarray(picture.resize((width, height), Image.Resampling.BICUBIC)) for picture in pictures]
    return values[np.argmax(shares, axis=0)]


def _outline(mask: np.ndarray, width: int) -> np.ndarray:
    """Pixels `[h, w]` bool of a part that have another value within `width` pixels to a side, above or below."""
    edge = np.zeros(mask.shape, dtype=bool)
    for axis in (0, 1):
        for step in range(1, width + 1):
            own, other = (np.take(mask, range(a, mask.shape[axis] + b), axis) for a, b in ((step, 0), (0, -step)))
            differ = own != other
            pads = [(0, 0), (0, 0)]
            for pad in ((step, 0), (0, step)):
                pads[axis] = pad
                edge |= np.pad(differ, pads)
    return edge & (mask > 0)
