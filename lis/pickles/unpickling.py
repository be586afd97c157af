"""A pickle machine that executes nothing: it builds containers, views and records of calls (see `records`).

It knows the instructions that Python's picklers write in protocols 2 to 5 and refuses all others. None imports, calls
or hashes what the file names; none allocates more than the bytes that stand behind it in the file; each costs constant
time, or time in proportion to what earlier ones have pushed. There are no jumps: reading ends with the file at the
latest.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from mmap import mmap
from struct import Struct
from typing import Any

from lis.pickles.records import PERSISTENT, Budget, Call, Global, Opaque, View, describe

MAX_LINE = 1024
"""Bytes of a name that ends with its line."""
_NAME = _PERSISTENT = 8
"""Steps that a name and a reference to an object outside are charged: they take more memory than other values."""
_FREE = 256
"""Places in the memo that any pickle may use, also before it has made as many values."""
_ABSENT = object()
MAX_INTEGER = 64
"""Bytes of an integer; arithmetic on longer ones could take any time."""
_SET = 4
"""Steps that an empty set is charged, which takes four times the memory of other empty containers."""
BYTE, SHORT, INT, LENGTH = Struct("<B"), Struct("<H"), Struct("<I"), Struct("<Q")
_SIGNED, _FLOAT = Struct("<i"), Struct(">d")


@dataclass(frozen=True)
class Pickle:
    """What lies in a pickle."""

    value: Any
    """In it every name is a `Global`, every object that a callable would make is a `Call`, and a key other than text,
    a small integer or None may be `Opaque`."""
    end: int
    """The position after it."""
    names: tuple[Global, ...]
    """Every name that it uses, wherever, in the order of their first use."""
    persistent: tuple[Call, ...]
    """Every reference to an object outside of it, in order."""


def unpickle(data: bytes | mmap, budget: Budget, start: int = 0, stop: int | None = None) -> Pickle:
    """Run the pickle that begins at `start` and lies before `stop` (the end of the data where it is None).

    Args:
        data: holds the pickle; bytes objects in it are not read but become a `View` of their place in `data`.
        budget: is charged for every instruction.
        start: position of the first byte.
        stop: position after the last byte that may be read.

    Raises:
        ValueError: the pickle is truncated or damaged, goes on for too long, or uses other instructions.

    Example:
        >>> unpickle(pickle.dumps({"a": 1.5, "b": print}), Budget()).value
        {'a': 1.5, 'b': Global(module='builtins', name='print')}
    """
    machine = Machine(data, budget, start, len(data) if stop is None else stop)
    while (code := machine.number(BYTE)) != pickle.STOP[0]:
        budget.spend()
        if code not in INSTRUCTIONS:
            raise machine.damage(f"{code:#04x} is no instruction of a pickle of protocol 2 to 5")
        INSTRUCTIONS[code](machine)
    return Pickle(machine.pop(), machine.position, tuple(machine.names), tuple(machine.persistent))


class Machine:
    """The state of one run; what the instructions do with it is told below.

    Args:
        data: holds the pickle.
        budget: is charged for every instruction.
        start: position of the first byte.
        stop: position after the last byte that may be read.
    """

    def __init__(self, data: bytes | mmap, budget: Budget, start: int, stop: int) -> None:
        self.data, self.budget, self.position, self.stop = data, budget, start, stop
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []
        """The stacks under each open mark."""
        self.memo: list[Any] = []  # not a dict, in which a file could make its indices collide
        self._budgeted = budget.steps
        self.names: dict[Global, None] = {}
        """Every name that was pushed, in the order of its first use."""
        self.persistent: list[Call] = []
        """Every reference to an object outside the pickle."""

    def advance(self, count: int) -> int:
        """The position of the next `count` bytes, which are then behind: the only way to get at the data."""
        start, left = self.position, self.stop - self.position
        if count > left:
            raise ValueError(f"truncated: byte {start} begins a part of {count} bytes, of which {left} are there")
        self.position += count
        return start

    def number(self, layout: Struct) -> Any:
        """The next number."""
        return layout.unpack_from(self.data, self.advance(layout.size))[0]

    def line(self) -> str:
        """The text up to the end of the line."""
        end = self.data.find(b"\n", self.position, min(self.position + MAX_LINE, self.stop))
        if end < 0:
            where = "truncated" if self.stop - self.position < MAX_LINE else "damaged"
            raise ValueError(f"{where}: byte {self.position} begins a name that does not end")
        start = self.advance(end + 1 - self.position)
        self.budget.spend_text(end - start)
        return self.data[start:end].decode()

    def push(self, value: Any) -> None:
        """Put a value on the stack."""
        self.stack.append(value)

    def push_name(self, name: Global) -> None:
        """Put a name on the stack, and remember it."""
        self.budget.spend(_NAME)
        self.names[name] = None
        self.stack.append(name)

    def push_persistent(self, reference: Any) -> None:
        """Put a reference to an object outside the pickle on the stack, and remember it."""
        self.budget.spend(_PERSISTENT)
        self.persistent.append(Call(PERSISTENT, reference))
        self.stack.append(self.persistent[-1])

    def memoize(self, index: int) -> None:
        """Remember the last value of the stack by a number, of which there are not many more than instructions."""
        most = self._budgeted - self.budget.steps + _FREE
        if index > most:
            raise self.damage(f"a value is to have the number {index}, of at most {most}")
        self.memo.extend([_ABSENT] * (index + 1 - len(self.memo)))
        self.memo[index] = self.top()

    def memoized(self, index: int) -> Any:
        """The value of a number."""
        if index >= len(self.memo) or self.memo[index] is _ABSENT:
            raise self.damage(f"value {index} is used before it is there")
        return self.memo[index]

    def pop(self) -> Any:
        """Take the last value from the stack."""
        if not self.stack:
            raise self.damage("an instruction finds nothing on the stack")
        return self.stack.pop()

    def top(self) -> Any:
        """The last value of the stack, which stays."""
        if not self.stack:
            raise self.damage("an instruction finds nothing on the stack")
        return self.stack[-1]

    def pop_to_mark(self) -> list[Any]:
        """Take everything after the last mark, and the mark."""
        if not self.below:
            raise self.damage("an instruction finds no mark on the stack")
        items, self.stack = self.stack, self.below.pop()
        return items

    def damage(self, what: str) -> ValueError:
        """The error for a pickle that no pickler has written."""
        return ValueError(f"damaged before byte {self.position}: {what}")


# Where an instruction has variants, the variant comes first in the arguments: the table below sets it.


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


def _empty_set(machine: Machine) -> None:
    machine.budget.spend(_SET)
    machine.push(set())


def _protocol(machine: Machine) -> None:
    version = machine.number(BYTE)
    if version not in range(2, 6):
        raise machine.damage(f"protocol {version}, where 2 to 5 are known")


def _frame(machine: Machine) -> None:
    """Frames only tell a reader of streams how much to fetch at once: what they hold is read as if they were not."""
    machine.position = machine.advance(machine.number(LENGTH))


def _mark(machine: Machine) -> None:
    machine.below.append(machine.stack)
    machine.stack = []


def _pop(machine: Machine) -> None:
    if machine.stack:
        machine.stack.pop()
    else:
        machine.pop_to_mark()


def _tuple(length: int, machine: Machine) -> None:
    items = [machine.pop() for _ in range(length)]
    machine.push(tuple(reversed(items)))


def _frozenset(machine: Machine) -> None:
    items, members = machine.pop_to_mark(), set()
    _add(machine, members, items)
    machine.push(frozenset(members))


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


def _name_of_stack(machine: Machine) -> None:
    name, module = machine.pop(), machine.pop()
    if not isinstance(name, str) or not isinstance(module, str):
        raise machine.damage(f"{describe(module)} and {describe(name)} stand where a name is to be")
    machine.push_name(Global(module, name))


def _extension(code: Struct, machine: Machine) -> None:
    """A number for a name that only the program which wrote the file knows."""
    machine.push_name(Global("copyreg", f"extension {machine.number(code)}"))


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


_BY_NAME: dict[bytes, Callable[[Machine], object]] = {
    pickle.PROTO: _protocol,
    pickle.FRAME: _frame,
    pickle.NONE: lambda machine: machine.push(None),
    pickle.NEWTRUE: lambda machine: machine.push(True),
    pickle.NEWFALSE: lambda machine: machine.push(False),
    pickle.EMPTY_TUPLE: lambda machine: machine.push(()),
    pickle.EMPTY_LIST: lambda machine: machine.push([]),
    pickle.EMPTY_DICT: lambda machine: machine.push({}),
    pickle.EMPTY_SET: _empty_set,
    pickle.BININT: lambda machine: machine.push(machine.number(_SIGNED)),
    pickle.BININT1: lambda machine: machine.push(machine.number(BYTE)),
    pickle.BININT2: lambda machine: machine.push(machine.number(SHORT)),
    pickle.BINFLOAT: lambda machine: machine.push(machine.number(_FLOAT)),
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
    pickle.POP_MARK: Machine.pop_to_mark,
    pickle.TUPLE: lambda machine: machine.push(tuple(machine.pop_to_mark())),
    pickle.TUPLE1: partial(_tuple, 1),
    pickle.TUPLE2: partial(_tuple, 2),
    pickle.TUPLE3: partial(_tuple, 3),
    pickle.FROZENSET: _frozenset,
    pickle.APPEND: lambda machine: _extend(machine, [machine.pop()]),
    pickle.APPENDS: lambda machine: _extend(machine, machine.pop_to_mark()),
    pickle.ADDITEMS: _add_items,
    pickle.SETITEM: _set_item,
    pickle.SETITEMS: lambda machine: _update(machine, machine.pop_to_mark()),
    pickle.GLOBAL: lambda machine: machine.push_name(Global(machine.line(), machine.line())),
    pickle.STACK_GLOBAL: _name_of_stack,
    pickle.EXT1: partial(_extension, BYTE),
    pickle.EXT2: partial(_extension, SHORT),
    pickle.EXT4: partial(_extension, INT),
    pickle.BINPERSID: lambda machine: machine.push_persistent(machine.pop()),
    pickle.REDUCE: _call,
    pickle.NEWOBJ: _call,
    pickle.NEWOBJ_EX: _call_with_keywords,
    pickle.BUILD: _build,
    pickle.MEMOIZE: lambda machine: machine.memoize(len(machine.memo)),
    pickle.BINPUT: lambda machine: machine.memoize(machine.number(BYTE)),
    pickle.LONG_BINPUT: lambda machine: machine.memoize(machine.number(INT)),
    pickle.BINGET: lambda machine: machine.push(machine.memoized(machine.number(BYTE))),
    pickle.LONG_BINGET: lambda machine: machine.push(machine.memoized(machine.number(INT))),
}


INSTRUCTIONS = {name[0]: instruction for name, instruction in _BY_NAME.items()}
"""What each instruction does, by its code."""
