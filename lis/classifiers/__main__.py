"""`python -m lis.classifiers` lists what can be used as a classifier; `--timm PATTERN` searches timm."""

from __future__ import annotations

import argparse
import fnmatch
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from torch import nn

from lis.classifiers.libraries import Library, Timm, find
from lis.classifiers.partnet import PartNet
from lis.classifiers.preprocessing import Preprocessing
from lis.classifiers.published import Published
from lis.config import NetworkConfig, conf_folder
from lis.files import read_yaml
from lis.plain import print_anywhere

PLAIN_WIDTH = 240
"""Columns where the output is not a terminal, so that no line is broken."""
_ADVICE = (
    "",
    "classifier.weights=auto, the default, is partworld with a generator of part world, else pretrained.",
    "partworld: trained on part world once, in minutes, and then read from the store. random: to compare with.",
    "Any torchvision model: classifier=resnet50 classifier.model=resnet18",
    "Any timm model with one linear head: classifier=timm classifier.model=convnext_tiny.fb_in1k; --timm lists them",
    "Your own: classifier=file classifier.model=resnet50 classifier.weights=<path> classifier.num_classes=2",
    "A classifier of other images than the generator's is refused: classifier.domain=<word> names those of yours.",
)
MOST = 25
"""Models of timm in one list: each has to be built to be counted."""
_EXAMPLE = "conf/classifier/resnet50.yaml"
COMMITTED, LICENCE = ("come with the package",), "MIT"
"""Sources of a classifier whose weights nobody has to choose, and the licence of these weights: the project's."""


