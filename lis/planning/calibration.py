"""How long each operation of a plan takes on the device of the run, measured in seconds in all."""

from __future__ import annotations

import logging
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import TypeVar

import torch

from lis.context import Context
from lis.progress import Progress
from lis.workload import Load, Operation

Item = TypeVar("Item")
log = logging.getLogger(__name__)

SECONDS = 10.0
"""That a calibration takes about, first calls and two images apart: what comes behind is done once, or assumed."""
LONG = 1.0
"""Seconds that one operation takes from which on others are assumed to follow from it."""
DEAR = 5.0
"""Seconds of an image on a CPU from which on no second one is made: beside it little else of a start matters."""
_SLICE = 0.25
"""Seconds of an operation that are enough for a measurement."""
_BRIEF = 0.03
"""Seconds that are spent in any case: less says little."""
_TWICE = 2.0
"""Of the time of one, in which a constant part is told from that of each."""
_GROWTH = 8
"""How many more are timed while they take less."""


@dataclass(frozen=True)
class Timing:
    """Seconds that an operation takes."""

    each: float
    constant: float = 0.0
    """Of a call, whatever the number."""
    assumed: bool = False
    """Whether it follows from the time of others."""

    def of(self, load: Load) -> float:
        """Seconds of a load."""
        return load.scale * (load.calls * self.constant + load.count * self.each)


@dataclass(frozen=True)
class First:
    """Of one that is done for the first time."""

    whole: float
    """Seconds."""
    compiled: Sequence[float]
    """Seconds of every program that was compiled for it."""

    @property
    def computing(self) -> float:
        """Seconds without these."""
        return self.whole - sum(self.compiled)


@contextmanager
def compiling(clock: Callable[[], float]) -> Iterator[Sequence[float]]:
    """Seconds of everything that `torch.compile` compiles inside of the block."""
    from torch._dynamo.callback import callback_handler

    spans: list[float] = []

    def start(_: object) -> None:
        spans.append(-clock())

    def end(_: object) -> None:
        if spans:  # else it began before, in another thread
            spans[-1] += clock()

    callback_handler.register_start_callback(start)
    callback_handler.register_end_callback(end)
    try:
        yield spans
    finally:
        callback_handler.remove_start_callback(start)
        callback_handler.remove_end_callback(end)


