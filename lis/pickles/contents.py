"""From the records of a pickle to what they stand for: plain values and tensors. Nothing else is restored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lis.pickles.records import Call, Global, NeedsCode, Opaque, View, describe
from lis.pickles.tensors import DTYPES, Source, elements, span, strides
from lis.pickles.unpickling import Pickle

STORAGES = DTYPES | {
    "BoolStorage": torch.bool,
    "ComplexFloatStorage": torch.complex64,
    "ComplexDoubleStorage": torch.complex128,
    "UntypedStorage": torch.uint8,
}
"""Classes of storages. An untyped one is in bytes, and the tensor says what they are."""
NEW_DTYPES = (
    *("uint16", "uint32", "uint64", "complex32"),
    *("float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu"),
)
"""Of tensors whose storage is untyped."""
UNSUPPORTED = {
    "_rebuild_sparse_tensor": "a sparse tensor",
    "_rebuild_qtensor": "a quantised tensor",
    "_rebuild_meta_tensor_no_storage": "a tensor without values",
    "_rebuild_wrapper_subclass": "a tensor of a class of its own",
    "_rebuild_device_tensor_from_numpy": "a tensor of another device's library",
    "_rebuild_device_tensor_from_cpu_tensor": "a tensor of another device's library",
}
"""What only PyTorch itself could restore."""
MAX_DEPTH, MAX_ODD_KEYS, MAX_KEY = 64, 1000, 64
"""Containers in each other; keys that are neither text nor small integers; values in such a key."""
SPARE = 2**28
"""Bytes that the values may take beyond the file's size: one element of a storage may stand for many of a tensor."""
MAX_VIEWS = 8
"""Times the file's size that the different views of its storages may take, beside `SPARE`, when each is written out."""
_TENSOR = 20
"""Steps that a tensor is charged."""
_NAMED = {str(kind).removeprefix("torch."): kind for kind in vars(torch).values() if isinstance(kind, torch.dtype)}
_RESTORED = {
    ("builtins", "set"),
    ("builtins", "complex"),
    ("builtins", "bytearray"),
    ("_codecs", "encode"),
    ("collections", "OrderedDict"),
    ("collections", "Counter"),
    ("torch", "Size"),
    ("torch", "device"),
    ("torch", "Tensor"),
    ("torch.nn.parameter", "Parameter"),
    ("torch.serialization", "_get_layout"),
    ("torch._tensor", "_rebuild_from_type_v2"),
}
_PARAMETERS = ("_rebuild_parameter", "_rebuild_parameter_with_state")
_TENSORS = ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3")


@dataclass(frozen=True)
class Storage:
    """The bytes of a storage in the file, and what its class says that they are."""

    start: int
    length: int
    dtype: torch.dtype


@dataclass(frozen=True)
class Part:
    """Some elements of a storage, or all of them."""

    storage: Storage
    first: int
    count: int


def require_known(pickle: Pickle) -> None:
    """Check that a pickle names nothing but what is restored here, wherever it is.

    Raises:
        NeedsCode: it does.
    """
    for name in pickle.names:
        if not _is_known(name):
            raise NeedsCode(name)


def _is_known(name: Global) -> bool:
    match name:
        case Global("torch" | "torch.cuda" | "torch.storage", kind) if kind.endswith("Storage"):
            return True
        case Global("torch._utils", function):
            return function in UNSUPPORTED or function in _PARAMETERS or function in _TENSORS
        case Global("torch", kind) if kind in _NAMED:
            return True
    return (_today(name.module), name.name) in _RESTORED


def _today(module: str) -> str:
    """Python 2's names of modules."""
    return {"__builtin__": "builtins"}.get(module, module)


