"""The file that a pickle lies in: mapped for looking at, read for keeping."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from lis.generators.stylegan_xl.records import Budget

OTHERS = {
    b"PK\x03\x04": "a zip archive, which torch.save writes",
    b"\x80\x02\x8a\x0al\xfc\x9cF\xf9": "a file of tensors, which an old torch.save wrote",
    b"\x1f\x8b": "compressed with gzip",
    b"version https://git-lfs": "a Git LFS pointer, not the file that it stands for",
    b"<": "a web page",
    b"\x93NUMPY": "a NumPy array",
    b"\x89HDF": "an HDF5 file",
}
"""How files begin that are mistaken for checkpoints, and what they are."""


class Source:
    """An open pickle, of which only those pages are touched where something looks.

    Args:
        file: is read from.
        data: the same file, mapped.
    """

    def __init__(self, file: BinaryIO, data: mmap) -> None:
        self.file, self.data, self.budget = file, data, Budget()
        self.memory = len(data)
        """Bytes that may still be read for keeping: a file cannot ask for more than it has by showing a part twice."""

    def read(self, start: int, length: int) -> Tensor:
        """Bytes of the file as a tensor `[length]` (uint8) of its own.

        Raises:
            ValueError: more bytes are read in all than the file has, or it has become shorter.
        """
        self.memory -= length
        if self.memory < 0:
            raise ValueError(f"its tensors take more than the {len(self.data)} bytes of the whole file")
        values = torch.empty(length, dtype=torch.uint8)
        self.file.seek(start)  # not from the map, whose pages would count as memory of this process
        if self.file.readinto(values.numpy()) != length:  # pyright: ignore[reportAttributeAccessIssue]: untyped
            raise ValueError("it has become shorter while it was read")
        return values


@contextmanager
def opened(path: Path) -> Iterator[Source]:
    """The pickle in a file.

    Raises:
        ValueError: the file does not begin like a pickle of protocol 2 to 5.
        OSError: the file cannot be opened.
    """
    with path.open("rb") as file:
        _require_pickle(file.read(24))
        with mmap(file.fileno(), 0, access=ACCESS_READ) as data:
            yield Source(file, data)


def _require_pickle(start: bytes) -> None:
    if not start:
        raise ValueError("it is empty")
    kind = next((kind for sign, kind in OTHERS.items() if start.startswith(sign)), None)
    if kind or start[0] != pickle.PROTO[0]:
        raise ValueError(f"it is {kind or 'no pickle'}: it begins with {start!r}")
