"""What is typed on the command line, in Hydra's grammar; and which keys hold paths, anchored where it was typed."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, TypeVar, cast

from hydra.core.override_parser.types import Quote, QuotedString

from lis.config import schemas
from lis.config.fields import described
from lis.config.renamed import require_current

Config = TypeVar("Config")

SPELLINGS = {"class": "class_name"}
"""Keys that Python has no name for, and what they are called in the schema."""
OPTIONS = {"counterfactuals.witness": "classifier"}
"""Keys that take an option of a group, and which; Hydra writes such a key `group@key`."""
_FOLDERS = ("--config-dir", "-cd", "--config-path", "-cp")
"""Hydra's options whose value may look like an override."""
_FUNCTION = re.compile(r"(choice|range|interval|glob|sort|shuffle|tag|str|int|float|bool|json_str)\(.*\)", re.DOTALL)
_PART = re.compile(r"""(?:'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"|\$\{[^}]*\}|[^,])+""", re.DOTALL)
"""Of a sweep: what stands between two commas that are not in quotes or in an interpolation."""
_GLOB = re.compile(r"glob\((?:\[[^\]]*\]|[^,\[\]]*)\)")
"""Of a sweep: options by a pattern, or by several."""
_MOST_DIGITS = 4300
"""What Python reads as a whole number at most."""
_LONG_NUMBER = re.compile(rf"[\d_]{{{_MOST_DIGITS + 1},}}")
_ESCAPED = re.compile(r"\\[\\()\[\]{}:=,\s]")


def path_keys() -> dict[str, tuple[str, ...]]:
    """Every key of the schema that takes a path, and the words that it takes instead; one with a colon begins a value.

    Example:
        >>> path_keys()["classifier.weights"], path_keys()["direction"]
        (('auto', 'pretrained', 'partworld', 'random'), ('pc:', 'classes:', 'units:'))
    """
    groups = [(name.rpartition("/")[0], schema) for name, schema in schemas().items()]
    groups += [(key, schema) for key, group in OPTIONS.items() for name, schema in groups if name == group]
    return {
        key: metadata["path"]
        for group, schema in groups
        for key, _, metadata in described(schema, f"{group}." if group else "")
        if "path" in metadata
    }


def as_typed(key: str) -> str:
    """A key as a person writes it, of one as Hydra does.

    Example:
        >>> as_typed("classifier@counterfactuals.witness=partnet"), as_typed("seed=3")
        ('counterfactuals.witness=partnet', 'seed=3')
    """
    for name, group in OPTIONS.items():
        key = key.replace(f"{group}@{name}", name)
    return key


def anchored(config: Config, start: Path) -> Config:
    """The configuration with every relative path made absolute, so that it means the same from any working folder.

    Args:
        config: of a run, or of a group in it.
        start: the folder that the command was started in. `~` is the user's own.
    """
    changed: dict[str, Any] = {}
    for field in fields(cast(Any, config)):
        value = getattr(config, field.name)
        if is_dataclass(value):
            changed[field.name] = anchored(value, start)
        elif "path" in field.metadata and value and not _is_word(value, field.metadata["path"]):
            changed[field.name] = str(start / Path(value).expanduser())
    return replace(cast(Any, config), **changed)


def _is_word(value: str, words: Sequence[str]) -> bool:
    return any(value == word or (word.endswith(":") and value.startswith(word)) for word in words)


