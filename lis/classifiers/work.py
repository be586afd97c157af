"""What makes a classifier ready: steps of a training on part world, and the fit of a linear probe."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from typing import Any, cast

from lis.context import Context
from lis.workload import FLOAT, Expected, Load, Operation, Workload, images

_APART = 3.0
"""Distance between the means of classes, in standard deviations, of the activations that a probe is timed with."""


def training_work(ctx: Context, expected: Expected) -> Workload:
    """Of every step of the training; the few images of the test are not counted."""
    config, network = ctx.config.training, getattr(ctx.classifier, "network", None)
    size = sum(p.numel() for p in network.parameters()) * FLOAT if network is not None else 0
    return Workload((Load(STEPS, max(1, config.images // config.batch_size)),), size)


def probe_work(ctx: Context, expected: Expected) -> Workload:
    """Of the samples of fit and test, and of the fit."""
    config, classes = ctx.config.probe, len(ctx.class_names)
    fitted = config.train * classes
    loads = (*images(ctx, fitted + config.test * classes, shared=False), Load(FITTED, fitted))
    return Workload(loads, FLOAT * classes * (ctx.classifier.units + 1))


def _trained(ctx: Context) -> Callable[[int], object]:
    import torch

    from lis.classifiers.classifier import train

    config = ctx.config.training

    def run(count: int) -> None:
        short = replace(config, images=count * config.batch_size, held_out=1)
        with torch.inference_mode(False), torch.enable_grad():
            train(deepcopy(cast(Any, ctx.classifier)), short, ctx.config.seed, ctx.device, ctx.progress)

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


STEPS = Operation("steps of the classifier's training", _trained, constant=True, most=64)
FITTED = Operation("samples that a probe is fitted to", _fitted, constant=True)
