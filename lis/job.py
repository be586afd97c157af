"""One run: check its settings → build its models → check these → run the stages → write the report."""

from __future__ import annotations

import json
import logging
import os
import platform
import resource
import sys
import time
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import hydra
import numpy as np
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

import lis
from lis import build, peaks
from lis.callbacks import FAILURE, PLAN
from lis.classifiers.classifier import ready
from lis.classifiers.networks import check_domain, check_probe
from lis.classifiers.probe import validate_probe
from lis.config import NetworkConfig, RunConfig, conf_folder
from lis.config.overrides import anchored, as_typed
from lis.context import Context
from lis.determinism import refusals_explained
from lis.devices import JOB
from lis.folder import clear, record, staged
from lis.isolation import Died, isolated
from lis.linking.link import validate_link
from lis.linking.pairs import validate_classes
from lis.memory import keep_freed_memory
from lis.planning import announce, facts, has_random_weights, planned_context, shown, whole_plan
from lis.report.html import ReportError
from lis.report.metrics import attempt_metrics
from lis.report.outcomes import main_metrics
from lis.report.page import stored_report
from lis.report.stored import program
from lis.stage import REGISTRY, closure, generates, omitted, requested
from lis.stages import discover, names
from lis.stopping import stop
from lis.store import Artifact, disk_fault
from lis.tracking import Ended, Tracker, track, track_stage
from lis.types import Classifier, Generator
from lis.validation import check_config, check_folders, check_labels, typed

discover()
log = logging.getLogger("lis.run")
WITNESS = "counterfactuals.witness"
"""Key of the second classifier."""
_ONE_BY_ONE = "hydra._internal.core_plugins.basic_launcher.BasicLauncher"
"""The launcher that runs the jobs of a sweep in this process."""


def task(config: DictConfig) -> None:
    """Run one job; Hydra composes its configuration and makes its folder.

    Workers of a launcher get it by its name, so that they have what this module has imported and declared.
    """
    start, hydra_config = time.perf_counter(), HydraConfig.get()
    program()  # pages are drawn by the files that were imported, not by those that somebody edits meanwhile
    if hydra_config.mode != RunMode.MULTIRUN or hydra_config.launcher._target_ == _ONE_BY_ONE:
        return job(config)
    try:
        return isolated(partial(_beside_others, config))
    except Died as error:
        fail(error, config, time.perf_counter() - start)


main = hydra.main(version_base="1.3", config_path=str(conf_folder()), config_name="config")(task)
"""`task` for what `sys.argv` asks for."""


def _beside_others(config: DictConfig) -> None:
    """Run one job of several at once: on the GPU of its number, with lines where bars of several would be torn."""
    os.environ |= {JOB: str(HydraConfig.get().job.num), "TTY_COMPATIBLE": "0"}
    job(config)


def job(config: DictConfig) -> None:
    """Run one job in this process."""
    start = time.perf_counter()
    keep_freed_memory()
    stop.store = str(config.store)
    try:
        run(config, Path(HydraConfig.get().runtime.output_dir))
        stop.check()  # a signal that came last still stops a sweep
    except Exception as error:
        fail(error, config, time.perf_counter() - start)
    except BaseException:
        log.debug("stopped", exc_info=True)  # into the file alone
        raise


def fail(error: Exception, config: DictConfig, seconds: float) -> None:
    """Log an error, keep it in the run's folder and end the program; a sweep goes on with its next job."""
    out, cwd = Path(HydraConfig.get().runtime.output_dir), Path(HydraConfig.get().runtime.cwd)
    store = cwd / Path(config.store).expanduser()
    told = isinstance(error, (ReportError, Died))  # the first with a traceback per section
    if (fault := disk_fault(error, store)) is not None:
        log.error("%s", fault)
        log.debug("where that happened:", exc_info=error)  # into the file alone
    else:
        log.error("%s", error, exc_info=None if told else error)
    with suppress(OSError):  # the same disk may be full
        reason = {"error": fault or str(error) or type(error).__name__, "type": type(error).__name__}
        write_json(out / FAILURE, {**reason, "seconds": round(seconds, 2)})
    if HydraConfig.get().mode != RunMode.MULTIRUN:
        sys.exit(1)


