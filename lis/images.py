"""Images between networks and files, pictures of any origin, and the colours of parts."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

LARGEST = 256
"""Height and width from which images are kept smaller: a page shows them at a third of that."""
_PIECES, _SCANS = 200_000, 64
"""Of the richest file: reads that a decoder may ask for, one or more for every chunk or segment, and passes of a
progressive JPEG over the whole picture. A second or two each; usual are thousands, and ten."""
_IN_PIECES = f"it is made of more than {_PIECES:,} pieces; save it again"
_MEMORY = 480 * 2**20
"""Bytes that the pixels of the largest picture may take, beyond its file, while it is decoded and turned."""
_PER_PIXEL = {"PNG": 8, "JPEG": 8, "WEBP": 17}
"""Bytes of memory per pixel: Pillow's picture and its turned copy, and a WebP's canvases."""
_PROGRESSIVE = (4, 2)
"""Bytes per pixel of a progressive JPEG: of Pillow's picture, and of the coefficients of every channel."""
_MARKER = re.compile(rb"\xff[\xc0-\xcf\xd9-\xdd\xe0-\xef\xfe]")
"""Of a JPEG: its end (`D9`), and what begins a segment, whose length follows. Left out are those of two bytes only,
`FF` within the data of a scan (`FF 00`), and those at which libjpeg gives up."""
PARTS = ("#cc6677", "#332288", "#c8a422", "#117733", "#77bde0", "#882255", "#11aa99", "#663322", "#aa4499", "#9988bb")


def to_uint8(image: Tensor) -> Tensor:
    """Images in [-1, 1] as 0…255 (uint8) on the CPU.

    Example:
        >>> to_uint8(torch.tensor([-1.0, 0.0, 1.0, 7.0])).tolist()
        [0, 128, 255, 255]
    """
    return ((image.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).cpu()


def smaller(image: Tensor) -> Tensor:
    """Images `[n, 3, H, W]` averaged down to at most `LARGEST` pixels, by a whole factor."""
    factor = -(-image.shape[2] // LARGEST)
    return F.avg_pool2d(image, factor) if factor > 1 else image


def page_image(image: Tensor) -> Tensor:
    """Images in [-1, 1] as a page shows them: uint8 on the CPU, at most `LARGEST` pixels high."""
    return to_uint8(smaller(image))


@contextmanager
def opened(content: bytes, formats: tuple[str, ...]) -> Iterator[Image.Image]:
    """A picture whose header has been read; warnings of its decoder are not heeded while it is open.

    Args:
        content: of its file.
        formats: Pillow's names of those that it may have.

    Raises:
        ValueError: it is made of too many pieces.
        Exception: whatever a decoder raises on a damaged one, now or when the pixels are read.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what a decoder remarks about a file that it can read
        with Image.open(_Counted(content), formats=formats) as image:
            if image.format in ("JPEG", "MPO") and (scans := _scans(content)) > _SCANS:
                raise ValueError(f"a JPEG of {scans:,} scans: expected at most {_SCANS}; save it again")
            yield image


def too_heavy(image: Image.Image) -> str:
    """Why a picture is not decoded: the memory that it would take; empty where it may be.

    Args:
        image: opened, and not yet decoded.
    """
    width, height = image.size
    per_pixel = _PER_PIXEL.get(image.format or "", _PER_PIXEL["JPEG"])
    if "progressive" in image.info:
        per_pixel = max(per_pixel, _PROGRESSIVE[0] + _PROGRESSIVE[1] * len(image.getbands()))
    most = _MEMORY // per_pixel
    if width * height <= most:
        return ""
    kind = f"progressive {image.format}" if "progressive" in image.info else f"{image.format}"
    return f"{width} × {height} pixels: expected at most {most / 1e6:.0f} million of a {kind}"


def _scans(content: bytes) -> int:
    """How many scans libjpeg decodes of a JPEG: none of a preview inside a segment, and none behind the picture's end,
    where phones append films.

    Raises:
        ValueError: it is made of too many segments.
    """
    scans, position = 0, 2
    for _ in range(_PIECES):
        marker = _MARKER.search(content, position)
        if marker is None or marker[0] == b"\xff\xd9":
            return scans
        scans += marker[0] == b"\xff\xda"
        position = marker.end() + max(2, int.from_bytes(content[marker.end() : marker.end() + 2]))
    raise ValueError(_IN_PIECES)


class _Counted(io.BytesIO):
    """A file in memory that refuses to be read in too many pieces: decoders walk through a file's chunks in Python."""

    pieces = 0

    def read(self, size: int | None = -1, /) -> bytes:
        """The next bytes."""
        self.pieces += 1
        if self.pieces > _PIECES:
            raise ValueError(_IN_PIECES)
        return super().read(size)


def label_colours(labels: Sequence[str]) -> dict[str, str]:
    """A colour per part of a figure, by its place in the segmenter's labels; none is that of a class."""
    return {name: PARTS[index % len(PARTS)] for index, name in enumerate(labels)}
