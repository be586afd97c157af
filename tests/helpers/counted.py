"""What a stage asks of the models of a run, counted, and what it says that it will ask."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from typing import Any, NamedTuple

import pytest
import torch

from lis import costs
from lis.context import Context
from lis.stage import REGISTRY
from lis.workload import Expected, Operation


class Asked(NamedTuple):
    """Images that are made, read, and read with a gradient."""

    made: int
    read: int
    gradients: int


class Counts:
    """Counts the images that pass the models of a run, but for those whose memory is measured.

    Args:
        ctx: the run.
        patch: ends the counting.
    """

    def __init__(self, ctx: Context, patch: pytest.MonkeyPatch) -> None:
        self.made = self.read = self.gradients = 0
        self._inside = False
        self._wrap(patch, ctx.generator, ("synthesize", "synthesize_edited"), self._generated)
        self._wrap(patch, ctx.classifier, ("features", "features_of_style"), self._encoded)
        self._wrap(patch, ctx.witness, ("features",), self._encoded)
        self._wrap(patch, getattr(ctx.classifier, "network", None), ("forward",), self._encoded)
        self._wrap(patch, costs, ("_once",), lambda _: None)

    def of(self, stage: str, ctx: Context, *noted: list[int]) -> Asked:
        """What a stage asks for, its inputs being there; lists of `rows` begin with it too."""
        for each in REGISTRY[stage].inputs:
            each(ctx)
        self.made = self.read = self.gradients = 0
        for each in noted:
            each.clear()
        REGISTRY[stage].artifact(ctx)
        return Asked(self.made, self.read, self.gradients)

    def _generated(self, w: Any) -> None:
        self.made += len(w)

    def _encoded(self, x: Any) -> None:
        self.read += len(x)
        self.gradients += len(x) * torch.is_grad_enabled()

    def _wrap(self, patch: pytest.MonkeyPatch, owner: Any, names: tuple[str, ...], note: Callable[[Any], None]) -> None:
        """Note the first argument of these methods, unless another one that is counted calls them."""
        for name in names:
            if hasattr(owner, name):
                patch.setattr(owner, name, self._noting(getattr(owner, name), note))

    def _noting(self, method: Callable[..., Any], note: Callable[[Any], None]) -> Callable[..., Any]:
        def call(x: Any, *arguments: Any, **settings: Any) -> Any:
            if self._inside:
                return method(x, *arguments, **settings)
            note(x)
            with self._entered():
                return method(x, *arguments, **settings)

        return call

    @contextmanager
    def _entered(self) -> Any:
        self._inside = True
        try:
            yield
        finally:
            self._inside = False


def told(ctx: Context, stage: str) -> Asked:
    """What a stage says that it will ask for."""
    sums = [
        sum(round(load.count * getattr(load.operation, name)) for load in loads(ctx, stage))
        for name in ("passes", "reads", "backwards")
    ]
    return Asked(*sums)


def loads(ctx: Context, stage: str) -> tuple[Any, ...]:
    """What a stage says that it will do."""
    work = REGISTRY[stage].work
    assert work is not None
    return work(ctx, Expected()).loads


def count(ctx: Context, stage: str, operation: Operation) -> float:
    """How often a stage says that it will do an operation."""
    return sum(load.count for load in loads(ctx, stage) if load.operation is operation)


def rows(patch: pytest.MonkeyPatch, owner: Any, name: str, rows_of: Callable[..., int]) -> list[int]:
    """A list to which every call of a function adds how many rows it is given."""
    result, function = list[int](), getattr(owner, name)

    def call(*arguments: Any, **settings: Any) -> Any:
        result.append(rows_of(*arguments))
        return function(*arguments, **settings)

    patch.setattr(owner, name, call)
    return result
