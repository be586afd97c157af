"""The file that pickles lie in: mapped for looking at, read for keeping."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from mmap import ACCESS_COPY, ACCESS_READ, mmap
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from lis.pickles.records import Budget

OTHERS = {
    b"\x1f\x8b": "compressed with gzip",
    b"version https://git-lfs": "a Git LFS pointer, not the file that it stands for",
    b"<": "a web page",
    b"\x93NUMPY": "a NumPy array",
    b"\x89HDF": "an HDF5 file",
}
"""How files begin that are mistaken for checkpoints, and what they are."""


class Source:
    """An open file, of which only those pages are touched where something looks.

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

    def mapped(self, start: int, length: int) -> Tensor:
        """The same as `read` without a copy, for a file that was opened with `share`.

        Pages are read when they are used, and what is written to the tensor stays with this process.
        """
        return torch.frombuffer(self.data, dtype=torch.uint8, count=length, offset=start)


@contextmanager
def opened(path: Path, share: bool = False) -> Iterator[Source]:
    """A file as a source; `share`: tensors may lie in its map, which then lives as long as they do.

    Raises:
        ValueError: the file is empty.
        OSError: the file cannot be opened.
    """
    with path.open("rb") as file:
        if not file.read(1):
            raise ValueError("it is empty")
        data = mmap(file.fileno(), 0, access=ACCESS_COPY if share else ACCESS_READ)
        try:
            yield Source(file, data)
        finally:
            if not share:
                data.close()


def mistaken(start: bytes) -> str | None:
    """What a file is that begins so, where it is one of `OTHERS`."""
    return next((kind for sign, kind in OTHERS.items() if start.startswith(sign)), None)
