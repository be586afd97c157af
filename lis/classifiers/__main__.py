"""`python -m lis.classifiers` lists what can be used as a classifier; `--timm PATTERN` searches timm."""

from __future__ import annotations

import signal

if __name__ == "__main__":  # nothing is written that a signal could break off
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import argparse
from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from lis.classifiers.catalogue import MOST, Entry, entries, missing, timm_entries
from lis.progress import print_anywhere

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
    if not (files := missing(listed)):
        return []
    names = ", ".join(file.name for file in files)
    return [f"\nNot here, but fetched when asked for; without a network put them into {files[0].parent}:", names]


def _advice(count: int) -> str:
    if not count:
        return "\n".join(_ADVICE)
    more = f", of which the first {MOST} were looked at: give a longer pattern" if count > MOST else ""
    return f"\n{count} names match{more}. Only models with one linear head and square images are listed."


if __name__ == "__main__":
    main()
