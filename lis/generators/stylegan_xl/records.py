"""From the record of a pickled network to its picture: a tree of `Node`s."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from struct import Struct
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lis.pickles.records import PERSISTENT, Budget, Call, Global, View, describe
from lis.pickles.tensors import DTYPES, Source, elements, span, strides
from lis.pickles.torch_files import MAGIC, VERSION
from lis.pickles.unpickling import unpickle

MAX_MODULE_DEPTH, MAX_NAME = 32, 100
_COST = 100
"""Steps that a module is charged; pickling one takes more, unless one record stands for many."""
MAX_DEPTH = 16
NUMBERS = frozenset({"b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"})
"""NumPy's types that are read; of the others an object array would be a pickle in the pickle."""
_COUNT = Struct("<q")


def read_module(source: Source, value: Any, where: str, depth: int = 0) -> Node:
    """The picture of the module that a recorded call stands for, with its tensors.

    Args:
        source: the file, for what was left in it.
        value: the record.
        where: the module's path, for messages.
        depth: how many modules it lies in.

    Raises:
        ValueError: it is no module, is damaged, or is nested without end.
    """
    source.budget.spend(_COST)
    if depth > MAX_MODULE_DEPTH:
        raise ValueError(f"damaged: {where[:80]} … lies in {depth} modules, of which one is in itself")
    name, state = _module(value, where)
    hidden = as_names(source.budget, state.get("_non_persistent_buffers_set"))
    buffers = {key: buffer for key, buffer in _entries(source, state, "_buffers", where) if key not in hidden}
    return Node(
        class_name=name,
        attributes=_attributes(source, state),
        parameters=_tensors(source, dict(_entries(source, state, "_parameters", where)), where),
        buffers=_tensors(source, buffers, where),
        children={
            key: read_module(source, child, f"{where}.{key}", depth + 1)
            for key, child in _entries(source, state, "_modules", where)
        },
    )


def _module(value: Any, where: str) -> tuple[str, dict[Any, Any]]:
    """Name of the class and state of a module, as PyTorch pickles it or as `torch_utils.persistence` does."""
    match value:
        case Call(Global("torch_utils.persistence", "_reconstruct_persistent_obj"), (meta,)):
            facts = as_dict(meta) or {}  # `module_src` in it is a program: it is not looked at
            name, state = facts.get("class_name"), as_dict(facts.get("state"))
        case Call(Global(_, name), _, state):
            state = as_dict(state)
        case _:
            name = state = None
    if not isinstance(name, str) or state is None or "_modules" not in state:
        raise ValueError(f"{where} is {describe(value)}: expected a network")
    return name, state


def _entries(source: Source, state: dict[Any, Any], kind: str, where: str) -> Iterator[tuple[str, Any]]:
    """What PyTorch has registered under `_parameters`, `_buffers` or `_modules`, without what is None."""
    entries = as_dict(state.get(kind, {}))
    if entries is None:
        raise ValueError(f"damaged: {where}.{kind} is {describe(state[kind])}")
    source.budget.spend(len(entries))  # other modules may share them
    for name, value in entries.items():
        if not isinstance(name, str) or "." in name or not 0 < len(name) <= MAX_NAME:
            raise ValueError(f"damaged: {where}.{kind} has {name!r:.80} where a name is to be")
        if value is not None:
            yield name, value


def _tensors(source: Source, entries: dict[str, Any], where: str) -> dict[str, Tensor]:
    return {name: _tensor(source, value, f"{where}.{name}") for name, value in entries.items()}


def _tensor(source: Source, value: Any, where: str) -> Tensor:
    try:
        return read_tensor(source, value)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def _attributes(source: Source, state: dict[Any, Any]) -> dict[str, Any]:
    """The plain ones, without those that PyTorch and the persistence keep for themselves."""
    result = {}
    source.budget.spend(len(state))
    for name, value in state.items():
        if isinstance(name, str) and not name.startswith("_"):
            with suppress(NotPlain):
                result[name] = plain(source, value)
    return result


@dataclass(frozen=True, eq=False)
class Node:
    """One module: its own values and tensors, and the modules in it. Nothing of the class it names is imported."""

    class_name: str
    attributes: dict[str, Any]
    """Numbers, text, None, and lists, tuples and dicts of them. NumPy's numbers and arrays are here as numbers and
    lists. Other attributes, and PyTorch's own, which begin with `_`, are left out."""
    parameters: dict[str, Tensor]
    buffers: dict[str, Tensor]
    """The persistent ones: those that a state dict has."""
    children: dict[str, Node]

    def tensors(self, prefix: str = "") -> dict[str, Tensor]:
        """All tensors under the names and in the order of the module's `state_dict`.

        Example:
            >>> leaf = Node("Linear", {}, {"bias": Tensor([1.0])}, {}, {})
            >>> Node("Sequential", {}, {}, {}, {"0": leaf}).tensors()
            {'0.bias': tensor([1.])}
        """
        return dict(self._named(prefix))

    def _named(self, prefix: str) -> Iterator[tuple[str, Tensor]]:
        for name, value in (self.parameters | self.buffers).items():
            yield prefix + name, value
        for name, child in self.children.items():
            yield from child._named(f"{prefix}{name}.")


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
    stated = _COUNT.unpack_from(source.data, start)[0] if first <= stop else None
    if stated != length or not 0 <= length <= (stop - first) // dtype.itemsize:
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
