"""Outlines, and painted areas, as masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lis.labels.files import number

MOST_POINTS, MOST_SHAPES = 10_000, 1_000
"""Of one outline, and of one image."""
MARGIN = 0.1
"""How far, as a share of the image's side, a point may lie outside; more, and the outline is of another picture."""
_UNIT = (-0.5, 1.5)
"""Where outlines lie that were saved as shares of the image's sides, circles at its border included."""


@dataclass(frozen=True)
class Shape:
    """A part of an image: everything inside one or several outlines, or painted."""

    value: int
    """What its pixels become."""
    outlines: tuple[np.ndarray, ...] = ()
    """Each `[points, 2]` float64: x to the right and y down, in pixels, (0, 0) the image's upper left corner."""
    painted: np.ndarray | None = None
    """`[size, size]` bool: pixels that no outline encloses."""

    @property
    def area(self) -> float:
        """Area of the outlines, and of what is painted, in pixels."""
        painted = 0 if self.painted is None else int(np.count_nonzero(self.painted))
        return sum(area(outline) for outline in self.outlines) + painted


def draw(shapes: Sequence[Shape], size: int) -> np.ndarray:
    """Mask `[size, size]` uint8, 0 where no shape is.

    Larger shapes are drawn first, whatever their order in the file, so that an eye lies on the head; of two of the same
    area the later one lies above.
    """
    mask = np.zeros((size, size), np.uint8)
    for shape in sorted(shapes, key=lambda shape: -shape.area):
        for outline in shape.outlines:
            mask[inside(outline, size)] = shape.value
        if shape.painted is not None:
            mask[shape.painted] = shape.value
    return mask


def check_pixels(shapes: Sequence[Shape], size: int, where: str) -> None:
    """Refuse outlines in shares of the image's sides: as pixels all of them would lie in its upper left corner.

    Args:
        shapes: all of an image.
        size: height and width of the image in pixels.
        where: what is said before the problem.

    Raises:
        ValueError: every point of every outline lies between 0 and 1 (or just beside).
    """
    outlines = [outline for shape in shapes for outline in shape.outlines]
    if outlines and all(_UNIT[0] <= outline.min() and outline.max() <= _UNIT[1] for outline in outlines):
        x, y = outlines[0][0]
        raise ValueError(
            f"{where}: every outline lies within 0…1, the first begins at ({x:g}, {y:g}): expected pixels, 0 to "
            f"{size}; multiply x and y by {size}, or export in pixels"
        )


def inside(outline: np.ndarray, size: int) -> np.ndarray:
    """Pixels `[size, size]` bool whose centre lies inside an outline `[points, 2]`, by the even–odd rule.

    Every edge is cut by the centre lines of the rows that it spans; a pixel is inside when an odd number of cuts lies
    to its left.

    Example:
        >>> inside(np.array([[0.0, 0.0], [2.0, 0.0], [2.0, 1.0], [0.0, 1.0]]), 3).astype(int).tolist()
        [[1, 1, 0], [0, 0, 0], [0, 0, 0]]
    """
    cuts = np.zeros((size, size + 1), np.int64)
    rows = np.arange(size) + 0.5
    for (x1, y1), (x2, y2) in zip(outline, np.roll(outline, -1, axis=0), strict=True):
        spanned = np.flatnonzero((y1 > rows) != (y2 > rows))
        x = x1 + (rows[spanned] - y1) * (x2 - x1) / (y2 - y1) if len(spanned) else np.empty(0)
        cuts[spanned, np.clip(np.ceil(x - 0.5), 0, size).astype(int)] += 1
    return cuts[:, :size].cumsum(1) % 2 == 1


def area(outline: np.ndarray) -> float:
    """Area of an outline `[points, 2]` (Gauss's formula)."""
    x, y = outline.T
    return float(abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2)


def outline_of(points: Any, size: int, where: str) -> np.ndarray:
    """Points from a file, `[points, 2]` float64.

    Args:
        points: what should be a list of pairs x, y.
        size: height and width of the image in pixels.
        where: what is said before a problem.

    Raises:
        ValueError: they are no points, too few, too many, or far outside the image.
    """
    if not isinstance(points, list) or not 3 <= len(points) <= MOST_POINTS:
        found = f"{len(points)} points" if isinstance(points, list) else type(points).__name__
        raise ValueError(f"{where} has {found}: expected a list of 3 to {MOST_POINTS:,} points")
    outline = np.array([_point(point, f"{where}: point {place}") for place, point in enumerate(points)])
    far = (outline < -MARGIN * size) | (outline > (1 + MARGIN) * size)
    if far.any():
        x, y = outline[far.any(1)][0]
        raise ValueError(
            f"{where}: point ({x:g}, {y:g}) lies outside the image of {size} × {size} pixels: expected outlines of the "
            "exported image, not of one that was resized"
        )
    return outline


def _point(point: Any, where: str) -> list[float]:
    if not isinstance(point, list) or len(point) != 2:
        raise ValueError(f"{where} is not a pair of numbers")
    return [number(value, where) for value in point]
