"""Masks to measure: random ones, drawn ones, and what scikit-image says about them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from skimage.measure import label, regionprops
from torch import Tensor

DRAWINGS = (
    """
    ..1..........2..
    .111........22..
    .1111......22...
    ..1111....22..3.
    ...111...22...3.
    3...11..22....3.
    .3...1.22...3...
    ..3....2...333..
    """,
    """
    1111....22......
    1..1....22...3..
    1..1........333.
    1111...1.....3..
    ......1.........
    22...1...2......
    22..1.....2.....
    ...1.......2...3
    """,
    """
    1...............
    ................
    ...2222222222...
    ................
    33333333........
    33333333........
    .......33333333.
    .......33333333.
    """,
)
"""Ears, a stripe, a broken one; a ring, squares, a plus, diagonals; a pixel, a row, a step. Three labels."""


def drawn() -> Tensor:
    """The drawings as masks `[3, 8, 16]`."""
    rows = [[line.strip() for line in drawing.split()] for drawing in DRAWINGS]
    return torch.tensor([[[int(c) if c != "." else 0 for c in row] for row in picture] for picture in rows])


def scattered(n: int = 6, size: tuple[int, int] = (11, 17), labels: int = 3, seed: int = 0) -> Tensor:
    """Every pixel drawn alone: many small regions; the last label is never there."""
    return torch.randint(0, labels, (n, *size), generator=torch.Generator().manual_seed(seed))


def blobs(n: int = 6, size: int = 32, labels: int = 3, seed: int = 0, smooth: float = 2.5) -> Tensor:
    """Smooth regions, as a segmenter finds them."""
    rng = np.random.default_rng(seed)
    fields = rng.standard_normal((n, labels + 1, size, size))
    smoothed = np.stack([[gaussian_filter(field, smooth) for field in picture] for picture in fields])
    return torch.from_numpy(smoothed.argmax(1))


def ellipse_of(mask: np.ndarray) -> tuple[float, float, float]:
    """Area, eccentricity and angle of all pixels of a mask (bool), by `regionprops` in our convention.

    Its orientation is measured from the rows' axis, ours from the horizontal.
    """
    (region,) = regionprops(mask.astype(int))
    degrees = np.rad2deg(region.orientation) - 90
    return region.area, region.eccentricity, degrees + 180 if degrees <= -90 else degrees


def split(mask: np.ndarray) -> list[np.ndarray]:
    """One mask for each 8-connected region, by scikit-image."""
    found: Any = label(mask, connectivity=2)
    return [found == k for k in range(1, found.max() + 1)]


def regions_of(mask: np.ndarray) -> list[tuple[float, float, float]]:
    """Area, eccentricity and angle of every region."""
    return [ellipse_of(region) for region in split(mask)]


def apart(a: float, b: float) -> float:
    """Degrees between two axes, 0 to 90."""
    return abs((a - b + 90) % 180 - 90)
