"""Finds bad input before any work starts, and names all of it at once."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any

from omegaconf import MISSING, DictConfig, OmegaConf

from lis.config import RidgeConfig, RunConfig
from lis.names import nearest
from lis.stage import FOLDERS, REGISTRY, closure, requested

if TYPE_CHECKING:
    from lis.context import Context
    from lis.types import Generator

_HINTS = {
    "images": "",
    "labels.folder": " (a segmenter is trained where classes.labels names parts, masks stand beside images=<folder>)",
}
"""When stages read the folders of a user."""
MOST = 2**31 - 1
"""Highest value of a count that has no other."""


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
    values = list(_values(config))
    if missing := [key for key, value, _ in values if value == MISSING]:
        raise ValueError(f"no value for {', '.join(missing)}: give it on the command line, as {missing[0]}=…")
    problems = [*_out_of_range(values), *_unknown_choices(values)]
    problems += [_unknown_stage(stage, stages) for stage in config.analysis.stages if stage not in stages]
    for stage in config.analysis.stages:
        problems += REGISTRY[stage].problems_of(config) if stage in REGISTRY else []
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


def check_folders(ctx: Context) -> None:
    """Check that a stage of the run reads each folder that a user gives, and not the generator's images instead.

    Raises:
        ValueError: names every folder that none reads.
    """
    stages = closure(requested(ctx), ctx)
    read = {key for stage in stages for key in stage.reads(ctx)}
    given = {"images": ctx.config.images, "labels.folder": ctx.config.labels.folder}
    problems = [
        f"{key}={given[key]}: no stage of this run reads it ({', '.join(stage.name for stage in stages)}): expected "
        f"one of {', '.join(_readers(key))}; leave {key} out, or choose an analysis that has one{_HINTS[key]}"
        for key in FOLDERS
        if given[key] is not None and key not in read
    ]
    if problems:
        raise ValueError("\n".join(problems))


def _readers(key: str) -> list[str]:
    """Stages that read a folder of the user, in some run."""
    return [stage.name for stage in REGISTRY.values() if key in stage.folders or stage.generates]


Values = Sequence[tuple[str, Any, Mapping[str, Any]]]
"""Dotted key, value, and what the field says of itself."""


def _values(config: Any, prefix: str = "") -> Iterator[tuple[str, Any, Mapping[str, Any]]]:
    """Every field of a configuration, as its groups were chosen."""
    for entry in fields(config):
        value = getattr(config, entry.name)
        if is_dataclass(value):
            yield from _values(value, f"{prefix}{entry.name}.")
        else:
            yield f"{prefix}{entry.name}", value, entry.metadata


def _out_of_range(values: Values) -> list[str]:
    ranges = [(key, value, says) for key, value, says in values if "low" in says]
    return [problem for key, value, says in ranges for problem in _problems(key, value, says["low"], says["high"])]


def _problems(key: str, value: Any, low: float, high: float) -> list[str]:
    """What is wrong with a number, or with a list: at least one number, each in range, none twice."""
    if value is None:
        return []
    numbers, expected = ([value], "") if not isinstance(value, list) else (value, "different numbers, each ")
    apart = numbers and len(set(numbers)) == len(numbers)
    if apart and all(_inside(number, low, high) for number in numbers):
        return []
    return [f"{key}={f'{value}':.200}: expected {expected}{_interval(low, high, max(numbers, default=low))}"]


def _unknown_choices(values: Values) -> list[str]:
    return [
        f"{key}={value}: expected one of {', '.join(says['choices'])}"
        for key, value, says in values
        if "choices" in says and value is not None and value not in says["choices"]
    ]


def _unknown_stage(stage: str, stages: Collection[str]) -> str:
    hint = nearest(stage, stages)
    expected = f"{hint} Expected" if hint else ", expected"
    return f"analysis.stages: unknown stage {stage!r}{expected} some of {', '.join(stages)}"


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
