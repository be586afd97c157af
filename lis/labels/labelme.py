"""What the program labelme saves beside an image: outlines and painted areas with the names of their labels."""

from __future__ import annotations

import base64
import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lis.files import read_json
from lis.images import opened
from lis.labels.files import MaskReading, Size, entry, last_name, number
from lis.labels.manifest import BACKGROUND, Manifest, Sample
from lis.labels.polygons import MARGIN, MOST_SHAPES, Shape, mask_of, outline_of
from lis.names import nearest

IGNORE = "__ignore__"
"""What labelme calls a region that is of no interest."""
_BACKGROUNDS = (BACKGROUND, "_background_")
"""Names of value 0: ours and labelme's."""
_NO_AREA = ("line", "linestrip", "point", "points")
"""Kinds of shapes that enclose nothing."""
_TURNED = ("oriented_rectangle", "rotation")
"""What rectangles that may be turned are called by labelme and by X-AnyLabeling."""
_CORNERS = 64
"""Of what a circle becomes."""


def read_labelme(path: Path, manifest: Manifest, sample: Sample) -> MaskReading:
    """The polygons, rectangles, circles and painted masks of a file; lines, points and `__ignore__` are left out.

    Raises:
        ValueError: the file cannot be read, is of another image, or has shapes or labels that are not known.
    """
    saved = read_json(path)
    notes = check_image(saved, manifest.size, str(path), "imageWidth", "imageHeight")
    image = last_name(entry(saved, "imagePath", str, str(path)))
    if image != sample.file:
        raise ValueError(f"{path} is about {image!r:.80}: expected {sample.file}; open that image and save again")
    shapes = entry(saved, "shapes", list, str(path))
    if len(shapes) > MOST_SHAPES:
        raise ValueError(f"{path} has {len(shapes)} shapes: expected at most {MOST_SHAPES}")
    drawn = (_shape(shape, manifest, f"{path}: shape {index}") for index, shape in enumerate(shapes))
    return mask_of(drawn, manifest.size, str(path), notes)


def check_image(saved: Mapping[str, Any], size: Size, where: str, width: str, height: str) -> Counter[str]:
    """Whether outlines were drawn on an image of the right size; a note where the file leaves it open (null).

    Raises:
        ValueError: they were not, or the file lacks the entry.
    """
    sides = tuple(None if saved.get(name, 0) is None else entry(saved, name, int, where) for name in (width, height))
    if any(side not in (None, expected) for side, expected in zip(sides, size[::-1], strict=True)):
        raise ValueError(
            f"{where}: drawn on an image of {sides[0]} × {sides[1]} pixels: expected {size[1]} × {size[0]}; label the "
            "image itself"
        )
    return Counter(["size of the image not stated"] if None in sides else [])


def ignored(name: str, manifest: Manifest) -> str:
    """Why an area with this label is left out; empty where it is not."""
    return f"{IGNORE} left out" if name == IGNORE and name not in manifest.labels else ""


def value_of(name: str, manifest: Manifest, where: str) -> int:
    """Value in a mask of a label's name; `background` (or `_background_`) is 0, and cuts a hole.

    Raises:
        ValueError: there is no such label.
    """
    values = dict.fromkeys(_BACKGROUNDS, 0) | manifest.values
    if name not in values:
        raise ValueError(
            f"{where}: unknown label {name!r:.80}: expected one of {', '.join(manifest.labels)}"
            f"{nearest(name, manifest.labels)}"
        )
    return values[name]


def _left_out(saved: Any, manifest: Manifest, where: str) -> str:
    """Why a shape is left out; empty where it is drawn."""
    if not isinstance(saved, dict):
        raise ValueError(f"{where} is {type(saved).__name__}: expected an object")
    kind = saved.get("shape_type")
    if isinstance(kind, str) and kind in _NO_AREA:
        return f"{kind} left out: it has no area, draw a polygon"
    return ignored(entry(saved, "label", str, where), manifest)


