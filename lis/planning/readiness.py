"""The classifier of a planned run: as it will be used where that is in the store, else one in its place."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from typing import Any

import torch

from lis.classifiers.classifier import ready
from lis.classifiers.cut import CutClassifier
from lis.classifiers.probe import Probed
from lis.context import Context
from lis.planning.stored import is_stored
from lis.stage import REGISTRY, Stage

TRAINING, PROBE = "classifier", "probe"
"""Stages before all others."""


def readied(ctx: Context) -> tuple[Context, list[Stage]]:
    """The context with a classifier to time, and the stages that first have to make its own.

    Where these are in the store they are read, and there are none; else the classifier has random weights, and its
    probe those of zeros.
    """
    ctx = replace(ctx, classifier=_copied(ctx.classifier), witness=_copied(ctx.witness))
    witness = ctx.of_witness
    missing = [*_missing(ctx), *(_missing(witness) if witness else [])]
    if not missing:
        return ready(ctx)[0], []
    return replace(_stand_in(ctx), witness=None if witness is None else _stand_in(witness).classifier), missing


def _copied(classifier: Any) -> Any:
    """A copy of a classifier that waits for its weights, which the run is to be given by its own stage."""
    return deepcopy(classifier) if isinstance(classifier, CutClassifier) and not classifier.trained else classifier


def _missing(ctx: Context) -> list[Stage]:
    training, probe = REGISTRY[TRAINING], REGISTRY[PROBE]
    fitted = [probe] if ctx.config.classifier.probe else []
    if isinstance(ctx.classifier, CutClassifier) and not ctx.classifier.trained:
        if not is_stored(ctx.store, training.recipe(ctx, [])):
            return [training, *fitted]
        return [training] if fitted else []
    return [stage for stage in fitted if not is_stored(ctx.store, stage.recipe(ctx, []))]


def _stand_in(ctx: Context) -> Context:
    if not ctx.config.classifier.probe:
        return ctx
    names, units = ctx.class_names, ctx.classifier.units
    weight, bias = torch.zeros(len(names), units, device=ctx.device), torch.zeros(len(names), device=ctx.device)
    return replace(ctx, classifier=Probed(ctx.classifier, weight, bias, names))
