"""What a pickle becomes when nothing in it is executed: plain containers, views of the file, names, recorded calls."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

MAX_STEPS = 2_000_000
"""Instructions and copied values per file, a few seconds' work. Two generators of 32 layers, a discriminator and its
two feature networks take about 150,000."""
MAX_TEXT = 2**24
"""Bytes of text per file; the programs in a published checkpoint take less than one megabyte."""
_SEARCHED = 16
"""Entries of a container that are searched for one step."""


@dataclass(frozen=True, slots=True)
class View:
    """Bytes that were left in the file: nothing is read before it is known to be needed."""

    start: int
    length: int


@dataclass(frozen=True, slots=True)
class Global:
    """The name of a class or function: something to compare, never to import."""

    module: str
    name: str


@dataclass(eq=False, repr=False, slots=True)
class Call:
    """What a callable would have been given, and the object that it would have made: nothing is ever called.

    Equality is identity and there is no `repr` of the content: either would recurse through what a file can nest
    without bound.
    """

    function: Any
    arguments: Any
    state: Any = None
    """What `__setstate__` would have been given."""
    items: dict[Any, Any] = field(default_factory=dict)
    """What would have been set by key."""


PERSISTENT = Global("pickle", "persistent_load")
"""Stands for the function that would look up an object outside the file."""


class NeedsCode(ValueError):
    """A file holds what only code of its choice would restore.

    Args:
        name: of the class or function.
    """

    def __init__(self, name: Global) -> None:
        self.name = _dotted(name)
        super().__init__(f"{self.name} would have to be called")


@dataclass(eq=False, repr=False, slots=True)
class Opaque:
    """A key that only equals itself: the hash of what a file chooses may collide or recurse on purpose."""

    value: Any


class Budget:
    """What reading one file may still cost, so that a small file cannot keep the machine busy or fill its memory.

    Example:
        >>> Budget(steps=1).spend(2)
        Traceback (most recent call last):
        ValueError: more than 1 instructions and values: expected far fewer in a checkpoint
    """

    def __init__(self, steps: int = MAX_STEPS, text: int = MAX_TEXT) -> None:
        self.limits = steps, text
        self.steps, self.text = steps, text

    def spend(self, steps: int = 1) -> None:
        """Count instructions, or values that are copied out of what was recorded.

        Raises:
            ValueError: too many.
        """
        self.steps -= steps
        if self.steps < 0:
            raise ValueError(f"more than {self.limits[0]} instructions and values: expected far fewer in a checkpoint")

    def spend_search(self, entries: int) -> None:
        """Count the search for a key whose hash the file chooses, in a container of so many entries: it may visit all.

        Raises:
            ValueError: too many.
        """
        self.spend(entries // _SEARCHED)

    def spend_text(self, length: int) -> None:
        """Count bytes of text.

        Raises:
            ValueError: too many.
        """
        self.text -= length
        if self.text < 0:
            raise ValueError(f"more than {self.limits[1]} bytes of text: expected far fewer in a checkpoint")


def describe(value: Any) -> str:
    """What a recorded value is, in a few words for messages, whatever it holds.

    Example:
        >>> describe(Call(Global("os", "system"), ("true",))), describe([1])
        ('what os.system would make (it was not called)', 'a list')
    """
    match value:
        case None:
            return "None"
        case Global():
            return f"the name {_dotted(value)}"
        case Call(Global() as function):
            return f"what {_dotted(function)} would make (it was not called)"
        case Call():
            return "what a computed function would make (it was not called)"
        case View():
            return f"{value.length} bytes"
    return f"a {type(value).__name__}"


def _dotted(name: Global) -> str:
    return f"{name.module}.{name.name}"[:80]
