"""The instructions of pickles, protocols 2 to 5, as a machine follows them that executes nothing: see `unpickling`."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from functools import partial
from struct import Struct
from typing import Any

from lis.pickles.machine import Machine
from lis.pickles.records import Call, Global, Opaque, View, describe

MAX_INTEGER = 64
"""Bytes of an integer; arithmetic on longer ones could take any time."""
_SET = 4
"""Steps that an empty set is charged, which takes four times the memory of other empty containers."""

# Where an instruction has variants, the variant comes first in the arguments: the table below sets it.


def _constant(value: Any, machine: Machine) -> None:
    machine.push(value)


def _empty(kind: Callable[[], Any], machine: Machine) -> None:
    machine.push(kind())


def _empty_set(machine: Machine) -> None:
    machine.budget.spend(_SET)
    machine.push(set())


def _number(layout: Struct, machine: Machine) -> None:
    machine.push(machine.number(layout))


def _long_integer(length: Struct, machine: Machine) -> None:
    count = machine.number(length)
    if count > MAX_INTEGER:
        raise machine.damage(f"an integer of {count} bytes, where {MAX_INTEGER} are the most that is read")
    start = machine.advance(count)
    machine.push(int.from_bytes(machine.data[start : start + count], "little", signed=True))


def _text(length: Struct, machine: Machine) -> None:
    count = machine.number(length)
    machine.budget.spend_text(count)
    start = machine.advance(count)
    machine.push(machine.data[start : start + count].decode("utf-8", "surrogatepass"))


def _view(length: Struct, machine: Machine) -> None:
    count = machine.number(length)
    machine.push(View(machine.advance(count), count))


def _protocol(machine: Machine) -> None:
    version = machine.number(BYTE)
    if version not in range(2, 6):
        raise machine.damage(f"protocol {version}, where 2 to 5 are known")


def _frame(machine: Machine) -> None:
    """Frames only tell a reader of streams how much to fetch at once."""
    length, left = machine.number(LENGTH), machine.stop - machine.position
    if length > left:
        raise ValueError(
            f"truncated: byte {machine.position} begins a part of {length} bytes, of which {left} are there"
        )


def _mark(machine: Machine) -> None:
    machine.below.append(machine.stack)
    machine.stack = []


def _pop(machine: Machine) -> None:
    if machine.stack:
        machine.stack.pop()
    else:
        machine.pop_to_mark()


def _pop_to_mark(machine: Machine) -> None:
    machine.pop_to_mark()


def _tuple_to_mark(machine: Machine) -> None:
    items = tuple(machine.pop_to_mark())
    machine.push(items)


def _tuple(length: int, machine: Machine) -> None:
    items = [machine.pop() for _ in range(length)]
    machine.push(tuple(reversed(items)))


def _frozenset(machine: Machine) -> None:
    items, members = machine.pop_to_mark(), set()
    _add(machine, members, items)
    machine.push(frozenset(members))


def _append(machine: Machine) -> None:
    _extend(machine, [machine.pop()])


def _appends(machine: Machine) -> None:
    _extend(machine, machine.pop_to_mark())


def _extend(machine: Machine, items: list[Any]) -> None:
    match target := machine.top():
        case list():
            target.extend(items)
        case Call():  # a list of an unknown class: nobody asks for its items
            pass
        case _:
            raise machine.damage(f"{describe(target)} is to be appended to")


def _add_items(machine: Machine) -> None:
    items = machine.pop_to_mark()
    match target := machine.top():
        case set():
            _add(machine, target, items)
        case Call():  # a set of an unknown class
            pass
        case _:
            raise machine.damage(f"{describe(target)} is to be added to")


def _add(machine: Machine, target: set[Any], items: list[Any]) -> None:
    for item in items:
        target.add(_key(machine, item, len(target)))


def _set_item(machine: Machine) -> None:
    value, key = machine.pop(), machine.pop()
    _update(machine, [key, value])


def _set_items(machine: Machine) -> None:
    _update(machine, machine.pop_to_mark())


def _update(machine: Machine, items: list[Any]) -> None:
    target = machine.top()
    if len(items) % 2 or not isinstance(target, dict | Call):
        raise machine.damage(f"{len(items)} keys and values are to be set in {describe(target)}")
    values = target if isinstance(target, dict) else target.items
    for key, value in zip(items[::2], items[1::2], strict=True):
        values[_key(machine, key, len(values))] = value


def _key(machine: Machine, value: Any, entries: int) -> Any:
    """The value where hashing it is harmless. Others' hashes could be made to collide, or to recurse into nested tuples
    until the interpreter's own stack is full. Integers, too, may be chosen so that a search visits all entries of a
    container; but not where they count the entries."""
    if isinstance(value, int) and value.bit_length() < 60:
        if value != entries:
            machine.budget.spend_search(entries)
        return value
    return value if value is None or isinstance(value, str | Global | Call) else Opaque(value)


def _name_of_lines(machine: Machine) -> None:
    machine.push_name(Global(machine.line(), machine.line()))


def _name_of_stack(machine: Machine) -> None:
    name, module = machine.pop(), machine.pop()
    if not isinstance(name, str) or not isinstance(module, str):
        raise machine.damage(f"{describe(module)} and {describe(name)} stand where a name is to be")
    machine.push_name(Global(module, name))


def _extension(code: Struct, machine: Machine) -> None:
    """A number for a name that only the program which wrote the file knows."""
    machine.push_name(Global("copyreg", f"extension {machine.number(code)}"))


def _persistent(machine: Machine) -> None:
    machine.push_persistent(machine.pop())


def _call(machine: Machine) -> None:
    """REDUCE and NEWOBJ: a callable and its arguments."""
    arguments, function = machine.pop(), machine.pop()
    machine.push(Call(function, arguments))


def _call_with_keywords(machine: Machine) -> None:
    keywords, arguments, function = machine.pop(), machine.pop(), machine.pop()
    machine.push(Call(function, (arguments, keywords)))


def _build(machine: Machine) -> None:
    """Plain containers and names have no state that could be set: theirs is dropped."""
    state = machine.pop()
    if isinstance(target := machine.top(), Call):
        target.state = state


def _memoize(machine: Machine) -> None:
    machine.memoize(len(machine.memo))


def _put(index: Struct, machine: Machine) -> None:
    machine.memoize(machine.number(index))


def _get(index: Struct, machine: Machine) -> None:
    machine.push(machine.memoized(machine.number(index)))


BYTE, SHORT, INT, LENGTH = Struct("<B"), Struct("<H"), Struct("<I"), Struct("<Q")

_BY_NAME: dict[bytes, Callable[[Machine], None]] = {
    pickle.PROTO: _protocol,
    pickle.FRAME: _frame,
    pickle.NONE: partial(_constant, None),
    pickle.NEWTRUE: partial(_constant, True),
    pickle.NEWFALSE: partial(_constant, False),
    pickle.EMPTY_TUPLE: partial(_constant, ()),
    pickle.EMPTY_LIST: partial(_empty, list),
    pickle.EMPTY_DICT: partial(_empty, dict),
    pickle.EMPTY_SET: _empty_set,
    pickle.BININT: partial(_number, Struct("<i")),
    pickle.BININT1: partial(_number, BYTE),
    pickle.BININT2: partial(_number, SHORT),
    pickle.BINFLOAT: partial(_number, Struct(">d")),
    pickle.LONG1: partial(_long_integer, BYTE),
    pickle.LONG4: partial(_long_integer, INT),
    pickle.SHORT_BINUNICODE: partial(_text, BYTE),
    pickle.BINUNICODE: partial(_text, INT),
    pickle.BINUNICODE8: partial(_text, LENGTH),
    pickle.SHORT_BINSTRING: partial(_text, BYTE),
    pickle.BINSTRING: partial(_text, INT),
    pickle.SHORT_BINBYTES: partial(_view, BYTE),
    pickle.BINBYTES: partial(_view, INT),
    pickle.BINBYTES8: partial(_view, LENGTH),
    pickle.BYTEARRAY8: partial(_view, LENGTH),
    pickle.MARK: _mark,
    pickle.POP: _pop,
    pickle.POP_MARK: _pop_to_mark,
    pickle.TUPLE: _tuple_to_mark,
    pickle.TUPLE1: partial(_tuple, 1),
    pickle.TUPLE2: partial(_tuple, 2),
    pickle.TUPLE3: partial(_tuple, 3),
    pickle.FROZENSET: _frozenset,
    pickle.APPEND: _append,
    pickle.APPENDS: _appends,
    pickle.ADDITEMS: _add_items,
    pickle.SETITEM: _set_item,
    pickle.SETITEMS: _set_items,
    pickle.GLOBAL: _name_of_lines,
    pickle.STACK_GLOBAL: _name_of_stack,
    pickle.EXT1: partial(_extension, BYTE),
    pickle.EXT2: partial(_extension, SHORT),
    pickle.EXT4: partial(_extension, INT),
    pickle.BINPERSID: _persistent,
    pickle.REDUCE: _call,
    pickle.NEWOBJ: _call,
    pickle.NEWOBJ_EX: _call_with_keywords,
    pickle.BUILD: _build,
    pickle.MEMOIZE: _memoize,
    pickle.BINPUT: partial(_put, BYTE),
    pickle.LONG_BINPUT: partial(_put, INT),
    pickle.BINGET: partial(_get, BYTE),
    pickle.LONG_BINGET: partial(_get, INT),
}
INSTRUCTIONS = {name[0]: instruction for name, instruction in _BY_NAME.items()}
"""What each instruction does, by its code."""
