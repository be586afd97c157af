"""The command line: compose → check → run the stages → report. `python -m lis.run --help` lists what can be chosen."""

from __future__ import annotations

import json
import logging
import platform
import resource
import sys
import time
from collections.abc import Callable
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
from lis import build
from lis.allocation import keep_freed_memory
from lis.boundary.contrast import adversarial
from lis.boundary.counterfactuals import counterfactuals
from lis.boundary.generator import gan_counterfactuals
from lis.boundary.generator_shards import validate_counterparts
from lis.boundary.gradcam import validate_cam
from lis.boundary.initialisations import initialisations
from lis.boundary.looks import gradcam
from lis.boundary.sparse import sparse_counterfactuals
from lis.boundary.trajectories import trajectories
from lis.boundary.truth import boundary_truth, validate_bayes
from lis.boundary.wanted import validate_counterfactual
from lis.callbacks import FAILURE
from lis.classifiers.networks import check_probe
from lis.classifiers.probe import validate_probe
from lis.classifiers.stage import ready
from lis.config import NetworkConfig, conf_folder, register
from lis.context import Context
from lis.linking.evaluation import evaluation, validate_evaluation
from lis.linking.fit import link, validate_link
from lis.linking.pairs import pairs, validate_classes
from lis.linking.similarity import similarity
from lis.motion.accuracy import matching, validate_matching
from lis.motion.stage import motion, validate_motion
from lis.report.metrics import collect_metrics
from lis.report.page import write_report
from lis.segmentation.evaluation import segmentation
from lis.segmentation.labelled import validate_labels
from lis.segmentation.stage import segmenter
from lis.store import Artifact
from lis.tracking import Tracker
from lis.units.learned import units
from lis.units.own_images import own_images, validate_images
from lis.units.parts import check_parts
from lis.units.pictures import pictures
from lis.units.screen import screen
from lis.units.strips import strips
from lis.units.truth import truth, validate_truth
from lis.units.view import direction_view, unit_view, validate_view
from lis.validation import check_config, check_labels, typed

log = logging.getLogger("lis.run")

SEGMENTED = frozenset(("segmenter", "segmentation", "tuning", "units", "pictures", "truth", "gan_counterfactuals"))
"""Stages that need labelled images."""
VIEWS = frozenset(("unit", "direction", "images", "motion", "trajectories", "boundary_truth", "gradcam", "adversarial"))
"""Stages that look for parts only where the class set names some."""
SEARCHES = frozenset(
    ("counterfactuals", "trajectories", "initialisations", "sparse_counterfactuals", "boundary_truth")
    + ("gradcam", "adversarial")
)
"""Stages that look for counterfactuals."""
SPELLINGS = {"class": "class_name"}
"""Keys that Python has no name for, and what they are called in the schema."""
STAGES: dict[str, Callable[[Context], Artifact]] = {
    "pairs/train": partial(pairs, split="train"),
    "pairs/test": partial(pairs, split="test"),
    "link": link,
    "evaluation": evaluation,
    "similarity": similarity,
    "strips": strips,
    "segmenter": segmenter,
    "segmentation": segmentation,
    "tuning": screen,
    "units": units,
    "pictures": pictures,
    "truth": truth,
    "motion": motion,
    "matching": matching,
    "counterfactuals": counterfactuals,
    "trajectories": trajectories,
    "initialisations": initialisations,
    "sparse_counterfactuals": sparse_counterfactuals,
    "boundary_truth": boundary_truth,
    "gradcam": gradcam,
    "adversarial": adversarial,
    "gan_counterfactuals": gan_counterfactuals,
    "unit": unit_view,
    "direction": direction_view,
    "images": own_images,
}
"""Every stage that `analysis.stages` can name, in the order in which data flows."""


def run(config: DictConfig, out: Path) -> None:
    """Check the configuration, run its stages and write everything into `out`.

    Raises:
        ValueError: bad input; found before any work starts wherever that is possible.
    """
    start = time.perf_counter()
    settings = typed(config)
    check_config(settings, STAGES)
    if isinstance(settings.classifier, NetworkConfig):
        check_probe(settings.classifier.library, settings.classifier.probe)
    ctx = build.context(settings)
    check_models(ctx)
    tracker: Tracker = build.build(settings.logger, out=str(out))
    ctx, artifacts = ready(ctx)
    artifacts |= {name: run_stage(name, ctx) for name in settings.analysis.stages}
    metrics = collect_metrics(artifacts)
    write_json(out / "metrics.json", metrics)
    page = write_report(ctx, artifacts, out)
    track(tracker, metrics, artifacts, out)
    write_json(out / "summary.json", summarise(artifacts, time.perf_counter() - start))
    show(metrics, page)


