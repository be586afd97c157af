"""Reads what `torch.save` writes, today's zip archives and the form before PyTorch 1.6, without executing anything.

An archive holds one pickle, `data.pkl`, and the elements of each storage in an entry `data/<key>`. The old form is a
row of five pickles (a magic number, a version, facts about the machine, the content, the keys of the storages), and
then for each key the number of elements as an int64 and the elements.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from mmap import mmap
from pathlib import Path
from struct import Struct
from typing import Any

from lis.pickles.contents import STORAGES, Contents, Part, Storage, require_known
from lis.pickles.records import Budget, Call, Global, describe
from lis.pickles.tensors import Source, mistaken, opened
from lis.pickles.unpickling import Pickle, unpickle

MAGIC, VERSION = 0x1950A86A20F9469CFC6C, 1001
MAX_PICKLE = 2**26
"""Bytes of the pickle in an archive; that of a large network and its optimizer takes less than one hundredth."""
_CONTENT, _BYTE_ORDER, _PROGRAM = "data.pkl", "byteorder", "constants.pkl"
_COUNT = Struct("<q")
SIGN = b"PK\x03\x04"
"""How an archive begins."""
_STEPS = 10
"""That an entry is charged."""
_LOCAL, _LOCAL_SIGN = Struct("<4s22xHH"), SIGN
_CENTRAL, _CENTRAL_SIGN = Struct("<4s4xHH8xIIHHH8xI"), b"PK\x01\x02"
_END, _END_SIGN = Struct("<4s8xIIH"), b"PK\x05\x06"
_LOCATOR, _LOCATOR_SIGN = Struct("<4s4xQ4x"), b"PK\x06\x07"
_LONG_END, _LONG_END_SIGN = Struct("<4s36xQQ"), b"PK\x06\x06"
_FIELD, _LONG = Struct("<HH"), Struct("<Q")
_COMMENT, _UNKNOWN, _ENCRYPTED, _SIZES = 2**16, 2**32 - 1, 1, 1


def read_torch(path: Path) -> Any:
    """What `torch.save` has written into a file, on the CPU: numbers, text, containers and tensors.

    Dictionaries of every class are dicts, and parameters are tensors; none has a gradient. Tensors lie in the file,
    which is mapped: pages are read when they are used, and what is written to a tensor stays with this process.

    Raises:
        NeedsCode: the file holds what only code of its choice would restore.
        ValueError: it is no such file, truncated or damaged, holds something that is not read here, or asks for more
            time or memory than its size accounts for.
        OSError: it cannot be opened.
    """
    with opened(path, share=True) as source:
        start = source.data[:24]
        if start.startswith(SIGN):
            content, locate = _zipped(source)
        elif start[0] == pickle.PROTO[0]:
            content, locate = _old(source)
        else:
            raise ValueError(f"it is {mistaken(start) or 'in neither form'}: it begins with {start!r}")
        return Contents(source, locate).restored(content.value)


def _zipped(source: Source) -> tuple[Pickle, Callable[[Any], Part]]:
    entries = stored_entries(source.data, source.budget)
    folders = [name.removesuffix(_CONTENT) for name in entries if name.endswith("/" + _CONTENT)]
    if len(folders) != 1 or folders[0] + _PROGRAM in entries:
        raise ValueError(
            "it is a TorchScript archive, which is a program"
            if any(folder + _PROGRAM in entries for folder in folders)
            else f"it is a zip archive with {len(folders)} entries {_CONTENT}, expected one, as torch.save writes it"
        )
    inside = {name.removeprefix(folders[0]): entry for name, entry in entries.items() if name.startswith(folders[0])}
    if (order := inside.get(_BYTE_ORDER)) and source.data[order.start : order.start + order.length] != b"little":
        raise ValueError("it was written by a big-endian machine: expected little-endian tensors")
    entry = inside[_CONTENT]
    if entry.length > MAX_PICKLE:
        raise ValueError(f"its {_CONTENT} has {entry.length} bytes: expected at most {MAX_PICKLE}")
    content = unpickle(source.data, source.budget, entry.start, entry.start + entry.length)
    require_known(content)
    return content, lambda reference: _entry(reference, inside)


def _entry(reference: Any, entries: dict[str, Entry]) -> Part:
    """The bytes that a reference stands for in an archive."""
    match reference:
        case ("storage", Global(_, kind), str() as key, _, int() as count) if kind in STORAGES:
            entry, dtype = entries.get(f"data/{key}"), STORAGES[kind]
            if entry is None or count != entry.length // dtype.itemsize:
                have = "missing" if entry is None else f"of {entry.length} bytes"
                raise ValueError(f"damaged: the storage {key!r:.80} of {count} elements is {have}")
            return Part(Storage(entry.start, count * dtype.itemsize, dtype), 0, count)
    raise _foreign(reference)


def _old(source: Source) -> tuple[Pickle, Callable[[Any], Part]]:
    pickles: list[Pickle] = []
    for _ in range(5):
        pickles.append(unpickle(source.data, source.budget, pickles[-1].end if pickles else 0))
        require_known(pickles[-1])
        if len(pickles) == 1 and pickles[0].value != MAGIC:
            raise ValueError(f"it is a pickle of {describe(pickles[0].value)}, which torch.save has not written")
    _, version, machine, content, keys = pickles
    if version.value != VERSION or not isinstance(machine.value, dict) or not machine.value.get("little_endian"):
        raise ValueError(f"expected version {VERSION} of a little-endian machine, found {version.value!r:.80}")
    roots = _roots(source, content, keys)
    return content, lambda reference: _part(reference, roots)


def _roots(source: Source, content: Pickle, keys: Pickle) -> dict[str, Storage]:
    """Where the elements of each storage lie, by its key."""
    kinds = dict(_kind(call) for call in content.persistent)
    known = isinstance(keys.value, list) and all(isinstance(key, str) and key in kinds for key in keys.value)
    if not known or len(set(keys.value)) != len(keys.value):
        raise ValueError(f"damaged: {describe(keys.value)} of keys, which are not those of its storages")
    roots, position = {}, keys.end
    for key in keys.value:
        first, width = position + _COUNT.size, STORAGES[kinds[key]].itemsize
        count = _COUNT.unpack_from(source.data, position)[0] if first <= len(source.data) else -1
        if not 0 <= count <= (len(source.data) - first) // width:
            raise ValueError(f"truncated: byte {position} begins a storage of {count} elements of {width} bytes")
        roots[key] = Storage(first, count * width, STORAGES[kinds[key]])
        position = first + count * width
    return roots


def _kind(call: Call) -> tuple[str, str]:
    """Key and class of a storage."""
    match call.arguments:
        case ("storage", Global(_, kind), str() as key, _, int(), None | (_, _, _)) if kind in STORAGES:
            return key, kind
    raise _foreign(call.arguments)


def _part(reference: Any, roots: dict[str, Storage]) -> Part:
    """The bytes that a reference stands for in the old form: a storage, or a part of one."""
    _, _, key, _, count, view = reference
    root = roots.get(key)
    if root is None or root.length != count * root.dtype.itemsize:
        raise ValueError(f"damaged: the storage {key!r:.80} of {count} elements is missing or of another size")
    match view:
        case None:
            return Part(root, 0, count)
        case (_, int() as first, int() as length) if min(first, length) >= 0 and first + length <= count:
            return Part(root, first, length)
    raise ValueError(f"damaged: a part of the storage {key!r:.80} that lies outside of it")


def _foreign(reference: Any) -> ValueError:
    kind = reference[1] if isinstance(reference, tuple) and len(reference) > 1 else reference
    return ValueError(f"it refers to {describe(kind)} where a storage is to be: expected one of {', '.join(STORAGES)}")


@dataclass(frozen=True)
class Entry:
    """Where the content of an entry lies in the file."""

    start: int
    length: int


@dataclass(frozen=True)
class _Record:
    """An entry as the central directory has it."""

    name: bytes
    flags: int
    method: int
    packed: int
    length: int
    header: int
    """Position of its local header."""


def stored_entries(data: bytes | mmap, budget: Budget) -> dict[str, Entry]:
    """The entries of an archive by name.

    Args:
        data: the file.
        budget: is charged for every entry and name.

    Raises:
        ValueError: the archive is truncated or damaged, or an entry is compressed, encrypted, overlaps another one or
            has the name of another one.
    """
    start, stop = _directory(data)
    entries: dict[str, Entry] = {}
    headers: list[tuple[int, int]] = []
    for record in _records(data, start, stop, budget):
        name, entry = _zip_entry(data, record, start)
        if name in entries:
            raise ValueError(f"damaged: two entries are called {name!r:.80}")
        entries[name] = entry
        headers.append((record.header, entry.start + entry.length))
    headers.sort()
    for (_, end), (begin, _) in pairwise(headers):
        if begin < end:
            raise ValueError(f"damaged: an entry begins at byte {begin}, inside of the one before, which ends at {end}")
    return entries


def _directory(data: bytes | mmap) -> tuple[int, int]:
    """Where the central directory begins and ends."""
    end = data.rfind(_END_SIGN, max(0, len(data) - _END.size - _COMMENT))
    if end < 0:
        raise ValueError("truncated: the end of the zip archive is missing")
    _, size, start, _ = _unpack(_END, data, end)
    before = end
    if end >= _LOCATOR.size and data[end - _LOCATOR.size : end - _LOCATOR.size + 4] == _LOCATOR_SIGN:
        before = _unpack(_LOCATOR, data, end - _LOCATOR.size)[1]
        sign, size, start = _unpack(_LONG_END, data, before)
        if sign != _LONG_END_SIGN:
            raise ValueError(f"damaged: no end of a zip archive at byte {before}")
    if start + size > before:
        raise ValueError(f"damaged: the directory of the zip archive has {size} bytes at byte {start} of {before}")
    return start, start + size


def _records(data: bytes | mmap, position: int, stop: int, budget: Budget) -> Iterator[_Record]:
    while position < stop:
        budget.spend(_STEPS)
        sign, flags, method, packed, length, named, extra, comment, header = _unpack(_CENTRAL, data, position)
        name = position + _CENTRAL.size
        position = name + named + extra + comment
        if sign != _CENTRAL_SIGN or position > stop:
            raise ValueError("damaged: the directory of the zip archive")
        budget.spend_text(named + extra)
        sizes = _long_sizes(data[name + named : name + named + extra])
        length, packed, header = (next(sizes, v) if v == _UNKNOWN else v for v in (length, packed, header))
        yield _Record(data[name : name + named], flags, method, packed, length, header)


def _long_sizes(extra: bytes) -> Iterator[int]:
    """The numbers that take 64 bits, in the order of the fields that they stand for."""
    position = 0
    while position + _FIELD.size <= len(extra):
        kind, length = _FIELD.unpack_from(extra, position)
        position += _FIELD.size
        if kind == _SIZES:
            values = extra[position : position + length]
            yield from (value for (value,) in _LONG.iter_unpack(values[: len(values) // _LONG.size * _LONG.size]))
            return
        position += length


def _zip_entry(data: bytes | mmap, record: _Record, stop: int) -> tuple[str, Entry]:
    """Name and place of an entry, which has to lie before `stop`."""
    name = record.name.decode()
    if record.method or record.packed != record.length or record.flags & _ENCRYPTED:
        how = "encrypted" if record.flags & _ENCRYPTED else "compressed"
        raise ValueError(f"its entry {name!r:.80} is {how}: expected entries as they are, as torch.save writes them")
    sign, named, extra = _unpack(_LOCAL, data, record.header)
    first = record.header + _LOCAL.size
    start = first + named + extra
    same = sign == _LOCAL_SIGN and data[first : first + named] == record.name
    if not same or start + record.length > stop:
        raise ValueError(f"damaged: its entry {name!r:.80} has {record.length} bytes at byte {record.header} of {stop}")
    return name, Entry(start, record.length)


def _unpack(layout: Struct, data: bytes | mmap, position: int) -> tuple:
    if position + layout.size > len(data):
        raise ValueError(f"truncated: a part of {layout.size} bytes at byte {position} of {len(data)}")
    return layout.unpack_from(data, position)
