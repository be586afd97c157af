"""The settings of a run from what a person types or passes: the command line and the Python API share it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from functools import cache
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import cast

from hydra import compose, initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, open_dict
from omegaconf.errors import InterpolationResolutionError, OmegaConfBaseException, ValidationError

from lis.config import OBJECT, RunConfig, conf_folder
from lis.config.mistakes import short, unknown_key, unknown_option, wrong_value
from lis.config.overrides import OPTIONS, anchored, as_typed, spelled
from lis.stages import names, register
from lis.validation import check_config, typed

_VALUES = 100
"""Of each key of a sweep that are checked before its first run."""

_KEY = "full_key: "
_ADVICE = (
    "To append", "See http", "Either remove", "Or add", "1. To use", "2. To use", "3. To sweep", "Config search path",
    "provider=", _KEY.strip(), "object_type=", "reference_type=",
)  # fmt: skip
"""What lines of Hydra and OmegaConf begin with that do not say what is wrong."""


class Unresolved(ValueError):
    """A value follows from what is not there yet."""


REFUSED = (HydraException, OmegaConfBaseException, ValueError)
"""What Hydra raises where options or keys do not fit."""


def composed(overrides: Sequence[str], start: Path, objects: bool = False, single: bool = False) -> RunConfig:
    """The settings that some overrides ask for, with paths that are absolute.

    Args:
        overrides: as they are typed behind `python -m lis.run`: `link=fc_l2`, `pairs.train=60`, `class=pug`.
        start: the folder that relative paths begin in.
        objects: a model may be one that is passed as an object, `OBJECT`.
        single: refuse what makes several runs, as an experiment that sweeps.

    Raises:
        ValueError: all that is wrong with the overrides, a line each: an unknown group, option or key with the nearest
            known one; a value of another type; a key without a value; a name of an older version.
    """
    register()
    with composer(objects=objects) as each:
        return anchored(each.run(spelled(overrides), single), start)


@contextmanager
def composer(folder: str | None = None, objects: bool = False) -> Iterator[Composer]:
    """A composer of the files in `conf/` and the schemas that are registered.

    Args:
        folder: another one with files of groups, as behind `--config-dir`.
        objects: as of `composed`.

    Raises:
        ValueError: there is no such folder.
    """
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_folder())):
        loader = cast(ConfigLoaderImpl, GlobalHydra.instance().config_loader())
        if folder is not None:
            if not Path(folder).is_dir():
                raise ValueError(f"--config-dir {folder}: no such folder")
            path, before = f"file://{Path(folder).absolute()}", SearchPathQuery(provider="schema")
            loader.config_search_path.prepend("command-line", path, before)
            loader.repository.initialize_sources(loader.config_search_path)
        yield Composer(loader, objects)


class Composer:
    """Composes the options first, then sets one key after the other, so that every override is judged by itself."""

    def __init__(self, loader: ConfigLoaderImpl, objects: bool) -> None:
        self._parser = OverridesParser.create(config_loader=loader)
        self._compose = cache(lambda *choices: compose("config", [*choices], return_hydra_config=True))
        self.options = cache(lambda group: _options(loader.get_group_options(group, ObjectType.CONFIG), objects))
        self.groups = [group for group in loader.list_groups("") if group != "hydra"]

    def run(self, overrides: Sequence[str], single: bool = False) -> RunConfig:
        """The settings of one run.

        Raises:
            ValueError: all that is wrong with the overrides; with `single` also that they are those of a sweep.
        """
        parsed = self._parsed(overrides)
        _refuse_sweeps(parsed)
        config = self._config(parsed)
        if single and self._mode(parsed, config) == RunMode.MULTIRUN:
            params = config.hydra.sweeper.get("params") or {}
            swept = ", ".join(f"{key}={value}" for key, value in params.items()) or "several runs"
            raise ValueError(f"a sweep ({swept}): expected the overrides of one of its runs, hydra.mode=RUN among them")
        return _settings(config)

    def composed(self, overrides: Sequence[str]) -> DictConfig:
        """The settings of one run, or the first one of a sweep, with Hydra's own under `hydra`.

        Raises:
            ValueError: all that is wrong with the overrides.
        """
        return self._config(self._first(self._parsed(overrides)))

    def check(self, overrides: Sequence[str], multirun: bool) -> None:
        """Check what is to be run: of a sweep every value of every key once, not every run of it.

        Raises:
            ValueError: all that is wrong with the overrides, with numbers, words and stages too.
        """
        parsed = self._parsed(overrides)
        config = self._config(self._first(parsed))
        if not multirun and self._mode(parsed, config) != RunMode.MULTIRUN:
            _refuse_sweeps(parsed)
        else:  # what an experiment sweeps over
            require_launcher(config)
            params = config.hydra.sweeper.get("params") or {}
            parsed = [*self._parsed([f"{key}={value}" for key, value in params.items()]), *parsed]
        problems: dict[str, None] = {}
        for job in self._jobs(parsed):
            try:
                self._check_one(job)
            except ValueError as error:
                problems |= dict.fromkeys(str(error).splitlines())
        if problems:
            raise ValueError("\n".join(problems))

    def _check_one(self, overrides: Sequence[Override]) -> None:
        """Check one run; values that only its job knows, as `${hydra:job.num}`, are left to it."""
        try:
            settings = _settings(self._config(overrides))
        except Unresolved:
            known = [each for each in overrides if self._is_choice(each) or "${" not in str(each.input_line)]
            try:
                settings = _settings(self._config(known))
            except ValueError:  # without these there is no run to judge
                return
        check_config(settings, names())

    def _mode(self, overrides: Sequence[Override], first: DictConfig) -> RunMode | None:
        """Of Hydra, of which the first run's settings are given: what is swept over does not choose it."""
        single = [each for each in overrides if not each.is_sweep_override()]
        if len(single) == len(overrides):
            return first.hydra.mode
        asked = [each for each in single if self._is_choice(each) or each.key_or_group.startswith("hydra.")]
        return self._config(asked).hydra.mode

    def _jobs(self, overrides: Sequence[Override]) -> Iterator[list[Override]]:
        """Of a sweep: the first run, and those that differ from it in one override."""
        first = self._first(overrides)
        yield first
        for override in overrides:
            for value in self._values(override)[1:]:
                yield [value if each.get_key_element() == override.get_key_element() else each for each in first]

    def _first(self, overrides: Sequence[Override]) -> list[Override]:
        return [value for override in overrides for value in self._values(override)[:1]]

    def _values(self, override: Override) -> list[Override]:
        """An override for each value of a sweep, of the first of many; none where they are not listed."""
        if not override.is_sweep_override():
            return [override]
        if not override.is_discrete_sweep():
            return []
        values = islice(override.sweep_string_iterator(), _VALUES)
        return self._parsed([f"{override.get_key_element()}={value}" for value in values])

    def _parsed(self, overrides: Sequence[str]) -> list[Override]:
        """The overrides as Hydra reads them.

        Raises:
            ValueError: those that cannot be read.
        """
        parsed, problems = [], []
        for override in overrides:
            try:
                parsed += self._parser.parse_overrides([override])
            except HydraException as error:
                problems.append(f"{short(override)}: {_unreadable(override, error)}")
        if problems:
            raise ValueError("\n".join(problems))
        return parsed

    def _config(self, overrides: Sequence[Override]) -> DictConfig:
        """The settings that overrides without sweeps ask for, with Hydra's own under `hydra`; raises as `composed`."""
        if any(each.key_or_group == "hydra.searchpath" for each in overrides):  # with groups that only Hydra knows
            return self._as_hydra_does([str(each.input_line) for each in overrides])
        choices = [each for each in overrides if self._is_choice(each)]
        problems = {id(each): problem for each in choices if (problem := self._unknown_option(each))}
        good = [str(each.input_line) for each in choices if id(each) not in problems]
        if len(problems) == len(overrides) > 0:  # there is nothing else to judge
            raise ValueError("\n".join(problems.values()))
        try:
            config = deepcopy(self._compose(*good))
        except REFUSED as error:
            lines = [*problems.values(), *self._culprits(good)]
            raise ValueError("\n".join(lines) or told(error)) from error
        for each in overrides:
            if not self._is_choice(each) and (problem := self._set(config, each)):
                problems[id(each)] = problem
        if problems:
            raise ValueError("\n".join(problems[id(each)] for each in overrides if id(each) in problems))
        return config

    def _as_hydra_does(self, overrides: Sequence[str]) -> DictConfig:
        try:
            return deepcopy(self._compose(*overrides))
        except REFUSED as error:
            keys = [each.key_or_group for each in self._parsed(overrides) if not self._is_choice(each)]
            plain = [unknown_key(self._compose(), key, self.groups) for key in keys if "." not in key]
            raise ValueError("\n".join(filter(None, plain)) or told(error)) from error

    def _is_choice(self, override: Override) -> bool:
        """Whether an override chooses an option of a group."""
        key = override.key_or_group
        return "." not in key and not isinstance(override._value, dict) and bool(self.options(key))

    def _unknown_option(self, override: Override) -> str | None:
        group, value, line = override.key_or_group, override.value(), as_typed(str(override.input_line))
        if override.is_delete():
            return None
        chosen = [str(name) for name in value] if isinstance(value, list) else [_name(value)]
        unknown = [name for name in chosen if name not in self.options(group) and "${" not in name]
        return unknown_option(line, unknown[0], self.options(group)) if unknown else None

    def _culprits(self, choices: Sequence[str]) -> list[str]:
        """What is wrong with options that each by itself does not compose."""
        problems = []
        for choice in choices:
            try:
                self._compose(choice)
            except REFUSED as error:
                is_extra = "No match in the defaults list" in str(error) and not choice.startswith("~")
                what = f"nothing of this group is chosen yet; write +{choice}" if is_extra else told(error)
                problems.append(f"{short(as_typed(choice))}: {what}")
        return problems

    def _set(self, config: DictConfig, override: Override) -> str | None:
        """Set one key; what is wrong with it, or None."""
        key, line = override.key_or_group, str(override.input_line)
        is_new = key.startswith("hydra.") and (override.is_add() or override.is_force_add())
        if not is_new and (problem := unknown_key(config, key, self.groups)):
            return problem
        if override.is_delete() and "." in key and not key.startswith("hydra."):
            return f"{short(line)}: a key of a run cannot be taken away; give it another value"
        try:
            ConfigLoaderImpl._apply_overrides_to_config([override], config)
        except (AssertionError, AttributeError):  # of OmegaConf, which sets nothing inside of null
            owner = key.rpartition(".")[0]
            remedy = f"choose one, as {owner}=<option>" if owner in OPTIONS else "write them into a file of settings"
            return f"{short(line)}: null stands there, which takes no keys from here; {remedy}"
        except REFUSED as error:
            if not isinstance(cause := error.__cause__, OmegaConfBaseException):
                return f"{short(line)}: {told(error)}"
            inner = key if "[" in f"{cause.full_key}" else f"{cause.full_key or key}"
            if problem := unknown_key(config, inner, self.groups):
                return problem
            return wrong_value(config, line, inner) if isinstance(cause, ValidationError) else told(error)
        return None


