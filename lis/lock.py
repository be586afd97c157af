"""A lock with a lease: two jobs never do the same work, and a dead owner's lock is taken over.

A lock is a folder of numbered files; whoever made the highest number owns it. Taking over means making the next number
with `O_EXCL`, so of many waiting jobs exactly one succeeds, on a shared file system too. The owner touches its file
all the time; who sees it untouched for a whole lease, by its own clock, knows that the owner is gone. On the owner's
machine a look at its process tells that at once.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import socket
import threading
import time
from pathlib import Path
from types import TracebackType

log = logging.getLogger(__name__)

RELEASED = "released"


class Lease:
    """Holds the lock at `folder` inside a `with` block; waits for a living owner.

    Args:
        folder: the lock's folder; made when needed, removed by `clear`.
        seconds: an owner that has not touched its file for so long is taken for dead.
        label: what is locked, for the log.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder, Lease(Path(folder) / "lock") as lease:
        ...     lease.owned
        True
    """

    def __init__(self, folder: Path, seconds: float = 30.0, label: str = "") -> None:
        self.folder, self.seconds, self.label = folder, seconds, label or folder.name
        self._file: Path | None = None
        self._stop = threading.Event()

    @property
    def owned(self) -> bool:
        """Whether this lease still has the highest number: False once another job has taken it over."""
        return self._file is not None and _newest(self.folder) == self._file

    def __enter__(self) -> Lease:
        watch = _Watch(self.seconds)
        while True:
            newest = _newest(self.folder)
            if newest is None or watch.free(newest):
                if self._take(newest):
                    return self
            else:
                watch.announce(self.label)
                time.sleep(min(0.2, self.seconds / 10))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._heart.join()
        if self._file is not None and self._file.exists():
            self._file.write_text(RELEASED)

    def clear(self) -> None:
        """Remove the lock's folder: right only when the work is done and can be found."""
        self._stop.set()
        self._file = None  # another job may make a file of the same name from now on
        shutil.rmtree(self.folder, ignore_errors=True)

    def _take(self, newest: Path | None) -> bool:
        """Try to become the next owner after `newest`; False when another job was faster."""
        self.folder.mkdir(parents=True, exist_ok=True)
        file = self.folder / str(int(newest.name) + 1 if newest else 0)
        try:
            with file.open("x") as stream:
                stream.write(owner())
        except (FileExistsError, FileNotFoundError):  # another job made this number, or has just cleared the folder
            return False
        except OSError:  # a full disk: nobody shall wait for an owner without a name
            file.unlink(missing_ok=True)
            raise
        self._file = file
        self._heart = threading.Thread(target=self._beat, args=(file,), daemon=True)
        self._heart.start()
        return True

    def _beat(self, file: Path) -> None:
        while not self._stop.wait(self.seconds / 6):
            try:
                os.utime(file)
            except FileNotFoundError:  # the work was published by a job that took over
                return
            except OSError:  # a file system that does not answer may do so the next time
                continue


class _Watch:
    """What a waiting job has seen of the owner so far."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._seen: tuple[Path, int] | None = None
        self._since = 0.0
        self._announced: Path | None = None
        self._owner = ""

    def free(self, file: Path) -> bool:
        """Whether the owner of `file` has released it, or is dead, or was silent for a whole lease."""
        try:
            # Opening first makes a network file system ask its server for the time of the last touch.
            with file.open() as stream:
                text, touched = stream.read(), os.fstat(stream.fileno()).st_mtime_ns
        except FileNotFoundError:
            return False
        if text == RELEASED or dead(text):
            return True
        if self._seen != (file, touched):
            self._seen, self._since, self._owner = (file, touched), time.monotonic(), text
        return time.monotonic() - self._since > self.seconds

    def announce(self, label: str) -> None:
        """Say once per owner for whom the job waits."""
        if self._seen is not None and self._seen[0] != self._announced:
            self._announced = self._seen[0]
            log.info("waiting for %s, which another job is making (%s)", label, self._owner or "it has just started")


def machine() -> str:
    """A name that two processes share only if they can see each other's process numbers."""
    try:
        space = str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        space = ""
    return f"{socket.gethostname()} {space}".strip()


def _newest(folder: Path) -> Path | None:
    """The file with the highest number; None when there is none."""
    try:
        files = [file for file in folder.iterdir() if file.name.isdigit()]
        return max(files, key=lambda file: int(file.name), default=None)
    except FileNotFoundError:
        return None


def owner() -> str:
    """This process, as `dead` reads it: machine, number and start, as JSON."""
    return json.dumps({"machine": machine(), "pid": os.getpid(), "start": _start(os.getpid())})


def dead(owner: str) -> bool:
    """Whether the owner ran on this machine and is gone; False when that cannot be told."""
    try:
        fields = json.loads(owner)
        return fields["machine"] == machine() and _start(fields["pid"]) != fields["start"]
    except (ValueError, KeyError, TypeError):  # the owner has made its file and not yet filled it
        return False


def _start(pid: int) -> str | None:
    """When the process started, so that a number given out again is not mistaken for the owner; None if it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None if Path("/proc/self/stat").exists() or not answers(pid) else "unknown"
    return None if fields[0] == "Z" else fields[19]


def answers(pid: int) -> bool:
    """Whether a process with this number exists on this machine."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
