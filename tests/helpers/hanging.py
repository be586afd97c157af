"""A guard against code that hangs on hostile input: it bounds no speed, so that a slow machine fails nothing."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

LIMIT = 30
"""Seconds of this process's own time: tens of times what such a test takes, a fraction of what it took as it hung."""


@contextmanager
def no_hang(limit: int = LIMIT) -> Iterator[None]:
    """Fail the test whose block runs beyond `limit` seconds of CPU time, instead of waiting for its end."""

    def stop(signum: int, frame: object) -> None:
        pytest.fail(f"still at work after {limit} s of CPU time: it hangs")

    previous = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, limit)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, previous)
