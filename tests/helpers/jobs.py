"""Jobs that make artifacts in a shared store, in processes of their own."""

from __future__ import annotations

import itertools
import time
from functools import partial
from pathlib import Path

import torch

from lis.store import Draft, Recipe, Store


def recipe(number: int, stage: str = "whole") -> Recipe:
    """Of one of a row of artifacts."""
    return Recipe(stage, 1, {"number": number})


def numbers(number: int) -> torch.Tensor:
    """Some, the same every time."""
    return torch.randn(500, generator=torch.Generator().manual_seed(number))


def fill_part(draft: Draft, number: int) -> None:
    """What four others read."""
    draft.tensors("part", {"x": numbers(number)})


def fill(draft: Draft, store: Store, number: int, seconds: float = 0.0) -> None:
    """Two files, one of them early, from a part that is made when needed; it takes so long at least."""
    draft.tensors("early", {"x": numbers(number)})
    time.sleep(seconds / 2)
    part = store.make(recipe(number // 4, "part"), partial(fill_part, number=number // 4))
    time.sleep(seconds / 2)
    draft.tensors("late", {"x": part.tensors("part")["x"] + numbers(number)})


def make(store: Store, number: int, seconds: float = 0.0) -> str:
    """One of the artifacts; when it was made."""
    return store.make(recipe(number), partial(fill, store=store, number=number, seconds=seconds)).manifest["created"]


def work(root: Path, seconds: float, lease: float, total: int | None = None) -> None:
    """Make the artifacts in a row, `total` of them or until there is a file `stop`, and write down what was got."""
    store = Store(root / "store", lease=lease)
    for number in itertools.count() if total is None else range(total):
        created = make(store, number, seconds)
        with (root / "log").open("a") as log:
            log.write(f"{number} {created}\n")
        if (root / "stop").exists():
            return
