"""Ctrl-C and SIGTERM: a program stops behind the shard or step in hand, and says what is kept and how to go on."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

GRACE = 10.0
"""Seconds that the shard in hand is given."""
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(BaseException):
    """A signal asked the run to stop. No `Exception`: on its way up nothing takes it for an error to live with."""


class Stop:
    """A request to stop, as the first SIGINT or SIGTERM makes it; a second one ends the process at once."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self.store = "the store"
        """Where finished work is kept, for the message."""
        self.remains = ""
        """What is said of the work that a signal stops; if empty, that the finished part is kept in `store`."""

    @property
    def code(self) -> int:
        """What the process ends with: 130 after SIGINT, 143 after SIGTERM, as a shell has it."""
        return 128 + (self.signal or 0)

    def check(self) -> None:
        """Called where nothing is in hand, between two shards or stages.

        Raises:
            Stopped: a signal has come.
        """
        if self.signal is not None:
            raise Stopped(self.signal.name)

    @contextmanager
    def listen(self, remains: str = "") -> Iterator[None]:
        """Take both signals inside a `with` block; in a thread that cannot, nothing changes.

        A signal that whoever started the process had ignored, as `nohup` and a script's `&` do, stays ignored.

        Args:
            remains: what is said to be left of the work, where none goes to a store.

        Raises:
            SystemExit: with `code`, when a signal has stopped the block.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        self.remains = remains
        heard = [number for number in _SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
        before = {number: signal.signal(number, self._asked) for number in heard}
        late = signal.signal(signal.SIGALRM, lambda *_: self.check())
        try:
            yield
        except (Stopped, SystemExit):  # Lightning, too, ends a training on SIGTERM
            if self.signal is None:
                raise
            sys.exit(self.code)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            for number, handler in {**before, signal.SIGALRM: late}.items():
                signal.signal(number, handler)

    def _asked(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None:
            self._end()
        self.signal = signal.Signals(number)
        for each in _SIGNALS:
            if signal.getsignal(each) != signal.SIG_IGN:
                signal.signal(each, signal.SIG_DFL)  # the system ends the process, even inside a long call in C
        signal.setitimer(signal.ITIMER_REAL, GRACE)  # once: a second time it would interrupt what cleans up
        # Not through a stream or the log, which the signal may have interrupted in the middle of a line.
        os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, f"\n{self._message()}\n".encode())

    def _end(self) -> NoReturn:
        os._exit(self.code)

    def _message(self) -> str:
        name = self.signal.name if self.signal else ""
        default = f"what is finished is kept in {self.store}, and the same command goes on from there"
        in_hand = "step" if self.remains else "shard"
        return (
            f"{name}: stops behind the {in_hand} in hand, after {GRACE:.0f} s at the latest (once more: at once); "
            f"{self.remains or default}"
        )


stop = Stop()
"""Of this process."""
