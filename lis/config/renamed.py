"""What settings, analyses, stages and numbers were called before, and what they are called now.

One table serves all: a command line in old names is refused with the new ones, and the folder of a run that an older
version wrote is read in new names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

RENAMED: dict[str, dict[str, str]] = {
    "group": {
        "strips": "traversal",
        "units": "unit_statistics",
        "counterfactual": "counterfactuals",
        "gan_counterfactual": "gan_counterfactuals",
    },
    "key": {
        "tuning.null_directions": "tuning.control_directions",
        "counterfactuals.shown": "counterfactuals.trajectories",
        "gan_counterfactuals.shown": "gan_counterfactuals.examples",
    },
    "analysis": {
        "strips": "traversal",
        "units": "unit_statistics",
        "counterfactual": "counterfactuals",
        "gan_counterfactual": "gan_counterfactuals",
        "counterfactual_truth": "boundary_truth",
    },
    "stage": {"strips": "traversal", "units": "unit_statistics"},
    "target": {
        "lis.segmentation.fewshot.FewShotFit": "lis.segmentation.segmenter.FewShotFit",
        "lis.matching.choice.pump": "lis.matching.pump.pump",
    },
    "metric": {
        "units/realised": "unit_statistics/reencoded_share",
        "unit_statistics/off_target": "units/others",
    },
}
"""Old → new, by kind. A `key` stands behind the new name of its group."""
_ARRIVES = ("units/own", "units/others", "units/more", "units/reached", "units/head_kept")
"""Numbers of what arrives of a unit: names of today, though the stage of that name is called otherwise now."""
_NAMES = {"analysis": "analysis", "analysis.name": "analysis", "analysis.stages": "stage"}
"""Keys whose values are names, and their kind in `RENAMED`."""
_TARGET = "._target_"
_PREFIX = re.compile(r"[+~]*")


def current_key(key: str) -> str:
    """What a key of the configuration is called now.

    Example:
        >>> current_key("counterfactual.shown"), current_key("strips.units"), current_key("view.steps")
        ('counterfactuals.trajectories', 'traversal.units', 'view.steps')
    """
    group, dot, rest = key.partition(".")
    key = RENAMED["group"].get(group, group) + dot + rest
    return RENAMED["key"].get(key, key)


def current_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """A flat configuration in new names: its keys, and the names of analysis, stages and classes that it holds.

    Example:
        >>> current_settings({"strips.units": 3, "analysis.stages": ["link", "strips"]})
        {'traversal.units': 3, 'analysis.stages': ['link', 'traversal']}
    """
    return {current_key(key): _current_value(key, value) for key, value in settings.items()}


def _current_value(key: str, value: Any) -> Any:
    names = RENAMED.get(_kind(key), {})
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [names.get(each, each) if isinstance(each, str) else each for each in value] if names else value
    return names.get(value, value) if isinstance(value, str) else value


def _kind(key: str) -> str:
    """What the values of a key name, as in `RENAMED`; empty where they are no names."""
    return "target" if key.endswith(_TARGET) else _NAMES.get(key, "")


def current_metrics(metrics: Mapping[str, float]) -> dict[str, float]:
    """The numbers of a run by the names that they have now.

    Example:
        >>> current_metrics({"units/relevant/pug": 3, "link/ridge": 1.0})
        {'unit_statistics/relevant/pug': 3, 'link/ridge': 1.0}
        >>> current_metrics({"unit_statistics/off_target": 0.8}), current_metrics({"units/others": 0.8})
        ({'units/others': 0.8}, {'units/others': 0.8})
    """
    return {_current_metric(name): value for name, value in metrics.items()}


def _current_metric(name: str) -> str:
    """What a number is called now: where it has no new name of its own, its stage may have."""
    if name in _ARRIVES:
        return name
    stage, slash, rest = name.partition("/")
    return RENAMED["metric"].get(name, current_stage(stage) + slash + rest)


def current_stage(stage: str) -> str:
    """What a stage is called now.

    Example:
        >>> current_stage("units"), current_stage("link")
        ('unit_statistics', 'link')
    """
    return RENAMED["stage"].get(stage, stage)


def earlier_stages(stage: str) -> list[str]:
    """Former names of a stage, under which older runs hold its tables.

    Example:
        >>> earlier_stages("traversal"), earlier_stages("link")
        (['strips'], [])
    """
    return [old for old, new in RENAMED["stage"].items() if new == stage]


def require_current(overrides: Iterable[str]) -> None:
    """Check that no override of a command line is in an old name.

    Args:
        overrides: `key=value`, also of a sweep and with `+`, `++` or `~` in front, or `~key`.

    Raises:
        ValueError: every old name with its new one, and what to write.

    Example:
        >>> require_current(["strips.units=3"])
        Traceback (most recent call last):
        ValueError: strips.units=3: strips is now called traversal; write traversal.units=3
    """
    if problems := [problem for override in overrides for problem in _problems(override)]:
        raise ValueError("\n".join(problems))


def current_override(override: str) -> str:
    """An override in the names of today.

    Args:
        override: `key=value`, also with `+`, `++` or `~` in front, or `~key`.

    Example:
        >>> current_override("strips.units=3"), current_override("analysis=units"), current_override("seed=1")
        ('traversal.units=3', 'analysis=unit_statistics', 'seed=1')
    """
    sign, key, package, value = _parts(override)
    new = key if package else current_key(key)
    return f"{sign}{new}{package}{in_words(value, RENAMED.get(_kind(key), {}))}"


def _parts(override: str) -> tuple[str, str, str, str]:
    """The sign of an override, its key, its package with the `@`, and its value with the `=`."""
    typed, equals, value = override.partition("=")
    sign = _PREFIX.match(typed)[0]  # pyright: ignore[reportOptionalSubscript]: it matches any text
    key, at, package = typed.removeprefix(sign).partition("@")
    return sign, key, at + package, equals + value


def _problems(override: str) -> Iterator[str]:
    _, old, package, value = _parts(override)
    new = old if package else current_key(old)
    names = RENAMED.get(_kind(old), {})
    write = current_override(override)
    if new != old:
        yield f"{override}: {' is now called '.join(_difference(old, new))}; write {write}"
    for name in dict.fromkeys(_words(names).findall(value)) if names else ():
        yield f"{override}: the {_kind(old)} {name} is now called {names[name]}; write {write}"


def _difference(old: str, new: str) -> tuple[str, str]:
    """The groups of two keys where only these differ, else both keys."""
    (group, _, rest), (new_group, _, new_rest) = old.partition("."), new.partition(".")
    return (group, new_group) if rest == new_rest else (old, new)


def in_words(value: str, names: Mapping[str, str]) -> str:
    """A text with whole names replaced."""
    return _words(names).sub(lambda match: names[match[0]], value) if names else value


def _words(names: Iterable[str]) -> re.Pattern[str]:
    return re.compile(rf"(?<![\w/-])({'|'.join(map(re.escape, names))})(?![\w/-])")
