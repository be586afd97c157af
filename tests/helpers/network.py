"""A network file system as a process on another machine sees it, simulated: what others have published arrives file by
file, in any order, and what was seen of a folder is believed for a while. Files made with `O_EXCL` are made once.
"""

from __future__ import annotations

import errno
import os
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from helpers import jobs
from lis.store.artifacts import KEY

_make = os.open


class Network:
    """In the place of the file system in this process.

    Args:
        seed: of what arrives when.
        memory: seconds for which a listing, and that a folder is missing, are remembered.
        delay: seconds after which the last file of a folder arrives.
    """

    def __init__(self, seed: int, memory: float, delay: float) -> None:
        self.seed, self.memory, self.delay = seed, memory, delay
        self.published: set[Path] = set()
        self.seen: dict[tuple[str, Path], tuple[float, Any]] = {}
        self.stat, self.open, self.iterdir, self.rename = Path.stat, Path.open, Path.iterdir, Path.replace

    def mount(self) -> None:
        """From now on."""
        network = self

        def stat(path: Path, **options: Any) -> os.stat_result:
            network.require(path)
            return network.stat(path, **options)

        def look(path: Path, *arguments: Any, **options: Any) -> Any:
            network.require(path)
            return network.open(path, *arguments, **options)

        def iterdir(path: Path) -> Iterator[Path]:
            return iter(network.remembered("listing", path, lambda: list(network.iterdir(path))))

        def is_dir(path: Path) -> bool:
            return network.is_there(path)

        def replace(path: Path, target: Path) -> Path:
            network.published.add(Path(target))  # what a process does itself, it sees
            return network.rename(path, target)

        def make(path: Any, flags: int, *arguments: Any, **options: Any) -> int:
            if flags & os.O_CREAT:
                network.seen.pop(("listing", Path(path).parent), None)
            return _make(path, flags, *arguments, **options)

        Path.stat, Path.open, Path.replace, Path.iterdir, Path.is_dir = stat, look, replace, iterdir, is_dir  # pyright: ignore
        os.open = make  # pyright: ignore[reportAttributeAccessIssue]

    def require(self, path: Path) -> None:
        """Check that a file is seen here by now.

        Raises:
            FileNotFoundError: another process has published it a moment ago.
        """
        folder = path.parent
        if not KEY.fullmatch(folder.name) or folder in self.published or "locks" in folder.parts:
            return
        try:
            age = time.time() - self.stat(folder).st_ctime  # since it has its name
        except FileNotFoundError:
            return
        if age < self.delay * random.Random(f"{self.seed} {path}").random():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))

    def is_there(self, path: Path) -> bool:
        """Whether there is a folder, or there was none a moment ago."""
        if not self.remembered("folder", path, lambda: os.path.isdir(path)):  # noqa: PTH112 (Path's is simulated)
            return False
        self.seen.pop(("folder", path))  # only that it is missing is remembered
        return True

    def remembered(self, kind: str, path: Path, look: Callable[[], Any]) -> Any:
        """What was seen a moment ago, or is seen now."""
        then, value = self.seen.get((kind, path), (-1.0, None))
        if time.monotonic() - then > self.memory:
            value = look()
            self.seen[kind, path] = (time.monotonic(), value)
        return value


def work(root: Path, seconds: float, lease: float, total: int, seed: int) -> None:
    """As `jobs.work`, on such a file system."""
    Network(seed, memory=0.3, delay=0.6).mount()
    jobs.work(root, seconds, lease, total)
