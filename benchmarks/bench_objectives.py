"""Images and time per counterfactual that is reached: down the logits of r + Δr (`link`), or the image's (`image`).

    python benchmarks/bench_objectives.py [--samples 2] [--repetitions 3] [--threads 0] [--folder ../shared/real]

One process, side by side: on part world's dogs, and on a GAN and a CNN that others trained on Fashion-MNIST, where
their folder is there. Both objectives search the same samples of every ordered pair of classes from the same starts,
with their usual settings; they take turns, and medians of the turns are compared. A pass is an image that is made, with
a gradient or without. Prints a table, and as the last line the same as JSON. Only ratios are comparable between
machines.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import lis
from lis.boundary.job import Job
from lis.boundary.search import search
from lis.boundary.searches import blocks, problems_of, search_settings
from lis.plain import print_anywhere

OBJECTIVES = ("link", "image")
DOGS = ("classes=dogs", "size=demo", "pairs.train=300", "pairs.test=30")
FASHION = (
    *("classes=custom", "classes.names=[tshirt,trouser,pullover,dress,coat]"),
    *("size=demo", "pairs.train=640", "pairs.test=30"),
)
COSTS = ("passes", "seconds", "processor")
"""For each counterfactual that is reached: images; seconds by the clock, and of the processor (all threads)."""
TARGET = 1.0
"""On the fashion chain `image` takes fewer passes per counterfactual than this multiple of `link`'s."""


def networks(folder: Path) -> dict[str, Any]:
    """The generator and the classifier of the fashion chain."""
    sys.path.insert(0, str(folder))
    fashion = import_module("fashion")
    return {"gan": fashion.FashionGenerator(), "classifier": fashion.FashionClassifier()}


def compare(settings: tuple[str, ...], models: dict[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    """Searches, those that are reached, and what each of these costs, by objective; and the costs' ratios."""
    with tempfile.TemporaryDirectory() as store:
        study = lis.study(*settings, f"threads={options.threads}", f"store={store}", **models)
        job = Job.of(study.context)
        turns = {objective: list[dict[str, float]]() for objective in OBJECTIVES}
        for _ in range(options.repetitions):
            for objective in OBJECTIVES:
                turns[objective].append(searched(job, objective, options.samples))
    medians = {
        objective: {name: statistics.median(turn[name] for turn in rows) for name in rows[0]}
        for objective, rows in turns.items()
    }
    both = list(zip(*turns.values(), strict=True))
    ratios = {name: statistics.median(image[name] / link[name] for link, image in both) for name in COSTS}
    return medians | {"ratio": ratios}


def searched(job: Job, objective: str, samples: int) -> dict[str, float]:
    """One turn: searches, reached, and `COSTS`."""
    config = replace(job.ctx.config.counterfactuals, objective=objective)
    settings = search_settings(config)
    problems = [problems_of(job, block) for block in blocks(job, samples, 1, settings)]
    start, busy = time.perf_counter(), time.process_time()
    results = [search(job.land(settings), job.judge(settings), batch) for batch in problems]
    seconds, processor = time.perf_counter() - start, time.process_time() - busy
    reached = sum(int(result.success.sum()) for result in results)
    total = (sum(int(result.passes.sum()) for result in results), seconds, processor)
    costs = {name: value / max(reached, 1) for name, value in zip(COSTS, total, strict=True)}
    return {"searches": sum(len(result.success) for result in results), "reached": reached, **costs}


def print_rows(chain: str, result: dict[str, Any]) -> None:
    """A row per objective, and their ratios."""
    for objective in OBJECTIVES:
        row = result[objective]
        reached, milliseconds = f"{row['reached']:g} of {row['searches']:g}", f"{1000 * row['seconds']:12.1f}"
        print(
            f"{chain:10}{objective:16}{reached:>13}{row['passes']:10.1f}{milliseconds}{1000 * row['processor']:12.1f}"
        )
    ratio = result["ratio"]
    print(f"{chain:10}{'image / link':29}{ratio['passes']:10.2f}{ratio['seconds']:12.2f}{ratio['processor']:12.2f}")


def main() -> None:
    """The command line."""
    print_anywhere()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=2, help="of each ordered pair of classes")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--threads", type=int, default=0, help="0: all cores")
    parser.add_argument("--folder", type=Path, default=Path(__file__).parents[2] / "shared" / "real", help="fashion.py")
    options = parser.parse_args()
    print(f"{'per counterfactual':26}{'reached':>13}{'passes':>10}{'ms, clock':>12}{'processor':>12}")
    results = {"dogs": compare(DOGS, {}, options)}
    print_rows("dogs", results["dogs"])
    if (options.folder / "fashion.py").is_file():
        results["fashion"] = compare(FASHION, networks(options.folder), options)
        print_rows("fashion", results["fashion"])
        print(f"target, passes on fashion: < {TARGET:g} × link's")
    else:
        print(f"fashion: skipped, the networks are not in {options.folder} (--folder says where they are)")
    print(json.dumps(results | {"samples": options.samples, "target": TARGET}))


if __name__ == "__main__":
    main()
