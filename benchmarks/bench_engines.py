"""Rows tuned per second with several workers against one: engine=local, engine=ray, two `lis.worker`, two equal runs.

    python benchmarks/bench_engines.py [--workers 2] [--seeds 4] [--repetitions 3] [--engines inprocess local …]
    python benchmarks/bench_engines.py --together [--seeds 4]
    python benchmarks/bench_engines.py --assembly 5000
    python benchmarks/bench_engines.py --growth 4 20 78 [--workers 2]

Part world's dogs, PartNet, 256 units on `seeds` samples of 5 breeds (a row is a unit of a sample), one thread for each
worker. What comes before the tuning is made once and copied; the engines take turns, each on a store of its own. A time
begins with the first shard that any worker begins and ends with the stage's manifest: the start of processes, of Ray
and the report are left out, and the start is told beside it. `idle` is the share of the workers' time in which no shard
was being made: what engine and store cost, and what the workers wait for at the end.

`--together`: two equal `python -m lis.run` at once, one thread each, against one: from the start of the processes to
the last manifest, and how many shards each has made.

`--assembly`: so many small shards read again and joined, once loose and once packed; and how far the peak of the
process rises.

`--growth`: the peak memory of the run and of its largest worker by the number of samples, with engine=local.

Prints a table, and as the last line the same as JSON. Only ratios are comparable between machines.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import torch

from lis.build import context
from lis.compose import composed
from lis.context import Context
from lis.distributed import Local, Ray
from lis.engine import InProcess
from lis.memory import keep_freed_memory
from lis.plain import print_anywhere
from lis.shards import Shards
from lis.stage import REGISTRY
from lis.stages import discover
from lis.store import Draft, Store
from lis.store.inventory import Inventory
from lis.store.packs import pack

BEFORE = ("directions", "segmenter", "pairs/tuning")
"""What tuning needs, made once."""


def overrides(store: Path, seeds: int) -> list[str]:
    """Of the run, as they are typed."""
    return [
        "analysis.stages=[tuning]", "classes=dogs", "size=demo", f"tuning.seeds={seeds}", "pairs.train=400",
        "threads=1", "logger=csv", f"store={store}",
    ]  # fmt: skip


@dataclass(frozen=True)
class Span:
    """What the manifests of a store say of one tuning."""

    seconds: float
    """From the first shard's beginning to the stage."""
    made: float
    """Seconds in which shards were being made, summed over the workers."""
    shards: int

    @classmethod
    def of(cls, store: Path) -> Span:
        """Of a store that holds one."""
        shards, (stage,) = finished(store, "tuning-shard"), finished(store, "tuning")
        begun = min(end - seconds for end, seconds in shards)
        return cls(stage[0] - begun, sum(seconds for _, seconds in shards), len(shards))


def finished(store: Path, stage: str) -> list[tuple[float, float]]:
    """When each artifact of a stage was finished, in seconds, and how long it took."""
    manifests = [entry.manifest for entry in Inventory(store).entries if entry.stage == stage]
    return [(datetime.fromisoformat(facts["created"]).timestamp(), facts["seconds"]) for facts in manifests]


