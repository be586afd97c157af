"""What makes a classifier ready: steps of a training on part world, and the fit of a linear probe."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

from lis.context import Context
from lis.workload import CLASSIFIER, FLOAT, Expected, Load, Operation, Workload, images

if TYPE_CHECKING:
    from lis.classifiers.cut import CutClassifier

_APART = 3.0
"""Distance between the means of classes, in standard deviations, of the activations that a probe is timed with."""


def training_work(ctx: Context, expected: Expected) -> Workload:
    """Of every step of the training, and of the images of the test and of the last statistics."""
    from lis.classifiers.classifier import SETTLED, SETTLING, schedule
    from lis.classifiers.tasks import Task

    config, untrained = ctx.config.training, _untrained(ctx)
    task = Task(untrained.attribute)
    (per_class, steps), classes = schedule(config, task), len(task.class_names)
    batch = per_class * classes
    after = config.held_out * classes + (SETTLING * batch if steps < SETTLED else 0)
    size = sum(p.numel() for p in untrained.network.parameters()) * FLOAT
    return Workload((Load(steps_of(batch), steps), Load(CLASSIFIER, after)), size)


def _untrained(ctx: Context) -> CutClassifier:
    """The run's classifier or its witness, whichever waits for a training, without a probe that is to be its head.

    Raises:
        ValueError: neither does.
    """
    from lis.classifiers.cut import CutClassifier
    from lis.classifiers.probe import Probed

    for model in (ctx.classifier, ctx.witness):
        network = model.classifier if isinstance(model, Probed) else model
        if isinstance(network, CutClassifier) and not network.trained:
            return network
    raise ValueError("neither the classifier nor the witness of this run waits for a training")


@cache
def steps_of(batch: int) -> Operation:
    """Steps on so many images each."""
    name = "steps of the classifier's training"
    return Operation(name, _trained, reads=batch, backwards=batch, constant=True, most=64)


def probe_work(ctx: Context, expected: Expected) -> Workload:
    """Of the samples of fit and test, and of the fit."""
    config, classes = ctx.config.probe, len(ctx.class_names)
    fitted = config.train * classes
    loads = (*images(ctx, fitted + config.test * classes, shared=False), Load(FITTED, fitted))
    return Workload(loads, FLOAT * classes * (ctx.classifier.units + 1))


def _trained(ctx: Context) -> Callable[[int], object]:
    import torch

    from lis.classifiers.classifier import schedule, train
    from lis.classifiers.tasks import Task

    config, task = ctx.config.training, Task(_untrained(ctx).attribute)
    batch = schedule(config, task)[0] * len(task.class_names)

    def run(count: int) -> None:
        short = replace(config, images=count * batch, held_out=1)
        with torch.inference_mode(False), torch.enable_grad():
            train(deepcopy(_untrained(ctx)), short, ctx.config.seed, ctx.device, ctx.progress)

    return run


def _fitted(ctx: Context) -> Callable[[int], object]:
    import numpy as np

    from lis.classifiers.probe import fit

    rng, classes = np.random.default_rng(0), len(ctx.class_names)
    folds, units = ctx.config.probe.folds, ctx.classifier.units
    means = _APART / units**0.5 * rng.standard_normal((classes, units))

    def run(count: int) -> None:
        labels = np.arange(classes).repeat(2 * folds + count // classes)
        fit(means[labels] + rng.standard_normal((len(labels), units)), labels, folds, ctx.progress)

    return run


FITTED = Operation("samples that a probe is fitted to", _fitted, fit=True)