def require_launcher(config: DictConfig) -> None:
    """Check that the launcher of a sweep is installed.

    Raises:
        ValueError: it is not; names what is missing, and what installs it.
    """
    package = str(config.hydra.launcher._target_).rsplit(".", 2)[0]
    if not (find_spec(package.partition(".")[0]) and find_spec(package)):
        chosen, missing = config.hydra.runtime.choices["hydra/launcher"], package.rpartition(".")[2].replace("_", "-")
        raise ValueError(f"hydra/launcher={chosen} needs the package {missing}: pip install 'lis[sweep]'")


def _unreadable(override: str, error: HydraException) -> str:
    if "=" not in override:
        return f"expected {override}=…, a value behind a key"
    _, is_function, reason = str(error).partition(" while evaluating ")
    if is_function:  # one that is unknown, or is given what it does not take
        return " ".join(reason.partition("See http")[0].partition(": ")[2].split())
    return "expected a value that can be read: quotes and brackets in pairs, and \\ before special characters"


def _refuse_sweeps(overrides: Sequence[Override]) -> None:
    problems = [
        f"{short(typed)}: several values; a list is written {typed.partition('=')[0]}=[…], and a run for each needs -m "
        "on the command line"
        for each in overrides
        if each.is_sweep_override() and (typed := as_typed(str(each.input_line)))
    ]
    if problems:
        raise ValueError("\n".join(problems))


