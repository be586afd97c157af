"""A pickle machine that executes nothing: it builds containers, views and records of calls (see `records`).

It knows the instructions that Python's picklers write in protocols 2 to 5 and refuses all others. None imports, calls
or hashes what the file names; none allocates more than the bytes that stand behind it in the file; each costs constant
time, or time in proportion to what earlier ones have pushed. There are no jumps: reading ends with the file at the
latest.
"""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from mmap import mmap
from typing import Any

from lis.pickles.instructions import BYTE, INSTRUCTIONS
from lis.pickles.machine import Machine
from lis.pickles.records import Budget, Call, Global


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
