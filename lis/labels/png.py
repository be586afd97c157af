"""Masks as index images: the value of a pixel is the number of its label."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from lis.labels.files import check_size

_STRETCHED = {2: 85, 4: 17}
"""What Pillow multiplies grey values with, by their number of bits in the file."""
_DEPTH = 24
"""Place of the byte in a PNG file that says how many bits a value has."""


def read_mask(path: Path, size: int, labels: Sequence[str]) -> np.ndarray:
    """Mask `[size, size]` uint8 of a PNG file with a palette or in greyscale, of 1 to 16 bits.

    Args:
        path: the file.
        size: height and width that it has to have, in pixels.
        labels: names of the values from 1.

    Raises:
        ValueError: the file cannot be read, has another size or colours, or values that are no labels.
    """
    mode, values = _pixels(path, size)
    if mode not in ("1", "L", "P", "I", "I;16", "I;16B"):
        raise ValueError(
            f"{path} is a picture in colour ({mode}): expected an index image, in which a pixel's value is the number "
            "of its label; save it with a palette or in greyscale, without transparency"
        )
    wrong = values > len(labels)
    if wrong.any():
        y, x = (int(place[0]) for place in wrong.nonzero())
        listed = ", ".join(f"{value} {name}" for value, name in enumerate(labels, 1))
        raise ValueError(f"{path}: the pixel at x={x}, y={y} is {values[y, x]}: expected 0 (background), {listed}")
    return values.astype(np.uint8)


def write_mask(path: Path, mask: np.ndarray, colours: Sequence[tuple[int, ...]]) -> None:
    """Write a mask `[h, w]` uint8 as PNG with a palette: `colours` from value 0."""
    height, width = mask.shape
    image = Image.frombytes("P", (width, height), mask.tobytes())
    image.putpalette([part for colour in colours for part in colour])
    image.save(path)


def read_picture(path: Path, size: int) -> np.ndarray:
    """An exported image `[size, size, 3]` uint8.

    Raises:
        ValueError: it cannot be read, or has another size.
    """
    return _pixels(path, size, "RGB")[1].astype(np.uint8)


def _pixels(path: Path, size: int, mode: str | None = None) -> tuple[str, np.ndarray]:
    """Mode and values of a PNG file; they are read only when the size is right, so that no file can fill the memory.

    Raises:
        ValueError: the file is no PNG, is damaged, or has another size.
    """
    check_size(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(path, formats=("PNG",))
        with image:
            if image.size == (size, size):
                values = np.asarray(image.convert(mode) if mode else image).astype(np.int64)
                grey = not mode and image.mode == "L"
                return image.mode, values // (_STRETCHED.get(path.read_bytes()[_DEPTH], 1) if grey else 1)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} cannot be read ({error}): expected a PNG file; save it again") from error
    width, height = image.size
    raise ValueError(f"{path} has {width} × {height} pixels: expected {size} × {size}, the size of the exported image")
