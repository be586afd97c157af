"""What a pickle machine works on: a stack, marks on it, a memo, and a place in the data that it cannot leave."""

from __future__ import annotations

from mmap import mmap
from struct import Struct
from typing import Any

from lis.pickles.records import PERSISTENT, Budget, Call, Global

MAX_LINE = 1024
"""Bytes of a name that ends with its line."""
_NAME = _PERSISTENT = 8
"""Steps that a name and a reference to an object outside are charged: they take more memory than other values."""
_FREE = 256
"""Places in the memo that any pickle may use, also before it has made as many values."""
_ABSENT = object()


class Machine:
    """The state of one run; the instructions are in `instructions`.

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
