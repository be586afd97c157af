"""Which worker makes which shard: in order, with back-pressure, and again where a worker is lost."""

from __future__ import annotations

import logging
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol

from lis.distributed.identity import identity
from lis.engine.task import POLL, Item, Result, Task
from lis.stopping import stop

log = logging.getLogger(__name__)

AHEAD = 2
"""Items that a worker has at most: one in hand, and the next."""
WINDOW = 16
"""Items for each worker that are made at most before the first one that is still missing."""
MOST_LOST = 3
"""Workers lost in a row, without any item made, after which the work is given up."""
PATIENCE = 15.0
"""Seconds that workers are given for what they have in hand when the run is over."""
UNSEEN = 120.0
"""Seconds after which a shard must be seen that another machine has written."""
SLOW = 120.0
"""Seconds after which it is said that workers are not ready."""
WAIT = 0.5
"""Seconds between two looks for a signal to stop."""


@dataclass(frozen=True)
class Made:
    """A worker has made an item."""

    worker: int
    number: int


@dataclass(frozen=True)
class Busy:
    """Another job is making the item."""

    worker: int
    number: int


@dataclass(frozen=True)
class Failed:
    """A worker could not make an item."""

    worker: int
    number: int
    error: BaseException


@dataclass(frozen=True)
class Lost:
    """A worker has ended, by a signal or with its machine; the pool has put another one there."""

    worker: int
    reason: str


Event = Made | Busy | Failed | Lost


class Pool(Protocol):
    """Workers that make items of one task after another, each on a device of its own."""

    @property
    def names(self) -> Sequence[str]:
        """What each worker is called, by its device."""
        ...

    @property
    def ready(self) -> Collection[int]:
        """The workers that can be given items: their models are built."""
        ...

    @property
    def round(self) -> int:
        """Number of the task that was begun last, from 1 on; 0 before any."""
        ...

    def begin(self, task: Any) -> None:
        """Have every worker take its items from this task from now on; events of earlier ones are dropped."""
        ...

    def submit(self, worker: int, number: int, item: Any) -> None:
        """Have a worker make an item, behind those that it has."""
        ...

    def wait(self, seconds: float) -> Sequence[Event]:
        """What has happened since; waits for the first event, and no longer than so many seconds."""
        ...

    def close(self) -> None:
        """End the workers, behind what they have in hand."""
        ...


class Pooled(ABC):
    """An engine whose workers are started when there is something to make, and kept until it is closed."""

    def __init__(self) -> None:
        self._pool: Pool | None = None
        self._users: list[threading.Thread] = []
        """Of every iteration that goes on."""
        identity()  # of what this process has imported: files may be edited before a worker says what it has

    @abstractmethod
    def open(self) -> Pool:
        """Starts the workers."""

    def map(self, task: Task[Item, Result], items: Sequence[Item]) -> Iterator[Result]:
        """Lazily yield the result of every item, in order.

        Raises:
            ValueError: the workers cannot be started, or cannot build the models of the run; or they work for another
                thread, whose answers this one would take.
        """
        for start, item in enumerate(items):
            if (result := task.find(item)) is None:
                user = threading.current_thread()
                if any(other is not user and other.is_alive() for other in self._users):
                    raise ValueError(
                        "an engine with workers is used by two threads at once: expected one engine for each"
                    )
                self._users.append(user)
                try:
                    self._pool = self._pool or self.open()
                    yield from Schedule(self._pool, task, items[start:]).run()
                finally:
                    self._users.remove(user)
                return
            yield result

    def close(self) -> None:
        """End the workers, behind what they have in hand."""
        if self._pool is not None:
            self._pool.close()
            self._pool = None


