"""Plans: what stages say that they will do, against what they then ask of the models."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from helpers.fakes import FakeClassifier, FakeGenerator
from helpers.fakes_units import tuning_context
from torch import Tensor

from lis.context import Context
from lis.stage import REGISTRY
from lis.workload import Expected


@dataclass
class Counts:
    """Images that were asked for."""

    made: int = 0
    read: int = 0


class CountedGenerator(FakeGenerator):
    """Counts the images that it makes."""

    def __init__(self, counts: Counts, **settings: Any) -> None:
        super().__init__(**settings)
        self.counts = counts

    def synthesize(self, w: Tensor, features: bool | Collection[str] = False) -> Any:
        """Images `[n, 3, H, W]`."""
        self.counts.made += len(w)
        return super().synthesize(w, features)


class CountedClassifier(FakeClassifier):
    """Counts the images that it reads."""

    def __init__(self, counts: Counts, generator: FakeGenerator) -> None:
        super().__init__(generator)
        self.counts = counts

    def features(self, image: Tensor) -> Tensor:
        """`r [n, units]`."""
        self.counts.read += len(image)
        return super().features(image)


def counted_context(root: Path, **overrides: Any) -> tuple[Context, Counts]:
    """A context on fakes that count, what memory an image takes being known already."""
    counts = Counts()
    generator = CountedGenerator(counts, spread=0.1)
    ctx = tuning_context(root, generator, CountedClassifier(counts, generator), **overrides)
    ctx.batches(), ctx.images(), ctx.batches(gradient=True), ctx.tuned_batches()
    return ctx, counts


def told(ctx: Context, stage: str) -> tuple[int, int]:
    """Images that a stage says it will make, and read."""
    work = REGISTRY[stage].work
    assert work is not None
    loads = work(ctx, Expected()).loads
    return tuple(
        sum(round(load.count * getattr(load.operation, name)) for load in loads) for name in ("passes", "reads")
    )


def asked(ctx: Context, counts: Counts, stage: str) -> tuple[int, int]:
    """Images that a stage makes and reads, its inputs being there."""
    for each in REGISTRY[stage].inputs:
        each(ctx)
    counts.made = counts.read = 0
    REGISTRY[stage].artifact(ctx)
    return counts.made, counts.read


@pytest.mark.parametrize("stage", ["pairs/train", "pairs/test", "pairs/tuning", "link", "evaluation", "similarity"])
def test_a_stage_of_the_link_asks_for_as_many_images_as_it_says(tmp_path: Path, stage: str) -> None:
    ctx, counts = counted_context(tmp_path)
    assert asked(ctx, counts, stage) == pytest.approx(told(ctx, stage), rel=0.03)
