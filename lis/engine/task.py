"""What an engine is, and what it is given."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol, TypeVar

Item = TypeVar("Item")
Item_contra = TypeVar("Item_contra", contravariant=True)
Result = TypeVar("Result")
Result_co = TypeVar("Result_co", covariant=True)

POLL = 0.1
"""Seconds after which it is looked again for what another job is making."""


class Task(Protocol[Item_contra, Result_co]):
    """What is done with every item; the result lies where all workers and jobs can read it."""

    def find(self, item: Item_contra, /) -> Result_co | None:
        """The result, if it is there; None where it is still to be made."""
        ...

    def attempt(self, item: Item_contra, /) -> Result_co | None:
        """The result, which is made now if nobody else does so; None where another job is making it."""
        ...


class Engine(Protocol):
    """Maps a task over items; results come in the order of the items, whatever the engine."""

    def map(self, task: Task[Item, Result], items: Sequence[Item]) -> Iterator[Result]:
        """Lazily yield the result of every item, in order; the first error ends the iteration."""
        ...

    def close(self) -> None:
        """End what the engine has started; it may be used again."""
        ...
