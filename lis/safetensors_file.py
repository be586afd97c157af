"""Reads safetensors whose header is of a size that a network's has."""

from __future__ import annotations

from pathlib import Path
from struct import Struct

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

MAX_HEADER = 2**23
"""Bytes of the header, in which every tensor has a hundred or so; the library allows 100 MB, which fill gigabytes."""
_LENGTH = Struct("<Q")


def load_safetensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a file by name, on the CPU; they lie in the file, which is mapped.

    Raises:
        ValueError: the file is damaged, or its header is larger than `MAX_HEADER`.
        OSError: it cannot be opened.
    """
    with path.open("rb") as file:
        start = file.read(_LENGTH.size)
    if len(start) == _LENGTH.size and (length := _LENGTH.unpack(start)[0]) > MAX_HEADER:
        raise ValueError(f"its header has {length} bytes: expected at most {MAX_HEADER}")
    try:
        return load_file(path)
    except (SafetensorError, KeyError) as error:  # KeyError: a type of elements that PyTorch does not have
        raise ValueError(f"it is no safetensors file, or damaged: {error}") from error
