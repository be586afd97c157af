"""Reads JSON, YAML and safetensors of any origin, within bounds; errors name what is wrong, and the remedy."""

from __future__ import annotations

import json
from pathlib import Path
from struct import Struct
from typing import Any

import numpy as np
import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

LARGEST = 64 * 2**20
"""Bytes of the largest file that is read."""
_MEMORY = 416 * 2**20
"""Bytes that a file's values may take beyond its size, while they are read."""
_COST = {b"[": 96, b"{": 240, b":": 110, b",": 36, b'"': 32}
"""Bytes of memory per byte of the text at most, where it opens, names or parts values: a list of up to four, an object
of up to five, a member of an object, a number in a list, half a short text."""
MAX_HEADER = 2**23
"""Bytes of the header, in which every tensor has a hundred or so; the library allows 100 MB, which fill gigabytes."""
_LENGTH = Struct("<Q")
_LARGEST_YAML, _DEEPEST = 2**16, 20
"""Bytes of the largest YAML file, and its levels."""


def read_json(path: Path, what: str = "JSON", remedy: str = "save it again") -> dict[str, Any]:
    """The object in a JSON file of at most `LARGEST` bytes, whose values take at most half a gigabyte of memory.

    What they will take is counted before they are parsed: a file of 60 MB that is nothing but `[]` would take 2 GB.

    Args:
        path: the file; UTF-8, with or without a byte order mark.
        what: what was expected, as an error says it.
        remedy: what is to be done, as an error says it.

    Raises:
        ValueError: the file is no plain one, too large or too rich, cannot be read, or holds anything but an object.
    """
    value = parse_json(read_bytes(path), str(path), what, remedy)
    if not isinstance(value, dict):
        raise ValueError(f"{path} holds {type(value).__name__}: expected a JSON object; {remedy}")
    return value


def parse_json(content: bytes, where: str, what: str = "JSON", remedy: str = "save it again") -> Any:
    """A JSON value of any kind, within the same bound of memory.

    Args:
        content: UTF-8, with or without a byte order mark.
        where: what is said before a problem.
        what: what was expected, as an error says it.
        remedy: what is to be done, as an error says it.

    Raises:
        ValueError: it would take too much memory, or cannot be read.
    """
    if (cost := memory(content)) > _MEMORY + len(content):
        raise ValueError(
            f"{where} holds too many values: they would take {cost / 2**20:,.0f} MB of memory, expected at most "
            f"{(_MEMORY + len(content)) / 2**20:,.0f} MB; leave out what is not needed, or make several files of it"
        )
    try:
        text = content.decode("utf-8-sig")
        del content
        return json.loads(text, parse_constant=_refuse)
    except (RecursionError, ValueError) as error:  # no UTF-8, no JSON, a whole number of thousands of digits
        reason = "too deeply nested" if isinstance(error, RecursionError) else error
        raise ValueError(f"{where} cannot be read ({reason}): expected {what}; {remedy}") from error


def read_bytes(path: Path, largest: int = LARGEST) -> bytes:
    """The content of a plain file of at most `largest` bytes.

    Raises:
        ValueError: it is something else, larger, or cannot be read.
    """
    try:
        if not path.is_file():  # opening a pipe would wait for ever
            raise ValueError(f"{path} is not a file")
        with path.open("rb") as stream:
            content = stream.read(largest + 1)
            size = max(path.stat().st_size, len(content))
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}): make it readable") from error
    if size > largest:
        raise ValueError(
            f"{path} has {size:,} bytes: expected at most {largest:,}; leave out what is not needed, as embedded images"
        )
    return content


def memory(content: bytes) -> int:
    r"""Bytes of memory that JSON takes at most while it is parsed: the text, and its values.

    Python keeps every character of a text in as many bytes, 1, 2 or 4, as the widest of them takes, and holds a text
    with escapes (`\n`, `\u00e9`) twice while it is put together.

    Example:
        >>> memory(b'{"a": [1, 2]}')
        572
    """
    largest = int(np.frombuffer(content, np.uint8).max(initial=0))
    width = 1 if largest < 0xC4 else 2 if largest < 0xF0 else 4
    escaped = (4 if b"\\u" in content else width) if b"\\" in content else 0
    return (2 * width + escaped) * len(content) + sum(cost * content.count(byte) for byte, cost in _COST.items())


def read_yaml(path: Path, what: str = "YAML", remedy: str = "save it again") -> Any:
    """What a YAML file of at most 64 kB holds, as plain values; interpolations, `${…}`, are text.

    Args:
        path: the file; UTF-8.
        what: what was expected, as an error says it.
        remedy: what is to be done, as an error says it.

    Raises:
        ValueError: the file is no plain one, larger or deeper than a person writes, has aliases, or cannot be read.
    """
    try:
        text = read_bytes(path, _LARGEST_YAML).decode()
        _check_plain(text)
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} cannot be read ({error}): expected {what}; {remedy}") from error


def _check_plain(text: str) -> None:
    """Refuse what grows when it is read: aliases, each of which stands for a copy, and deep nesting."""
    depth = 0
    for event in yaml.parse(text, yaml.SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if isinstance(event, yaml.AliasEvent) or depth > _DEEPEST:
            raise ValueError(f"an alias, or more than {_DEEPEST} levels")


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no number")


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
