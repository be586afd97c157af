"""Zip archives as `torch.save` writes them: every entry lies in the file as it is, so nothing is ever unpacked.

Layout: PKWARE's APPNOTE, sections 4.3.7 (local headers), 4.3.12 (central directory), 4.3.14 to 4.3.16 (its end) and
4.5.3 (sizes of 64 bits).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from mmap import mmap
from struct import Struct

from lis.pickles.records import Budget

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
        name, entry = _entry(data, record, start)
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


def _entry(data: bytes | mmap, record: _Record, stop: int) -> tuple[str, Entry]:
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