def _settings(config: DictConfig) -> RunConfig:
    """What is composed, as dataclasses, without Hydra's own.

    Raises:
        Unresolved: a resolver failed, as `hydra:` does without a job.
        ValueError: a value is missing, or an interpolation names nothing.
    """
    with open_dict(config):
        del config["hydra"]
    try:
        return typed(config)
    except OmegaConfBaseException as error:
        is_later = type(error) is InterpolationResolutionError
        raise (Unresolved if is_later else ValueError)(told(error)) from error


def _options(names: Sequence[str], objects: bool) -> list[str]:
    """Options without the schemas that their files begin with; with that of models that are objects, where asked."""
    return [name for name in names if not name.startswith("base_") or (objects and name == OBJECT)]


def _name(value: object) -> str:
    return "null" if value is None else str(value)


def told(error: Exception) -> str:
    """What Hydra says, in one line, without its advice; a key of which it speaks comes first."""
    lines = f"{error}".splitlines() + f"{error.__cause__ or ''}".splitlines()[:1]
    lines = [line.strip() for line in lines]
    keys = [line.removeprefix(_KEY) for line in lines if line.startswith(_KEY)]
    said = " ".join(line for line in lines if line and not line.startswith(_ADVICE))
    is_named = not keys or keys[0].rpartition(".")[2] in said
    return said if is_named else f"{keys[0]}: {said}"
