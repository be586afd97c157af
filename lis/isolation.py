"""A job of a sweep in a process of its own: one that is killed, as where memory runs out, costs no other."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import NoReturn

from lis.stopping import Stopped, stop

_PR_SET_PDEATHSIG = 1
"""Option of Linux's prctl: the signal that a process is sent when its parent dies."""
_ASKED = {128 + signal.SIGINT, 128 + signal.SIGTERM}
"""What a process ends with that was asked to stop."""


class Died(RuntimeError):
    """The process of a job has ended without telling how it went."""


def isolated(work: Callable[[], object]) -> None:
    """Do work in a child of this process, which has all that is imported; the child hears SIGINT and SIGTERM.

    This process has to be one that computes nothing itself: no threads of torch, nothing on a GPU.

    Args:
        work: keeps its errors to itself.

    Raises:
        Died: the child was killed, or stopped by somebody; says by which signal.
        Stopped: this process was asked to stop, and the child has ended.
    """
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    children: list[int] = []
    with _noted(children) as signals:
        parent = os.getpid()
        if (child := os.fork()) == 0:
            _work(work, parent, signals)
        children.append(child)
        for number in signals[:1]:  # which came before the child was known
            os.kill(child, number)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        children.clear()
    if signals:
        raise Stopped(signal.Signals(signals[0]).name)
    if code:
        raise Died(_told(code))


def _told(code: int) -> str:
    """What the exit code of a process says.

    Example:
        >>> _told(-9)
        'its process was killed by SIGKILL, as the system does where memory runs out'
    """
    if code in _ASKED:
        return f"its process was stopped by {signal.Signals(code - 128).name}"
    if code > 0:
        return f"its process ended with {code}"
    memory = ", as the system does where memory runs out" if code == -signal.SIGKILL else ""
    return f"its process was killed by {signal.Signals(-code).name}{memory}"


def _work(work: Callable[[], object], parent: int, signals: Sequence[int]) -> NoReturn:
    """What the child does: it ends with the parent, and runs nothing of what the parent does at its end.

    Args:
        work: what is to be done.
        parent: its process.
        signals: that have come before the child listens.
    """
    code: int | str | None = 1
    try:
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)  # by which SLURM has the parent submit itself again
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it was faster
            os._exit(code)
        with stop.listen():
            for number in signals[:1]:
                os.kill(os.getpid(), number)
            work()
        code = 0
    except SystemExit as end:
        code = end.code
    except BaseException:
        traceback.print_exc()
    finally:
        logging.shutdown()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(code if isinstance(code, int) else 1)


@contextmanager
def _noted(children: Sequence[int]) -> Iterator[list[int]]:
    """The signals to stop that come meanwhile: they end the children, and not this process before them."""
    signals: list[int] = []

    def note(number: int, _: object) -> None:
        signals.append(number)
        for child in children:
            with suppress(ProcessLookupError):
                os.kill(child, number)

    numbers = [number for number in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, note) for number in numbers}
    try:
        yield signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
