"""How many images at once: doubled while that is faster, halved when memory runs out."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

import torch
from torch import Tensor

Result = TypeVar("Result")

log = logging.getLogger(__name__)

FIRST_ON_GPU = 32
"""Images at once that a GPU begins with."""
MAPS_ON_CPU = 2**25
"""Bytes of feature maps that are best made at once on a CPU: more leave its caches, and many more its memory."""
GAIN = 0.95
"""A larger batch is kept where an image takes at most this share of the time."""
TRIALS = 2
"""Batches of each size that are timed while it grows; the faster one counts."""
_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory", "ALLOC_FAILED")


class Batches:
    """Maps a function over rows, as many at once as memory allows.

    Args:
        size: rows at once, to begin with.
        grows: whether more are tried, twice as many each time, while a row then takes less time.

    Example:
        >>> rows = torch.arange(5)
        >>> [part.tolist() for part in Batches(2).map(torch.square, rows)]
        [[0, 1], [4, 9], [16]]
    """

    def __init__(self, size: int, grows: bool = False) -> None:
        self.size, self._grows = size, grows
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
        self._grows = fastest <= GAIN * self._best
        self._best = min(self._best, fastest)
        self.size = self.size * 2 if self._grows else self.size // 2
        if not self._grows:
            log.info("%d images at once", self.size)


def out_of_memory(error: Exception) -> bool:
    """Whether an error says that memory ran out, on a CPU or a GPU."""
    known = isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError))
    return known or any(words in str(error) for words in _OUT_OF_MEMORY)


def batches(size: int | None, most: int, device: torch.device, maps: Callable[[], dict[str, Tensor]]) -> Batches:
    """Batches of `size` images, or, where that is None, of as many as suit the device.

    A GPU begins with 32 and finds more. A CPU takes a fixed number, so that a run gives the same again: a power of two
    that keeps the feature maps below `MAPS_ON_CPU`.

    Args:
        size: `tuning.batch_size`.
        most: on a CPU, `batch_size` of the run.
        device: where the images are made.
        maps: makes one image's feature maps, by name.
    """
    grows = size is None and device.type == "cuda"
    if size is None:
        size = FIRST_ON_GPU if grows else min(most, _fitting(maps()))
    log.info("%d images at once%s", size, ", to begin with" if grows else "")
    return Batches(size, grows)


def _fitting(maps: dict[str, Tensor]) -> int:
    """Largest power of two of images whose maps, `[1, channels, h, w]` each, have at most `MAPS_ON_CPU` bytes."""
    one = sum(x.numel() * x.element_size() for x in maps.values())
    return 2 ** max(0, int(math.log2(MAPS_ON_CPU / max(one, 1))))
