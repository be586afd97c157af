"""Finds bad input before any work starts, and names all of it at once."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf

from lis.config import RidgeConfig, RunConfig
from lis.generators.partworld.world import SETS
from lis.types import Generator

POSITIVE = 1e-12
"""Lowest value of what divides, multiplies or spaces logarithmically: 0 would do nothing, or fail late."""
MOST = 2**31 - 1
"""Highest value of a count that has no other."""
RANGES: dict[str, tuple[float, float]] = {
    "training.images": (1, math.inf),
    "training.batch_size": (15, math.inf),
    "training.learning_rate": (POSITIVE, math.inf),
    "training.weight_decay": (0, math.inf),
    "training.held_out": (1, math.inf),
    "probe.train": (2, math.inf),
    "probe.test": (1, math.inf),
    "probe.folds": (2, math.inf),
    "classifier.num_classes": (2, math.inf),
    "pairs.train": (2, math.inf),
    "pairs.test": (2, math.inf),
    "pairs.min_acceptance": (0, 1),
    "evaluation.examples": (0, math.inf),
    "evaluation.resamples": (1, math.inf),
    "similarity.repetitions": (1, math.inf),
    "similarity.examples": (2, math.inf),
    "strips.units": (1, math.inf),
    "strips.samples": (1, math.inf),
    "strips.examples": (1, math.inf),
    "strips.steps": (2, math.inf),
    "labels.train": (1, math.inf),
    "labels.test": (1, math.inf),
    "labels.exact": (0, math.inf),
    "tuning.units": (1, math.inf),
    "tuning.seeds": (1, math.inf),
    "tuning.steps": (2, math.inf),
    "tuning.null_directions": (0, math.inf),
    "tuning.batch_size": (1, math.inf),
    "tuning.unit_block": (1, math.inf),
    "tuning.seed_block": (1, math.inf),
    "units.top": (1, math.inf),
    "units.clusters": (1, math.inf),
    "units.perplexity": (1, math.inf),
    "units.relevant": (0, 1),
    "units.examples": (1, math.inf),
    "gan_counterfactual.samples": (1, math.inf),
    "gan_counterfactual.steps": (2, math.inf),
    "gan_counterfactual.shown": (1, math.inf),
    "gan_counterfactual.units": (1, math.inf),
    "adversarial.samples": (1, math.inf),
    "adversarial.step": (1e-5, 1),
    "adversarial.max_steps": (1, math.inf),
    "counterfactual.samples": (1, math.inf),
    "counterfactual.shown": (1, math.inf),
    "counterfactual.steps": (3, math.inf),
    "counterfactual.path_end": (1, 10),
    "counterfactual.initialisations": (2, math.inf),
    "counterfactual.diversity_samples": (1, math.inf),
    "counterfactual.top": (1, math.inf),
    "counterfactual.learning_rate": (POSITIVE, math.inf),
    "counterfactual.start": (0, math.inf),
    "counterfactual.max_steps": (1, math.inf),
    "counterfactual.check_every": (1, math.inf),
    "counterfactual.lambda1": (0, math.inf),
    "counterfactual.lambda2": (0, math.inf),
    "counterfactual.l1": (0, math.inf),
    "counterfactual.l1_sweep": (0, math.inf),
    "counterfactual.l1_samples": (1, math.inf),
    "counterfactual.l1_max_steps": (1, math.inf),
    "counterfactual.sample_block": (1, math.inf),
    "view.samples": (1, math.inf),
    "view.steps": (2, math.inf),
    "motion.units": (1, math.inf),
    "motion.seeds": (1, math.inf),
    "motion.steps": (2, math.inf),
    "motion.examples": (0, math.inf),
    "motion.shuffles": (1, math.inf),
    "matching.samples": (1, math.inf),
    "unit": (0, math.inf),
    "segmenter.size": (8, math.inf),
    "segmenter.every": (1, math.inf),
    "segmenter.channels": (1, math.inf),
    "segmenter.hidden": (1, math.inf),
    "segmenter.enlarge": (1, math.inf),
    "segmenter.epochs": (1, math.inf),
    "segmenter.batch_size": (1, math.inf),
    "segmenter.learning_rate": (POSITIVE, math.inf),
    "segmenter.weight_decay": (0, math.inf),
    "matcher.enlarge": (1, 16),
    "matcher.channels": (1, math.inf),
    "matcher.power": (0, math.inf),
    "matcher.border": (0, 1),
    "matcher.min_shape": (2, math.inf),
    "matcher.levels": (0, math.inf),
    "matcher.locality": (0, math.inf),
    "matcher.min_component": (0, math.inf),
    "matcher.ratio": (0, 1),
    "matcher.threshold": (0, math.inf),
    "gan.truncation": (0, 1),
    "gan.num_classes": (0, math.inf),
    "gan.resolution": (16, 1024),
    "link.steps": (2, math.inf),
    "link.smallest": (POSITIVE, math.inf),
    "link.largest": (POSITIVE, math.inf),
    "link.hidden": (1, math.inf),
    "link.learning_rate": (POSITIVE, math.inf),
    "link.weight_decay": (0, math.inf),
    "link.batch_size": (1, math.inf),
    "link.max_epochs": (1, math.inf),
    "link.patience": (1, math.inf),
    "link.validation": (0, 0.9),
    "link.pc_weight": (0, math.inf),
    "link.components": (1, math.inf),
    "seed": (0, 2**63 - 1),
    "batch_size": (1, math.inf),
    "shard_size": (1, math.inf),
    "threads": (0, math.inf),
}
"""Lowest and highest value of every number that a run takes, and of each entry of a list; ∞ itself is never one."""

CHOICES: dict[str, tuple[str, ...]] = {
    "pairs.accept": ("correct", "any"),
    "training.precision": ("auto", "float32", "tf32", "bf16"),
    "gan.figures": tuple(SETS),
    "segmenter.network": ("projected", "three", "five"),
    "matcher.descriptor": ("patches", "daisy", "classifier", "generator", "convmixer"),
    "gan.dtype": ("float32", "tf32", "bf16"),
    "gan.compile": ("auto", "on", "off"),
    "counterfactual.optimizer": ("natural", "published", "adam"),
    "classifier.library": ("torchvision", "timm", "ip_irm", "partnet"),
    "classifier.task": ("classes", "attributes"),
    "link.pc_target": ("projection", "prediction"),
    "logger.mode": ("offline", "online"),
}


def typed(config: DictConfig) -> RunConfig:
    """The composed configuration as dataclasses.

    Raises:
        ValueError: a key that has no default was not given.
    """
    missing = sorted(OmegaConf.missing_keys(config))
    if missing:
        raise ValueError(f"no value for {', '.join(missing)}: give it on the command line, as {missing[0]}=…")
    result = OmegaConf.to_object(config)
    if not isinstance(result, RunConfig):
        raise ValueError(f"the configuration is {type(result).__name__}, expected one composed from conf/config.yaml")
    return result


def check_config(config: RunConfig, stages: Collection[str]) -> None:
    """Check numbers, choices and stages; the models check the names of their classes themselves.

    Raises:
        ValueError: lists every problem, with the value, what was expected, and the key to change.
    """
    problems = [*_out_of_range(config), *_unknown_choices(config)]
    problems += [
        f"analysis.stages: unknown stage {stage!r}, expected some of {', '.join(stages)}"
        for stage in config.analysis.stages
        if stage not in stages
    ]
    if "similarity" in config.analysis.stages and config.similarity.examples > config.pairs.test:
        problems.append(
            f"similarity.examples={config.similarity.examples}: expected at most pairs.test={config.pairs.test}, "
            "the pairs per class that there are to choose from"
        )
    compared = config.similarity.examples * len(config.classes.names)
    if "similarity" in config.analysis.stages and 0 < compared < 3:  # no class at all is told with the names there are
        problems.append(
            f"similarity.examples={config.similarity.examples} of {len(config.classes.names)} classes: expected 3 or "
            "more samples in all (raise it, or leave similarity out of analysis.stages)"
        )
    strips = max(config.strips.samples, config.strips.examples)
    if "strips" in config.analysis.stages and strips > config.pairs.test:
        problems.append(
            f"strips.samples or strips.examples is {strips}: expected at most pairs.test={config.pairs.test}"
        )
    if isinstance(config.link, RidgeConfig) and config.link.smallest > config.link.largest:
        problems.append(
            f"link.smallest={config.link.smallest:g}: expected at most link.largest={config.link.largest:g}, where the "
            "path of ridges ends"
        )
    if problems:
        raise ValueError("\n".join(problems))


def check_labels(labels: Sequence[str], generator: Generator) -> None:
    """Check the class set's part labels against those of a generator that knows its parts.

    Raises:
        ValueError: the generator has no part of that name.
    """
    known = getattr(generator, "labels", labels)
    if unknown := [label for label in labels if label not in known]:
        raise ValueError(
            f"classes.labels: the generator has no part {unknown[0]!r}, expected some of {', '.join(known)}"
        )


def _out_of_range(config: RunConfig) -> list[str]:
    values = ((key, _value(config, key), bounds) for key, bounds in RANGES.items())
    return [problem for key, value, bounds in values for problem in _problems(key, value, *bounds)]


def _problems(key: str, value: Any, low: float, high: float) -> list[str]:
    """What is wrong with a number, or with a list: at least one number, each in range, none twice."""
    if value is None:
        return []
    numbers, expected = ([value], "") if not isinstance(value, list) else (value, "different numbers, each ")
    apart = numbers and len(set(numbers)) == len(numbers)
    if apart and all(_inside(number, low, high) for number in numbers):
        return []
    return [f"{key}={f'{value}':.200}: expected {expected}{_interval(low, high, max(numbers, default=low))}"]


def _unknown_choices(config: RunConfig) -> list[str]:
    values = ((key, _value(config, key), choices) for key, choices in CHOICES.items())
    return [
        f"{key}={value}: expected one of {', '.join(choices)}"
        for key, value, choices in values
        if value is not None and value not in choices
    ]


def _value(config: Any, key: str) -> Any:
    """The value at a dotted key; None where the chosen groups do not have it."""
    for name in key.split("."):
        config = getattr(config, name, None)
    return config


def _inside(number: float, low: float, high: float) -> bool:
    """Whether a number is finite and in range; an integer may not exceed `MOST` where nothing else bounds it."""
    most = MOST if isinstance(number, int) and math.isinf(high) else high
    return (isinstance(number, int) or math.isfinite(number)) and low <= number <= most


def _interval(low: float, high: float, number: float) -> str:
    """The range in words; where there is no upper bound, a number below it need not hear of `MOST`."""
    if not math.isinf(high):
        return f"a value from {low:g} to {high:g}"
    if isinstance(number, int) and number > MOST:
        return f"a value from {low:g} to {MOST}"
    return (
        f"{'at least' if isinstance(number, int) or math.isfinite(number) else 'a finite number of at least'} {low:g}"
    )