class Contents:
    """What the records of one file stand for; a record that is used twice is one value.

    Args:
        source: the file; its budget is charged for every value.
        locate: finds the elements that a reference outside the pickle stands for.
    """

    def __init__(self, source: Source, locate: Callable[[Any], Part]) -> None:
        self._source, self._locate = source, locate
        self._done: dict[int, Any] = {}
        self._open: set[int] = set()
        # By text: the hashes of numbers are the file's choice.
        self._flat: dict[str, Tensor] = {}
        self._views: dict[str, Tensor] = {}
        self._odd_keys, self._memory = 0, len(source.data) + SPARE
        self._viewed = MAX_VIEWS * len(source.data) + SPARE

    def restored(self, value: Any, depth: int = 0) -> Any:
        """What a record stands for: None, numbers, text, bytes, containers of these, and tensors without gradients.

        Dictionaries of every class are dicts, parameters are tensors; tensors of one storage share it.

        Raises:
            ValueError: it stands for something else, lies in itself, is nested too deeply, or takes too much.
        """
        self._source.budget.spend()
        if value is None or isinstance(value, bool | int | float | str):
            return value
        key = id(value)  # records live as long as the pickle does
        if key in self._done:
            return self._done[key]
        if key in self._open or depth > MAX_DEPTH:
            raise ValueError(f"{describe(value)} lies in itself, or in more than {MAX_DEPTH} others")
        self._open.add(key)
        self._done[key] = self._of_kind(value, depth + 1)
        self._open.discard(key)
        return self._done[key]

    def _of_kind(self, value: Any, depth: int) -> Any:
        match value:
            case list():
                return [self.restored(item, depth) for item in value]
            case tuple():
                return tuple([self.restored(item, depth) for item in value])
            case dict():
                return self._filled({}, value.items(), depth)
            case set() | frozenset():
                self._source.budget.spend(len(value))
                return type(value)(self._members(value, depth))
            case View():
                self._take(value.length)
                return bytes(self._source.data[value.start : value.start + value.length])
            case Global("torch", kind) if kind in _NAMED:
                return _NAMED[kind]
            case Call():
                return self._made(value, depth)
        raise ValueError(f"{describe(value)} stands where a value is to be")

    def _made(self, call: Call, depth: int) -> Any:
        """What a call would have made."""
        function = call.function
        if not isinstance(function, Global) or not isinstance(call.arguments, tuple):
            raise ValueError(f"it holds {describe(call)}")
        self._pay(call.arguments)
        match _today(function.module), function.name, call.arguments:
            case "collections", "OrderedDict" | "Counter", arguments:
                return self._dictionary(call, arguments, depth)
            case "builtins", "set", () | ([*_],) as arguments:
                return self._members([item for items in arguments for item in items], depth)
            case "builtins", "complex", (float() as real, float() as imaginary):
                return complex(real, imaginary)
            case "builtins", "bytearray", arguments:
                content = self._bytes(arguments, depth)
                self._take(len(content))
                return bytearray(content)
            case "_codecs", "encode", arguments:
                return self._bytes(arguments, depth)
            case "torch", "Size", ((*sizes,),) if all(isinstance(size, int) and abs(size) < 2**63 for size in sizes):
                return torch.Size(sizes)
            case "torch", "device", arguments:
                return _device(arguments)
        return self._tensor(call, depth)

    def _dictionary(self, call: Call, arguments: Any, depth: int) -> dict[Any, Any]:
        """Of its items, which Python 3 sets one by one and Python 2 gave as a list of pairs."""
        match arguments:
            case ():
                items: Any = ()
            case (dict() as values,):
                items = values.items()
            case (list() as items,) if all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in items):
                pass
            case _:
                raise ValueError(f"damaged: {describe(call)} from {describe(arguments)}")
        counts = call.function.name == "Counter"
        return self._filled(Counter() if counts else {}, (*items, *call.items.items()), depth)

    def _filled(self, result: dict[Any, Any], items: Iterable[Any], depth: int) -> dict[Any, Any]:
        for key, item in items:
            result[self._key(key, len(result), depth)] = self.restored(item, depth)
        return result

    def _members(self, items: Iterable[Any], depth: int) -> set[Any]:
        result: set[Any] = set()
        for item in items:
            result.add(self._key(item, len(result), depth))
        return result

    def _bytes(self, arguments: Any, depth: int) -> bytes:
        """Bytes as protocol 2 has them, as text, or as they are."""
        match arguments:
            case ():
                return b""
            case (str() as text, "latin1" | "latin-1"):
                self._source.budget.spend_text(len(text))
                return text.encode("latin-1")
            case ((View() | Call()) as inner,) if isinstance(result := self.restored(inner, depth), bytes):
                return result
        raise ValueError(f"bytes of {describe(arguments)}: expected the bytes themselves")

    def _key(self, key: Any, entries: int, depth: int) -> Any:
        """A key for a container of so many entries, where hashing and comparing it is harmless."""
        if key is None or isinstance(key, str):
            return key
        small = isinstance(key, int) and key.bit_length() < 60
        if not small or key != entries:
            self._source.budget.spend_search(entries)
        if small:
            return key
        self._odd_keys += 1
        result = self.restored(key.value if isinstance(key, Opaque) else key, depth)
        if self._odd_keys > MAX_ODD_KEYS or _size_of_key(result) > MAX_KEY:
            raise ValueError(f"{describe(result)} is one of too many or too large keys: expected text or numbers")
        return result

    def _tensor(self, call: Call, depth: int) -> Tensor:
        match call:
            case Call(
                Global("torch._tensor", "_rebuild_from_type_v2"),
                (Global() as function, Global("torch", "Tensor") | Global(_, "Parameter"), arguments, _),
            ) if function.name != "_rebuild_from_type_v2":
                self._pay(arguments)
                return self._tensor(Call(function, arguments), depth)
            case Call(
                Global("torch._utils", name) | Global("torch.nn.parameter", "Parameter" as name), (inner, *_)
            ) if name in (*_PARAMETERS, "Parameter"):
                result = self.restored(inner, depth)
                if isinstance(result, Tensor):
                    return result
            case Call(
                Global("torch._utils", name),
                (Call(Global("pickle", "persistent_load"), reference), int() as offset, size, stride, *rest),
            ) if name in _TENSORS:
                part = self._locate(reference)
                return self._view(part, _dtype(part.storage, name, rest), offset, size, stride)
            case Call(Global("torch._utils", name)) if name in UNSUPPORTED:
                raise ValueError(f"it holds {UNSUPPORTED[name]} ({name}): expected plain, dense tensors alone")
        raise ValueError(f"it holds {describe(call)}, in another form than torch.save writes")

    def _view(self, part: Part, dtype: torch.dtype, offset: int, size: Any, stride: Any) -> Tensor:
        """The elements `offset + Σ index · stride` of a storage; the same ones are one tensor."""
        self._source.budget.spend(_TENSOR)
        count, steps = elements(size, 2**62), strides(size, stride)
        if count == 0:
            return torch.empty_strided(size, steps, dtype=dtype)
        last, length = offset + span(size, steps), part.count * part.storage.dtype.itemsize // dtype.itemsize
        if not 0 <= offset < last <= length:
            raise ValueError(f"damaged: a tensor over the elements {offset}:{last} of {length}")
        key = f"{_text(part.storage, dtype)} {part.first + offset} {size} {steps}"
        if key not in self._views:
            repeated = count - min(count, last - offset)
            self._take(repeated * dtype.itemsize, count * dtype.itemsize)
            self._views[key] = self._elements(part.storage, dtype).as_strided(size, steps, part.first + offset)
        return self._views[key]

    def _elements(self, storage: Storage, dtype: torch.dtype) -> Tensor:
        """All elements of a storage, as they lie in the file where that is possible."""
        key = _text(storage, dtype)
        if key not in self._flat:
            start, length = storage.start, storage.length // dtype.itemsize * dtype.itemsize
            aligned = start % dtype.itemsize == 0
            data = self._source.mapped(start, length) if aligned else self._source.read(start, length)
            # A byte may hold what is neither true nor false.
            self._flat[key] = data.ne(0) if dtype == torch.bool else data.view(dtype)
        return self._flat[key]

    def _pay(self, arguments: tuple[Any, ...]) -> None:
        """For looking at the arguments of a call, which other calls may share."""
        self._source.budget.spend(len(arguments))
        self._source.budget.spend(sum(len(value) for value in arguments if isinstance(value, list | tuple | dict)))

    def _take(self, count: int, viewed: int = 0) -> None:
        """For bytes of memory, and for those of a view, which would take memory where somebody copies it."""
        self._memory -= count
        self._viewed -= viewed
        if min(self._memory, self._viewed) < 0:
            raise ValueError(
                f"its values would take more than the file's size and {SPARE} bytes: expected no more than it holds"
            )