class Calibration:
    """Times operations, each when it is first asked for.

    Args:
        ctx: the run; its models may be without weights.
        clock: gives seconds; that of the processor's time of this process leaves out what others take.
    """

    def __init__(self, ctx: Context, clock: Callable[[], float] = time.perf_counter) -> None:
        self.ctx, self._clock = replace(ctx, progress=Silent()), clock
        self.spent = 0.0
        """Seconds so far, without the first call of each operation, and without the second one of images."""
        self.startup = 0.0
        """Seconds by which first images took longer than the next: programs that are compiled, weights transformed."""
        self.failed: dict[Operation, str] = {}
        """Operations that could not be timed, and why."""
        self._timings: dict[Operation, Timing | None] = {}
        self._glances: defaultdict[Operation, list[First]] = defaultdict(list)
        """One at a time, which are not done again: the first one with its start."""

    def timing(self, operation: Operation) -> Timing | None:
        """Time of an operation; None where it cannot be had."""
        if operation not in self._timings:
            self._timings[operation] = self._assumed(operation) or self._attempted(operation)
        return self._timings[operation]

    @property
    def assumptions(self) -> list[str]:
        """What was not measured and follows from other operations, in words."""
        assumed = [operation for operation, timing in self._timings.items() if timing and timing.assumed]
        return [
            f"{operation.name}: assumed to take {' and '.join(_share(*part) for part in operation.instead)}"
            for operation in assumed
        ]

    def seconds(self, loads: Iterable[Load]) -> float | None:
        """Of all loads together; None where the time of one of them is not known."""
        timed = [(self.timing(load.operation), load) for load in loads if load.count or load.calls]
        if any(timing is None for timing, _ in timed):
            return None
        return sum(timing.of(load) for timing, load in timed if timing)

    def glance(self, operation: Operation) -> float:
        """Seconds of one, at once, without what is compiled for it; infinite where it fails.

        What else a start takes is in it the first time.
        """
        try:
            with torch.inference_mode():
                one = self._first(operation.prepare(self.ctx))
        except Exception:
            log.debug("an image cannot be timed", exc_info=True)
            return math.inf
        self._glances[operation].append(one)
        return one.computing

    def is_dear(self, seconds: float) -> bool:
        """Whether an image takes so long that the first one has to do; on a GPU a second one is always made."""
        return self.ctx.device.type == "cpu" and seconds >= DEAR

    def _assumed(self, operation: Operation) -> Timing | None:
        """What follows from other operations, where these take so long that it is not measured itself."""
        parts = [(self.timing(other), share) for other, share in operation.instead]
        if not parts or any(timing is None for timing, _ in parts):
            return None
        each = sum(share * timing.each for timing, share in parts if timing)
        return Timing(each, assumed=True) if each > (_SLICE if self.spent > SECONDS else LONG) else None

    def _attempted(self, operation: Operation) -> Timing | None:
        try:
            return self._measured(operation)
        except Exception as error:  # of a model of the user's: the plan says that it is not known
            log.debug("%s cannot be timed", operation.name, exc_info=True)
            self.failed[operation] = str(error) or type(error).__name__
            return None

    def _measured(self, operation: Operation) -> Timing:
        """Of so many that it counts, after a first call, in which programs are compiled and memory is found."""
        with nullcontext() if operation.backwards else torch.inference_mode():
            run, known = operation.prepare(self.ctx), self._glances.pop(operation, [])
            first = known[0] if known else self._first(run)
            one = known[-1].computing if known[1:] else self._next(operation, run, first)
            if operation.passes or operation.reads:
                self.startup += max(0.0, first.whole - one)
            has_constant = operation.constant or operation.fit
            return self._of_constant(operation, run, one) if has_constant else self._of_many(operation, run, one)

    def _next(self, operation: Operation, run: Callable[[int], object], first: First) -> float:
        """Seconds of one behind the first, which is not done where that is dear or there is no time for it."""
        if operation.passes and self.is_dear(first.computing):
            return first.computing
        if self.spent >= SECONDS and first.computing >= _SLICE:
            return first.computing
        return self._timed(run, 1) if operation.passes else self._once(run, 1)

    def _of_many(self, operation: Operation, run: Callable[[int], object], one: float) -> Timing:
        """Of more and more, until they take long enough."""
        count, last = 1, one
        while last < (_SLICE if self.spent < SECONDS else _BRIEF) and count < operation.most:
            count = min(_GROWTH * count, operation.most)
            last = self._once(run, count)
        return Timing(last / count)

    def _of_constant(self, operation: Operation, run: Callable[[int], object], one: float) -> Timing:
        """Of more and more, until they take several times as long as one; of more than one in any case."""
        count, last = 1, one
        while count == 1 or (last < max(_SLICE, _TWICE * one) and count < operation.most and self.spent < SECONDS):
            count = operation.most if operation.fit else _more(count, one, last, operation.most)
            last = self._once(run, count)
        each = max(0.0, last - one) / (count - 1)
        return Timing(each, max(0.0, one - each))

    def _once(self, run: Callable[[int], object], count: int) -> float:
        seconds = self._timed(run, count)
        self.spent += seconds
        return seconds

    def _first(self, run: Callable[[int], object]) -> First:
        with compiling(self._clock) as spans:
            return First(self._timed(run, 1), spans)

    def _timed(self, run: Callable[[int], object], count: int) -> float:
        self._finish()
        start = self._clock()
        run(count)
        self._finish()
        return self._clock() - start

    def _finish(self) -> None:
        """Wait for what a GPU still has in hand."""
        if self.ctx.device.type == "cuda":
            torch.cuda.synchronize(self.ctx.device)


def _more(count: int, one: float, last: float, most: int) -> int:
    """How many to time next: so many that they take about as long again as one, or as what is enough.

    Args:
        count: how many were timed last, and one before.
        one: seconds of one.
        last: seconds of so many.
        most: how many at most.

    Example:
        >>> _more(1, 30.0, 30.0, most=64), _more(1, 0.01, 0.01, most=64), _more(2, 3.0, 3.1, most=64)
        (2, 26, 9)
    """
    each = max(last - one, one / _GROWTH) / (count - 1) if count > 1 else one
    return min(most, max(2 * count, 1 + int(max(_SLICE, one) / each)))


def _share(operation: Operation, factor: float) -> str:
    return f"{factor:g} × the time of {operation.name}" if factor != 1 else f"the time of {operation.name}"


class Silent(Progress):
    """Shows nothing: what is timed is not the run."""

    def __init__(self) -> None:
        super().__init__(every=math.inf)

    def track(self, iterable: Iterable[Item], total: int | None = None, label: str = "") -> Iterator[Item]:
        """The items."""
        return iter(iterable)
