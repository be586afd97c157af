"""What a worker does, in a process or as an actor of Ray."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from dataclasses import dataclass

from lis.context import Context
from lis.determinism import refusals_explained
from lis.distributed.identity import Identity, identity
from lis.distributed.transport import unpacked

Opener = Callable[[str, int], Context]
"""Builds the context of a run on a device, with so many CPU threads of torch."""


@dataclass(frozen=True)
class Opening:
    """What a worker builds its models from."""

    opener: Opener
    device: str
    threads: int
    """CPU threads of torch; 0: its share of the cores of its machine."""
    workers: int
    """On its machine, at most."""


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Worker:
    """Makes the items of one task after another, with models of its own.

    Args:
        opening: `pickle` of an `Opening`.
    """

    def __init__(self, opening: bytes) -> None:
        given: Opening = pickle.loads(opening)
        self.ctx = given.opener(given.device, given.threads or max(1, cores() // given.workers))
        self.key = 0
        self._packed, self._task = b"", None

    @property
    def identity(self) -> Identity:
        """The program of this process."""
        return identity()

    def begin(self, task: bytes, key: int) -> None:
        """Take the items from this task, which `packed` has given, from now on; `key` is its number, from 1 on."""
        self.key, self._packed, self._task = key, task, None

    def attempt(self, item: bytes) -> bool:
        """Make an item; False where another job is making it.

        Raises:
            ValueError: the task or the item cannot be read here, or as `refusals_explained`.
        """
        if self._task is None:
            self._task = unpacked(self._packed, self.ctx)
        with refusals_explained():
            return self._task.attempt(unpacked(item, self.ctx)) is not None


def opening_of(ctx: Context, device: str, workers: int) -> bytes:
    """Of a run, as `Worker` takes it, for one of several workers on a machine, which share its cores.

    Raises:
        ValueError: the models of the run are objects, which no other process can build.
    """
    if ctx.opener is None:
        raise ValueError(
            "the generator or the classifier of this study is an object, which other processes cannot build: expected "
            "options of gan and classifier, as gan._target_=my.Generator; or use engine=inprocess"
        )
    return pickle.dumps(Opening(ctx.opener, device, ctx.config.threads, workers))
