"""What is wrong with one override, in one line: what is unknown with the nearest known name, and what was expected."""

from __future__ import annotations

import types
from collections.abc import Iterable, Sequence
from dataclasses import is_dataclass
from enum import Enum
from typing import Any, Union, get_args, get_origin, get_type_hints

from omegaconf import DictConfig, OmegaConf

from lis.config import conf_folder, schemas
from lis.config.fields import described
from lis.names import most_like, nearest, printable

_WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
_LISTED = 16
"""Options of a group that are named."""
_PLURAL = {int: "whole numbers", float: "numbers", str: "texts"}


def unknown_option(override: str, name: str, options: Iterable[str]) -> str:
    """That a group has no option of a name, with those that it has: the most alike first.

    Example:
        >>> unknown_option("link=fc_3", "fc_3", ["base_mlp", "fc_l1", "fc_l2", "lr"])
        'link=fc_3: unknown option; did you mean fc_l2? Expected one of fc_l2, fc_l1, lr'
    """
    known = [option for option in options if not option.startswith("base_")]
    like = most_like(name, known, len(known))
    listed = [*like, *(option for option in known if option not in like)]
    rest = f" and {len(listed) - _LISTED} more" if len(listed) > _LISTED else ""
    hint = f"; did you mean {like[0]}? Expected" if like else "; expected"
    return f"{short(override)}: unknown option{hint} one of {', '.join(listed[:_LISTED])}{rest}"


def unknown_key(config: DictConfig, key: str, groups: Sequence[str]) -> str | None:
    """That the settings have no key of this name, with the one that was probably meant; None where they have it.

    Args:
        config: settings that are composed.
        key: with dots, as `pairs.train`.
        groups: names of the groups that options are chosen of.
    """
    node: Any = config
    parts = key.split(".")
    for depth, part in enumerate(parts):
        before = ".".join(parts[:depth])
        if not isinstance(node, DictConfig):
            is_single = node is not None and not OmegaConf.is_config(node)
            return f"{key}: {before} is one value and has no {part}" if is_single else None
        if part not in node.keys():  # `in` alone passes over those without a value  # noqa: SIM118
            return _unknown(config, node, before, part, ".".join(parts[depth + 1 :]), groups)
        hidden = OmegaConf.is_missing(node, part) or OmegaConf.is_interpolation(node, part)
        node = None if hidden else node[part]
    return None


def _unknown(config: DictConfig, node: DictConfig, before: str, part: str, rest: str, groups: Sequence[str]) -> str:
    prefix, key = (f"{before}." if before else ""), f"{before}.{part}" if before else part
    known = [str(name) for name in node if name != "hydra"]
    if not before:
        what = "unknown group or key"
        hint = _elsewhere(config, part) or nearest(part, [*known, *groups])
        return f"{key}: {what}{hint}" + ("" if hint else f"; groups are {', '.join(groups)}")
    chosen = _chosen(config, before)
    what = f"unknown key of {before}{chosen and f'={chosen}'}"
    if like := most_like(part, known, 1):
        return f"{key}: {what}; did you mean {prefix}{like[0]}?"
    if others := _other_options(before, part):
        name, options = others
        is_same = name == part
        return f"{key}: {what}; {'' if is_same else f'did you mean {prefix}{name}? '}{before}={options[0]} has it" + (
            f", as {' and '.join(options[1:3])} {'do' if len(options) > 2 else 'does'}" if len(options) > 1 else ""
        )
    keys = [prefix + name for name in known if name != "_target_"]
    return f"{key}: {what}{': expected one of ' if keys else ', which has none'}{', '.join(keys)}"


def _elsewhere(config: DictConfig, name: str) -> str:
    """A hint at keys of that very name inside of groups."""
    result = [
        f"{group}.{name}"
        for group in config
        if group != "hydra" and not OmegaConf.is_missing(config, group)
        if isinstance(config[group], DictConfig) and name in config[group].keys()  # noqa: SIM118
    ]
    return f"; did you mean {' or '.join(result[:3])}?" if result else ""


def _chosen(config: DictConfig, group: str) -> str:
    choices = OmegaConf.select(config, "hydra.runtime.choices") or {}
    return str(choices[group]) if group in choices else ""


def _other_options(group: str, part: str) -> tuple[str, list[str]] | None:
    """The key most like a name that other options of a group have, and these options."""
    bases = {name.partition("/")[2]: schema for name, schema in schemas().items() if name.startswith(f"{group}/")}
    known = {base: [key for key, _, _ in described(schema)] for base, schema in bases.items()}
    if not (like := most_like(part, [key for keys in known.values() for key in keys], 1)):
        return None
    having = [base for base, keys in known.items() if like[0] in keys]
    files = sorted((conf_folder() / group).glob("*.yaml"))
    options = [file.stem for file in files if any(f"- {base}\n" in file.read_text("utf-8") for base in having)]
    return (like[0], options) if options else None


def wrong_value(config: DictConfig, override: str, key: str) -> str:
    """That a value does not have the type of its key, with what was expected.

    Args:
        config: settings that have the key.
        override: as it was typed.
        key: with dots.
    """
    group, _, name = key.rpartition(".")
    schema: Any = OmegaConf.get_type(OmegaConf.select(config, group) if group else config)
    hint = get_type_hints(schema).get(name) if is_dataclass(schema) else None
    if is_dataclass(hint):
        keys = [f"{key}.{each}" for each in hint.__dataclass_fields__ if each != "_target_"]
        return f"{short(override)}: {key} is a group of settings: expected {', '.join(f'{each}=…' for each in keys)}"
    return f"{short(override)}: expected {in_words(hint)}"


def in_words(hint: Any) -> str:
    """What a type takes.

    Example:
        >>> in_words(int), in_words(float | None), in_words(list[str])
        ('a whole number', 'a number or null', 'a list of texts, as [a,b]')
    """
    if get_origin(hint) in (Union, types.UnionType):
        inner = [each for each in get_args(hint) if each is not type(None)]
        return " or ".join([*map(in_words, inner), "null"])
    if get_origin(hint) is list:
        (inner,) = get_args(hint)
        return f"a list of {_PLURAL.get(inner, 'values')}, as {'[a,b]' if inner is str else '[1,2]'}"
    if is_dataclass(hint):
        return "an option of its group"
    if isinstance(hint, type) and issubclass(hint, Enum):
        return f"one of {', '.join(hint.__members__)}"
    return _WORDS.get(hint, "a value of another type")


def short(override: str) -> str:
    """An override as it was typed, its beginning where it is long."""
    return printable(override) if len(override) < 200 else f"{printable(override[:200])}…"
