"""What memory there is, and work in parts that fit into it: half as many rows where it runs out all the same."""

from __future__ import annotations

import ctypes
import logging
import math
import re
import resource
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import psutil
import torch
from torch import Tensor

Result = TypeVar("Result")
log = logging.getLogger(__name__)
GIB = 2**30
SHARE = 0.5
"""Of the free memory that a batch may take."""
MOST = {"cpu": 8 * GIB, "cuda": 32 * GIB}
"""Bytes that a batch takes at most: larger ones are not faster, and others use the machine too."""
GAIN = 0.95
"""A larger batch is kept where an image takes at most this share of the time."""
TRIALS = 2
"""Batches of each size that are timed while it grows; the faster one counts."""
_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory", "ALLOC_FAILED")
_GROUPS, _CGROUP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
_FILES = {
    "": ("memory.max", "memory.current", "inactive_file"),
    "memory": ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}
"""Controller → the files of its limit and of what is used, and the entry of `memory.stat` that tells what of that is
only a copy of files on disk. The first is version 2 of control groups."""
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
"""Names of glibc's options (malloc.h)."""
_LARGEST = 2**31 - 1
REUSED = 2**26
"""Bytes of a tensor from which on its memory goes back to the system as ever: there, gaps would cost more than time."""


class Batches:
    """Maps a function over rows, as many at once as memory allows.

    Args:
        size: rows at once, to begin with.
        grows: whether more are tried, twice as many each time, while a row then takes less time.
        most: rows at once that it does not grow beyond.

    Example:
        >>> rows = torch.arange(5)
        >>> [part.tolist() for part in Batches(2).map(torch.square, rows)]
        [[0, 1], [4, 9], [16]]
    """

    def __init__(self, size: int, grows: bool = False, most: float = math.inf) -> None:
        self.size, self.most, self._grows = size, most, grows
        self._best, self._times = math.inf, list[float]()

    def map(self, function: Callable[[Tensor], Result], rows: Tensor) -> Iterator[Result]:
        """Yields what `function` gives for consecutive parts of `rows [n, …]`.

        Raises:
            ValueError: memory runs out with a single row.
        """
        done = 0
        while done < len(rows):
            batch = rows[done : done + self.size]
            start, failure = time.perf_counter(), ""
            try:
                result = function(batch)
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
                failure = str(error) or type(error).__name__
            else:
                done += len(batch)
                self._timed(len(batch), time.perf_counter() - start)
                yield result
            if failure:  # outside of `except`, where the error would keep the memory
                self._halve(len(batch), failure)

    def _halve(self, failed: int, reason: str) -> None:
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if failed <= 1:
            raise ValueError(
                f"memory runs out with a single image ({reason}): expected room for one; use a smaller generator "
                "(gan=…), segmenter=projected, gan.dtype=bf16, or another device"
            )
        self.size, self._grows = failed // 2, False
        log.warning("memory runs out with %d images at once: going on with %d", failed, self.size)

    def _timed(self, n: int, seconds: float) -> None:
        """Judges a size after `TRIALS` full batches: the next one, or, where it gained nothing, the one before."""
        if not self._grows or n < self.size:
            return
        self._times.append(seconds / n)
        if len(self._times) < TRIALS:
            return
        fastest, self._times = min(self._times), []
        gained = fastest <= GAIN * self._best
        self._best, self._grows = min(self._best, fastest), gained and 2 * self.size <= self.most
        if not gained:
            self.size //= 2
        elif self._grows:
            self.size *= 2
        if not self._grows:
            log.info("%d images at once", self.size)


def out_of_memory(error: Exception) -> bool:
    """Whether an error says that memory ran out, on a CPU or a GPU."""
    known = isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError))
    return known or any(words in str(error) for words in _OUT_OF_MEMORY)


def free(device: torch.device) -> int:
    """Bytes that this process can still have on a device.

    On a CPU the least of what the system has, what its control group (a container, a job of SLURM) may have, and what
    `ulimit -v` or `-d` leaves.
    """
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    return max(0, min([psutil.virtual_memory().available, *_left_of_group(), *_left_of_limits()]))


def _left_of_group() -> list[int]:
    """What the process's control group and those around it may still have; nothing where there is no limit."""
    try:
        lines = [line.split(":", 2) for line in _CGROUP.read_text().splitlines()]
    except OSError:
        return []
    left = []
    for controller, path in ((line[1], line[2]) for line in lines if len(line) == 3):
        if controller in _FILES:
            root, group_path = _GROUPS / controller, Path(path.lstrip("/"))
            left += [_left_of(root / group, *_FILES[controller]) for group in (group_path, *group_path.parents)]
    return [bytes_ for bytes_ in left if bytes_ is not None]


def _left_of(folder: Path, limit: str, used: str, cached: str) -> int | None:
    """What one control group may still have; None where it is not there (a container shows its own as the root) or has
    no limit.
    """
    try:
        whole, now = (int((folder / name).read_text()) for name in (limit, used))
        stated = re.search(rf"^{cached} (\d+)$", (folder / "memory.stat").read_text(), re.MULTILINE)
    except (OSError, ValueError):  # ValueError: "max"
        return None
    return whole - now + (int(stated[1]) if stated else 0)


def _left_of_limits() -> list[int]:
    """What the limits of the process leave."""
    used = psutil.Process().memory_info()
    known = ((resource.RLIMIT_AS, used.vms), (resource.RLIMIT_DATA, getattr(used, "data", used.rss)))
    limits = [(resource.getrlimit(kind)[0], now) for kind, now in known]
    return [limit - now for limit, now in limits if limit != resource.RLIM_INFINITY]


def budget(device: torch.device) -> int:
    """Bytes that a batch may take on a device: `SHARE` of what is free, `MOST` at most."""
    return int(min(MOST[device.type], SHARE * free(device)))


@dataclass(frozen=True)
class Machine:
    """What a plan is made for."""

    device: torch.device
    budget: int
    """Bytes that a batch may take."""

    @classmethod
    def of(cls, device: torch.device) -> Machine:
        """This one, now."""
        return cls(device, budget(device))


def keep_freed_memory() -> bool:
    """Let glibc keep the memory of freed tensors below `REUSED`; where another C library is in use, nothing is done.

    By default every tensor above some megabytes is a new mapping, which the kernel fills with zeros and takes back.
    Small networks spend more time on that than on their convolutions: part world's generator is twice as fast without.

    Returns:
        Whether it is done.
    """
    try:
        option = ctypes.CDLL(None).mallopt
    except AttributeError:
        return False
    settings = ((_MMAP_THRESHOLD, REUSED), (_TRIM_THRESHOLD, _LARGEST), (_TOP_PAD, 2**26))
    return all(option(name, value) == 1 for name, value in settings)
