"""A lock with a lease: two jobs never do the same work, and a dead owner's lock is taken over.

A lock is a folder of numbered files; whoever made the highest number owns it. Taking over means making the next number
with `O_EXCL`, so of many waiting jobs exactly one succeeds, on a shared file system too. The owner touches its file
all the time; who sees it untouched for a whole lease, by its own clock, takes it over. An owner whose process is
provably gone is not waited for.

An owner that only stood still, as a laptop does that sleeps, goes on some day and finds that it has lost the lock. So a
lock saves work, and what is done under it must be right without it as well.

`SoftFileLease` of filelock 4.2.11 passes where an owner pauses or `hidepid` hides it, and does not serve here (measured
with a lease of 1 s): a lock whose owner was killed before it had written its name is never taken over (here after
1.0 s), nor any dead owner's where the file system refuses to exchange two names, as NFS (simulated); a living owner on
another machine of the same name is taken over at once; and jobs whose leases differ are refused.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import socket
import threading
import time
import uuid
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import lis

log = logging.getLogger(__name__)

RELEASED = "released"
_DAY = 86400.0
"""Seconds."""


class Lease:
    """Holds the lock at `folder` inside a `with` block; waits for a living owner.

    Args:
        folder: the lock's folder; made when needed, removed by `clear`.
        seconds: an owner that has not touched its file for so long is taken over.
        label: what is locked, for the log.
        version: of `lis` that every owner must have; None: any.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder, Lease(Path(folder) / "lock") as lease:
        ...     lease.owned
        True
    """

    def __init__(self, folder: Path, seconds: float = 30.0, label: str = "", version: str | None = None) -> None:
        self.folder, self.seconds, self.label, self.version = folder, seconds, label or folder.name, version
        self._file: Path | None = None
        self._handle = -1
        self._by_name = False
        self._touched: list[Path] = []
        self._watch = _Watch(seconds)

    @property
    def owned(self) -> bool:
        """Whether this lease still has the highest number: False once another job has taken it over."""
        file = self._file
        if file is None or _newest(self.folder) != file:
            return False
        return self._by_name or _is_same(file, self._handle)

    def __enter__(self) -> Lease:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def acquire(self) -> None:
        """Take the lock, behind a living owner.

        Raises:
            ValueError: as `attempt`.
        """
        while not self.attempt():
            self._watch.announce(self.label)
            time.sleep(min(0.2, self.seconds / 10))

    def attempt(self) -> bool:
        """Take the lock without waiting; True where it is held now. What is seen of a silent owner is remembered.

        Raises:
            ValueError: a living owner has another version of `lis` than is asked for.
        """
        if self._file is not None:
            return True
        newest = _newest(self.folder)
        if newest is None or self._watch.free(newest):
            return self._take(newest)
        self._watch.require(self.version, self.label)
        return False

    def release(self) -> None:
        """Let others have the lock, if it is held; it may be taken again."""
        if self._file is None:
            return
        self._end_heartbeat()
        try:
            if self.owned:
                # In this order, so that it needs no room on a full disk.
                os.pwrite(self._handle, RELEASED.encode(), 0)
                os.truncate(self._handle, len(RELEASED))
        finally:
            os.close(self._handle)
            self._file = None

    def touch(self, path: Path) -> None:
        """Have the heartbeat touch another file or folder as well, for `abandoned`."""
        self._touched.append(path)

    def clear(self) -> None:
        """Remove the lock, if it is still owned: right only when the work is done and can be found."""
        if self._file is None:
            return
        self._end_heartbeat()
        if not self.owned:
            return
        # By name: a file that another job makes from now on has a higher number, or finds the folder empty.
        with suppress(OSError):
            for number in range(int(self._file.name) + 1):
                (self.folder / str(number)).unlink(missing_ok=True)
            self.folder.rmdir()  # unless another job has just made one

    def _take(self, newest: Path | None) -> bool:
        """Try to become the next owner after `newest`; False when another job was faster."""
        file = self.folder / str(int(newest.name) + 1 if newest else 0)
        text = f"{owner()}\n{lis.__version__}".encode()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            handle = os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        except OSError as error:  # another job made this number, or has just cleared the folder
            if not isinstance(error, FileExistsError) and not is_absent(error):
                raise
            return False
        try:
            os.write(handle, text)
        except OSError:  # a full disk: nobody shall wait for an owner without a name
            os.close(handle)
            file.unlink(missing_ok=True)
            raise
        self._file, self._handle = file, handle
        # Some FUSE and CIFS mounts number an open file otherwise than its name: there only names can be compared.
        self._by_name = not _is_same(file, handle)
        self._stop = threading.Event()
        self._heart = threading.Thread(target=self._beat, daemon=True)
        self._heart.start()
        return True

    def _beat(self) -> None:
        lost = False
        while not self._stop.wait(self.seconds / 6):
            # The lock's file not by its name, which may be another job's by now.
            for target in (self._handle, *self._touched):
                with suppress(OSError):  # a file system that does not answer may do so the next time
                    os.utime(target)
            with suppress(OSError):
                if not lost and not self.owned:
                    lost = True
                    log.info("%s: stood still, and another job has taken it over; the first result counts", self.label)

    def _end_heartbeat(self) -> None:
        self._stop.set()
        self._heart.join()


def is_free(folder: Path) -> bool:
    """Whether nobody holds a lock: it was released, or its owner is gone (`abandoned`)."""
    with suppress(OSError):  # it was cleared in this moment
        newest = _newest(folder)
        return newest is None or _is_left(newest)
    return False


def _is_left(file: Path) -> bool:
    text = file.read_text(errors="replace")
    return text == RELEASED or abandoned(text, file)


def sweep(folder: Path) -> None:
    """Remove a lock that nobody holds, as of `is_free`."""
    with suppress(OSError):  # another job works on it, or another user may alone
        newest = _newest(folder)
        if newest is None:
            folder.rmdir()
        elif _is_left(newest):
            lease = Lease(folder)
            if lease._take(newest):
                lease.clear()
                lease.release()


class _Watch:
    """What a waiting job has seen of the owner so far."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._seen: tuple[Path, int] | None = None
        self._since = 0.0
        self._announced: Path | None = None
        self._owner, self._version = "", ""

    def free(self, file: Path) -> bool:
        """Whether the owner of `file` has released it, or is dead, or was silent for a whole lease."""
        now = time.monotonic()  # before the look, so that a pause of this job does not count as the owner's silence
        try:
            # Opening first makes a network file system ask its server for the time of the last touch.
            with file.open(errors="replace") as stream:
                text, touched = stream.read(), os.fstat(stream.fileno()).st_mtime_ns
        except OSError as error:
            if not is_absent(error):
                raise
            return False
        if text == RELEASED or dead(text):
            return True
        if self._seen != (file, touched):
            self._seen, self._since = (file, touched), time.monotonic()
            self._owner, _, self._version = text.partition("\n")
        return now - self._since > self.seconds

    def require(self, version: str | None, label: str) -> None:
        """Check that the owner has a version of `lis`; one that has not written it yet is asked the next time.

        Raises:
            ValueError: it has another one.
        """
        if version is not None and self._version not in ("", version):
            raise ValueError(
                f"{label} is being made by lis {self._version} ({self._owner}), and this is lis {version}: expected "
                "the same version on every machine that works on a run"
            )

    def announce(self, label: str) -> None:
        """Say once per owner for whom the job waits."""
        if self._seen is not None and self._seen[0] != self._announced:
            self._announced = self._seen[0]
            log.info("waiting for %s, which another job is making (%s)", label, self._owner or "it has just started")


