"""Moving along units and directions: against plain loops."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from helpers.links import UNITS, W_DIM, linear, mlp, random
from torch import Tensor

from lis.linking.linear import LinearLink
from lis.units.directions import Directions
from lis.units.perturbation import Perturbation
from lis.units.tuning import perturbations, select

LINKS = pytest.mark.parametrize("model", [linear(), mlp(), lambda r: (r**2)[..., :W_DIM]], ids=["linear", "mlp", "any"])
MOVES = {
    "unit": Perturbation.of_unit(2, 0.0, 3.0),
    "direction": Perturbation.along("d", random(UNITS, seed=3), -1.0, 2.0),
    "relative": Perturbation.along("d", random(UNITS, seed=3), -1.0, 2.0, relative=True),
}


def axis(move: Perturbation) -> Tensor:
    """d as a vector of length 1."""
    return torch.eye(UNITS)[move.unit] if move.direction is None else move.direction


@LINKS
@pytest.mark.parametrize("move", MOVES.values(), ids=MOVES)
def test_style_codes_equal_plain_loops(model: Any, move: Perturbation) -> None:
    """r' = r + (v − r·d) d, sample by sample."""
    r, values = random(4, UNITS).relu(), move.values(3)
    w = Directions(model).moved(r, move, values)
    assert w.shape == (4, 3, W_DIM) and w.dtype == r.dtype
    assert values.tolist() == pytest.approx([move.low, (move.low + move.high) / 2, move.high])
    for sample, step in np.ndindex(4, 3):
        d = axis(move)
        shift = values[step] if move.relative else values[step] - r[sample] @ d
        moved = r[sample] + shift * d
        torch.testing.assert_close(w[sample, step], model(moved[None])[0])
        torch.testing.assert_close(move.applied(r, values)[sample, step], moved)
        expected = r[sample] @ d + values[step] if move.relative else values[step]
        torch.testing.assert_close(move.project(moved[None])[0], expected)


def test_a_unit_is_its_direction() -> None:
    r, d = random(4, UNITS), Perturbation.along("e2", 7 * torch.eye(UNITS)[2], 0.0, 3.0)
    unit, values = MOVES["unit"], torch.tensor([0.0, 1.0])
    for model in (linear(), mlp()):
        torch.testing.assert_close(Directions(model).moved(r, d, values), Directions(model).moved(r, unit, values))
    assert (unit.label, d.label, unit.name) == ("unit 2", "e2", "2")


@pytest.mark.parametrize("move", MOVES.values(), ids=MOVES)
def test_what_is_left_of_the_other_directions(move: Perturbation) -> None:
    r, d = random(4, UNITS), axis(move)
    torch.testing.assert_close(move.without(r), r - (r @ d)[:, None] * d)
    assert move.project(move.without(r)).abs().max() < 1e-6


@pytest.mark.parametrize("move", MOVES.values(), ids=MOVES)
def test_a_linear_link_moves_along_one_vector(move: Perturbation) -> None:
    found = Directions(linear()).delta(move)
    assert found is not None and found.dtype == torch.float64
    torch.testing.assert_close(found, axis(move).double() @ linear().coef)
    assert Directions(mlp()).delta(move) is None


def test_a_linear_link_multiplies_each_sample_once() -> None:
    """However many steps there are."""
    seen: list[int] = []

    class Counted(LinearLink):
        def __call__(self, r: Any) -> Tensor:
            seen.append(len(r))
            return super().__call__(r)

    model = Counted.of(linear().coef, linear().intercept)
    Directions(model).moved(random(4, UNITS), MOVES["unit"], torch.linspace(0, 1, 50))
    assert seen == [4]


