"""What `python -m lis.run --help` says: the groups with their options, the keys of a run, and examples."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

from lis.compose import Composer
from lis.config import RunConfig, conf_folder, root
from lis.config.overrides import SPELLINGS
from lis.stage import REGISTRY

WIDTH = 100
_NAME = 27
"""Columns that names of options and keys take."""
_END = re.compile(r"(?<!Fig)(?<!al)(?<!Eq)\.(?: |$)")
"""Of a sentence."""
_CLAUSE = re.compile(r"[:;] | \(")
"""Where a sentence goes on with what is more about it."""
_KEYS = ("unit", "direction", "class_name", "images", "seed", "device", "store", "threads", "batch_size")
_GROUPS = {
    "gan": "The generator: style codes w → images",
    "classifier": "The network whose units are asked about: images → activations r",
    "classes": "What is shown to it",
    "link": "Maps activations r to style codes w",
    "segmenter": "Finds the parts of an image in the generator's feature maps",
    "matcher": "Finds where the points of an image lie in another",
    "analysis": "What is computed and reported",
    "engine": "How shards are mapped",
    "logger": "Where numbers, figures and tables go besides the run's folder",
    "size": "How much is computed",
    "experiment": "A figure of the paper, as its README in experiments/ describes it",
}
"""What is chosen of each; a group of the user's own stands without."""
_HEAD = """\
python -m lis.run [group=option …] [key=value …] [-m]

Links a classifier with a generator, and shows what the classifier's units stand for.
"""
_FLAGS = {
    "-m": "a run for every value: -m link=lr,ridge seed=0,1",
    "--cfg job": "print all settings, as they are with what stands beside it",
    "--stages": "list the stages that analysis.stages=[…] can name",
    "--hydra-help": "more options, as the shell's completion",
}
_EXAMPLES = {
    "analysis=demo size=smoke": "everything, in seconds",
    "analysis=unit unit=12 class=pug": "one unit of the classifier in pictures",
    "classes=birds link=fc_l2 pairs.train=600": "another set of classes, another link, fewer pairs",
    "gan=imagenet256 classifier=resnet50 classes=custom classes.names=[pug,toucan]": "the paper's models",
    "-m +experiment=figS1": "a figure of the paper, which is a sweep",
}


def page(composer: Composer, overrides: Sequence[str]) -> str:
    """The text of `--help`, at most `WIDTH` columns wide.

    Args:
        composer: knows the groups.
        overrides: what is typed beside it; the options that it chooses are marked.

    Raises:
        ValueError: as `composer.composed`.
    """
    choices: Mapping[str, str] = composer.composed(overrides).hydra.runtime.choices
    groups = sorted((group for group in composer.groups if group in choices), key=_position)
    others = [group for group in composer.groups if group not in choices]
    parts = [_HEAD, f"Groups and their options; * is {'chosen by this' if overrides else 'the default'}\n"]
    parts += [f"{_group(composer, group, choices[group])}\n" for group in groups]
    parts += [f"{_names(composer, group)}\n" for group in others]
    parts += ["Keys; `--cfg job` prints all others, as pairs.train=1200\n", f"{_keys()}\n"]
    parts += ["Options\n", *(_row(f"  {flag}", what) for flag, what in _FLAGS.items())]
    parts += ["\nExamples", *_examples()]
    return "\n".join(parts) + "\n"


def described(group: str, option: str) -> str:
    """What an option is, on a line: from the comment that its file begins with, or from what its stage holds.

    Example:
        >>> described("link", "lr"), described("classifier", "file")
        ("The paper's least squares", 'Your own checkpoint')
    """
    file = conf_folder() / group / f"{option}.yaml"
    if file.is_file():
        lines = file.read_text("utf-8").splitlines()
        comment = [line.removeprefix("#").strip() for line in lines[: _first(lines)] if "@package" not in line]
        text = " ".join(comment)
    else:
        text = REGISTRY[option].holds if group == "analysis" and option in REGISTRY else ""
    return _beginning(text)


def _beginning(text: str) -> str:
    """The first sentence of a text, or of that as much as a line takes."""
    sentence = _END.split(text, maxsplit=1)[0]
    clause = sentence if len(sentence) <= WIDTH - _NAME else _CLAUSE.split(sentence, maxsplit=1)[0]
    return textwrap.shorten(clause, WIDTH - _NAME, placeholder=" …")


def _position(group: str) -> int:
    """Of a group in the schema; what only sets keys of others comes last."""
    names = [*RunConfig.__dataclass_fields__]
    return names.index(group) if group in names else len(names)


def _first(lines: Sequence[str]) -> int:
    """The first line that is no comment."""
    return next((index for index, line in enumerate(lines) if not line.startswith("#")), len(lines))


def _group(composer: Composer, group: str, chosen: str) -> str:
    options = sorted(composer.options(group), key=_natural)
    rows = [_row(f"  {'*' if option == chosen else ' '} {option}", described(group, option)) for option in options]
    return "\n".join([_row(f"{group}=", _GROUPS.get(group, "")), *rows])


def _names(composer: Composer, group: str) -> str:
    """A group of which nothing is chosen: the names of its options alone."""
    options = sorted(composer.options(group), key=_natural)
    lines = textwrap.wrap(" ".join(options), WIDTH, initial_indent="    ", subsequent_indent="    ")
    return "\n".join([_row(f"+{group}=", _GROUPS.get(group, "")), *lines])


def _natural(name: str) -> list[tuple[int, str]]:
    """Sorts imagenet16 before imagenet128: digits as numbers, before letters."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.findall(r"\d+|\D+", name)]


def _keys() -> str:
    """The keys of a run that stand in no group, with the texts that follow them in the schema."""
    body = next(
        node.body
        for node in ast.parse(inspect.getsource(root)).body
        if isinstance(node, ast.ClassDef) and node.name == RunConfig.__name__
    )
    texts = {
        entry.target.id: " ".join(str(text.value.value).split())
        for entry, text in pairwise(body)
        if isinstance(entry, ast.AnnAssign) and isinstance(entry.target, ast.Name)
        if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant)
    }
    names = {key: name for name, key in SPELLINGS.items()}
    values = {key: getattr(RunConfig, key) for key in _KEYS}
    return "\n".join(
        _row(f"  {names.get(key, key)}={'' if value is None else value}", texts[key].rstrip("."))
        for key, value in values.items()
    )


def _row(name: str, text: str) -> str:
    """A name and what it is, on as few lines as it takes."""
    lines = textwrap.wrap(text, WIDTH - _NAME) or [""]
    return "\n".join([f"{name:<{_NAME}}{lines[0]}".rstrip(), *(" " * _NAME + line for line in lines[1:])])


def _examples() -> Iterator[str]:
    for overrides, what in _EXAMPLES.items():
        yield f"  {what}"
        yield f"    python -m lis.run {overrides}"
