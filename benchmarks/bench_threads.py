"""Work with a thread for each core, alone and beside a program of another session: as lis sets libgomp, and without.

    python benchmarks/bench_threads.py [--repetitions 1]

`lis` has a thread that waits for work leave its core soon (`GOMP_SPINCOUNT`, in `lis/__init__.py`). Each measurement is
the median of 3 in a process of its own; the processes take turns. Prints a table, and as the last line the same as
JSON. Only ratios are comparable between machines.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from lis.plain import print_anywhere

SETTINGS = {"lis": {}, "libgomp's own": {"GOMP_SPINCOUNT": "300000"}}
"""Environments: the one that lis makes, and libgomp's default."""


def measure() -> dict[str, float]:
    """Median seconds of each kind of work in this process."""
    import torch  # after lis
    from torchvision.models import densenet201

    from lis.generators.partworld import PartWorld
    from lis.streams import Stream

    torch.set_num_threads(os.cpu_count() or 1)
    generator, network = PartWorld(("pug",)), densenet201(num_classes=5)
    w, images = generator.sample(0, torch.arange(64), Stream("labels")), torch.rand(16, 3, 64, 64)

    @torch.no_grad()
    def single() -> None:
        for index in range(5):
            generator.synthesize(w[index : index + 1])

    @torch.no_grad()
    def batch() -> None:
        generator.synthesize(w)

    def step() -> None:
        network(images).sum().backward()
        network.zero_grad()

    kinds: dict[str, Callable[[], None]] = {
        "5 images, one by one": single,
        "64 images": batch,
        "a training step": step,
    }
    return {name: _median(work) for name, work in kinds.items()}


def _median(work: Callable[[], None]) -> float:
    work()
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


@contextmanager
def beside(busy: bool) -> Iterator[None]:
    """With a program of another session that keeps a core busy, or none.

    Linux gives each session its share of all cores, as a container has one by its quota: here half of two.
    """
    other = subprocess.Popen([sys.executable, "-c", "while True: pass"], start_new_session=True) if busy else None
    try:
        yield
    finally:
        if other is not None:
            other.kill()
            other.wait()


def compare(repetitions: int) -> dict[str, Any]:
    """Medians over interleaved processes, and their ratios."""
    runs: dict[str, dict[str, dict[str, list[float]]]] = {}
    for _ in range(repetitions):
        for situation, busy in (("alone", False), ("beside a program", True)):
            for name, environment in SETTINGS.items():
                for kind, seconds in _measured(environment, busy).items():
                    runs.setdefault(situation, {}).setdefault(kind, {}).setdefault(name, []).append(seconds)
    medians = {s: {k: {n: statistics.median(x) for n, x in b.items()} for k, b in a.items()} for s, a in runs.items()}
    return {"repetitions": repetitions, "cores": os.cpu_count(), "median": medians}


def _measured(environment: dict[str, str], busy: bool) -> dict[str, float]:
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("OMP_", "GOMP_", "MKL_"))}
    with beside(busy):
        command = [sys.executable, __file__, "--measure"]
        done = subprocess.run(command, env=clean | environment, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=1)
    parser.add_argument("--measure", action="store_true", help="only measure, in this process")
    options = parser.parse_args()
    print_anywhere()
    if options.measure:
        print(json.dumps(measure()))
        return
    result = compare(options.repetitions)
    for situation, kinds in result["median"].items():
        for kind, seconds in kinds.items():
            ours, plain = seconds.values()
            print(f"{situation:20} {kind:24} {ours:7.3f} s {plain:7.3f} s  ratio {ours / plain:.3f}")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