def _shape(saved: Any, manifest: Manifest, where: str) -> Shape | str:
    """What a shape of the file is drawn as, or why it is left out."""
    if reason := _left_out(saved, manifest, where):
        return reason
    name, size = entry(saved, "label", str, where), manifest.size
    value, points = value_of(name, manifest, where), saved.get("points")
    kind = saved.get("shape_type") or "polygon"  # null is labelme's polygon
    if kind == "mask":
        return _painted(saved, value, size, where)
    if kind not in ("polygon", "rectangle", "circle", *_TURNED):
        raise ValueError(
            f"{where} ({name}) is a {kind!r:.40}: expected a polygon, rectangle, circle or mask; draw it again as a "
            "polygon"
        )
    counts = {"polygon": None, "circle": (2,), "rectangle": (2, 4)}.get(kind, (4,))
    if counts and (not isinstance(points, list) or len(points) not in counts):
        raise ValueError(f"{where} ({name}): expected {' or '.join(map(str, counts))} points of a {kind}")
    if not isinstance(points, list) or len(points) != 2 or kind == "polygon":
        return Shape(value, (outline_of(points, size, where),))
    # The third point is there for the check alone.
    first, second, _ = outline_of([*points, points[0]], size, where)
    return Shape(value, (_rectangle(first, second) if kind == "rectangle" else _circle(first, second),))


def _rectangle(corner: np.ndarray, opposite: np.ndarray) -> np.ndarray:
    (x1, y1), (x2, y2) = corner, opposite
    return np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]])


def _circle(centre: np.ndarray, edge: np.ndarray) -> np.ndarray:
    angle = np.linspace(0, 2 * math.pi, _CORNERS, endpoint=False)
    return centre + math.dist(centre, edge) * np.stack([np.cos(angle), np.sin(angle)], 1)


def _painted(saved: Mapping[str, Any], value: int, size: Size, where: str) -> Shape:
    """A shape of the kind `mask`: a small image, and its first and last pixel."""
    first, last = _corners(saved.get("points"), where)
    patch = _patch(entry(saved, "mask", str, where), size, where)
    if np.abs(last - first + 1 - patch.shape[::-1]).max() > 1:  # rounding apart
        raise ValueError(
            f"{where}: its mask has {patch.shape[1]} × {patch.shape[0]} pixels, its points span "
            f"{last[0] - first[0] + 1} × {last[1] - first[1] + 1}: expected the same; save it again"
        )
    sides, extent = np.array(size[::-1]), np.array(patch.shape[::-1])
    margin = np.round(MARGIN * sides)
    if (first < -margin).any() or (first + extent > sides + margin).any():
        raise ValueError(
            f"{where}: its mask at ({first[0]}, {first[1]}) reaches out of the image of {size[1]} × {size[0]} "
            "pixels: expected one of this image, not of one that was resized"
        )
    left, top = first
    patch = patch[max(-top, 0) : max(size[0] - top, 0), max(-left, 0) : max(size[1] - left, 0)]
    return Shape(value, painted=patch, corner=(max(int(top), 0), max(int(left), 0)))


def _corners(points: Any, where: str) -> np.ndarray:
    """The first and the last pixel `[2, 2]` int64 of a painted mask, x and y."""
    pairs = isinstance(points, list) and len(points) == 2 and all(isinstance(p, list) and len(p) == 2 for p in points)
    if not pairs:
        raise ValueError(f"{where}: expected 2 points of a mask, its first and its last pixel")
    corners = np.array([[number(value, where) for value in point] for point in points])
    return corners.round().clip(-(2**40), 2**40).astype(np.int64)


def _patch(encoded: str, size: Size, where: str) -> np.ndarray:
    """What is painted, `[h, w]` bool, of a PNG picture in base64."""
    try:
        with opened(base64.b64decode(encoded, validate=True), ("PNG",)) as image:
            if image.height <= size[0] and image.width <= size[1] and len(image.getbands()) == 1:
                return np.asarray(image) > 0
    except Exception as error:  # a decoder may raise anything on a damaged picture
        raise ValueError(f"{where}: its mask cannot be read ({error}): expected a PNG; save it again") from error
    raise ValueError(
        f"{where}: its mask is a picture ({image.mode}) of {image.size[0]} × {image.size[1]} pixels: expected one "
        f"channel and at most {size[1]} × {size[0]}; label the image itself"
    )
