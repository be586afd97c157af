"""Counterfactuals batched against one at a time, and the image looked at every k steps against every step.

    python benchmarks/bench_counterfactual.py [--samples 20] [--every 5] [--repetitions 1] [--threads 1]

One process, side by side: the ways take turns, and medians of the turns' ratios are compared. Everything is as in a run
on part world's dogs: two pairs of classes, the same samples and starts, the same optimizer; all find the same
counterfactuals. The link is fitted to a few pairs, which is enough for the search to have its usual length. Prints a
table, and as the last line the same as JSON. Only ratios are comparable between machines.
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

import torch
from hydra import compose, initialize_config_dir

from lis import build
from lis.boundary.job import Job, search_settings
from lis.boundary.search import Found, Landscape, Problems, search
from lis.boundary.shards import blocks, problems_of
from lis.config import conf_folder, register
from lis.validation import typed

WAYS = {
    "one at a time, every step": (False, False),
    "one at a time, every k steps": (False, True),
    "batched, every step": (True, False),
    "batched, every k steps": (True, True),
}
"""Batched, and looked at every k steps?"""
PAIRS = "counterfactual.pairs=[pug-chihuahua,border_collie-chihuahua]"
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


def searched(made: Job, land: Landscape, batches: Sequence[Problems], batched: bool) -> Found:
    """All problems, as batches or one by one."""
    parts = batches if batched else [one for batch in batches for one in single(batch)]
    found = [search(land, made.predict, part) for part in parts]
    return Found(*(torch.cat([getattr(part, name) for part in found]) for name in vars(found[0])))


def single(batch: Problems) -> list[Problems]:
    """Each problem of a batch, as a batch of its own."""
    return [batch.rows(torch.tensor([k])) for k in range(len(batch.r))]


def compare(samples: int, every: int, repetitions: int, threads: int) -> dict[str, object]:
    """Seconds of every way (medians), and ratios (medians over the turns)."""
    with tempfile.TemporaryDirectory() as folder:
        made, batches = job(samples, threads, Path(folder))
        seconds: dict[str, list[float]] = {way: [] for way in WAYS}
        steps: dict[str, torch.Tensor] = {}
        for _ in range(repetitions):
            for way, (batched, seldom) in WAYS.items():
                settings = search_settings(made.ctx.config.counterfactual)
                land = made.land(replace(settings, check_every=every if seldom else 1))
                start = time.perf_counter()
                steps[way] = searched(made, land, batches, batched).steps
                seconds[way].append(time.perf_counter() - start)
    first, last = steps["one at a time, every step"], steps["batched, every k steps"]
    turns = list(zip(*seconds.values(), strict=True))
    ratios = {
        "batched / one at a time, every step": [a / c for a, _, c, _ in turns],
        "batched / one at a time, every k steps": [b / d for _, b, _, d in turns],
        "every k steps / every step, batched": [c / d for *_, c, d in turns],
        "together": [a / d for a, *_, d in turns],
    }
    return {
        "counterfactuals": len(first),
        "median_steps": float(first.double().median()),
        "same_steps": float((first == last).double().mean()),
        "seconds": {way: statistics.median(values) for way, values in seconds.items()},
        "faster": {name: statistics.median(values) for name, values in ratios.items()},
    }


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=20)
    parser.add_argument("--every", type=int, default=5)
    parser.add_argument("--repetitions", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    result = compare(arguments.samples, arguments.every, arguments.repetitions, arguments.threads)
    print(f"{result['counterfactuals']} counterfactuals, median of {result['median_steps']:g} steps")
    for name, values in (("seconds", result["seconds"]), ("times as fast", result["faster"])):
        print(name)
        for way, value in values.items():  # pyright: ignore[reportAttributeAccessIssue]
            print(f"  {way:42}{value:8.2f}")
    print(f"target, together: ≥ {TARGET:g}; the same steps in {result['same_steps']:.1%}")
    print(json.dumps(result | {"every": arguments.every, "target": TARGET}))


if __name__ == "__main__":
    main()
