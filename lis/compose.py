"""The settings of a run from what a person types or passes: the command line and the Python API share it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from functools import cache
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, open_dict
from omegaconf.errors import OmegaConfBaseException, ValidationError

from lis.config import RunConfig, conf_folder
from lis.config.mistakes import short, unknown_key, unknown_option, wrong_value
from lis.config.overrides import anchored, spelled
from lis.stages import register
from lis.validation import typed

_REFUSED = (HydraException, OmegaConfBaseException, ValueError)
"""What Hydra raises where options or keys do not fit."""


def composed(overrides: Sequence[str], start: Path) -> RunConfig:
    """The settings that some overrides ask for, with paths that are absolute.

    Args:
        overrides: as they are typed behind `python -m lis.run`: `link=fc_l2`, `pairs.train=60`, `class=pug`.
        start: the folder that relative paths begin in.

    Raises:
        ValueError: all that is wrong with the overrides, a line each: an unknown group, option or key with the nearest
            known one; a value of another type; a key without a value; a name of an older version.
    """
    register()
    with composer() as each:
        return anchored(each.run(spelled(overrides)), start)


@contextmanager
def composer() -> Iterator[Composer]:
    """A composer of the files in `conf/` and the schemas that are registered."""
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_folder())):
        yield Composer()


class Composer:
    """Composes the options first, then sets one key after the other, so that every override is judged by itself."""

    def __init__(self) -> None:
        self._loader = GlobalHydra.instance().config_loader()
        self._parser = OverridesParser.create(config_loader=self._loader)
        self._options = cache(lambda group: self._loader.get_group_options(group, ObjectType.CONFIG))
        self._chosen = cache(lambda *choices: compose("config", [*choices], return_hydra_config=True))
        self.groups = [group for group in self._loader.list_groups("") if group != "hydra"]

    def run(self, overrides: Sequence[str]) -> RunConfig:
        """The settings of one run.

        Raises:
            ValueError: all that is wrong with the overrides.
        """
        parsed, problems = self.parsed(overrides)
        problems += [
            f"{short(str(each.input_line))}: several values; a list is written {each.key_or_group}=[…], and a run for each "
            "needs -m on the command line"
            for each in parsed
            if each.is_sweep_override()
        ]
        if problems:
            raise ValueError("\n".join(problems))
        config = self.config(parsed)
        with open_dict(config):
            del config["hydra"]
        try:
            return typed(config)
        except OmegaConfBaseException as error:
            raise ValueError(_told(error)) from error

    def parsed(self, overrides: Sequence[str]) -> tuple[list[Override], list[str]]:
        """The overrides that can be read, and what is wrong with the others."""
        parsed, problems = [], []
        for override in overrides:
            try:
                parsed += self._parser.parse_overrides([override])
            except HydraException:
                expected = "a value that can be read: quotes and brackets in pairs, and \\ before special characters"
                what = expected if "=" in override else f"{override}=…, a value behind a key"
                problems.append(f"{short(override)}: expected {what}")
        return parsed, problems

    def config(self, overrides: Sequence[Override]) -> DictConfig:
        """The settings that overrides without sweeps ask for, with Hydra's own under `hydra`.

        Raises:
            ValueError: all that is wrong with the overrides.
        """
        choices = [each for each in overrides if self.is_choice(each)]
        problems = {id(each): problem for each in choices if (problem := self._unknown_option(each))}
        good = [str(each.input_line) for each in choices if id(each) not in problems]
        try:
            config = deepcopy(self._chosen(*good))
        except _REFUSED as error:
            told = [*problems.values(), *self._culprits(good)]
            raise ValueError("\n".join(told) or _told(error)) from error
        for each in overrides:
            if not self.is_choice(each) and (problem := self._set(config, each)):
                problems[id(each)] = problem
        if problems:
            raise ValueError("\n".join(problems[id(each)] for each in overrides if id(each) in problems))
        return config

    def is_choice(self, override: Override) -> bool:
        """Whether an override chooses an option of a group; Hydra has to read its own folders before all else."""
        key, value = override.key_or_group, override._value
        return key == "hydra.searchpath" or (
            "." not in key and not isinstance(value, dict) and bool(self._options(key))
        )

    def _unknown_option(self, override: Override) -> str | None:
        group, value, line = override.key_or_group, override.value(), str(override.input_line)
        if group == "hydra.searchpath" or override.is_delete():
            return None
        names = [str(name) for name in value] if isinstance(value, list) else [_name(value)]
        unknown = [name for name in names if name not in self._options(group)]
        return unknown_option(line, unknown[0], self._options(group)) if unknown else None

    def _culprits(self, choices: Sequence[str]) -> list[str]:
        """What is wrong with options that each by itself does not compose."""
        problems = []
        for choice in choices:
            try:
                self._chosen(choice)
            except _REFUSED as error:
                is_extra = "No match in the defaults list" in str(error)
                what = f"nothing of this group is chosen yet; write +{choice}" if is_extra else _told(error)
                problems.append(f"{short(choice)}: {what}")
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
        except _REFUSED as error:
            if not isinstance(cause := error.__cause__, OmegaConfBaseException):
                return f"{short(line)}: {_told(error)}"
            inner = key if "[" in f"{cause.full_key}" else f"{cause.full_key or key}"
            if problem := unknown_key(config, inner, self.groups):
                return problem
            return wrong_value(config, line, inner) if isinstance(cause, ValidationError) else _told(error)
        return None


def _name(value: object) -> str:
    return "null" if value is None else str(value)


def _told(error: Exception) -> str:
    """What Hydra says, in one line, without its advice."""
    lines = f"{error}".splitlines() + f"{error.__cause__ or ''}".splitlines()[:1]
    return " ".join(line.strip() for line in lines if line.strip() and not line.startswith(("To append", "See http")))
