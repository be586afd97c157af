"""The models of a run that is only planned: those whose weights are not on this machine have random ones."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from lis import build
from lis.classifiers.libraries import find
from lis.config import ClassifierConfig, NetworkConfig, RunConfig, StyleGANXLConfig
from lis.context import Context
from lis.generators.stylegan_xl.published import cached
from lis.types import Generator

RANDOM = "random"
"""The value of `weights` that needs no file."""


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
