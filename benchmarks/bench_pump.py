"""PUMP's matching against the plain method on the whole four-dimensional volume; memory at 256 px; batches of pairs.

    python benchmarks/bench_pump.py [--repetitions 5] [--threads N] [--channels 32]

One process for the times: both methods take turns on the same descriptors, and medians are compared, by the clock and
by the processor's time (of all threads). The plain method (`helpers.pump_reference`) is whole-tensor torch in the
order of the description. Peak memory is measured in a process of its own, without imports and descriptors. Prints a
table, and as the last line the same as JSON. Only ratios are comparable between machines.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from lis.matching.pump import match
from lis.memory import keep_freed_memory
from lis.plain import print_anywhere

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from helpers.pump_reference import plain_match

RATIO = 1.5
"""Lowest ratio plain / lis at 128 px."""
MEMORY_MB = 4096
"""Highest peak at 256 px."""
SIZES = (64, 128)
BATCHES = (1, 4, 16)
LARGE = 256


def descriptors(size: int, channels: int, n: int = 1) -> tuple[Tensor, Tensor]:
    """Those of images and of the same images shifted by (3, 2) px, with noise: `[n, channels, …]`."""
    rng = torch.Generator().manual_seed(size)
    coarse = torch.randn(n, channels, size // 4, size // 4, generator=rng)
    maps = F.interpolate(coarse, (size, size), mode="bicubic", align_corners=False)
    noisy = maps.roll((2, 3), (2, 3)) + 0.2 * torch.randn(maps.shape, generator=rng)
    return F.normalize(maps[:, :, 2::4, 2::4]), F.normalize(noisy)


def measure(methods: Mapping[str, Callable[[], object]], repetitions: int) -> dict[str, dict[str, float]]:
    """Median seconds of every method, by the clock and by the processor; they take turns."""
    clocks = {"clock": time.perf_counter, "processor": time.process_time}
    runs: dict[str, list[list[float]]] = {name: [] for name in methods}
    for _ in range(repetitions):
        for name, method in methods.items():
            start = [clock() for clock in clocks.values()]
            method()
            runs[name].append([clock() - begun for clock, begun in zip(clocks.values(), start, strict=True)])
    medians = {name: [statistics.median(column) for column in zip(*run, strict=True)] for name, run in runs.items()}
    return {name: dict(zip(clocks, median, strict=True)) for name, median in medians.items()}


def compare(repetitions: int, channels: int) -> dict[str, Any]:
    """Times of both methods by size, of batches, and the peak at 256 px."""
    pairs = {size: descriptors(size, channels) for size in SIZES}
    both = {
        f"{name} {size}": partial(method, cells[0], pixels[0])
        for size, (cells, pixels) in pairs.items()
        for name, method in (("plain", plain_match), ("lis", match))
    }
    batches = {f"batch {n}": partial(match, *descriptors(SIZES[0], channels, n)) for n in BATCHES}
    seconds = measure(both, repetitions) | measure(batches, repetitions)
    ratio = {
        size: {
            clock: seconds[f"plain {size}"][clock] / seconds[f"lis {size}"][clock] for clock in ("clock", "processor")
        }
        for size in SIZES
    }
    megabytes, large = in_own_process(partial(peak, channels, torch.get_num_threads()))
    target = {"ratio": RATIO, "memory_mb": MEMORY_MB}
    return {"seconds": seconds, "ratio": ratio, "peak_mb": megabytes, "seconds_256": large, "target": target}


def peak(channels: int, threads: int) -> tuple[float, float]:
    """Megabytes that a pair of 256 px takes at most, and seconds."""
    torch.set_num_threads(threads)
    match(*descriptors(32, channels))
    pair = descriptors(LARGE, channels)
    before, start = _resident(), time.perf_counter()
    match(*pair)
    return _resident() - before, time.perf_counter() - start


def in_own_process(function: Callable[[], tuple[float, float]]) -> tuple[float, float]:
    """What a function returns in a new process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function)


def _resident() -> float:
    """Peak resident memory in megabytes; Linux counts in kilobytes, macOS in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def _table(result: dict[str, Any]) -> str:
    rows = [f"{'seconds per pair':18}{'plain':>8}{'lis':>8}{'ratio':>8}{'by processor':>14}{'target':>8}"]
    for size, ratio in result["ratio"].items():
        plain, ours = (result["seconds"][f"{name} {size}"]["clock"] for name in ("plain", "lis"))
        wanted = f"≥ {RATIO}" if size == 128 else ""
        rows.append(
            f"{f'{size} px':18}{plain:8.3f}{ours:8.3f}{ratio['clock']:8.1f}{ratio['processor']:14.1f}{wanted:>8}"
        )
    for n in BATCHES:
        took = result["seconds"][f"batch {n}"]
        each = f"{took['clock'] / n:8.3f}{'':8}{took['processor'] / n:14.3f}"
        rows.append(f"{f'{SIZES[0]} px, {n} at once':18}{'':8}{each}")
    rows.append(f"{LARGE} px: {result['seconds_256']:.1f} s, peak {result['peak_mb']:.0f} MB, target ≤ {MEMORY_MB}")
    return "\n".join(rows)


def main() -> None:
    """The command line."""
    print_anywhere()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--channels", type=int, default=32)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    keep_freed_memory()  # as in a run
    torch.set_num_threads(arguments.threads)
    result = compare(arguments.repetitions, arguments.channels)
    print(_table(result))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
