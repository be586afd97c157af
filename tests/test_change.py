"""Change of a measure against plain arithmetic."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from helpers.shapes import apart

from lis.quantify.change import change, relative


def measures(*shape: int, seed: int = 0) -> torch.Tensor:
    """Random measures in their ranges."""
    low, high = torch.tensor([0.01, 0, 0, 0, -90]), torch.tensor([0.5, 1, 4, 1, 90])
    return low + (high - low) * torch.rand(*shape, 5, generator=torch.Generator().manual_seed(seed))


def expected(first: list[float], last: list[float]) -> list[float]:
    turn = last[4] - first[4]
    while turn > 90:
        turn -= 180
    while turn <= -90:
        turn += 180
    return [
        math.log2(last[0] / first[0]),
        (last[1] - first[1]) / max(first[1], last[1]),
        last[2] - first[2],
        last[3] - first[3],
        turn,
    ]


def test_equal_to_plain_arithmetic() -> None:
    first, last = measures(4, 7), measures(4, 7, seed=1)
    found = change(first, last)
    assert found.shape == (4, 7, 5) and found.dtype == torch.float32
    for index in np.ndindex(4, 7):
        np.testing.assert_allclose(found[index], expected(first[index].tolist(), last[index].tolist()), atol=1e-4)


def test_an_axis_turns_by_the_shorter_way() -> None:
    degrees = [-89.5, -90 + 1e-6, -45, 0, 30, 45, 89.9, 90]
    for a in degrees:
        for b in degrees:
            first, last = (measures(1).index_fill_(1, torch.tensor(4), value) for value in (a, b))
            found = change(first, last)[0, 4].item()
            assert -90 < found <= 90 and apart(a + found, b) < 1e-4
            assert abs(found) == pytest.approx(apart(a, b), abs=1e-4)


def test_a_label_absent_at_one_end_has_no_change() -> None:
    first, last = measures(3), measures(3, seed=1)
    first[0] = torch.nan
    last[1] = torch.nan
    last[2, 4] = torch.nan
    found = change(first, last)
    assert found[:2].isnan().all() and found[2].isnan().tolist() == [False] * 4 + [True]


def test_black_and_absent() -> None:
    first, last = measures(3), measures(3)
    first[:, 1], last[:, 1] = torch.tensor([0.0, 0.0, 0.4]), torch.tensor([0.0, 0.3, 0.0])
    assert change(first, last)[:, 1].tolist() == [0, 1, -1]


def test_no_change() -> None:
    first = measures(5)
    assert (change(first, first) == 0).all()


def test_there_and_back() -> None:
    """An angle of 90° aside."""
    first, last = measures(20), measures(20, seed=1)
    torch.testing.assert_close(change(first, last), -change(last, first))


def test_one_nearly_absent_part_does_not_lead_the_mean_of_areas() -> None:
    """A part that grows from one pixel to forty in one of twenty images, and not at all in the others."""
    first = measures(20)
    last = first.clone()
    first[0, 0], last[0, 0] = 1 / 4096, 40 / 4096
    found = change(first, last)[:, 0]
    assert relative(found).mean().item() == pytest.approx(39 / 20)  # as if every part had grown by 195 %
    assert relative(found.mean()).item() == pytest.approx(40 ** (1 / 20) - 1, rel=1e-5)  # 20 %


def test_the_papers_relative_change() -> None:
    first, last = measures(20), measures(20, seed=1)
    torch.testing.assert_close(relative(change(first, last)[:, 0]), (last[:, 0] - first[:, 0]) / first[:, 0])


@pytest.mark.parametrize(("a", "b"), [((2, 5), (3, 5)), ((2, 4), (2, 4)), ((5, 2), (5, 2))])
def test_what_are_no_measures_is_refused(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="expected twice the same, ending in 5"):
        change(torch.zeros(a), torch.zeros(b))


def test_doubles_stay_doubles() -> None:
    found = change(measures(2).double(), measures(2, seed=1).double())
    assert found.dtype == torch.float64 and math.isfinite(found.sum())
