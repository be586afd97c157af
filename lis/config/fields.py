"""Fields of a schema that say what they take: numbers with their range, words, paths; and what no key follows from."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, field, fields, is_dataclass
from types import MappingProxyType
from typing import Any, cast, get_type_hints

POSITIVE = 1e-12
"""Lowest value of what divides, multiplies or spaces logarithmically: 0 would do nothing, or fail late."""
SILENT = "silent"
"""Metadata of a field that changes how a result is made, and not the result: it is not in the key of an artifact."""


def number(default: Any, low: float, high: float = math.inf, silent: bool = False) -> Any:
    """A field that takes a number from `low` to `high`; ∞ itself is never one.

    Args:
        default: the number, None where there may be none, or `MISSING` where one has to be given.
        low: lowest value.
        high: highest value.
        silent: the number is not in the key of an artifact, as that of a batch.
    """
    return field(default=default, metadata=within(low, high) | {SILENT: silent})


def within(low: float, high: float = math.inf) -> dict[str, Any]:
    """Metadata of a field that takes a list of different numbers from `low` to `high`."""
    return {"low": low, "high": high}


def choice(default: Any, choices: tuple[str, ...]) -> Any:
    """A field that takes one of some words."""
    return field(default=default, metadata={"choices": choices})


def path(default: str | None, *words: str, silent: bool = False) -> Any:
    """A field that takes the path of a file or folder, or one of some words; a word with a colon begins a value.

    Args:
        default: the path, None, or `MISSING`.
        words: what it takes instead.
        silent: the path is not in the key of an artifact, which should name what lies there instead.
    """
    return field(default=default, metadata={"path": words, SILENT: silent})


def keyed(config: Any) -> dict[str, Any]:
    """The values of a group that its results follow from: all but those of silent fields.

    Example:
        >>> from dataclasses import dataclass
        >>> @dataclass
        ... class Traversal:
        ...     steps: int = number(3, low=2)
        ...     batch_size: int = number(8, low=1, silent=True)
        >>> keyed(Traversal())
        {'steps': 3}
    """
    silent = {entry.name for entry in fields(config) if entry.metadata.get(SILENT)}
    return {name: value for name, value in asdict(config).items() if name not in silent}


def described(schema: type, prefix: str = "") -> Iterator[tuple[str, type, Mapping[str, Any]]]:
    """Every field of a schema and of the groups inside: its dotted key, its type, and what it says of itself."""
    hints = get_type_hints(schema)
    for entry in fields(schema):
        if is_dataclass(hints[entry.name]):
            yield from described(cast(type, hints[entry.name]), f"{prefix}{entry.name}.")
        else:
            yield f"{prefix}{entry.name}", hints[entry.name], entry.metadata or MappingProxyType({})