@LINKS
@pytest.mark.parametrize("move", MOVES.values(), ids=MOVES)
def test_the_step_is_that_of_the_codes(model: Any, move: Perturbation) -> None:
    r = random(4, UNITS)
    ends = Directions(model).moved(r, move, torch.tensor([move.low, move.high]))
    assert Directions(model).step_norm(r, move) == pytest.approx(
        float((ends[:, 1] - ends[:, 0]).norm(dim=1).mean()), rel=1e-5
    )


@pytest.mark.parametrize("direction", [torch.zeros(3), torch.tensor([1.0, torch.nan]), torch.tensor([torch.inf])])
def test_a_direction_without_length_is_refused(direction: Tensor) -> None:
    with pytest.raises(ValueError, match=r"direction 'mine' has length .*: expected a finite one above 0"):
        Perturbation.along("mine", direction, 0, 1)


def test_codes_that_are_not_finite_are_named() -> None:
    r, move = random(4, UNITS), MOVES["unit"]
    for broken in (LinearLink.of(linear().coef * torch.inf, linear().intercept), lambda r: r / 0):
        with pytest.raises(ValueError, match=r"no finite w for unit 2 between 0 and 3: .*link=ridge"):
            Directions(broken).moved(r, move, move.values(2))
        with pytest.raises(ValueError, match=r"no finite w for unit 2 between 0 and 3: .*link=ridge"):
            Directions(broken).step_norm(r, move)


def test_a_saved_direction_may_lie_in_double_precision() -> None:
    move = Perturbation.along("d", random(UNITS, seed=3).double(), -1.0, 2.0)
    r, values = random(4, UNITS), torch.tensor([0.0, 1.0])
    torch.testing.assert_close(
        Directions(linear()).moved(r, move, values), Directions(linear()).moved(r, MOVES["direction"], values)
    )


def unit_table() -> pd.DataFrame:
    units = {"unit": range(UNITS), "minimum": [0.0, 1, 0, 2, 0], "maximum": [1.0, 2, 3, 2, 9]}
    return pd.DataFrame(units).assign(status=["live", "live", "dead", "live", "near-dead"])


def test_which_units_are_tuned_and_why_others_are_not() -> None:
    r, model = random(4, UNITS), linear()
    found: Any = select(unit_table(), Directions(model), r, None)
    assert found["reason"].tolist() == ["", "", "dead", "no range", "near-dead"]
    assert found["tuned"].tolist() == [True, True, False, False, False]
    steps = model.coef.norm(dim=1).tolist()
    np.testing.assert_allclose(found["step_norm"], [steps[0], steps[1], np.nan, 0, np.nan], rtol=1e-6)
    one: Any = select(unit_table(), Directions(model), r, 1)
    larger = int(steps[1] > steps[0])
    assert one["tuned"].to_numpy().nonzero()[0].tolist() == [larger] and one["reason"][1 - larger] == "small step"
    moved = perturbations(one[one["tuned"]])
    assert [(move.unit, move.low, move.high) for move in moved] == [(larger, larger, larger + 1)]


def test_steps_of_other_links_are_means_over_samples() -> None:
    r, model = random(4, UNITS), mlp()
    found = select(unit_table(), Directions(model), r, None)
    ends = Directions(model).moved(r, Perturbation.of_unit(1, 1, 2), torch.tensor([1.0, 2.0]))
    np.testing.assert_allclose(found["step_norm"][1], (ends[:, 1] - ends[:, 0]).norm(dim=1).mean(), rtol=1e-6)


def test_a_classifier_without_live_units_is_refused() -> None:
    with pytest.raises(ValueError, match="no unit of the classifier is live"):
        select(unit_table().assign(status="dead"), Directions(linear()), random(2, UNITS), None)


def test_a_link_that_no_unit_moves_is_refused() -> None:
    still = LinearLink.of(torch.zeros(UNITS, W_DIM).double(), torch.ones(W_DIM).double())
    with pytest.raises(ValueError, match=r"no live unit of the classifier moves w: .*link=ridge"):
        select(unit_table(), Directions(still), random(2, UNITS), None)
