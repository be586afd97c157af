"""A worker of `engine=local`, which starts it: python -m lis.distributed HANDLE PARENT."""

from __future__ import annotations

import logging
import os
import pickle
import queue
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from types import FrameType
from typing import Any, NoReturn

PARENT_CHECK = 1.0
"""Seconds between two looks whether the run lives."""


def main(handle: int, parent: int) -> None:
    """Build the models of a run and make what it asks for, until it closes the connection."""
    # Of Ctrl-C the run hears too, and ends its workers; until here the signal was blocked (`Processes`).
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    with Connection(handle) as connection:
        link = Link(connection)
        watch(parent)
        kind, path, opening = link.hear()
        assert kind == "open"
        sys.path[:] = path
        serve(link, opening)


class Link:
    """What the run says, and what it is told.

    Args:
        connection: to the run.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection, self._lock = connection, threading.Lock()
        self._in_hand, self._ends = True, False
        self._messages, self._closed = queue.SimpleQueue[bytes](), False
        signal.signal(signal.SIGTERM, self._end)
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        """Take in what the run says while this worker is at work: it shall not wait with that, nor for that."""
        with suppress(EOFError, OSError):
            while True:
                self._messages.put(self._connection.recv_bytes())
        self._closed = True
        self._messages.put(b"")

    def hear(self) -> Any:
        """The next message; ends the process where there is none any more, or SIGTERM has come."""
        self._in_hand = False
        if self._ends:
            leave(128 + signal.SIGTERM)
        message = self._messages.get()
        if self._closed:
            leave(0)
        self._in_hand = True
        return pickle.loads(message)

    def tell(self, *message: Any) -> None:
        """Send a message; ends the process where nobody listens any more."""
        try:
            with self._lock:
                self._connection.send(message)
        except OSError:
            leave(0)

    def _end(self, number: int, frame: FrameType | None) -> None:
        self._ends = True
        if not self._in_hand:
            leave(128 + number)


class Forward(logging.Handler):
    """Hands the records of this process to the run."""

    def __init__(self, tell: Callable[..., None]) -> None:
        super().__init__(logging.WARNING)
        self.tell = tell

    def emit(self, record: logging.LogRecord) -> None:
        """One record."""
        self.tell("log", record.name, record.levelno, record.getMessage())


def leave(code: int) -> NoReturn:
    """End the process at once: what it has made is in the store, and taking models apart takes seconds."""
    sys.stderr.flush()
    os._exit(code)


def watch(parent: int) -> None:
    """End this process when the run is gone: what is in hand would be for nobody."""

    def look() -> None:
        while os.getppid() == parent:
            stopped.wait(PARENT_CHECK)
        os._exit(1)

    stopped = threading.Event()
    threading.Thread(target=look, daemon=True).start()


def serve(link: Link, opening: bytes) -> None:
    """Make items until the run is over."""
    from lis.distributed.serving import Worker

    logging.getLogger().addHandler(Forward(link.tell))
    try:
        worker = Worker(opening)
    except Exception as error:
        link.tell("unready", str(error) or type(error).__name__)
        leave(1)
    link.tell("ready", worker.identity)
    while True:
        kind, number, data = link.hear()
        if kind == "task":
            worker.begin(data, number)
            continue
        try:
            link.tell("made" if worker.attempt(data) else "busy", worker.key, number)
        except Exception as error:
            link.tell("failed", worker.key, number, sendable(error))


def sendable(error: Exception) -> Exception:
    """An error as the run can raise it: itself with its traceback as a note, or one that says the same."""
    import traceback

    text = "".join(traceback.format_exception(error))
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        error = RuntimeError(f"{type(error).__name__}: {error}")
    error.__traceback__ = None
    error.add_note(f"in a worker:\n{text}")
    return error


if __name__ == "__main__":
    from lis.memory import keep_freed_memory

    keep_freed_memory()
    main(int(sys.argv[1]), int(sys.argv[2]))