def spelled(arguments: Sequence[str]) -> list[str]:
    """The arguments of a command line as Hydra reads them: any path is taken as it is, options may stand anywhere.

    The value of a key that takes a path is quoted, unless it is quoted already, `null`, one of Hydra's functions or
    escaped by hand; `${…}` stays an interpolation, and with `-m` commas separate values. A file of exactly that name
    comes first.

    Raises:
        ValueError: a number has more digits than Python reads, or a name is one of an older version.

    Example:
        >>> spelled(["class=pug", "classifier.weights=epoch=3.ckpt", "-m", "images=a,b"])
        ['class_name=pug', "classifier.weights='epoch=3.ckpt'", "images='a','b'", '-m']
        >>> spelled(["counterfactuals.witness=partnet", "counterfactuals.witness=null"])
        ['classifier@counterfactuals.witness=partnet', 'counterfactuals.witness=null']
    """
    for argument in arguments:
        if long := _LONG_NUMBER.search(argument):
            raise ValueError(
                f"{argument[: long.start()]:.80} has a number of {len(long[0]):,} digits: expected at most "
                f"{_MOST_DIGITS:,}"
            )
    options = [index for index in range(len(arguments)) if _is_option(arguments, index)]
    overrides = [argument for index, argument in enumerate(arguments) if index not in options]
    require_current(overrides)
    sweep = any(arguments[index] in ("-m", "--multirun") for index in options) or "hydra.mode=MULTIRUN" in overrides
    # argparse takes overrides in one piece only, and an option in front may swallow the first.
    return [_spelled(override, sweep) for override in overrides] + [arguments[index] for index in options]


def command(typed: Sequence[str], options: Sequence[str] = ()) -> str:
    """The command that makes a run again.

    Args:
        typed: overrides, as Hydra or as a person writes them.
        options: of the program.

    Example:
        >>> print(command(["size=smoke", "store='my data'", "class_names=['it']"], ["--config-dir=/options"]))
        python -m lis.run --config-dir=/options size=smoke "store=my data" "class_names=['it']"
    """
    return " ".join(["python -m lis.run", *map(_word, [*options, *map(bare, typed)])])


def bare(override: str) -> str:
    """An override without the quotes that the command line puts round a path by itself."""
    key, equals, value = override.partition("=")
    unquoted = f"{key}{equals}{value[1:-1]}"
    return unquoted if value[:1] == value[-1:] == "'" and spelled([unquoted]) == [override] else override


def _word(word: str) -> str:
    """A word as a shell reads it; within double quotes where these are enough, which a person can read."""
    quoted = shlex.quote(word)
    return quoted if quoted == word or set(word) & set('"$`\\!') else f'"{word}"'


def _is_option(arguments: Sequence[str], index: int) -> bool:
    """Whether an argument is one of Hydra's options or the value of one, and no override."""
    argument, before = arguments[index], arguments[index - 1] if index else ""
    return argument.startswith("-") or before in _FOLDERS or not ("=" in argument or argument.startswith("~"))


def _spelled(override: str, sweep: bool) -> str:
    key, equals, value = override.partition("=")
    key = SPELLINGS.get(key, key)
    if key in OPTIONS and value not in ("", "null"):
        key = f"{OPTIONS[key]}@{key}"
    takes_path = key.lstrip("+") in {*path_keys(), "gan.url", "hydra.run.dir", "hydra.sweep.dir"}
    if takes_path:
        value = _quoted(value, sweep and key[:6] != "hydra.")
    elif _GLOB.fullmatch(value):  # without the schemas that the files of a group begin with
        value = f"{value[:-1]},exclude=base_*)"
    return key + equals + value


def _quoted(value: str, sweep: bool) -> str:
    if _exists(value):
        return QuotedString(value.replace("${", r"\${"), Quote.single).with_quotes()
    if sweep and "," in value and not _as_meant(value):
        parts = [part if _exists(part) else part.strip() for part in _PART.findall(value)]
        return ",".join(_quoted(part, sweep=False) for part in parts)
    return value if _as_meant(value) else QuotedString(value, Quote.single).with_quotes()


def _as_meant(value: str) -> bool:
    """Whether a value is written for Hydra already."""
    is_quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "'\""
    is_function = _FUNCTION.fullmatch(value) is not None
    return value.lower() in ("", "null") or is_quoted or is_function or _ESCAPED.search(value) is not None


def _exists(value: str) -> bool:
    try:
        return bool(value) and Path(value).expanduser().exists()
    except (OSError, RuntimeError, ValueError):  # no name that a file can have
        return False