def compare(engines: Sequence[str], workers: int, seeds: int, repetitions: int) -> dict[str, Any]:
    """Seconds of every engine, and its throughput against `inprocess`."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        prepare(root / "before", seeds)
        rows: dict[str, list[tuple[Span, float]]] = {name: [] for name in engines}
        for turn in range(repetitions):
            for name, measured in rows.items():
                store = root / f"{name}{turn}"
                shutil.copytree(root / "before", store)
                start = METHODS[name](store, seeds, workers)
                measured.append((Span.of(store), start))
                shutil.rmtree(store)
    median = {name: statistics.median(span.seconds for span, _ in measured) for name, measured in rows.items()}
    busy = {name: 1 if name == "inprocess" else workers for name in rows}
    return {
        "rows": 256 * 5 * seeds,
        "shards": {name: measured[0][0].shards for name, measured in rows.items()},
        "median_s": median,
        "all_s": {name: [round(span.seconds, 2) for span, _ in measured] for name, measured in rows.items()},
        "throughput": {name: median["inprocess"] / seconds for name, seconds in median.items()},
        "idle": {
            name: statistics.median(1 - span.made / (busy[name] * span.seconds) for span, _ in measured)
            for name, measured in rows.items()
        },
        "start_s": {name: statistics.median(start for _, start in measured) for name, measured in rows.items()},
    }


def prepare(store: Path, seeds: int) -> None:
    """What comes before the tuning."""
    ctx = context(composed(overrides(store, seeds), Path.cwd()))
    for name in BEFORE:
        REGISTRY[name].artifact(ctx)


def with_engine(engine: Callable[[int], Any]) -> Callable[[Path, int, int], float]:
    """A method that tunes in this process, and the seconds until its workers have made something."""

    def tune(store: Path, seeds: int, workers: int) -> float:
        ctx = context(composed(overrides(store, seeds), Path.cwd()))
        ctx = replace(ctx, engine=engine(workers))
        start = warm(ctx, workers)
        REGISTRY["tuning"].artifact(ctx)
        ctx.engine.close()
        return start

    return tune


def warm(ctx: Context, workers: int) -> float:
    """Have every worker make something; the seconds that this takes."""
    begun = time.perf_counter()
    list(SMALL.artifacts(Small(ctx, "warm"), range(4 * workers), "warm"))
    return time.perf_counter() - begun


def by_workers(store: Path, seeds: int, workers: int) -> float:
    """Some `lis.worker` alone; the seconds until the first one begins a shard."""
    command = [sys.executable, "-m", "lis.worker", *overrides(store, seeds)]
    begun = time.time()
    processes = [subprocess.Popen(command, stderr=subprocess.DEVNULL, env=environment()) for _ in range(workers)]
    if any(process.wait() for process in processes):
        raise RuntimeError("a worker failed")
    return min(end - seconds for end, seconds in finished(store, "tuning-shard")) - begun


METHODS: dict[str, Callable[[Path, int, int], float]] = {
    "inprocess": with_engine(lambda _: InProcess()),
    "local": with_engine(lambda workers: Local(["cpu"] * workers)),
    "ray": with_engine(lambda workers: Ray(workers=workers)),
    "worker": by_workers,
}


def environment() -> dict[str, str]:
    """Of the processes: one thread each, and this checkout."""
    root = str(Path(__file__).parent.parent)
    return os.environ | {
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")]),
    }


@dataclass(frozen=True)
class Small:
    """A job whose shards cost nothing to make."""

    ctx: Context
    name: str
    inputs: tuple[str, ...] = ()


def _write(job: Small, block: int, draft: Draft) -> None:
    rows = torch.full((20, 2, 9, 5), float(block))
    draft.tensors("block", {"measures": rows, "probability": rows[:, :, 0], "position": rows[:, :, 0, 0]})


def _none(job: Small, block: int) -> dict[str, str]:
    return {}


def _config(job: Small, block: int) -> dict[str, Any]:
    return {"block": block, "name": job.name}


SMALL = Shards("small-shard", 1, _config, _write, _none)


def together(seeds: int) -> dict[str, Any]:
    """One run, then two equal ones at once."""
    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for count in (1, 2):
            store = Path(folder) / f"store{count}"
            runs = [Path(folder) / f"run{count}{number}" for number in range(count)]
            begun = time.time()
            processes = [
                subprocess.Popen(
                    [sys.executable, "-m", "lis.run", *overrides(store, seeds), f"hydra.run.dir={run}"],
                    stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment(),
                )
                for run in runs
            ]  # fmt: skip
            if any(process.wait() for process in processes):
                raise RuntimeError("a run failed")
            ((end, _),) = finished(store, "tuning")
            made = [re.findall(r"made (\S+-shard) \((\w+)\)", (run / "lis.log").read_text()) for run in runs]
            result[f"{count} run(s), s"] = end - begun
            result[f"{count} run(s), shards made"] = [len(each) for each in made]
            result[f"{count} run(s), different shards"] = len({key for each in made for key in each})
    result["ratio"] = result["2 run(s), s"] / result["1 run(s), s"]
    return result


def assembly(count: int) -> dict[str, Any]:
    """Small shards made, read again, packed, and read again."""
    with tempfile.TemporaryDirectory() as folder:
        ctx = context(composed(overrides(Path(folder) / "store", 1), Path.cwd()))
        result: dict[str, Any] = {"shards": count, "rows": 20 * count}
        for name in ("made", "loose", "packed"):
            ctx = replace(ctx, store=Store(Path(ctx.config.store)))
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            begun = time.perf_counter()
            if name == "packed":
                result["inodes loose"] = inodes(ctx.store.root)
                pack_all(ctx, count)
                result["packing, s"] = time.perf_counter() - begun
                result["inodes packed"] = inodes(ctx.store.root)
                ctx, begun = replace(ctx, store=Store(Path(ctx.config.store))), time.perf_counter()
            SMALL.tensors(Small(ctx, "assembly"), range(count), name)
            result[f"{name}, s"] = time.perf_counter() - begun
            result[f"{name}, peak rises by MiB"] = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak) / 1024
    return result


def growth(numbers: Sequence[int], workers: int) -> dict[str, Any]:
    """Rows, seconds and peak memory of tunings of so many samples, each in a process of its own."""
    result: dict[str, Any] = {}
    for seeds in numbers:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            result[f"{256 * 5 * seeds} rows"] = pool.apply(grown, (seeds, workers))
        print(f"{256 * 5 * seeds} rows", result[f"{256 * 5 * seeds} rows"], flush=True)
    return result


def grown(seeds: int, workers: int) -> dict[str, float]:
    """Of one tuning."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        ctx = context(composed(overrides(Path(folder) / "store", seeds), Path.cwd()))
        ctx, begun = replace(ctx, engine=Local(["cpu"] * workers)), time.perf_counter()
        artifact = REGISTRY["tuning"](ctx)
        ctx.engine.close()
        size = sum(facts["size"] for facts in artifact.manifest["files"].values())
    own, child = (resource.getrusage(who).ru_maxrss / 1024 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    seconds = time.perf_counter() - begun
    return {"s": seconds, "run, MiB": own, "largest worker, MiB": child, "artifact, MiB": size / 2**20}


def pack_all(ctx: Context, count: int) -> None:
    """Pack what `assembly` has made."""
    pack(ctx.store.root, list(SMALL.artifacts(Small(ctx, "assembly"), range(count), "packed")))


def inodes(root: Path) -> int:
    """Files and folders beneath a folder."""
    return sum(1 for _ in root.rglob("*"))


@contextmanager
def one_thread() -> Iterator[None]:
    """Of torch, here and in the processes that are started."""
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    yield


def main() -> None:
    """Measure and print."""
    print_anywhere()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--engines", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--together", action="store_true")
    parser.add_argument("--assembly", type=int)
    parser.add_argument("--growth", type=int, nargs="+")
    options = parser.parse_args()
    discover()
    keep_freed_memory()  # as a run does
    with one_thread():
        if options.together:
            result = together(options.seeds)
        elif options.growth:
            result = growth(options.growth, options.workers)
        elif options.assembly:
            result = assembly(options.assembly)
        else:
            result = compare(options.engines, options.workers, options.seeds, options.repetitions)
    for name, value in result.items():
        print(f"{name:28} {value}")
    print(json.dumps(result))


if __name__ == "__main__":
    import bench_engines  # where workers find what is defined here

    bench_engines.main()
