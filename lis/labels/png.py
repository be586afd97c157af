"""Masks as index images: the value of a pixel is the number of its label.

A palette may have been rewritten since: programs that make files smaller drop the entries that no pixel uses, and move
the others. Every pixel keeps its colour then, so where the colours are those of our labels, they decide.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.colors import to_rgb
from PIL import Image

from lis.files import read_bytes
from lis.images import label_colours, opened
from lis.labels.files import Colour, MaskReading, Size

_STRETCHED = {2: 85, 4: 17}
"""What Pillow multiplies grey values with, by their number of bits in the file."""
_DEPTH = 24
"""Place of the byte in a PNG file that says how many bits a value has."""


def read_mask(path: Path, size: Size, labels: Sequence[str]) -> MaskReading:
    """The mask of a PNG file with a palette or in greyscale, of 1 to 16 bits.

    Args:
        path: the file.
        size: that it has to have.
        labels: names of the values from 1.

    Raises:
        ValueError: the file cannot be read, has another size or colours, or values that are no labels, or a palette
            with the colours of our labels in other places that does not say what they all stand for.
    """
    mode, values, palette = _pixels(path, size)
    if mode not in ("1", "L", "P", "I", "I;16", "I;16B"):
        raise ValueError(
            f"{path} is a picture in colour ({mode}): expected an index image, in which a pixel's value is the number "
            "of its label; save it with a palette or in greyscale, without transparency"
        )
    colours = {int(value): palette[value] if value < len(palette) else () for value in np.unique(values) if palette}
    moved = moved_values(colours, label_palette(labels), str(path))
    if moved:
        values = np.array([moved.get(value, 0) for value in range(len(palette))])[values]
    wrong = values > len(labels)
    if wrong.any():
        y, x = np.unravel_index(wrong.argmax(), wrong.shape)
        listed = ", ".join(f"{value} {name}" for value, name in enumerate(labels, 1))
        raise ValueError(f"{path}: the pixel at x={x}, y={y} is {values[y, x]}: expected 0 (background), {listed}")
    mine = {} if moved or len(set(colours.values())) < len(colours) else {c: v for v, c in colours.items() if c}
    return MaskReading(values.astype(np.uint8), Counter(["palette moved: read by colour"] if moved else []), mine)


def moved_values(colours: Mapping[int, Colour], ours: Sequence[Colour], where: str) -> dict[int, int]:
    """What the values of an index image mean where its palette holds the colours of our labels in other places.

    Args:
        colours: the colour of every value that occurs.
        ours: colours of the background (black, as in many palettes) and of our labels.
        where: what is said before a problem.

    Returns:
        our value for each; empty where they mean what they are: no colour of a label is moved.

    Raises:
        ValueError: one is, and there are others that are not ours, or of several labels.

    Example:
        >>> ours = [(0, 0, 0), (200, 0, 0), (0, 200, 0)]
        >>> moved_values({0: (0, 0, 0), 1: (0, 200, 0)}, ours, "")
        {0: 0, 1: 2}
        >>> moved_values({1: (0, 0, 0)}, ours, "")  # black alone is a colour of many palettes
        {}
    """
    moved = [value for value, colour in colours.items() if colour in ours[1:] and ours[value : value + 1] != [colour]]
    if not moved:
        return {}
    if all(ours.count(c) == 1 for c in colours.values()) and len(set(colours.values())) == len(colours):
        return {value: ours.index(colour) for value, colour in colours.items()}
    colour = colours[moved[0]]
    raise ValueError(
        f"{where}: value {moved[0]} has the colour {_hex(colour)}, which is that of value {ours.index(colour)} in our "
        "palette, beside colours that leave open which is meant: an image optimiser may have moved the palette; save "
        "the mask in greyscale, or with the palette as it was"
    )


def disagreements(colours: Mapping[str, Mapping[Colour, int]]) -> list[str]:
    """A line for every file in which a colour stands for another value than in one before: a palette was moved.

    Args:
        colours: by file, the value that each colour of its palette stands for.

    Example:
        >>> disagreements({"a": {(9, 9, 9): 1}, "b": {(9, 9, 9): 2}})[0][:46]
        'b: the colour #090909 is value 2, and 1 in a: '
    """
    first: dict[Colour, tuple[int, str]] = {}
    lines = []
    for file, values in colours.items():
        known = {colour: first.setdefault(colour, (value, file)) for colour, value in values.items()}
        if wrong := [colour for colour, (value, _) in known.items() if value != values[colour]]:
            value, other = known[wrong[0]]
            lines.append(
                f"{file}: the colour {_hex(wrong[0])} is value {values[wrong[0]]}, and {value} in {other}: expected "
                "one palette for all masks (an image optimiser may have moved it); save them again with it, or in "
                "greyscale"
            )
    return lines


def label_palette(labels: Sequence[str]) -> list[Colour]:
    """Colours of background and labels, each three numbers from 0 to 255."""
    return [(0, 0, 0), *(tuple(round(255 * part) for part in to_rgb(c)) for c in label_colours(labels).values())]


def write_mask(path: Path, mask: np.ndarray, colours: Sequence[Colour]) -> None:
    """Write a mask `[h, w]` uint8 as PNG with a palette: `colours` from value 0."""
    height, width = mask.shape
    image = Image.frombytes("P", (width, height), mask.tobytes())
    image.putpalette([part for colour in colours for part in colour])
    image.save(path)


def read_picture(path: Path, size: Size) -> np.ndarray:
    """An exported image `[height, width, 3]` uint8.

    Raises:
        ValueError: it cannot be read, or has another size.
    """
    return _pixels(path, size, "RGB")[1]


def _hex(colour: Colour) -> str:
    return f"#{bytes(colour).hex()}"


def _pixels(path: Path, size: Size, mode: str | None = None) -> tuple[str, np.ndarray, list[Colour]]:
    """Mode, values and palette (empty without one) of a PNG file.

    They are read only when the size is right, so that no file can fill the memory.

    Raises:
        ValueError: the file is no PNG, is damaged, or has another size.
    """
    content = read_bytes(path)
    try:
        with opened(content, ("PNG",)) as image:
            if image.size == size[::-1]:
                return _decoded(image, mode, content[_DEPTH])
    except Exception as error:  # a decoder may raise anything on a damaged file
        raise ValueError(f"{path} cannot be read ({error}): expected a PNG file; save it again") from error
    width, height = image.size
    raise ValueError(f"{path} has {width} × {height} pixels: expected {size[1]} × {size[0]}, the size of its image")


def _decoded(image: Image.Image, mode: str | None, depth: int) -> tuple[str, np.ndarray, list[Colour]]:
    values = np.asarray(image.convert(mode) if mode else image)
    if not mode and image.mode == "L":
        values = values // _STRETCHED.get(depth, 1)
    flat = (image.getpalette("RGB") or []) if image.mode == "P" else []
    return image.mode, values, [tuple(flat[k : k + 3]) for k in range(0, len(flat), 3)]