def _text(storage: Storage, dtype: torch.dtype) -> str:
    return f"{storage.start} {storage.length} {dtype}"


def _dtype(storage: Storage, name: str, rest: list[Any]) -> torch.dtype:
    """What the elements of a tensor are, from what follows its strides."""
    match name, rest:
        case "_rebuild_tensor_v3", [_, _, Global("torch", kind), *metadata] if kind in NEW_DTYPES:
            dtype = _NAMED[kind]
        case "_rebuild_tensor", []:
            dtype, metadata = storage.dtype, []
        case "_rebuild_tensor_v2", [_, _, *metadata]:
            dtype = storage.dtype
        case _:
            raise ValueError(
                f"damaged: {name} is given {len(rest)} values behind the strides, or a type not known here"
            )
    if any(metadata):
        raise ValueError("it holds a tensor that is to be conjugated or negated: expected the values as they are")
    return dtype


def _device(arguments: Any) -> torch.device:
    match arguments:
        case (str(),) | (str(), int()):
            try:
                return torch.device(*arguments)
            except (RuntimeError, TypeError, OverflowError) as error:
                raise ValueError(f"damaged: no device is called {arguments!r:.80}") from error
    raise ValueError(f"damaged: a device of {describe(arguments)}")


def _size_of_key(key: Any) -> int:
    """How many values hashing a key touches; more than are allowed where it cannot be a key."""
    if isinstance(key, tuple):
        total = 1
        for item in key:
            total += _size_of_key(item)
            if total > MAX_KEY:
                break
        return total
    plain = key is None or isinstance(key, str | bytes | int | float | complex | torch.dtype | torch.device)
    return 1 if plain else MAX_KEY + 1
