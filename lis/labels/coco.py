"""One COCO file for many images: outlines in `segmentation`, labels as categories."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from lis.labels.files import entry, last_name, nearest, read_json
from lis.labels.labelme import check_image, value_of
from lis.labels.manifest import Manifest
from lis.labels.polygons import MOST_SHAPES, Shape, draw, outline_of


@dataclass(frozen=True)
class Coco:
    """A COCO file, sorted by image; what it says about each is looked at only when its mask is asked for."""

    path: Path
    manifest: Manifest
    images: Mapping[str, dict[str, Any]]
    """What the file says about each exported image, by the image's name."""
    categories: Mapping[int, str]
    annotations: dict[str, list[tuple[int, dict[str, Any]]]] = field(default_factory=dict)
    """Place in the file and content of every annotation, by the image's name; an image without any is not a key."""

    def mask(self, image: str) -> np.ndarray:
        """Mask `[size, size]` uint8 of an image.

        Raises:
            ValueError: the image had another size, or an annotation is not a polygon with a known label.
        """
        size = self.manifest.resolution
        check_image(self.images[image], size, f"{self.path}: image {image}", "width", "height")
        found = self.annotations[image]
        if len(found) > MOST_SHAPES:
            raise ValueError(f"{self.path}: {image} has {len(found)} annotations: expected at most {MOST_SHAPES}")
        return draw([self._shape(row, f"{self.path}: annotation {place} ({image})") for place, row in found], size)

    def _shape(self, saved: dict[str, Any], where: str) -> Shape:
        category = entry(saved, "category_id", int, where)
        if category not in self.categories:
            raise ValueError(f"{where}: category_id is {category}: expected one of the file's categories")
        outlines = saved.get("segmentation")
        if isinstance(outlines, dict) or saved.get("iscrowd"):
            raise ValueError(
                f"{where} is a run-length encoded mask (RLE): expected polygons; export polygons, or index PNG masks"
            )
        if not isinstance(outlines, list) or not outlines:
            raise ValueError(f"{where} has no polygon in segmentation: expected a list of lists of x, y, x, y, …")
        value = value_of(self.categories[category], self.manifest, where)
        return Shape(value, tuple(_outline(flat, self.manifest.resolution, where) for flat in outlines))


def read_coco(path: Path, manifest: Manifest) -> Coco:
    """The images, categories and annotations of a file.

    Raises:
        ValueError: it cannot be read, lacks one of the three, or names an image that was not exported.
    """
    saved = read_json(path)
    images, categories = _objects(saved, "images", path), _objects(saved, "categories", path)
    names = {
        entry(row, "id", int, f"{path}: categories {place}"): entry(row, "name", str, f"{path}: categories {place}")
        for place, row in enumerate(categories)
    }
    by_id = {entry(row, "id", int, f"{path}: images {k}"): _image(row, path, manifest) for k, row in enumerate(images)}
    if len(set(by_id.values())) != len(images):
        raise ValueError(f"{path}: an image, or the id of one, is listed twice: expected each once; export it again")
    coco = Coco(path, manifest, dict(zip(by_id.values(), images, strict=True)), names)
    for place, row in enumerate(_objects(saved, "annotations", path)):
        image = entry(row, "image_id", int, f"{path}: annotation {place}")
        if image not in by_id:
            raise ValueError(f"{path}: annotation {place}: image_id is {image}: expected one of the file's images")
        coco.annotations.setdefault(by_id[image], []).append((place, row))
    return coco


def _image(row: Mapping[str, Any], path: Path, manifest: Manifest) -> str:
    """Name of the exported image that a row is about, wherever the file says that it lies."""
    file, known = last_name(entry(row, "file_name", str, f"{path}: images")), [s.file for s in manifest.samples]
    if file not in known:
        raise ValueError(f"{path} names the image {file!r:.80}, which was not exported{nearest(file, known)}")
    return file


def _objects(saved: Mapping[str, Any], key: str, path: Path) -> list[dict[str, Any]]:
    rows = entry(saved, key, list, str(path))
    if any(not isinstance(row, dict) for row in rows):
        raise ValueError(f"{path}: {key} has something that is no object: expected a COCO file with polygons")
    return rows


def _outline(flat: Any, size: int, where: str) -> np.ndarray:
    if not isinstance(flat, list) or len(flat) % 2:
        raise ValueError(f"{where}: a polygon is not a list of x, y, x, y, …")
    return outline_of([flat[k : k + 2] for k in range(0, len(flat), 2)], size, where)
