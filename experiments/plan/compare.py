"""What a plan says of a run, beside what the run then takes: time of the processor and of the clock, passes, disk.

    python experiments/plan/compare.py <folder for store and page> analysis=link threads=1 …

The plan comes first and the run directly after it, in one process. A machine that others use too stretches times of the
clock; times of the processor are those of this process with one thread.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir

from lis.classifiers.classifier import ready
from lis.config import RunConfig, conf_folder
from lis.context import Context
from lis.job import prepared
from lis.memory import keep_freed_memory
from lis.planning import Plan, whole_plan
from lis.planning.text import duration, lines, storage
from lis.report.page import write_report
from lis.stage import closure, requested
from lis.stages import register
from lis.validation import typed

CLOCKS = {"processor": time.process_time, "clock": time.perf_counter}


def settings(*overrides: str) -> RunConfig:
    """Those of a run."""
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        return typed(compose("config", [*overrides]))


def timed(function: Any, *arguments: Any) -> tuple[Any, dict[str, float]]:
    """What a function gives, and seconds by clock."""
    start = {name: clock() for name, clock in CLOCKS.items()}
    result = function(*arguments)
    return result, {name: clock() - start[name] for name, clock in CLOCKS.items()}


def measured(ctx: Context, folder: Path) -> dict[str, dict[str, float]]:
    """Seconds of every stage of a run, and of its page."""
    (ctx, artifacts), seconds = timed(ready, ctx)
    result = {"before": seconds}
    for stage in closure(requested(ctx), ctx):
        artifacts[stage.name], result[stage.name] = timed(stage.artifact, ctx)
        print(stage.name, *(f"{name} {seconds:.1f} s" for name, seconds in result[stage.name].items()), flush=True)
    shown = {name: artifacts[name] for name in requested(ctx)}
    result["report"] = timed(write_report, ctx, shown, folder)[1]
    return result


def size(folder: Path) -> tuple[int, int]:
    """Bytes of the files below a folder, and how many files and folders there are."""
    paths = list(folder.rglob("*"))
    return sum(path.stat().st_size for path in paths if path.is_file()), len(paths)


def show(plan: Plan, took: dict[str, dict[str, float]], clock: str) -> None:
    """Print both, by stage."""
    known = {each.name: each.seconds() or 0.0 for each in plan.stages}
    print(f"seconds of the {clock}: stage, planned, measured")
    for name in dict.fromkeys([*known, *took]):
        print(f"  {name:20s} {known.get(name, 0.0):8.1f} {took.get(name, {}).get(clock, 0.0):8.1f}")
    planned, whole = plan.seconds() - plan.startup, sum(each[clock] for each in took.values())
    print(f"  {'all':20s} {planned:8.1f} {whole:8.1f}  planned / measured {planned / whole:.2f}")


def main() -> None:
    """Plan, run, compare."""
    keep_freed_memory()
    register()
    folder, *overrides = sys.argv[1:]
    store = Path(folder) / "store"
    ctx = prepared(settings(f"store={store}", *overrides))
    print("load of the machine:", *os.getloadavg())
    plans = {}
    for name, clock in reversed(CLOCKS.items()):
        plan, seconds = timed(lambda clock=clock: whole_plan(ctx, clock=clock))
        plans[name] = plan
        print(f"planned in {seconds['clock']:.1f} s, {seconds['processor']:.1f} s of the processor")
        print(*lines(plan), sep="\n", flush=True)
    took = measured(ctx, Path(folder) / "page")
    print("load of the machine:", *os.getloadavg())
    for name in CLOCKS:
        show(plans[name], took, name)
    plan, (written, inodes) = plans["clock"], size(store)
    print(f"disk: planned {storage(plan.size)}, there {storage(written)}; files {plan.inodes}, there {inodes}")
    print(f"whole: {duration(plan.seconds())}")


if __name__ == "__main__":
    main()
