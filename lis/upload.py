"""Sends a run of wandb to its server while it is written: a process of its own, which alone meets the network.

`python -m lis.upload <process> <server> <folders of earlier runs …> <folder of the run>` ends with 0 when all is sent,
and when the process is gone.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import requests

PATIENCE = 8.0
"""Seconds that a server has for its first answer."""
LOG = "upload.log"
"""Beside the folder of the run: what is said here."""
_CHECK = 1.0
"""Seconds between two looks whether the run is there."""


class Upload:
    """The sending of one run.

    Args:
        run: its folder, `…/wandb/offline-run-…`, into which wandb writes.
        earlier: folders of the same run that are sent before, as far as they were not.
        server: its address.
    """

    def __init__(self, run: Path, earlier: Sequence[Path], server: str) -> None:
        self.log = run.parent / LOG
        command = [sys.executable, "-m", "lis.upload", str(os.getpid()), server, *map(str, [*earlier, run])]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        with self.log.open("w") as output:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,  # Ctrl-C is for the run, which ends this
            )

    @property
    def problem(self) -> str:
        """Why it has ended without having sent everything; empty while it has not, or where it has."""
        if not self._process.poll():
            return ""
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return lines[-1][:300] if lines else f"exit code {self._process.returncode}"

    def finish(self, seconds: float) -> str:
        """Wait for the rest, no longer than so many seconds; why something is missing, or nothing."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            return f"not all was sent within {seconds:g} s"
        return self.problem


def require_answer(address: str) -> None:
    """Ask a server for anything at all.

    Raises:
        OSError: it does not answer within `PATIENCE`, be it that its name is not found, that nothing listens there, or
            that what does says nothing.
    """
    errors: list[Exception | None] = []

    def ask() -> None:
        try:
            requests.get(address, timeout=PATIENCE, stream=True).close()
            errors.append(None)
        except Exception as error:
            errors.append(error)

    # A thread, since nothing else bounds the time in which a name is looked up.
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(PATIENCE)
    if not errors:
        raise OSError(f"{address} has not answered for {PATIENCE:g} s")
    if errors[0] is not None:
        raise OSError(f"{address} cannot be reached ({type(errors[0]).__name__})") from errors[0]


def _watch(process: int) -> None:
    """End this program when another is gone, which would never end its run."""

    def look() -> None:
        while os.getppid() == process:
            stopped.wait(_CHECK)
        os._exit(0)

    stopped = threading.Event()
    threading.Thread(target=look, daemon=True).start()


def main(process: str, server: str, *folders: str) -> int:
    """Send everything; 1 where the server does not answer."""
    _watch(int(process))
    try:
        require_answer(server)
    except OSError as error:
        sys.stdout.write(f"{error}\n")
        return 1
    from wandb.cli.cli import cli

    *earlier, run = folders
    if earlier:
        cli.main(["sync", *earlier], standalone_mode=False)
    cli.main(["beta", "sync", "--live", run], standalone_mode=False)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