if __name__ == "__main__":  # nothing is written that a signal could break off
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the list."""
    print_anywhere()
    parser = argparse.ArgumentParser(prog="python -m lis.classifiers", description="What can be used as a classifier.")
    parser.add_argument("--timm", metavar="PATTERN", help="models of timm by a part of their name, as convnext_tiny")
    pattern = parser.parse_args(arguments).timm
    console = Console()
    if not console.is_terminal:
        console = Console(width=PLAIN_WIDTH)
    try:
        listed, count = timm_entries(pattern) if pattern else (entries(), 0)
    except ValueError as error:
        parser.error(str(error))
    first = "classifier=timm classifier.model=" if pattern else "classifier="
    console.print(_table(listed, first, console.is_terminal))
    for line in [*_missing(listed), _advice(count)]:
        console.print(line, soft_wrap=True, highlight=False, markup=False)


def _table(listed: Sequence[Entry], first: str, terminal: bool) -> Table:
    table = Table(first, box=SIMPLE_HEAD if terminal else None, pad_edge=False)
    table.columns[0].overflow = "fold"
    for name in ("units", "input px", "classifier.weights", "licence of the weights", "top-1"):
        table.add_column(name, justify="right" if name in ("units", "input px", "top-1") else "left")
    for entry in listed:
        numbers = [str(number or "–") for number in (entry.units, entry.pixels)]
        table.add_row(entry.name, *numbers, ", ".join(entry.sources) or "–", entry.licence, entry.accuracy)
    return table


def _missing(listed: Sequence[Entry]) -> list[str]:
    files = missing(listed)
    hint = "Not here, but fetched when asked for; without a network put them into"
    return [f"\n{hint} {files[0].parent}:", ", ".join(file.name for file in files)] if files else []


def _advice(count: int) -> str:
    if not count:
        return "\n".join(_ADVICE)
    more = f", of which the first {MOST} were looked at: give a longer pattern" if count > MOST else ""
    return f"\n{count} names match{more}. Only models with one linear head and square images are listed."


@dataclass(frozen=True)
class Entry:
    """What one name on the command line stands for."""

    name: str
    """`classifier=<name>`; for a model of timm `classifier=timm classifier.model=<name>`."""
    units: int | None = None
    """Width of the penultimate layer; None: that of the model that is chosen."""
    pixels: int | None = None
    """Height and width of what it reads with its own weights."""
    sources: tuple[str, ...] = ()
    """Values of `classifier.weights`, or where weights come from; empty where the model is still to be named."""
    published: Published | None = None

    @property
    def licence(self) -> str:
        """Of the weights, in words."""
        other = LICENCE if self.sources == COMMITTED else "–"
        return self.published.licence if self.published else other

    @property
    def accuracy(self) -> str:
        """Top-1 on ImageNet, as published."""
        known = self.published and self.published.accuracy
        return f"{known:.1f} %" if known else "–"


def entries() -> list[Entry]:
    """One entry per file in `conf/classifier`."""
    return [_entry(file) for file in sorted((conf_folder() / "classifier").glob("*.yaml"))]


def timm_entries(pattern: str) -> tuple[list[Entry], int]:
    """Models of timm with published weights, one linear head and square images, whose name matches.

    Args:
        pattern: a part of the name, or a pattern with `*` and `?`.

    Returns:
        The first `MOST` in alphabetical order, and how many names match.

    Raises:
        ValueError: no name matches.
    """
    import timm

    names = timm.list_pretrained()
    query = pattern if set(pattern) & set("*?[") else f"*{pattern}*"
    result = sorted(fnmatch.filter(names, query))
    if not result:
        raise ValueError(f"--timm {pattern}: none of timm's {len(names)} names matches; try a shorter one, as resnet")
    made = (_timm_entry(name) for name in result[:MOST])
    return [entry for entry in made if entry], len(result)


def missing(listed: Sequence[Entry]) -> list[Path]:
    """Published files that could be fetched and are not on this machine: where each would be."""
    fetched = [entry.published for entry in listed if entry.published and not entry.published.packaged]
    return [published.file for published in fetched if not published.find()]


def _entry(file: Path) -> Entry:
    config = read_entry(file)
    make = partial(Entry, file.stem)
    if "base_partnet" in config.get("defaults", ()):
        return make(PartNet(config.get("task", "classes")).units, Preprocessing.as_drawn().size, COMMITTED)
    if "model" not in config:
        return make()
    source = find(config.get("library", NetworkConfig.library), config["model"])
    published, fixed = _published(source), config.get("weights")
    sources = _sources(source, published) if fixed in (None, "pretrained") else (fixed,)
    return make(_width(_on_meta(source)), source.preprocessing(False).size, sources, published)


def read_entry(file: Path) -> dict[str, Any]:
    """What a file of `conf/classifier` sets, as it stands there.

    Raises:
        ValueError: it cannot be read, is larger or deeper than a person writes, or says something else than texts where
            a network is named.
    """
    config = read_yaml(file, remedy=f"write it as {_EXAMPLE}")
    if not isinstance(config, dict):
        raise ValueError(f"{file} holds {type(config).__name__}: expected keys and values, as in {_EXAMPLE}")
    for key, value in config.items():
        if str(value).count("${") > str(value).count("}"):
            raise ValueError(
                f"{file} cannot be read ({key} has an interpolation without an end): write it as {_EXAMPLE}"
            )
    for key in ("task", "library", "model", "weights"):
        if key in config and not isinstance(config[key], str):
            raise ValueError(f"{file}: {key} is {config[key]!r:.80}: expected a text")
    if not isinstance(config.get("defaults", []), list):
        raise ValueError(f"{file}: defaults is {config['defaults']!r:.80}: expected a list")
    return {str(key): value for key, value in config.items()}


def _timm_entry(name: str) -> Entry | None:
    """None where the head is not one linear layer, or images are not prepared as squares."""
    source = Timm(name)
    try:
        width, size = _timm_units(name.partition(".")[0]), source.preprocessing(False).size
    except ValueError:
        return None
    published = _published(source)
    return Entry(name, width, size, _sources(source, published), published) if width else None


@lru_cache
def _timm_units(architecture: str) -> int | None:
    """Width of the input of its head; None where the head is not one linear layer."""
    network: Any = _on_meta(Timm(architecture))
    head = network.get_classifier() if hasattr(network, "get_classifier") else None
    return head.in_features if isinstance(head, nn.Linear) else None


def _width(network: nn.Module) -> int:
    """Width of what the last linear layer of a network reads, by the order in which its layers are defined."""
    return [module for module in network.modules() if isinstance(module, nn.Linear)][-1].in_features


def _on_meta(source: Library) -> nn.Module:
    """The network without its weights: quick, and no memory."""
    with torch.device("meta"):
        return source.build(max(1, len(source.class_names)))


def _published(source: Library) -> Published | None:
    """None where nothing can be fetched, or only a network without a head."""
    try:
        return source.published() if source.class_names else None
    except ValueError:
        return None


def _sources(source: Library, published: Published | None) -> tuple[str, ...]:
    absent = published.packaged.remedy if published and published.packaged else "not here"
    here = [f"pretrained ({published.tag}, {'here' if published.find() else absent})"] if published else []
    return (*here, *([] if source.untrainable else ["partworld"]), "random", "<path>")


if __name__ == "__main__":
    main()
