"""Counterfactuals batched against one at a time, and the image looked at every k steps against every step.

    python benchmarks/bench_counterfactual.py [--samples 20] [--every 20] [--repetitions 3] [--threads 0]

One process, side by side: the ways take turns, and medians of the turns' ratios are compared. Everything is as in a run
on part world's dogs: two pairs of classes, the same samples and starts, the same optimizer; all find the same
counterfactuals. The link is fitted to a few pairs, which is enough for the search to have its usual length. Prints a
table, and as the last line the same as JSON. Only ratios are comparable between machines; on one that is busy with
other work, that of the processor's time (of all threads) tells more than that of the clock.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir

from lis import build
from lis.boundary.job import Job
from lis.boundary.search import Landscape, Problems, SearchResult, search
from lis.boundary.searches import blocks, problems_of, search_settings
from lis.config import conf_folder
from lis.memory import keep_freed_memory
from lis.plain import print_anywhere
from lis.stages import register
from lis.validation import typed

WAYS = {
    "one at a time, every step": (False, False),
    "one at a time, every k steps": (False, True),
    "batched, every step": (True, False),
    "batched, every k steps": (True, True),
}
"""Batched, and looked at every k steps?"""
PAIRS = "counterfactuals.pairs=[pug-chihuahua,border_collie-chihuahua]"
"""Those of Fig. 7."""
TARGET = 10.0
"""How much faster the last way is than the first, at least."""


def job(samples: int, threads: int, store: Path) -> tuple[Job, list[Problems]]:
    """A run's job, and the problems of every pair of classes, a batch each."""
    register()
    sizes = [
        PAIRS,
        "size=demo",
        "pairs.train=300",
        f"pairs.test={max(samples, 30)}",
        f"threads={threads}",
        f"store={store}",
    ]
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_folder())):
        made = Job.of(build.context(typed(compose("config", sizes))))
    return made, [problems_of(made, block) for block in blocks(made, samples, 1)]


def searched(made: Job, land: Landscape, batches: Sequence[Problems], batched: bool) -> SearchResult:
    """All problems, as batches or one by one."""
    parts = batches if batched else [one for batch in batches for one in single(batch)]
    found = [search(land, made.judge(land.settings), part) for part in parts]
    return SearchResult(*(torch.cat([getattr(part, name) for part in found]) for name in vars(found[0])))


def single(batch: Problems) -> list[Problems]:
    """Each problem of a batch, as a batch of its own."""
    return [batch.rows(torch.tensor([k])) for k in range(len(batch.r))]


def compare(samples: int, every: int, repetitions: int, threads: int) -> dict[str, Any]:
    """Seconds of every way (medians), and ratios (medians over the turns), by the clock and of the processor."""
    with tempfile.TemporaryDirectory() as folder:
        made, batches = job(samples, threads, Path(folder))
        seconds: dict[str, list[tuple[float, float]]] = {way: [] for way in WAYS}
        steps: dict[str, torch.Tensor] = {}
        for _ in range(repetitions):
            for way, (batched, seldom) in WAYS.items():
                settings = replace(search_settings(made.ctx.config.counterfactuals), objective="link", max_steps=2000)
                land = made.land(replace(settings, check_every=every if seldom else 1))
                start, busy = time.perf_counter(), time.process_time()
                steps[way] = searched(made, land, batches, batched).steps
                seconds[way].append((time.perf_counter() - start, time.process_time() - busy))
    first, last = steps["one at a time, every step"], steps["batched, every k steps"]
    clock, processor = ({way: [turn[k] for turn in turns] for way, turns in seconds.items()} for k in (0, 1))
    return {
        "counterfactuals": len(first),
        "median_steps": float(first.double().median()),
        "same_steps": float((first == last).double().mean()),
        "seconds": {way: statistics.median(values) for way, values in clock.items()},
        "faster": {"clock": ratios(clock), "processor": ratios(processor)},
    }


def ratios(seconds: dict[str, list[float]]) -> dict[str, float]:
    """How many times as fast, medians over the turns."""
    turns = list(zip(*seconds.values(), strict=True))
    found = {
        "batched, every step": [a / c for a, _, c, _ in turns],
        "batched, every k steps": [b / d for _, b, _, d in turns],
        "looked at every k steps, batched": [c / d for *_, c, d in turns],
        "together": [a / d for a, *_, d in turns],
    }
    return {name: statistics.median(values) for name, values in found.items()}


def main() -> None:
    """The command line."""
    print_anywhere()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=20)
    parser.add_argument("--every", type=int, default=20)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--threads", type=int, default=0, help="0: all cores")
    arguments = parser.parse_args()
    keep_freed_memory()  # as in a run
    result = compare(arguments.samples, arguments.every, arguments.repetitions, arguments.threads)
    print(f"{result['counterfactuals']} counterfactuals, median of {result['median_steps']:g} steps")
    for way, value in result["seconds"].items():
        print(f"  {way:42}{value:8.1f} s")
    print(f"{'times as fast':44}{'clock':>8}{'processor':>12}")
    clock, processor = result["faster"]["clock"], result["faster"]["processor"]
    for name, value in clock.items():
        print(f"  {name:42}{value:8.1f}{processor[name]:12.1f}")
    print(f"target, together: ≥ {TARGET:g}; the same steps in {result['same_steps']:.1%}")
    print(json.dumps(result | {"every": arguments.every, "target": TARGET}))


if __name__ == "__main__":
    main()
