"""One shard at a time, in this process."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from lis.engine.task import POLL, Item, Result, Task
from lis.stopping import stop


class InProcess:
    """One item at a time, in this process; what another job is making is come back to."""

    def map(self, task: Task[Item, Result], items: Sequence[Item]) -> Iterator[Result]:
        """Lazily yield the result of every item, in order; a signal to stop is heeded between two."""
        early: dict[int, Result] = {}
        for number in range(len(items)):
            while number not in early:
                stop.check()
                if not _one_more(task, items, number, early):
                    time.sleep(POLL)
            yield early.pop(number)

    def close(self) -> None:
        """There is nothing to end."""


def _one_more(task: Task[Item, Result], items: Sequence[Item], start: int, results: dict[int, Result]) -> bool:
    """Add the result of the first item from `start` on that no other job is making; False where there is none."""
    for number in range(start, len(items)):
        if number not in results and (result := task.attempt(items[number])) is not None:
            results[number] = result
            return True
    return False
