"""Boundaries by bisection to their tolerance, and jumps against plain loops."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from lis.boundary.job import TOLERANCE, enter
from lis.boundary.trajectories import jumps, normalised
from lis.quantify.change import change, changes_along


@pytest.mark.parametrize("end", [1.0, 2.0])
def test_a_boundary_is_found_to_a_thousandth_of_the_path(end: float) -> None:
    true = torch.rand(200, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * end

    def inside(path: Tensor, position: Tensor) -> Tensor:
        return position >= true[path]

    sides = enter(inside, len(true), end)
    assert ((sides[:, 0] < true) & (true <= sides[:, 1])).all()
    assert (sides.diff(dim=1) <= TOLERANCE * end).all()
    assert ((sides.mean(1) - true).abs() <= TOLERANCE * end).all()


def test_the_first_of_two_entries_counts() -> None:
    sides = enter(lambda path, t: ((t > 0.31) & (t < 0.58)) | (t > 0.83), 1)
    assert sides[0].mean().item() == pytest.approx(0.31, abs=TOLERANCE)


def test_paths_without_an_entry_have_no_boundary() -> None:
    at = torch.tensor([0.0, 0.5, 2.0])  # inside from the start, half-way, never
    sides = enter(lambda path, t: t >= at[path], 3)
    assert sides.isnan().all(1).tolist() == [True, False, True]
    assert enter(lambda path, t: t > 0.5, 0).shape == (0, 2)


def test_jumps_equal_plain_loops() -> None:
    curves = torch.randn(3, 9, 2, generator=torch.Generator().manual_seed(1))
    curves[0, 5, 0], curves[1, 2, 1] = torch.nan, torch.nan  # beside the crossing of path 0, away from that of path 1
    crossing = torch.tensor([4, 6, 2])
    found = jumps(curves, crossing)
    for path in range(3):
        for column in range(2):
            curve = curves[path, :, column].tolist()
            steps = [b - a for a, b in pairwise(curve)]
            at = int(crossing[path])
            if math.isnan(steps[at]):
                assert all(values[path, column].isnan() for values in found.values())
                continue
            known = [(k, step) for k, step in enumerate(steps) if not math.isnan(step)]
            mean = sum(abs(step) for _, step in known) / len(known)
            other = [abs(step) for k, step in known if k != at]
            after, before = ([s for k, s in known if k > at], [s for k, s in known if k < at])
            expected = {
                "jump": steps[at],
                "elsewhere": sum(other) / len(other),
                "score": abs(steps[at]) / mean,
                "bend": sum(after) / len(after) - sum(before) / len(before),
            }
            for name, value in expected.items():
                assert float(found[name][path, column]) == pytest.approx(value, rel=1e-4), name


def test_all_of_the_change_at_the_boundary_is_the_largest_score() -> None:
    flat, jump = torch.zeros(1, 6), torch.tensor([[0.0, 0.0, 0.0, 2.0, 2.0, 2.0]])
    assert jumps(jump, torch.tensor([2]))["score"].item() == 5
    assert jumps(flat, torch.tensor([2]))["score"].isnan().item()


def test_changes_are_since_the_first_image() -> None:
    measures = torch.rand(2, 4, 3, 5, generator=torch.Generator().manual_seed(2)) + 0.1
    found = changes_along(measures)
    assert found[:, 0].eq(0).all()
    torch.testing.assert_close(found[..., :4], change(measures[:, :1].expand_as(measures), measures)[..., :4])
    measures[..., 4] = torch.tensor([0.0, 60.0, -60.0, 0.0])[:, None]  # an axis that turns on and on
    torch.testing.assert_close(changes_along(measures)[0, :, 0, 4], torch.tensor([0.0, 60.0, 120.0, 180.0]))


def test_normalised_curves_reach_one() -> None:
    curves = torch.tensor([[0.0, -4.0, 2.0], [0.0, 0.0, 0.0], [0.0, torch.nan, 3.0]])
    found = normalised(curves)
    torch.testing.assert_close(found[0], torch.tensor([0.0, -1.0, 0.5]))
    assert found[1].eq(0).all() and found[2, 1].isnan() and found[2, 2] == 1
