"""One COCO file for many images: outlines or run lengths in `segmentation`, labels as categories."""

from __future__ import annotations

import math
from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from lis.files import read_json
from lis.labels.files import MaskReading, Size, entry, last_name
from lis.labels.labelme import check_image, ignored, value_of
from lis.labels.manifest import Manifest
from lis.labels.polygons import MOST_OUTLINES, MOST_SHAPES, Shape, mask_of, outline_of
from lis.names import nearest

_ASCII, _BITS, _LONGEST = 48, 5, 7
"""What a character of a compressed run length is shifted by, how many bits of the number it holds, and how many
characters a number has at most."""


@dataclass(frozen=True)
class Coco:
    """A COCO file, sorted by image; what it says about each is looked at only when its mask is asked for."""

    path: Path
    manifest: Manifest
    images: Mapping[str, dict[str, Any]]
    """What the file says about each exported image, by the image's name."""
    categories: Mapping[str, str]
    """Name of a label by its id, as text: whole numbers can be chosen so that a dict of them takes for ever."""
    annotations: dict[str, list[tuple[int, dict[str, Any]]]] = field(default_factory=dict)
    """Place in the file and content of every annotation, by the image's name; an image without any is not a key."""

    def mask(self, image: str) -> MaskReading:
        """What the file says about an image, crowds included; `__ignore__` is left out.

        Raises:
            ValueError: the image had another size, or an annotation has no area or no known label.
        """
        size, where = self.manifest.size, f"{self.path}: image {image}"
        notes = check_image(self.images[image], size, where, "width", "height")
        result = self.annotations[image]
        if len(result) > MOST_SHAPES:
            raise ValueError(f"{self.path}: {image} has {len(result)} annotations: expected at most {MOST_SHAPES}")
        shapes = (self._shape(row, f"{self.path}: annotation {index} ({image})") for index, row in result)
        return mask_of(shapes, size, where, notes)

    def _shape(self, saved: dict[str, Any], where: str) -> Shape | str:
        """What an annotation is drawn as, or why it is left out."""
        category = _id(saved, "category_id", where)
        if category not in self.categories:
            raise ValueError(f"{where}: category_id is {category:.80}: expected one of the file's categories")
        name = self.categories[category]
        if reason := ignored(name, self.manifest):
            return reason
        value, area, size = value_of(name, self.manifest, where), saved.get("segmentation"), self.manifest.size
        if isinstance(area, dict):
            pixels, corner = decode_runs(area, size, where)
            return Shape(value, painted=pixels, corner=corner)
        if not isinstance(area, list) or not area:
            raise ValueError(
                f"{where} has no polygon in segmentation: expected a list of lists of x, y, x, y, …, or run lengths "
                "(RLE)"
            )
        if len(area) > MOST_OUTLINES:
            raise ValueError(f"{where} has {len(area):,} outlines: expected at most {MOST_OUTLINES:,}")
        return Shape(value, tuple(_outline(flat, size, where) for flat in area))


def read_coco(path: Path, manifest: Manifest) -> Coco:
    """The images, categories and annotations of a file.

    Raises:
        ValueError: it cannot be read, lacks one of the three, or names an image that is not among the manifest's.
    """
    saved = read_json(path)
    images, categories = _objects(saved, "images", path), _objects(saved, "categories", path)
    names, known = _categories(categories, path), {sample.file for sample in manifest.samples}
    by_id = {_id(row, "id", f"{path}: images {k}"): _image(row, path, known) for k, row in enumerate(images)}
    if len(set(by_id.values())) != len(images):
        raise ValueError(f"{path}: an image, or the id of one, is listed twice: expected each once; export it again")
    coco = Coco(path, manifest, dict(zip(by_id.values(), images, strict=True)), names)
    for index, row in enumerate(_objects(saved, "annotations", path)):
        image = _id(row, "image_id", f"{path}: annotation {index}")
        if image not in by_id:
            raise ValueError(f"{path}: annotation {index}: image_id is {image:.80}: expected one of the file's images")
        coco.annotations.setdefault(by_id[image], []).append((index, row))
    return coco


def decode_runs(saved: Mapping[str, Any], size: Size, where: str) -> tuple[np.ndarray, tuple[int, int]]:
    """Pixels `[height, width]` bool of a run-length encoded mask (RLE), cropped to those inside, and the row and column
    of the first of them.

    Runs of pixels outside and inside take turns, the first lies outside; they go down the columns, from left to right.

    Args:
        saved: with `size` (height, width) and `counts`: lengths of the runs, or the text of `unpack_runs`.
        size: height and width of the image in pixels.
        where: what is said before a problem.

    Raises:
        ValueError: they are of another size, are no lengths, or do not fill the image.

    Example:
        >>> pixels, corner = decode_runs({"size": [3, 3], "counts": [4, 1, 2, 1, 1]}, (3, 3), "")
        >>> pixels.astype(int).tolist(), corner
        ([[1, 1]], (1, 1))
    """
    if saved.get("size") != list(size):
        raise ValueError(
            f"{where}: size of its run lengths is {saved.get('size')!r:.80}: expected {list(size)}; label the "
            "image itself"
        )
    runs = _runs(saved.get("counts"), size, where)
    if runs.min(initial=0) < 0:
        raise ValueError(f"{where}: counts of its run lengths has {runs.min()}: expected whole numbers from 0")
    filled, pixels = runs.sum(dtype=np.float64), math.prod(size)
    if len(runs) > pixels + 2 or filled != pixels:
        raise ValueError(
            f"{where}: its {len(runs)} run lengths fill {filled:,.0f} pixels: expected {pixels:,}; export it again"
        )
    return _cropped(runs, size[0])


