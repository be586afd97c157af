"""A network file system as other machines see it, simulated: a folder that is renamed arrives file by file, in any
order, and what a process has seen of a folder it believes for a while. Files made with `O_EXCL` are made once.
"""

from __future__ import annotations

import errno
import os
import random
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from helpers import jobs

_make = os.open


class Network:
    """In the place of the file system in this process.

    Args:
        seed: of delays and orders.
        memory: seconds for which a listing, and that a folder is missing, are remembered.
    """

    def __init__(self, seed: int, memory: float) -> None:
        self.moments, self.memory = random.Random(seed), memory
        self.seen: dict[tuple[str, Path], tuple[float, Any]] = {}
        self.is_dir, self.iterdir, self.rename = Path.is_dir, Path.iterdir, Path.replace

    def mount(self) -> None:
        """From now on."""
        network = self

        def replace(path: Path, target: Path) -> Path:
            return network.replace(path, Path(target))

        def iterdir(path: Path) -> Iterator[Path]:
            return iter(network.remembered("listing", path, lambda: list(network.iterdir(path))))

        def is_dir(path: Path) -> bool:
            return network.is_there(path)

        def make(path: Any, flags: int, *arguments: Any, **options: Any) -> int:
            if flags & os.O_CREAT:  # what a process does itself, it sees
                network.seen.pop(("listing", Path(path).parent), None)
            return _make(path, flags, *arguments, **options)

        Path.replace, Path.iterdir, Path.is_dir = replace, iterdir, is_dir  # pyright: ignore
        os.open = make  # pyright: ignore[reportAttributeAccessIssue]

    def remembered(self, kind: str, path: Path, look: Callable[[], Any]) -> Any:
        """What was seen a moment ago, or is seen now."""
        then, value = self.seen.get((kind, path), (-1.0, None))
        if time.monotonic() - then > self.memory:
            value = look()
            self.seen[kind, path] = (time.monotonic(), value)
        return value

    def is_there(self, path: Path) -> bool:
        """Whether there is a folder, or there was none a moment ago."""
        if self.remembered("folder", path, lambda: self.is_dir(path)):
            self.seen.pop(("folder", path))  # only that it is missing is remembered
            return True
        return False

    def replace(self, path: Path, target: Path) -> Path:
        """Rename a folder, of which others see one file after the other."""
        if not self.is_dir(path):
            return self.rename(path, target)
        try:
            target.mkdir()
        except FileExistsError as error:
            raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), str(target)) from error
        self.seen.pop(("folder", target), None)
        files = list(self.iterdir(path))
        for file in self.moments.sample(files, len(files)):
            time.sleep(self.moments.uniform(0.0, 0.08))
            os.link(file, target / file.name)
        shutil.rmtree(path)
        return target


def work(root: Path, seconds: float, lease: float, total: int, seed: int) -> None:
    """As `jobs.work`, on such a file system."""
    Network(seed, 0.3).mount()
    jobs.work(root, seconds, lease, total)