def run(config: DictConfig, out: Path) -> None:
    """Check the configuration, run its stages and write everything into `out`.

    Raises:
        ValueError: bad input; found before any work starts wherever that is possible.
        ReportError: a section of the report failed; numbers, tables and all other sections are written.
    """
    start, settings = time.perf_counter(), anchored(typed(config), Path(HydraConfig.get().runtime.cwd))
    if settings.plan:
        return show_plan(settings, out)
    ctx = prepared(settings)
    check_folders(ctx)
    announce(ctx)
    clear_outputs(out)
    tracker: Tracker = build.build(ctx.config.logger, out=str(out))
    try:
        ctx, artifacts, stages = run_stages(ctx, tracker)
        metrics, _ = measured = attempt_metrics(artifacts)
        write_json(out / "metrics.json", metrics)
    except BaseException:
        tracker.finish(failed=True)
        raise
    finally:
        ctx.engine.close()
    report, is_whole = None, False
    try:
        with staged(out) as draft:
            report = stored_report(ctx, artifacts, draft, measured)
        is_whole = True
    finally:  # a figure that fails loses nothing but itself
        write_json(out / "summary.json", summarise(artifacts, report, stages, time.perf_counter() - start))
        track(tracker, metrics, out, failed=not is_whole)
    show(metrics, out / "report.html")


def show_plan(settings: RunConfig, out: Path) -> None:
    """Print what a run would do, of whose work nothing is done; what refuses it is said below.

    Raises:
        ValueError: what is wrong with the settings alone, or the models cannot be made.
    """
    check_config(settings, names())
    ctx, notes = planned_context(settings)
    try:
        check_models(ctx)
        check_folders(ctx)
    except ValueError as error:
        notes.append(f"this run would be refused: {error}")
    plan = whole_plan(ctx, not has_random_weights(ctx.config), notes)
    shown(plan, Console())
    write_json(out / PLAN, facts(plan))


def prepared(
    settings: RunConfig,
    generator: Generator | None = None,
    classifier: Classifier | None = None,
    witness: Classifier | None = None,
) -> Context:
    """The context of a run whose settings and models are checked; of the work nothing is done yet.

    Args:
        settings: with paths that are absolute.
        generator: an object in place of what the settings name.
        classifier: the same.
        witness: the same.

    Raises:
        ValueError: what is wrong with the settings, all of it at once; then what does not fit the models.
    """
    if settings.plan:
        raise ValueError("plan=true: expected plan=false here; only `python -m lis.run … plan=true` prints a plan")
    check_config(settings, names())
    for model in (settings.classifier, settings.counterfactuals.witness):
        if isinstance(model, NetworkConfig):
            check_probe(model.library, model.probe)
    ctx = build.context(settings, generator, classifier, witness)
    check_models(ctx)
    for stage, reason in omitted(ctx).items():
        log.info("%s is left out: %s", stage, reason)
    peaks.announce(ctx)
    return ctx


def check_models(ctx: Context) -> None:
    """Check what the stages want of the models, before the work that takes the time.

    Raises:
        ValueError: says what does not fit, and what would.
    """
    if ctx.config.classifier.probe or generates(ctx):
        check_labels(ctx.config.classes.labels, ctx.generator)
        check_classifier(ctx, "classifier")
    validate_link(ctx.config.link, ctx.generator.w_dim)  # whatever the stages
    if asked := ctx.of_witness:
        check_classifier(asked, WITNESS)
        if asked.classifier.fingerprint == ctx.classifier.fingerprint:
            raise ValueError(
                f"{WITNESS} is the classifier itself, which judges the searches already: expected another network, as "
                f"{WITNESS}=partnet_attributes beside classifier=partnet, or {WITNESS}=null"
            )
    for stage in closure(requested(ctx), ctx):
        stage.require(ctx)


