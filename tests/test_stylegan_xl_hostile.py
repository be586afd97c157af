"""Checkpoints that attack: nothing in them is executed or imported, and a small file takes little time and memory."""

from __future__ import annotations

import pickle
import struct
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.hanging import no_hang
from helpers.pickled import (
    Made,
    Name,
    Raw,
    blob,
    code,
    forget_peak,
    get,
    kept,
    network,
    packed,
    peak_memory,
    pickled,
    tensor,
)

from lis.generators.stylegan_xl.checkpoint import read_pickle
from lis.generators.stylegan_xl.records import Node
from lis.pickles.records import MAX_STEPS

WATCHED: dict[int, list[str]] = {}
"""By thread, what the interpreter was asked for: opening, importing, compiling, starting programs, …"""


def note(event: str, arguments: tuple[Any, ...]) -> None:
    if (events := WATCHED.get(threading.get_ident())) is not None:
        events.append(f"{event} {arguments[:2]}")


sys.addaudithook(note)


def read(content: bytes, path: Path) -> Node | str:
    """G_ema, or what the reader says in its place, after a check that it has only looked at the file."""
    path.write_bytes(content)
    modules, events = set(sys.modules), WATCHED.setdefault(threading.get_ident(), [])
    try:
        result, cause = read_pickle(path), None
    except ValueError as error:
        result, cause = str(error), error.__cause__
    finally:
        del WATCHED[threading.get_ident()]
    assert cause is None or isinstance(cause, ValueError), "an error that nobody has foreseen"
    assert set(sys.modules) == modules
    assert [event for event in events if not event.startswith("mmap.__new__")] == [f"open ({str(path)!r}, 'r')"]
    return result


def attacks(folder: Path, mark: Path) -> dict[str, Any]:
    """Values that make the file `mark` when an ordinary unpickler reads them."""
    program = f"open({str(mark)!r}, 'w').close()"
    (folder / "lis_evil.py").write_text(f"{program}\nclass Evil:\n    pass\n")
    evil = pickled(Made(Name("builtins", "exec"), (program,)))
    with (folder / "evil.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|O", "fortran_order": False, "shape": (1,)})
        file.write(evil)
    path = Made(Name("pathlib", "Path"), (str(mark),))
    return {
        "a shell": Made(Name("os", "system"), (f"touch {mark}",)),
        "a shell by its other name": Made(Name("posix", "system"), (f"touch {mark}",)),
        "a process": Made(Name("subprocess", "call"), (["touch", str(mark)],)),
        "eval": Made(Name("builtins", "eval"), (program,)),
        "exec": Made(Name("builtins", "exec"), (program,)),
        "a method": Made(Name("pathlib", "Path.touch"), (path,)),
        "a function made by a call": Made(Made(Name("functools", "partial"), (Name("builtins", "exec"), program)), ()),
        "a name in an evil module": Name("lis_evil", "Evil"),
        "an object of an evil module": Raw(code(Name("lis_evil", "Evil")) + b")\x81" + code({"a": 1}) + b"b"),
        "an import": Made(Name("importlib", "import_module"), ("lis_evil",)),
        "pickle": Made(Name("_pickle", "loads"), (evil,)),
        "numpy": Made(Name("numpy", "load"), (str(folder / "evil.npy"), None, True)),
        "torch": Made(Name("torch.storage", "_load_from_bytes"), (evil,)),
    }


