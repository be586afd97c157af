"""The models of a planned run: weights that are not on this machine, or not made yet, are random."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from typing import Any

import torch

from lis import build
from lis.classifiers.classifier import ready
from lis.classifiers.cut import CutClassifier
from lis.classifiers.libraries import find
from lis.classifiers.probe import Probed
from lis.config import ClassifierConfig, NetworkConfig, RunConfig, StyleGANXLConfig
from lis.context import Context
from lis.generators.stylegan_xl.published import cached
from lis.planning.stored import is_stored
from lis.stage import REGISTRY, Stage
from lis.types import Generator

RANDOM = "random"
"""The value of `weights` that needs no file."""
TRAINING, PROBE = "classifier", "probe"
"""Stages before all others."""


def planned_context(config: RunConfig) -> tuple[Context, list[str]]:
    """The context of a run, for which nothing is fetched; what of its models has random weights.

    Args:
        config: its settings, with paths that are absolute.

    Raises:
        ValueError: as `lis.build.context`.
    """
    notes: list[str] = []
    config = replace(config, gan=_generator(config.gan, notes))
    generator = build.named_generator(config)
    config = replace(config, classifier=_classifier(config.classifier, generator, "classifier", notes))
    if asked := config.counterfactuals.witness:
        witness = _classifier(asked, generator, "counterfactuals.witness", notes)
        config = replace(config, counterfactuals=replace(config.counterfactuals, witness=witness))
    return build.context(config, generator), notes


def _generator(config: Any, notes: list[str]) -> Any:
    if not isinstance(config, StyleGANXLConfig) or config.weights != "published":
        return config
    file = cached(config.url, config.cache)
    if file.is_file():
        return config
    notes.append(f"the weights {file.name} of the generator are not on this machine: timed with random ones")
    return replace(config, weights=RANDOM)


def _classifier(config: ClassifierConfig, generator: Generator, key: str, notes: list[str]) -> ClassifierConfig:
    config = build.with_weights(config, generator)
    if not isinstance(config, NetworkConfig) or config.weights != "pretrained":
        return config
    published = find(config.library, config.model).published()
    if published.find() is not None:
        return config
    notes.append(f"the weights {published.file.name} of the {key} are not on this machine: timed with random ones")
    return replace(config, weights=RANDOM)


def has_random_weights(config: RunConfig) -> bool:
    """Whether the answers of a run's models say nothing of those of trained ones."""
    return RANDOM in (getattr(config.gan, "weights", None), getattr(config.classifier, "weights", None))


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
