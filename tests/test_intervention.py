"""Interventions on true factors: against loops on planted units, whose factors are known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from helpers.fakes import FakeGenerator, make_context
from torch import Tensor

from lis.classifiers.planted import planted
from lis.context import Context
from lis.generators.partworld import SETS, PartWorld
from lis.streams import Stream
from lis.units.ends import Ends
from lis.units.intervention import (
    agreement,
    effect_table,
    effects,
    read_factors,
    tied,
    unit_table,
    validate_intervention,
)
from lis.units.perturbation import Perturbation
from lis.units.traversal import Truth

DOGS = tuple(SETS["dogs"].classes)


Run = tuple[Context, PartWorld, Tensor, Truth]


@pytest.fixture(scope="module")
def linear(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run(tmp_path_factory.mktemp("linear"), hard=False)


@pytest.fixture(scope="module")
def hard(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run(tmp_path_factory.mktemp("hard"), hard=True)


def run(root: Path, hard: bool) -> Run:
    generator = PartWorld(DOGS, hard=hard)
    ctx = make_context(root, generator, planted(generator, per_kind=2), class_names=DOGS)
    w = torch.cat([generator.sample(c, torch.arange(3), Stream("test pairs")) for c in range(5)])
    truth = Truth.of(ctx, w)
    assert truth is not None
    return ctx, generator, w, truth


@pytest.mark.parametrize("mode", ["linear", "hard"])
def test_effects_equal_one_intervention_at_a_time(mode: str, request: pytest.FixtureRequest) -> None:
    ctx, generator, w, truth = request.getfixturevalue(mode)
    told = effects(ctx, validate_intervention(generator), truth, w)
    assert told.shape == (25, 12)
    for factor in (0, 5, 24):
        expected = torch.zeros(12)
        for sample in w:
            u = generator.true_factors(sample[None])
            ends = []
            for sign in (1, -1):
                changed = u.clone()
                changed[0, factor] += sign * truth.std[factor]
                ends.append(ctx.encode(generator.of_factors(changed))[0])
            expected += (ends[0] - ends[1]) / len(w)
        torch.testing.assert_close(told[factor], expected, rtol=1e-4, atol=1e-5)
    planting: Any = ctx.classifier
    for unit in (0, 1):  # of a single factor: all others leave it alone
        own = planting.planting.factor_names.index(planting.planting.factor[unit])
        others = told[:, unit].clone()
        others[own] = 0
        assert others.abs().max() < 1e-4 and told[own, unit].abs() > 0.1


def test_a_factor_that_does_not_vary_has_no_effect(linear: Run) -> None:
    ctx, generator, w, truth = linear
    still = Truth(truth.names, truth.factors, truth.std.index_fill(0, torch.tensor([2]), torch.inf))
    told = effects(ctx, generator, still, w)
    assert not told[2, :10].any() and told.isfinite().all()


class Way:
    """Moves a sample along the axis of a factor."""

    def __init__(self, generator: PartWorld, factor: int) -> None:
        self.axis = generator.world.basis[:, factor]

    def moved(self, r: Tensor, asked: Perturbation, values: Tensor) -> Tensor:
        """w of every value."""
        return values[None, :, None] * self.axis.expand(len(r), 1, -1)


def test_the_factor_that_pictures_show_is_the_one_that_moves_most(linear: Run) -> None:
    ctx, generator, _, truth = linear
    way: Any = Way(generator, 7)
    moved = read_factors(ctx, truth, Ends(way, torch.zeros(3, 12)), [Perturbation.of_unit(4, -1.0, 2.0)])
    assert moved.shape == (1, 25) and int(moved.abs().argmax()) == 7
    assert float(moved[0, 7]) == pytest.approx(3 / float(truth.std[7]), rel=1e-4)


def test_agreement_equals_counting() -> None:
    names = ("a", "b", "c")
    effect = torch.tensor([[1.0, -0.9, 0.0], [0.1, 2.0, 0.0], [0.0, 0.1, -1.0], [1.0, 0.2, 0.1]])
    moved = torch.tensor([[0.1, 3.0, 0.0], [0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [5.0, 0.0, 1.0]])
    units = unit_table(np.array([3, 5, 8, 9]), names, effect, moved)
    assert units["factor"].tolist() == ["a", "b", "c", "a"] and units["read"].tolist() == ["b", "b", "a", "a"]
    assert units["exact"].tolist() == [False, True, False, True] and units["tied"].tolist() == [True, True, False, True]
    assert units["moved"].tolist() == [3.0, -1.0, 1.0, 5.0]
    other = effect_table([1], names, torch.tensor([[0.0, 0.0, 0.0]]))  # a live unit that is not tuned
    table = pd.concat([effect_table([3, 5, 8, 9], names, effect), other])
    told: Any = agreement(units, table).set_index("counted")
    assert told["share"].tolist() == [0.5, 0.75] and told["n"].tolist() == [4, 4]
    dealt = [[tied(effect)[k, names.index(read)] for read in units["read"]] for k in range(4)]
    assert told.loc["tied", "chance"] == pytest.approx(np.mean(dealt))
    exact = [[factor == read for read in units["read"]] for factor in units["factor"]]
    assert told.loc["exact", "chance"] == pytest.approx(np.mean(exact))
    assert (told["low"] < told["share"]).all() and (told["share"] < told["high"]).all()


def test_other_generators_are_refused() -> None:
    other: Any = FakeGenerator()
    with pytest.raises(ValueError, match=r"FakeGenerator has no `of_factors`.*use gan=partworld"):
        validate_intervention(other)