def _newest(folder: Path) -> Path | None:
    """The file with the highest number; None when there is none."""
    try:
        files = [file for file in folder.iterdir() if file.name.isascii() and file.name.isdigit()]
        return max(files, key=lambda file: int(file.name), default=None)
    except OSError as error:
        if not is_absent(error):
            raise
        return None


def is_absent(error: BaseException | None) -> bool:
    """Whether a file is not there; NFS says of one that another machine has just removed that its handle is stale."""
    return isinstance(error, FileNotFoundError) or (isinstance(error, OSError) and error.errno == errno.ESTALE)


def _is_same(file: Path, handle: int) -> bool:
    """Whether a name still stands for an open file."""
    try:
        return os.path.samestat(file.stat(), os.fstat(handle))
    except OSError:
        return False


def machine() -> str:
    """A name that two processes share only if each can see the other by its number: host, boot, and the namespaces of
    numbers and times. Hosts may have one name, so where the boot is not known nobody else has this one.
    """
    host = re.sub(r"[^a-zA-Z0-9-]", "_", socket.gethostname())[:32]
    spaces = (re.sub(r"\D", "", _link(Path(f"/proc/self/ns/{kind}"))) for kind in ("pid", "time"))
    return ".".join((host, _boot() or uuid.uuid4().hex[:12], *spaces))


def _boot() -> str | None:
    """What names this machine since it was started; None where /proc is not there, or is another namespace's."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()
    except OSError:
        return None
    return boot.replace("-", "")[:12] if _link(Path("/proc/self")) == str(os.getpid()) else None


def _link(path: Path) -> str:
    """Where a link points to; nothing where there is none."""
    try:
        return str(path.readlink())
    except OSError:
        return ""


def owner() -> str:
    """This process, as `dead` reads it: number, start and machine, in characters that a file's name may have."""
    try:
        start = _status(os.getpid())[19]
    except OSError:
        start = ""
    return f"{os.getpid()}.{start}.{machine()}"


def dead(owner: str) -> bool | None:
    """Whether an owner is gone; None where no process that can be seen here proves it, as on another machine.

    Args:
        owner: its name; in a lock's file, more lines may follow.
    """
    try:
        pid, start, where = owner.partition("\n")[0].split(".", 2)
        return _is_gone(int(pid), start) if start and where == machine() else None
    except (ValueError, OverflowError):  # the owner has not yet filled its file; or it is damaged
        return None


def abandoned(owner: str, path: Path) -> bool:
    """Whether a file or folder is left over: its owner is dead or, where that cannot be told, has not touched it for a
    day.

    Raises:
        OSError: there is no such file.
    """
    age, gone = time.time() - path.stat().st_mtime, dead(owner)
    return age > _DAY if gone is None else gone


def _is_gone(pid: int, start: str) -> bool | None:
    """Whether the process with this number that was started then is gone; None if it may be hidden from this one."""
    try:
        fields = _status(pid)
    except (FileNotFoundError, ProcessLookupError):
        return _is_free(pid)
    except OSError:
        return None
    # The number may have been given out again. A process that nobody has waited for does nothing any more.
    return fields[0] == "Z" or fields[19] != start


def _status(pid: int) -> list[str]:
    """The fields of a process's status from the third on."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _is_free(pid: int) -> bool | None:
    """True where no process has this number; None otherwise: /proc may hide one that the system knows (`hidepid`)."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return None
