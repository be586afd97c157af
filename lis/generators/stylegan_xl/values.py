"""Plain values of a network's attributes, and NumPy's numbers and arrays in the forms in which pickles hold them.

Every known name is compared with what was recorded; anything else is not plain.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lis.pickles.records import Budget, Call, Global, View
from lis.pickles.source import Source
from lis.pickles.tensors import elements

MAX_DEPTH = 16
NUMBERS = frozenset({"b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"})
"""NumPy's types that are read; of the others an object array would be a pickle in the pickle."""


class NotPlain(Exception):
    """A value is more than numbers, text, None, and lists, tuples and dicts of them."""


def plain(source: Source, value: Any, depth: int = 0) -> Any:
    """A recorded value as plain Python; NumPy's numbers become numbers and its arrays nested lists.

    Each element is charged to the budget, since a few nested references can stand for very many.

    Raises:
        NotPlain: it holds something else, or is nested deeper than `MAX_DEPTH`, as what holds itself is.
        ValueError: an array that says it holds more than it does, or too many values in all.
    """
    source.budget.spend()
    if depth > MAX_DEPTH:
        raise NotPlain
    match value:
        case None | bool() | int() | float() | str():
            return value
        case list():
            return [plain(source, item, depth + 1) for item in value]
        case tuple():
            return tuple(plain(source, item, depth + 1) for item in value)
    if (items := as_dict(value)) is not None:
        return {_plain_key(key): plain(source, item, depth + 1) for key, item in items.items()}
    return _array(source, value)


def as_dict(value: Any) -> dict[Any, Any] | None:
    """The items of a dict or of a class that is one; None for anything else."""
    match value:
        case dict():
            return value
        case Call(Global("collections", "OrderedDict") | Global("dnnlib.util" | "dnnlib", "EasyDict")):
            return value.items
    return None


def as_names(budget: Budget, value: Any) -> set[str]:
    """The texts in a set, in the forms in which Python and dill write one; empty for anything else.

    Raises:
        ValueError: too many values in all.
    """
    match value:
        case Call(Global("builtins" | "__builtin__", "set"), (list() as items,)):
            value = items
        case Call(Call(Global("dill._dill" | "dill.dill", "_load_type"), ("set" | "SetType",)), (list() as items,)):
            value = items
    if not isinstance(value, set | list):
        return set()
    budget.spend(len(value))  # other modules may share it
    return {item for item in value if isinstance(item, str)}


def _plain_key(key: Any) -> Any:
    if key is None or isinstance(key, str | int):
        return key
    raise NotPlain


def _array(source: Source, value: Any) -> Any:
    """What a call stands for that makes a number or an array of NumPy."""
    match value:
        case Call(Global("numpy.core.multiarray" | "numpy._core.multiarray", "scalar"), (kind, View() as view)):
            return _values(source, kind, (), view)
        case Call(Global("numpy.core.multiarray" | "numpy._core.multiarray", "_reconstruct"), _, state):
            return _restored(source, state)
        case Call(Global("dill._dill" | "dill.dill", "_create_array"), (_, _, state, *_)):
            return _restored(source, state)
        case Call(
            Global("numpy.core.numeric" | "numpy._core.numeric", "_frombuffer"), (View() as view, kind, shape, order)
        ):
            return _values(source, kind, shape, view, order == "F")
    raise NotPlain


def _restored(source: Source, state: Any) -> Any:
    """An array from its pickled state: version, shape, type, whether columns come first, bytes."""
    match state:
        case (int(), shape, kind, bool(columns_first), View() as view):
            return _values(source, kind, shape, view, columns_first)
    raise NotPlain


def _values(source: Source, kind: Any, shape: Any, view: View, columns_first: bool = False) -> Any:
    """A number for the shape `()`, else nested lists."""
    dtype = _dtype(kind)
    count = elements(shape, view.length // dtype.itemsize)
    if count * dtype.itemsize != view.length:
        raise ValueError(f"damaged: an array of {count} elements of {dtype} in {view.length} bytes")
    if count == 0:
        return []  # not nested: the sizes beside a zero can be anything
    source.budget.spend(count)
    data = source.data[view.start : view.start + view.length]
    return np.frombuffer(data, dtype).reshape(shape, order="F" if columns_first else "C").tolist()


def _dtype(kind: Any) -> np.dtype:
    match kind:
        case Call(Global("numpy", "dtype"), (str(code), *_), (int(), "<" | ">" | "|" | "=" as order, *_)) if (
            code in NUMBERS
        ):
            return np.dtype(code).newbyteorder(order)
    raise NotPlain
