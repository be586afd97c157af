"""From JSON to frozen dataclasses, checked against their annotations."""

from __future__ import annotations

import math
import types
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, Union, get_args, get_origin, get_type_hints

MAX_INTEGER = 2**63
"""Larger ones are no sizes of anything, and neither tensors nor floats can hold them."""


def typed(kind: Any, value: Any, where: str) -> Any:
    """A value of JSON as what an annotation says: a dataclass, a tuple, a number, text, True or None.

    Args:
        kind: the annotation.
        value: what was read.
        where: it stands, for messages.

    Raises:
        ValueError: the value is of another kind, or keys are missing or unknown.

    Example:
        >>> typed(tuple[int, ...] | None, [1, 2], "sizes")
        (1, 2)
    """
    if get_origin(kind) in (Union, types.UnionType):
        options = [option for option in get_args(kind) if option is not type(None)]
        return None if value is None else typed(options[0], value, where)
    if is_dataclass(kind):
        return _dataclass(kind, value, where)
    if get_origin(kind) is tuple:
        return _tuple(get_args(kind), value, where)
    if kind is float and type(value) is int and abs(value) < MAX_INTEGER:
        value = float(value)
    whole = type(value) is int and abs(value) >= MAX_INTEGER
    if type(value) is not kind or whole or (kind is float and not math.isfinite(value)):
        raise ValueError(f"{where} is {value!r:.80}, expected {kind.__name__}")
    return value


def _dataclass(kind: Any, value: Any, where: str) -> Any:
    names, types_ = [field.name for field in fields(kind)], get_type_hints(kind)
    if not isinstance(value, Mapping) or set(value) != set(names):
        have = sorted(map(str, value)) if isinstance(value, Mapping) else value
        raise ValueError(f"{where} is {have!r:.200}, expected the keys {', '.join(names)}")
    return kind(**{name: typed(types_[name], value[name], f"{where}.{name}") for name in names})


def _tuple(kinds: tuple[Any, ...], value: Any, where: str) -> Any:
    repeated = len(kinds) == 2 and kinds[1] is Ellipsis
    if not isinstance(value, list | tuple) or (not repeated and len(value) != len(kinds)):
        raise ValueError(f"{where} is {value!r:.80}, expected a list" + ("" if repeated else f" of {len(kinds)}"))
    each = [kinds[0]] * len(value) if repeated else kinds
    return tuple(typed(kind, item, f"{where}[{i}]") for i, (kind, item) in enumerate(zip(each, value, strict=True)))