def check_classifier(ctx: Context, key: str) -> None:
    """Check that the classifier of a run knows what the generator shows, and the classes.

    Args:
        ctx: the run.
        key: what chooses it, for the message.

    Raises:
        ValueError: says what does not fit, and what would.
    """
    check_domain(ctx.config.classifier, ctx.classifier, ctx.generator, key)
    if ctx.config.classifier.probe:  # whose classes are those of the run
        validate_probe(ctx)
    else:
        validate_classes(ctx.class_names, ctx.generator, ctx.classifier, key)


def clear_outputs(out: Path) -> None:
    """Remove what an earlier run left in the folder, and an earlier sweep in its own: behind all checks, so that what
    is refused costs nothing.
    """
    config = HydraConfig.get()
    clear(out)
    if config.mode == RunMode.MULTIRUN:
        clear(Path(config.runtime.cwd) / config.sweep.dir)


def run_stages(ctx: Context, tracker: Tracker) -> tuple[Context, dict[str, Artifact], dict[str, Ended]]:
    """The context with a classifier that is ready, and the artifact of each stage and how it ended, which the tracker
    is told at once.
    """
    start = time.perf_counter()
    with refusals_explained():
        ctx, artifacts = ready(ctx)
    stages: dict[str, Ended] = {}
    for name in [*artifacts, *requested(ctx)]:
        if name not in artifacts:
            artifacts[name] = run_stage(name, ctx)
        seconds, start = time.perf_counter() - start, time.perf_counter()
        stages[name] = Ended(seconds, artifacts[name].key not in ctx.store.made)
        track_stage(tracker, name, artifacts[name], stages[name])
    return ctx, artifacts, stages


def run_stage(name: str, ctx: Context) -> Artifact:
    """The artifact of a stage, with a line in the log about the time it took."""
    stop.check()
    start = time.perf_counter()
    with refusals_explained():
        artifact = REGISTRY[name](ctx)
    log.info("%s: %.1f s", name, time.perf_counter() - start)
    return artifact


def summarise(
    artifacts: dict[str, Artifact], report: Artifact | None, stages: dict[str, Ended], seconds: float
) -> dict[str, Any]:
    """What was run, where and how long it took: for the page of a sweep, and for whoever finds the folder later."""
    hydra_config = HydraConfig.get()
    return {
        "choices": {
            as_typed(group): name
            for group, name in hydra_config.runtime.choices.items()
            if "hydra" not in group and name is not None
        },
        "overrides": [as_typed(each) for each in hydra_config.overrides.task],
        "artifacts": {name: artifact.key for name, artifact in artifacts.items()},
        "report": report and report.key,
        "stages": {name: asdict(ended) for name, ended in stages.items()},
        "seconds": round(seconds, 2),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        # Linux counts in kilobytes, macOS in bytes.
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        // (2**20 if sys.platform == "darwin" else 2**10),
        "versions": {"lis": lis.__version__, "torch": torch.__version__, "numpy": np.__version__},
        "python": platform.python_version(),
    }


def show(metrics: dict[str, float], page: Path) -> None:
    """Print the main numbers, where there are any, and where the report lies."""
    table, console = Table("result", "value"), Console()
    for name, value in main_metrics(metrics).items():
        table.add_row(name, f"{value:.3f}")
    if table.rows:
        console.print(table)
    console.print(f"report: {page}", soft_wrap=True, highlight=False)


def write_json(file: Path, value: dict[str, Any]) -> None:
    """Write strict JSON into a run's folder."""
    record(file.parent, [file])
    file.write_text(json.dumps(value, indent=1, allow_nan=False) + "\n")
