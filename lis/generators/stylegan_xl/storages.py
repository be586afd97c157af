"""Tensors as PyTorch pickles them inside other pickles, read without PyTorch's unpickler.

A tensor is a call of `_rebuild_tensor_v2(storage, offset, size, stride, …)`; its storage is a call of
`_load_from_bytes(blob)`. The blob is in the form of `torch.save` before 1.6: five pickles (a magic number, a version,
facts about the machine, a reference to one storage, the list of its key), then the number of elements as an int64, then
the elements.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from struct import Struct
from typing import Any

import torch
from torch import Tensor

from lis.generators.stylegan_xl.records import PERSISTENT, Call, Global, View, describe
from lis.generators.stylegan_xl.source import Source
from lis.generators.stylegan_xl.unpickling import unpickle

MAGIC, VERSION = 0x1950A86A20F9469CFC6C, 1001
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
_COUNT = Struct("<q")


@dataclass(frozen=True)
class Storage:
    """Where the elements of a storage lie in the file."""

    dtype: torch.dtype
    start: int
    length: int
    """In elements."""


def read_tensor(source: Source, value: Any) -> Tensor:
    """The tensor or parameter that a recorded call stands for: a contiguous copy of its elements, and of no others.

    Raises:
        ValueError: the call is none of a tensor, is damaged, or asks for elements that are not in the file.
    """
    match value:
        case Call(Global("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state"), (inner, *_)):
            value = inner
    match value:
        case Call(
            Global("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2"),
            (Call(Global("torch.storage", "_load_from_bytes"), (View() as blob,)), int(offset), size, stride, *_),
        ):
            return _read(source, read_storage(source, blob), offset, size, stride)
    raise ValueError(f"expected a tensor in PyTorch's own form, found {describe(value)}")


def read_storage(source: Source, blob: View) -> Storage:
    """Where the elements lie in a blob, and what they are.

    Raises:
        ValueError: the blob is in another form, or says that it holds more than it does.
    """
    headers, end = _headers(source, blob)
    match headers:
        case (
            magic,
            version,
            {"little_endian": True},
            Call(function, ("storage", Global("torch" | "torch.cuda", kind), str(key), str(), int(length), None)),
            [str(only)],
        ) if (magic, version, function, only) == (MAGIC, VERSION, PERSISTENT, key) and kind in DTYPES:
            return _storage(source, end, blob.start + blob.length, DTYPES[kind], length)
    raise ValueError(
        f"byte {blob.start} begins a storage in another form: expected {', '.join(DTYPES)} of a little-endian machine, "
        "as torch.save wrote them before 1.6"
    )


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
    whole = isinstance(size, tuple) and all(isinstance(s, int) and 0 <= s < MAX_SIZE for s in size)
    if not whole or len(size) > MAX_DIMENSIONS:
        raise ValueError(f"damaged: the shape of an array is {describe(size)} of other things than sizes")
    if (count := prod(size)) > most:
        raise ValueError(f"damaged: an array of {count} elements, of which {most} are in the file")
    return count


def _headers(source: Source, blob: View) -> tuple[list[Any], int]:
    """The five pickles of a blob and the position after them."""
    headers, end = [], blob.start
    for _ in range(5):
        header, end = unpickle(source.data, source.budget, end, blob.start + blob.length)
        headers.append(header)
    return headers, end


def _storage(source: Source, start: int, stop: int, dtype: torch.dtype, length: int) -> Storage:
    """The storage whose number of elements stands at `start`, and whose elements end before `stop`."""
    first = start + _COUNT.size
    found = _COUNT.unpack_from(source.data, start)[0] if first <= stop else None
    if found != length or not 0 <= length <= (stop - first) // dtype.itemsize:
        raise ValueError(f"damaged: byte {start} begins a storage of {length} elements, of {stop - first} bytes")
    return Storage(dtype, first, length)


def _read(source: Source, storage: Storage, offset: int, size: Any, stride: Any) -> Tensor:
    """The elements `offset + Σ index · stride` of a storage, of which only the range that they span is read."""
    count = elements(size, storage.length)
    if count == 0:
        return torch.empty(size, dtype=storage.dtype)
    steps = _steps(size, stride)
    span = 1 + sum((length - 1) * step for length, step in zip(size, steps, strict=True))
    if not (0 <= offset <= storage.length - span and count <= span):
        raise ValueError(f"damaged: a tensor of {count} elements over {offset}:{offset + span} of {storage.length}")
    width = storage.dtype.itemsize
    flat = source.read(storage.start + offset * width, span * width).view(storage.dtype)
    return flat.as_strided(size, steps).contiguous()


def _steps(size: Sequence[int], stride: Any) -> list[int]:
    """The strides; that of a dimension of one element means nothing and may be anything."""
    whole = isinstance(stride, tuple) and all(isinstance(s, int) and s >= 0 for s in stride)
    if not whole or len(stride) != len(size):
        raise ValueError(f"damaged: {describe(stride)} stands where {len(size)} strides are to be")
    return [step if length > 1 else 1 for length, step in zip(size, stride, strict=True)]
