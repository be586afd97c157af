"""Workers on the devices of this machine, each a process of its own that builds its models from the configuration."""

from __future__ import annotations

import logging
import os
import pickle
import signal
import subprocess
import sys
import time
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection, Pipe, wait
from pathlib import Path
from typing import Any

import torch

import lis
from lis.context import Context
from lis.devices import find_device
from lis.distributed.identity import identity
from lis.distributed.schedule import PATIENCE, Busy, Event, Failed, Lost, Made, Pooled
from lis.distributed.serving import opening_of
from lis.distributed.transport import packed

log = logging.getLogger(__name__)


class Local(Pooled):
    """One process per device.

    Args:
        devices: `0` or `cuda:0` for a GPU, `cpu` for a share of the cores; None: every GPU of this machine.

    Raises:
        ValueError: there is no GPU and no device is named, or there is no device of a name.
    """

    def __init__(self, devices: Sequence[str] | None = None) -> None:
        super().__init__()
        named = map(str, range(torch.cuda.device_count())) if devices is None else devices
        names = (f"cuda:{device}" if device.isdecimal() else device for device in named)
        self.devices = [str(find_device(name)) for name in names]
        if not self.devices:
            raise ValueError(
                "engine=local: this machine has no GPU; expected engine.devices=[cpu,cpu], a worker for each entry"
            )

    def open(self) -> Processes:
        """The workers, which start with their first item."""
        return Processes(self.devices)


class Processes:
    """A pool of processes (`lis.distributed.schedule.Pool`).

    Args:
        devices: of the workers.
    """

    def __init__(self, devices: Sequence[str]) -> None:
        self.names = [f"{device} (worker {number})" for number, device in enumerate(devices, 1)]
        self._devices, self._workers = devices, list[_Process]()
        self._ctx: Context | None = None
        self._task, self.round = b"", 0

    @property
    def ready(self) -> list[int]:
        """The workers that have built their models."""
        return [number for number, process in enumerate(self._workers) if process.ready]

    def begin(self, task: Any) -> None:
        """Have every worker take its items from this task from now on; the first time, start them."""
        ctx = task.ctx
        self._ctx, self._task, self.round = ctx, packed(task, ctx), self.round + 1
        if not self._workers:
            log.info("%d workers start: %s", len(self.names), ", ".join(self._devices))
            self._workers = [self._started(number) for number in range(len(self.names))]

    def submit(self, worker: int, number: int, item: Any) -> None:
        """Have a worker make an item."""
        assert self._ctx is not None
        self._workers[worker].give(self.round, self._task, number, packed(item, self._ctx))

    def wait(self, seconds: float) -> Sequence[Event]:
        """What has happened since."""
        ready = wait([process.connection for process in self._workers], seconds)
        numbers = [number for number, process in enumerate(self._workers) if process.connection in ready]
        return [event for number in numbers if (event := self._read(number)) is not None]

    def close(self) -> None:
        """End the workers, behind what they have in hand; those that are not ready yet at once."""
        for process in self._workers:
            process.connection.close()
            if not process.ready:
                process.process.kill()
        end = time.monotonic() + PATIENCE
        for process in self._workers:
            process.end(max(0.0, end - time.monotonic()))
        self._workers = []

    def _started(self, number: int) -> _Process:
        assert self._ctx is not None
        return _Process(opening_of(self._ctx, self._devices[number], len(self._devices)))

    def _read(self, number: int) -> Event | None:
        """The next thing that a worker says.

        Raises:
            ValueError: it cannot build its models, or runs another program.
        """
        process = self._workers[number]
        try:
            kind, *rest = process.connection.recv()
        except (EOFError, OSError):
            self._workers[number] = self._started(number)
            return Lost(number, process.reason())
        if kind == "log":
            logging.getLogger(rest[0]).log(rest[1], "%s: %s", self.names[number], rest[2])
        elif kind == "ready":
            identity().require_same(rest[0])
            process.ready = True
        elif kind == "unready":
            raise ValueError(f"the worker on {self.names[number]} cannot begin: {rest[0]}")
        elif rest[0] == self.round:
            return (
                {"made": Made, "busy": Busy}[kind](number, rest[1]) if kind != "failed" else Failed(number, *rest[1:])
            )
        return None


class _Process:
    """A worker; `ready` when it has built its models."""

    def __init__(self, opening: bytes) -> None:
        self.connection, theirs = Pipe()
        handle = theirs.fileno()
        command = [sys.executable, "-m", "lis.distributed", str(handle), str(os.getpid())]
        with _without_ctrl_c():
            self.process = subprocess.Popen(command, pass_fds=[handle], stdin=subprocess.DEVNULL, env=_environment())
        theirs.close()
        weakref.finalize(self, self.process.poll)
        self.ready, self._round = False, 0
        _say(self.connection, ("open", sys.path, opening))

    def give(self, of: int, task: bytes, number: int, item: bytes) -> None:
        """Send an item, and before the first one of a round its task."""
        if of != self._round:
            self._round = of
            _say(self.connection, ("task", of, task))
        _say(self.connection, ("item", number, item))

    def reason(self) -> str:
        """Why it has ended."""
        try:
            code = self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        self.connection.close()
        return f"signal {-code}" if code < 0 else f"exit code {code}"

    def end(self, seconds: float) -> None:
        """Wait for it, and no longer than so many seconds."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def _say(connection: Connection, message: tuple[Any, ...]) -> None:
    """Send a message; that a worker is gone is noticed when it is listened to."""
    try:
        connection.send_bytes(pickle.dumps(message, protocol=5))
    except OSError:
        return


@contextmanager
def _without_ctrl_c() -> Iterator[None]:
    """What is started inside is not ended by Ctrl-C while it imports; the signal reaches this process afterwards."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _environment() -> dict[str, str]:
    """With the first path of this process, where `lis` may lie: the others follow in the first message."""
    root = str(Path(lis.__file__).resolve().parent.parent)
    before = os.environ.get("PYTHONPATH")
    return os.environ | {"PYTHONPATH": os.pathsep.join([root, before] if before else [root])}