@dataclass
class Schedule(Generic[Item, Result]):
    """One task on the workers of a pool."""

    pool: Pool
    task: Task[Item, Result]
    items: Sequence[Item]
    results: dict[int, Result] = field(default_factory=dict)
    """Those made before an earlier one."""
    first: int = 0
    """Number of the first item whose result was not given out."""
    entered: int = 0
    """Items that are waiting, in hand or made."""
    waiting: deque[int] = field(default_factory=deque)
    round: int = 0
    """That the pool has given to the task."""
    hands: list[deque[int]] = field(default_factory=list)
    """What each worker has, in its order."""
    busy: dict[int, float] = field(default_factory=dict)
    """When to ask again for what another job is making."""
    refused: dict[int, Failed] = field(default_factory=dict)
    """What one worker could not make, and another one is to try."""
    lost: int = 0
    """Workers lost since an item was made."""
    begun: float = field(default_factory=time.monotonic)
    told: bool = False
    """Whether it was said which workers are not ready."""
    unseen: dict[int, float] = field(default_factory=dict)
    """Since when a worker says that an item is made which cannot be read here."""

    def run(self) -> Iterator[Result]:
        """The results, in order."""
        while self.first < len(self.items):
            self._enter()
            while self.first in self.results:
                self.first += 1
                yield self.results.pop(self.first - 1)
                self._enter()
            if self.first < len(self.items):
                stop.check()
                self._advance()

    def _enter(self) -> None:
        """Let items into the window; those whose results are there need no worker."""
        end = min(len(self.items), self.first + WINDOW * len(self.pool.names))
        while self.entered < end and len(self.waiting) < AHEAD * len(self.pool.names):
            number, self.entered = self.entered, self.entered + 1
            if (result := self.task.find(self.items[number])) is not None:
                self.results[number] = result
            else:
                self.waiting.append(number)

    def _advance(self) -> None:
        if not self.hands or self.round != self.pool.round:
            self._begin()
        self._ask_again()
        self._submit()
        self._look_for_slow()
        if any(self.hands) or len(self.pool.ready) < len(self.hands):
            for event in self.pool.wait(POLL if self.busy else WAIT):
                self._take(event)
        else:
            time.sleep(POLL)

    def _begin(self) -> None:
        """Have the workers take this task; what they had of it before another one came between is given again."""
        self.waiting.extendleft(sorted((number for hand in self.hands for number in hand), reverse=True))
        self.pool.begin(self.task)
        self.round, self.hands = self.pool.round, [deque() for _ in self.pool.names]

    def _ask_again(self) -> None:
        """What another job was making comes first: it is what results wait for."""
        for number in sorted((n for n, when in self.busy.items() if when <= time.monotonic()), reverse=True):
            del self.busy[number]
            self.waiting.appendleft(number)

    def _submit(self) -> None:
        """Give what is waiting to the workers that have least, each at most `AHEAD`."""
        while self.waiting:
            number = self.waiting[0]
            free = [worker for worker in range(len(self.hands)) if self._may(worker, number)]
            worker = min(free, key=lambda each: len(self.hands[each]), default=None)
            if worker is None:
                return
            self.waiting.popleft()
            self.hands[worker].append(number)
            self.pool.submit(worker, number, self.items[number])

    def _may(self, worker: int, number: int) -> bool:
        """Whether a worker may be given an item: it is ready, has room, and has not failed at it."""
        failed = self.refused.get(number)
        has_failed = failed is not None and failed.worker == worker
        return worker in self.pool.ready and len(self.hands[worker]) < AHEAD and not has_failed

    def _look_for_slow(self) -> None:
        """Say once which workers are not ready after long; what a worker has failed at does not wait for them.

        Raises:
            BaseException: that of a worker which is the only one.
        """
        missing = [name for number, name in enumerate(self.pool.names) if number not in self.pool.ready]
        if not missing or time.monotonic() - self.begun < SLOW:
            return
        for failed in self.refused.values():
            if set(self.pool.ready) <= {failed.worker}:
                raise failed.error
        if not self.told:
            self.told = True
            log.warning("%s: not ready after %.0f s; is there a free device for each?", ", ".join(missing), SLOW)

    def _take(self, event: Event) -> None:
        if isinstance(event, Lost):
            self._replace(event)
            return
        self.hands[event.worker].remove(event.number)
        if isinstance(event, Made):
            self._keep(event)
        elif isinstance(event, Busy):
            self.busy[event.number] = time.monotonic() + POLL
        else:
            self._refuse(event)

    def _keep(self, made: Made) -> None:
        """Read a result; one that cannot be seen yet, as on a network file system, is asked for again.

        Raises:
            ValueError: it is not seen for long.
        """
        self.lost = 0
        name = self.pool.names[made.worker]
        if (failed := self.refused.pop(made.number, None)) is not None:
            other = self.pool.names[failed.worker]
            log.warning("%s failed at a shard that %s has made: %s; look at that device", other, name, failed.error)
        if (result := self.task.find(self.items[made.number])) is not None:
            self.results[made.number] = result
            self.unseen.pop(made.number, None)
            return
        since = self.unseen.setdefault(made.number, time.monotonic())
        if time.monotonic() - since > UNSEEN:
            raise ValueError(
                f"the worker on {name} has made a shard that is not in the store here after {UNSEEN:.0f} s: expected a "
                "folder that all machines share under the same path (store=…)"
            )
        self.busy[made.number] = time.monotonic() + POLL

    def _refuse(self, failed: Failed) -> None:
        """Have another worker try what one has failed at.

        Raises:
            BaseException: that of the first one, where there is no other or it has failed, too.
        """
        if failed.number in self.refused or len(self.hands) == 1:
            raise self.refused.get(failed.number, failed).error
        self.refused[failed.number] = failed
        self.waiting.appendleft(failed.number)

    def _replace(self, lost: Lost) -> None:
        """Have another worker make what a lost one had.

        Raises:
            Stopped: the signal that has ended the worker came to this process, too.
            ValueError: one after the other is lost.
        """
        stop.check()
        self.lost += 1
        name = self.pool.names[lost.worker]
        if self.lost >= MOST_LOST * len(self.hands):
            raise ValueError(
                f"{self.lost} workers were lost one after the other, the last on {name} ({lost.reason}): is there "
                "memory for all? Take fewer (engine.devices, engine.workers) or a smaller batch_size; the same command "
                "goes on from what is finished"
            )
        hand = self.hands[lost.worker]
        log.warning("the worker on %s is lost (%s); its shards are made again", name, lost.reason)
        self.waiting.extendleft(reversed(hand))
        hand.clear()
