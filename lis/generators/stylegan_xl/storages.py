"""Tensors as PyTorch pickles them inside other pickles, read without PyTorch's unpickler.

A tensor is a call of `_rebuild_tensor_v2(storage, offset, size, stride, …)`; its storage is a call of
`_load_from_bytes(blob)`. The blob is in the form of `torch.save` before 1.6: five pickles (a magic number, a version,
facts about the machine, a reference to one storage, the list of its key), then the number of elements as an int64, then
the elements.
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct
from typing import Any

import torch
from torch import Tensor

from lis.pickles.records import PERSISTENT, Call, Global, View, describe
from lis.pickles.source import Source
from lis.pickles.tensors import DTYPES, elements, span, strides
from lis.pickles.torch_files import MAGIC, VERSION
from lis.pickles.unpickling import unpickle

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


def _headers(source: Source, blob: View) -> tuple[list[Any], int]:
    """The five pickles of a blob and the position after them."""
    headers, end = [], blob.start
    for _ in range(5):
        header = unpickle(source.data, source.budget, end, blob.start + blob.length)
        headers.append(header.value)
        end = header.end
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
    steps = strides(size, stride)
    length = span(size, steps)
    if not (0 <= offset <= storage.length - length and count <= length):
        raise ValueError(f"damaged: a tensor of {count} elements over {offset}:{offset + length} of {storage.length}")
    width = storage.dtype.itemsize
    flat = source.read(storage.start + offset * width, length * width).view(storage.dtype)
    return flat.as_strided(size, steps).contiguous()
