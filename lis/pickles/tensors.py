"""The file that pickles lie in: mapped for looking at, read for keeping."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import prod
from mmap import ACCESS_COPY, ACCESS_READ, mmap
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from lis.pickles.records import Budget, describe

OTHERS = {
    b"\x1f\x8b": "compressed with gzip",
    b"version https://git-lfs": "a Git LFS pointer, not the file that it stands for",
    b"<": "a web page",
    b"\x93NUMPY": "a NumPy array",
    b"\x89HDF": "an HDF5 file",
}
"""How files begin that are mistaken for checkpoints, and what they are."""
DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
}
"""Classes of storages, on any device; flags are left out, since a byte may hold what is neither true nor false."""
MAX_DIMENSIONS, MAX_SIZE = 16, 2**31
_ADDRESSABLE = 2**59


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


def elements(size: Any, most: int) -> int:
    """The number of elements of a shape that a file states.

    Args:
        size: what stands for the shape; a tuple of integers, or it is refused.
        most: elements that there are.

    Raises:
        ValueError: it is no shape, or one of more elements.

    Example:
        >>> elements((2, 3), most=6)
        6
    """
    whole = isinstance(size, tuple) and len(size) <= MAX_DIMENSIONS
    if not whole or not all(isinstance(s, int) and 0 <= s < MAX_SIZE for s in size):
        raise ValueError(f"damaged: the shape of an array is {describe(size)} of other things than sizes")
    if prod(max(s, 1) for s in size) > _ADDRESSABLE:  # also where one of the others is zero
        raise ValueError(f"damaged: the shape of an array is {size!r:.80}")
    if (count := prod(size)) > most:
        raise ValueError(f"damaged: an array of {count} elements, of which {most} are in the file")
    return count


def strides(size: Sequence[int], stride: Any) -> tuple[int, ...]:
    """The strides as they are given; that of a dimension of one element means nothing and may be any.

    Raises:
        ValueError: they are none, or not as many as sizes.

    Example:
        >>> strides((2, 1), (3, 7))
        (3, 7)
    """
    whole = isinstance(stride, tuple) and len(stride) == len(size)
    if not whole or not all(isinstance(s, int) and 0 <= s < _ADDRESSABLE for s in stride):
        raise ValueError(f"damaged: {describe(stride)} stands where {len(size)} strides are to be")
    return stride


def span(size: Sequence[int], steps: Sequence[int]) -> int:
    """How many elements of a storage lie between the first and the last of a tensor that is not empty, both included.

    Example:
        >>> span((2, 2), [3, 1])
        5
    """
    return 1 + sum((length - 1) * step for length, step in zip(size, steps, strict=True))
