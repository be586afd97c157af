"""Workers of `engine=local` that are forked from a process which has imported everything: what starting them takes is
seconds of imports, and with many tests minutes.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lis.distributed.local
from lis.distributed.__main__ import main


class Forked:
    """In the place of `subprocess.Popen`, as far as `lis.distributed.local` uses that."""

    def __init__(self, command: Sequence[str], pass_fds: Sequence[int], **options: Any) -> None:
        *_, handle, parent = command
        self.returncode: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            _work(int(handle), int(parent))

    def poll(self) -> int | None:
        """Its exit code, or minus the signal that has ended it; None while it lives."""
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode

    def wait(self, timeout: float = 60.0) -> int:
        """As `poll`, once it has ended.

        Raises:
            TimeoutExpired: it lives.
        """
        end = time.monotonic() + timeout
        while (code := self.poll()) is None:
            if time.monotonic() > end:
                raise subprocess.TimeoutExpired("worker", timeout)
            time.sleep(0.01)
        return code

    def kill(self) -> None:
        """SIGKILL."""
        if self.poll() is None:
            os.kill(self.pid, 9)


def _work(handle: int, parent: int) -> None:
    """What `python -m lis.distributed` does, with no other file open than that one does."""
    os.closerange(3, handle)
    os.closerange(handle + 1, os.sysconf("SC_OPEN_MAX"))
    try:
        main(handle, parent)
    except SystemExit as ended:
        os._exit(int(ended.code or 0))
    except BaseException:
        sys.excepthook(*sys.exc_info())  # pyright: ignore[reportArgumentType]
    os._exit(1)


STARTER = SimpleNamespace(Popen=Forked, DEVNULL=subprocess.DEVNULL, TimeoutExpired=subprocess.TimeoutExpired)
"""In the place of the module `subprocess`."""


def use() -> None:
    """Have the workers of this process be forked from now on."""
    lis.distributed.local.subprocess = STARTER  # pyright: ignore[reportAttributeAccessIssue]


def make_shards(overrides: Sequence[str], cwd: str, output: str) -> None:
    """What `python -m lis.worker` does, with its output in a file."""
    from lis.stopping import stop
    from lis.worker import main as work

    signal.signal(signal.SIGINT, signal.default_int_handler)  # also where the tests run in the background
    os.chdir(cwd)
    with Path(output).open("ab") as stream:
        for handle in (1, 2):
            os.dup2(stream.fileno(), handle)
    with stop.listen():
        sys.exit(work(overrides))
