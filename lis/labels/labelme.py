"""What the program labelme saves beside an image: outlines with the names of their labels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lis.labels.files import entry, last_name, nearest, read_json
from lis.labels.manifest import Manifest, Sample
from lis.labels.polygons import MOST_SHAPES, Shape, draw, outline_of

_CORNERS = 64
"""Of what a circle becomes."""


def read_labelme(path: Path, manifest: Manifest, sample: Sample) -> np.ndarray:
    """Mask `[size, size]` uint8 of the polygons, rectangles and circles of a file.

    Raises:
        ValueError: the file cannot be read, is of another image, or has shapes or labels that are not known.
    """
    saved = read_json(path)
    check_image(saved, manifest.resolution, str(path), "imageWidth", "imageHeight")
    image = last_name(entry(saved, "imagePath", str, str(path)))
    if image != sample.file:
        raise ValueError(f"{path} is about {image!r:.80}: expected {sample.file}; open that image and save again")
    shapes = entry(saved, "shapes", list, str(path))
    if len(shapes) > MOST_SHAPES:
        raise ValueError(f"{path} has {len(shapes)} shapes: expected at most {MOST_SHAPES}")
    drawn = [_shape(shape, manifest, f"{path}: shape {place}") for place, shape in enumerate(shapes)]
    return draw(drawn, manifest.resolution)


def check_image(saved: Mapping[str, Any], size: int, where: str, width: str, height: str) -> None:
    """Whether outlines were drawn on an image of the right size.

    Raises:
        ValueError: they were not, or the file does not say.
    """
    found = tuple(entry(saved, name, int, where) for name in (width, height))
    if found != (size, size):
        raise ValueError(
            f"{where}: drawn on an image of {found[0]} × {found[1]} pixels: expected {size} × {size}; label the "
            "exported image itself"
        )


def _shape(saved: Any, manifest: Manifest, where: str) -> Shape:
    if not isinstance(saved, dict):
        raise ValueError(f"{where} is {type(saved).__name__}: expected an object")
    name = entry(saved, "label", str, where)
    value = value_of(name, manifest, where)
    kind = saved.get("shape_type", "polygon")
    if kind == "polygon":
        return Shape(value, (outline_of(saved.get("points"), manifest.resolution, where),))
    if kind not in ("rectangle", "circle"):
        raise ValueError(
            f"{where} ({name}) is a {kind!r:.40}: expected a polygon, rectangle or circle; draw it again as a polygon"
        )
    points = saved.get("points")
    if not isinstance(points, list) or len(points) != 2:
        raise ValueError(f"{where} ({name}): expected 2 points of a {kind}")
    # The third point is there for the check alone.
    first, second, _ = outline_of([*points, points[0]], manifest.resolution, where)
    return Shape(value, (_rectangle(first, second) if kind == "rectangle" else _circle(first, second),))


def value_of(name: str, manifest: Manifest, where: str) -> int:
    """Value in a mask of a label's name; `background` is 0, and cuts a hole.

    Raises:
        ValueError: there is no such label.
    """
    if name not in manifest.values:
        raise ValueError(
            f"{where}: unknown label {name!r:.80}: expected one of {', '.join(manifest.labels)}"
            f"{nearest(name, manifest.labels)}"
        )
    return manifest.values[name]


def _rectangle(corner: np.ndarray, opposite: np.ndarray) -> np.ndarray:
    (x1, y1), (x2, y2) = corner, opposite
    return np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]])


def _circle(centre: np.ndarray, edge: np.ndarray) -> np.ndarray:
    angle = np.linspace(0, 2 * math.pi, _CORNERS, endpoint=False)
    return centre + math.dist(centre, edge) * np.stack([np.cos(angle), np.sin(angle)], 1)
