"""How a stage's shards are mapped: one after the other in this process, or (another engine) on many workers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TypeVar

from lis.stopping import stop

Item = TypeVar("Item")
Result = TypeVar("Result")


class Engine(Protocol):
    """Maps a function over shards; results come in the order of the items, whatever the engine."""

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Lazily yield `function(item)` for every item, in order; the first error ends the iteration."""
        ...


class InProcess:
    """One shard at a time, in this process.

    Example:
        >>> list(InProcess().map(abs, [-1, 2]))
        [1, 2]
    """

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Lazily yield `function(item)` for every item, in order; a signal to stop is heeded between two."""
        for item in items:
            stop.check()
            yield function(item)