CHECKS: tuple[tuple[frozenset[str], Callable[[Context], object]], ...] = (
    (frozenset(("evaluation",)), lambda ctx: validate_evaluation(ctx.config, ctx.generator)),
    (SEGMENTED, validate_labels),
    (VIEWS, check_parts),
    (frozenset(("truth",)), lambda ctx: validate_truth(ctx.generator)),
    (SEARCHES, lambda ctx: validate_counterfactual(ctx.config)),
    (frozenset(("gradcam",)), lambda ctx: validate_cam(ctx.classifier)),
    (frozenset(("boundary_truth",)), lambda ctx: validate_bayes(ctx.generator)),
    (frozenset(("gan_counterfactuals",)), validate_counterparts),
    (frozenset(("motion",)), lambda ctx: validate_motion(ctx.config, ctx.classifier)),
    (frozenset(("matching",)), validate_matching),
    (frozenset(("unit", "direction")), lambda ctx: validate_view(ctx.config, ctx.classifier)),
    (frozenset(("images",)), lambda ctx: validate_images(ctx.config)),
)
"""What is checked of the models and the configuration, for any of these stages, before any of them runs."""


def check_models(ctx: Context) -> None:
    """Check what the stages want of the models, before the work that takes the time.

    Raises:
        ValueError: says what does not fit, and what would.
    """
    stages = frozenset(ctx.config.analysis.stages)
    check_labels(ctx.config.classes.labels, ctx.generator)
    validate_link(ctx.config.link, ctx.generator.w_dim)
    if ctx.config.classifier.probe:  # whose classes are those of the run
        validate_probe(ctx)
    else:
        validate_classes(ctx.class_names, ctx.generator, ctx.classifier)
    for wanted, check in CHECKS:
        if stages & wanted:
            check(ctx)


def run_stage(name: str, ctx: Context) -> Artifact:
    """The artifact of a stage, with a line in the log about the time it took."""
    start = time.perf_counter()
    artifact = STAGES[name](ctx)
    log.info("%s: %.1f s", name, time.perf_counter() - start)
    return artifact


def summarise(artifacts: dict[str, Artifact], seconds: float) -> dict[str, Any]:
    """What was run, where and how long it took: for the page of a sweep, and for whoever finds the folder later."""
    hydra_config = HydraConfig.get()
    return {
        "choices": {group: name for group, name in hydra_config.runtime.choices.items() if "hydra" not in group},
        "overrides": list(hydra_config.overrides.task),
        "artifacts": {name: artifact.key for name, artifact in artifacts.items()},
        "seconds": round(seconds, 2),
        # Linux counts in kilobytes, macOS in bytes.
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        // (2**20 if sys.platform == "darwin" else 2**10),
        "versions": {"lis": lis.__version__, "torch": torch.__version__, "numpy": np.__version__},
        "python": platform.python_version(),
    }


def track(tracker: Tracker, metrics: dict[str, float], artifacts: dict[str, Artifact], out: Path) -> None:
    """Hand numbers, tables and figures to the tracker."""
    tracker.metrics(metrics)
    for stage, artifact in artifacts.items():
        for file in artifact.manifest["files"]:
            if file.endswith(".parquet"):
                name = file.removesuffix(".parquet")
                tracker.table(f"{stage}/{name}", artifact.table(name))
    for figure in sorted((out / "figures").glob("*.png")):
        tracker.figure(figure.stem, figure)
    tracker.finish()


def show(metrics: dict[str, float], page: Path) -> None:
    """Print the main numbers and where the report lies."""
    table = Table("result", "value")
    for name, value in metrics.items():
        if "/" not in name or name.endswith("/ratio_random"):
            table.add_row(name, f"{value:.3f}")
    console = Console()
    console.print(table)
    console.print(f"report: {page}", soft_wrap=True, highlight=False)


def write_json(file: Path, value: dict[str, Any]) -> None:
    """Write strict JSON."""
    file.write_text(json.dumps(value, indent=1, allow_nan=False) + "\n")


def fail(error: Exception, out: Path) -> None:
    """Log an error, keep it in the run's folder and end the program; a sweep goes on with its next job."""
    log.error("%s", error, exc_info=error)
    write_json(out / FAILURE, {"error": str(error) or type(error).__name__, "type": type(error).__name__})
    if HydraConfig.get().mode != RunMode.MULTIRUN:
        sys.exit(1)


register()


@hydra.main(version_base="1.3", config_path=str(conf_folder()), config_name="config")
def main(config: DictConfig) -> None:
    """Run one job; Hydra composes its configuration and makes its folder."""
    keep_freed_memory()
    out = Path(HydraConfig.get().runtime.output_dir)
    for stale in (FAILURE, "metrics.json"):
        (out / stale).unlink(missing_ok=True)
    try:
        run(config, out)
    except Exception as error:
        fail(error, out)


def command() -> None:
    """The command line, with `class=…` for the key `class_name`."""
    spelled = (argument.partition("=") for argument in sys.argv[1:])
    sys.argv[1:] = [SPELLINGS.get(key, key) + equals + value for key, equals, value in spelled]
    main()


if __name__ == "__main__":
    command()