@pytest.fixture
def mark(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path / "mark"
    sys.modules.pop("lis_evil", None)


def test_the_attacks_work_on_an_ordinary_unpickler(mark):
    for kind, attack in attacks(mark.parent, mark).items():
        with suppress(RuntimeError):  # of torch, about what the attack has returned
            pickle.loads(pickled(attack))
        assert mark.exists(), kind
        mark.unlink()
        sys.modules.pop("lis_evil", None)


def hooked(attack: Any) -> dict[str, Any]:
    """A network with a tensor that has an attack for hooks."""
    return {"G_ema": network(_buffers={"b": tensor(torch.ones(2), hooks=attack)})}


def inside(attack: Any) -> bytes:
    """The storage of two ones, with an attack in place of the facts about the machine."""
    data = blob(torch.ones(2))
    return data[: data.index(b"\x80\x02}")] + pickled(attack) + data[data.index(b"\x80\x02(") :]


def buffer(**changes: Any) -> dict[str, Any]:
    """A network with a buffer of the numbers 0 to 15, but for the changes."""
    return {"G_ema": network(_buffers={"b": tensor(torch.arange(16.0), **changes)})}


def attribute(value: Any) -> dict[str, Any]:
    """A network with an attribute beside a harmless one."""
    return {"G_ema": network(a=1, b=value)}


HARMLESS: dict[str, Callable[[Any], dict[Any, Any]]] = {
    "an entry": lambda attack: {"evil": attack},
    "a key": lambda attack: {attack: 1},
    "another network": lambda attack: {"D": network(_modules={"features": attack})},
    "an attribute": attribute,
    "deep in an attribute": lambda attack: attribute([{"a": (1, attack)}]),
    "an attribute's key": lambda attack: attribute({attack: 1}),
    "a hook": lambda attack: {"G_ema": network(_forward_hooks={1: attack})},
    "the hooks of a tensor": lambda attack: buffer(hooks=attack),
    "a number": lambda attack: attribute(Made(Name("numpy._core.multiarray", "scalar"), (attack, b"1"))),
}
NEEDED: dict[str, Callable[[Any], Any]] = {
    "everything": lambda attack: attack,
    "the network": lambda attack: {"G_ema": attack},
    "its description": lambda attack: {"G_ema": Made(network().function, (attack,))},
    "its state": lambda attack: {"G_ema": Made(Name("torch.nn", "Module"), (), state=attack)},
    "its parameters": lambda attack: {"G_ema": network(_parameters=attack)},
    "a parameter": lambda attack: {"G_ema": network(_parameters={"w": attack})},
    "a child": lambda attack: {"G_ema": network(_modules={"c": attack})},
    "a storage": lambda attack: buffer(storage=attack),
    "a pickle in a storage": lambda attack: buffer(data=inside(attack)),
    "a shape": lambda attack: buffer(size=attack),
    "a stride": lambda attack: buffer(stride=attack),
}


@pytest.mark.parametrize("place", HARMLESS)
def test_an_attack_where_nothing_is_needed_lies_there_inert(place, mark):
    for kind, attack in attacks(mark.parent, mark).items():
        node = read(pickled({"G_ema": network()} | HARMLESS[place](attack)), mark.parent / "network.pkl")
        assert isinstance(node, Node), kind
        assert node.attributes.keys() <= {"a"}
        assert not mark.exists(), kind


@pytest.mark.parametrize("place", NEEDED)
def test_an_attack_in_the_place_of_what_is_needed_is_refused(place, mark):
    for kind, attack in attacks(mark.parent, mark).items():
        reason = read(pickled(NEEDED[place](attack)), mark.parent / "network.pkl")
        assert isinstance(reason, str), kind
        assert "network.pkl cannot be read" in reason
        assert not mark.exists(), kind


def test_the_program_in_a_checkpoint_is_not_run(tmp_path):
    whole = packed("t_stem16_c10")
    assert whole.count(b"raise RuntimeError") > 0
    assert isinstance(read(whole, tmp_path / "network.pkl"), Node)


def array(shape: Any, kind: str = "f8", data: bytes = bytes(8)) -> Made:
    """An array of NumPy that says of itself whatever it wants."""
    dtype = Made(Name("numpy", "dtype"), (kind, False, True), state=(3, "<", None, None, None, -1, -1, 0))
    start = (Name("numpy", "ndarray"), (0,), b"b")
    return Made(Name("numpy._core.multiarray", "_reconstruct"), start, state=(1, shape, dtype, False, data))


def claims(count: int) -> bytes:
    """A storage of 16 elements that says it has others."""
    data = blob(torch.arange(16.0)).replace(b"K\x10Nt", b"\x8a\x08" + struct.pack("<q", count) + b"Nt")
    return data[:-72] + struct.pack("<q", count) + data[-64:]


def longwinded(use: int) -> Raw:
    """A storage in which much is said and taken back; written at the first use."""
    if use:
        return get(0)
    data = blob(torch.ones(1))
    place = data.index(b"\x80\x02}") + 2
    data = data[:place] + b"N0" * 10_000 + data[place:]
    return kept(Made(Name("torch.storage", "_load_from_bytes"), (data,)), 0)


def nested(depth: int, first: Any, around: Callable[[Raw], Any]) -> Raw:
    """A value within a value within …, each written once."""
    instructions = code(first)
    for index in range(depth):
        instructions += kept(Raw(b""), index).code + b"0" + code(around(get(index)))
    return Raw(instructions)


def itself(value: bytes, use: bytes) -> Raw:
    """Something that is put into itself."""
    return Raw(kept(Raw(value), 0).code + use)


def sharing(kind: str, count: int, entries: int) -> dict[str, Any]:
    """Many modules of which each has the same many entries, written once."""
    names = {f"n{i}": None for i in range(entries)}
    shared = kept([*names] if kind == "_non_persistent_buffers_set" else names, 0)
    own = kept(network(**{kind: shared}), 1)
    return {"G_ema": network(_modules={"m": own} | {f"m{i}": network(**{kind: get(0)}) for i in range(count)})}


HUGE = 2**40
BOMBS: dict[str, tuple[Any, str | None]] = {
    "a tensor larger than its storage": (buffer(size=(17,)), "an array of 17 elements, of which 16"),
    "a tensor larger than any storage": (buffer(size=(HUGE, HUGE), stride=(0, 0)), "the shape of an array"),
    "a tensor of nothing larger than any": (buffer(size=(0, HUGE)), "the shape of an array"),
    "a tensor that repeats its storage": (buffer(size=(4, 4), stride=(0, 1)), "a tensor of 16 elements over 0:4"),
    "a tensor behind its storage": (buffer(size=(2,), stride=(1,), offset=15), "over 15:17 of 16"),
    "a tensor before its storage": (buffer(size=(2,), stride=(1,), offset=-1), "over -1:1 of 16"),
    "a negative size": (buffer(size=(-4, -4), stride=(1, 1)), "the shape of an array"),
    "a stride that is none": (buffer(stride=("1",)), "a tuple stands where 1 strides are to be"),
    "a tensor of many dimensions": (buffer(size=(1,) * 1000, stride=(1,) * 1000), "the shape of an array"),
    "a storage of more than it has": (buffer(data=claims(HUGE)), "begins a storage of 1099511627776 elements"),
    "a storage of less than nothing": (buffer(data=claims(-1)), "begins a storage of -1 elements"),
    "a zipped storage": (buffer(data=b"PK\x03\x04" + bytes(99)), "damaged before byte"),
    "an array larger than its bytes": (attribute(array((2,))), "an array of 2 elements, of which 1"),
    "an array larger than any": (attribute(array((HUGE,))), "the shape of an array"),
    "an array smaller than its bytes": (attribute(array((1,), data=bytes(16))), "an array of 1 elements"),
    "an array of nothing, many times": (attribute(array((2**31 - 1, 0), data=b"")), None),
    "an array of objects": (attribute(array((1,), "O", pickle.dumps([1]))), None),
    "an array of one huge element": (attribute(array((1,), "V1000000000")), None),
    "bytes of no end": (Raw(b"\x8e" + struct.pack("<Q", 2**62)), "truncated"),
    "a bytearray of no end": (Raw(b"\x96" + struct.pack("<Q", 2**62)), "truncated"),
    "a text of no end": (Raw(b"\x8d" + struct.pack("<Q", 2**20)), "truncated"),
    "too much text": (Raw(b"\x8d" + struct.pack("<Q", 2**62)), "bytes of text"),
    "a frame of no end": (Raw(b"\x95" + struct.pack("<Q", 2**63)), "truncated"),
    "a name of no end": (Raw(b"c" + b"a" * 2000), "a name that does not end"),
    "an integer of no end": (Raw(b"\x8b" + struct.pack("<I", 2**31)), "an integer of 2147483648 bytes"),
    "a distant place in the memo": (kept(attribute(1), 2**32 - 1), "to have the number 4294967295, of at most"),
    "an empty place in the memo": (get(2**32 - 1), "value 4294967295 is used before"),
    "numbers for names": (attribute([Raw(b"\x82\x01"), Raw(b"\x83\x01\x01"), Raw(b"\x84\x01\x01\x01\x01")]), None),
    "an object from elsewhere": (attribute(Raw(code("id") + b"Q")), None),
    "deep tuples": (attribute(Raw(b"N" + b"\x85" * 100_000)), None),
    "deep calls": (attribute(Raw(b"N" * 100_001 + b"R" * 100_000)), None),
    "deep sets": (attribute(Raw(b"(" * 50_000 + b"\x91" * 50_000)), None),
    "a deep key": (attribute(Raw(b"}N" + b"\x85" * 100_000 + b"Ns")), None),
    "a list in itself": (attribute(itself(b"]", get(0).code + b"a")), None),
    "keys of equal hash": (attribute({i * (2**61 - 1): 0 for i in range(20_000)}), None),
    "values that multiply": (attribute(nested(12, 1, lambda value: [value] * 12)), f"more than {MAX_STEPS}"),
    "an array again and again": (
        attribute([kept(array((50_000,), data=bytes(400_000)), 0)] + [get(0)] * 100),
        f"more than {MAX_STEPS}",
    ),
    "networks that multiply": (
        {"G_ema": nested(30, network(), lambda value: network(_modules={"a": value, "b": value}))},
        f"more than {MAX_STEPS}",
    ),
    "deep networks": (
        {"G_ema": nested(100, network(), lambda value: network(_modules={"a": value}))},
        "of which one is in itself",
    ),
    "a network in itself": (
        {"G_ema": itself(code(Name("torch.nn", "Module")) + b")R", code({"_modules": {"a": get(0)}}) + b"b")},
        "of which one is in itself",
    ),
    "a tensor again and again": (
        {"G_ema": network(_buffers={"b": kept(tensor(torch.ones(1000)), 0)} | {str(i): get(0) for i in range(100)})},
        "its tensors take more than the",
    ),
    "a long storage again and again": (
        {"G_ema": network(_buffers={str(i): tensor(torch.ones(1), storage=longwinded(i)) for i in range(200)})},
        f"more than {MAX_STEPS}",
    ),
    "names that many modules share": (sharing("_non_persistent_buffers_set", 300, 50_000), f"more than {MAX_STEPS}"),
    "buffers that many modules share": (sharing("_buffers", 300, 50_000), f"more than {MAX_STEPS}"),
    "sizes beside none whose product is too large": (
        buffer(size=(0, 2**30, 2**30, 2**30), stride=(1, 1, 1, 1)),
        "the shape of an array",
    ),
    "a long name": ({"G_ema": network(_modules={"a" * 101: network()})}, "where a name is to be"),
    "a name of parts": ({"G_ema": network(_buffers={"a.b": tensor(torch.ones(1))})}, "has 'a.b' where a name is to be"),
    "an instruction of old": (Raw(b"(i__main__\nEvil\n"), "0x69 is no instruction"),
    "buffers from elsewhere": (Raw(b"\x97"), "0x97 is no instruction"),
}


@pytest.mark.parametrize("kind", BOMBS)
def test_a_small_file_takes_little(kind, tmp_path):
    value, expected = BOMBS[kind]
    content = pickled(value)
    forget_peak()
    before = peak_memory()
    with no_hang():
        result = read(content, tmp_path / "network.pkl")
    assert peak_memory() - before < 2**28
    assert isinstance(result, Node) if expected is None else expected in str(result)