def _cropped(runs: np.ndarray, column: int) -> tuple[np.ndarray, tuple[int, int]]:
    """The pixels of runs `[runs]` that fill an image, without the rows and columns that have none, and their corner."""
    ends = runs.cumsum()
    first, last = (ends - runs)[1::2], ends[1::2] - 1
    first, last = first[last >= first], last[last >= first]
    if not len(first):
        return np.zeros((0, 0), bool), (0, 0)
    left, right = int(first[0]) // column, int(last[-1]) // column
    # A run over the end of a column has its last row, and the first of the next one.
    split = (first // column != last // column).any()
    top, bottom = (0, column - 1) if split else (int((first % column).min()), int((last % column).max()))
    height, width = bottom - top + 1, right - left + 1
    starts, stops = ((at // column - left) * height + at % column - top for at in (first, last))
    borders = np.stack([starts, stops + 1], axis=1).reshape(-1)
    lengths = np.diff(borders, prepend=0, append=height * width)
    pixels = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths).reshape(height, width, order="F")
    return np.ascontiguousarray(pixels), (top, left)


def _runs(counts: Any, size: Size, where: str) -> np.ndarray:
    """Lengths of runs `[runs]` int64, not checked yet."""
    if isinstance(counts, str):
        if len(counts) > math.prod(size) + 16:  # a pixel takes a character at most
            raise ValueError(
                f"{where}: counts has {len(counts):,} characters, more than the image has pixels: expected run lengths "
                "as pycocotools packs them"
            )
        return unpack_runs(counts, where)
    if isinstance(counts, list) and {int}.issuperset(map(type, counts)):
        try:
            return np.array(counts, np.int64)
        except OverflowError:  # whole numbers of 20 digits and more
            return np.array([min(max(run, -1), 2**40) for run in counts])
    raise ValueError(f"{where}: counts of its run lengths: expected whole numbers from 0, or packed text")


def unpack_runs(text: str, where: str) -> np.ndarray:
    """The lengths of runs `[runs]` int64 from the text that pycocotools packs them in (`rleFrString` in COCO's
    `maskApi.c`).

    A number takes one or more characters from "0" (48) on: five bits each, the lowest first, and a sixth that says that
    another follows; the highest bit of the last is the sign. From the fourth number on they are differences to the
    number two before.

    Raises:
        ValueError: the text is something else.

    Example:
        >>> unpack_runs("121", "").tolist(), unpack_runs("04000", "").tolist()
        ([1, 2, 1], [0, 4, 0, 4, 0])
    """
    codes = np.frombuffer(text.encode("ascii", "replace"), np.uint8).astype(np.int64) - _ASCII
    last = np.flatnonzero(codes & 32 == 0)
    lengths = np.diff(last, prepend=-1)
    ours = text.isascii() and (not len(codes) or (codes.min() >= 0 and codes.max() <= 63))
    if not ours or lengths.max(initial=0) > _LONGEST:
        raise ValueError(f"{where}: counts has {text[:40]!r}: expected run lengths as pycocotools packs them")
    if lengths.sum() != len(codes):
        raise ValueError(f"{where}: counts ends within a number ({text[-20:]!r}): expected whole packed run lengths")
    first = last - lengths + 1
    shifts = _BITS * (np.arange(len(codes)) - np.repeat(first, lengths))
    values = np.add.reduceat((codes & 31) << shifts, first) if len(first) else np.zeros(0, np.int64)
    values -= (codes[last] & 16) << (_BITS * (lengths - 1) + 1)
    for k in (1, 2):
        values[k::2] = values[k::2].cumsum()
    return values


def _id(owner: Mapping[str, Any], key: str, where: str) -> str:
    """A whole number of the file that is looked up, as text."""
    return str(entry(owner, key, int, where))


def _categories(rows: list[dict[str, Any]], path: Path) -> dict[str, str]:
    """The names of the labels by their number."""
    names: dict[str, str] = {}
    for index, row in enumerate(rows):
        where = f"{path}: categories {index}"
        number, name = _id(row, "id", where), entry(row, "name", str, where)
        if number in names:
            raise ValueError(
                f"{where}: id {number:.80} is {name!r:.80} and {names[number]!r:.80}: expected an id for each; export "
                "it again"
            )
        names[number] = name
    return names


def _image(row: Mapping[str, Any], path: Path, known: Set[str]) -> str:
    """Name of the exported image that a row is about, wherever the file says that it lies."""
    file = last_name(entry(row, "file_name", str, f"{path}: images"))
    if file not in known:
        raise ValueError(
            f"{path} names the image {file!r:.80}, which is not among those of the folder{nearest(file, sorted(known))}"
        )
    return file


def _objects(saved: Mapping[str, Any], key: str, path: Path) -> list[dict[str, Any]]:
    rows = entry(saved, key, list, str(path))
    if any(not isinstance(row, dict) for row in rows):
        raise ValueError(f"{path}: {key} has something that is no object: expected a COCO file")
    return rows


def _outline(flat: Any, size: Size, where: str) -> np.ndarray:
    if not isinstance(flat, list) or len(flat) % 2:
        raise ValueError(f"{where}: a polygon is not a list of x, y, x, y, …")
    return outline_of([flat[k : k + 2] for k in range(0, len(flat), 2)], size, where)
