"""Affine maps: estimated, applied, joined, and taken apart again."""

from __future__ import annotations

import math

import pytest
import torch
from helpers.moving import map_of
from torch import Tensor

from lis.matching.affine import LEAST_INLIERS, about_centre, apply, compose, decompose, estimate, identity, invert
from lis.types import Matches, pixel_grid


def matches_under(matrix: Tensor, count: int = 60, wrong: int = 0, noise: float = 0.0) -> Matches:
    """Points of a 64 px picture under a map; the last `wrong` of them go anywhere."""
    rng = torch.Generator().manual_seed(0)
    xy1 = torch.rand(count, 2, generator=rng) * 63
    xy2 = apply(matrix, xy1.double()).float() + noise * torch.randn(count, 2, generator=rng)
    if wrong:
        xy2[-wrong:] = torch.rand(wrong, 2, generator=rng) * 63
    return Matches(xy1, xy2, torch.ones(count))


MAP = map_of(12, 1.1, (3.0, -2.0))


def test_map_is_found_among_wrong_matches() -> None:
    fit = estimate(matches_under(MAP, wrong=25, noise=0.05))
    assert fit.reason == "" and fit.inliers[:35].all() and fit.inliers[35:].sum() <= 3
    torch.testing.assert_close(apply(fit.matrix, pixel_grid(64, 64)), apply(MAP, pixel_grid(64, 64)), rtol=0, atol=0.2)


def test_the_same_matches_give_the_same_map() -> None:
    matches = matches_under(MAP, wrong=25, noise=0.3)
    assert torch.equal(estimate(matches).matrix, estimate(matches).matrix)


def test_a_match_that_just_agrees_does_not_move_the_map() -> None:
    """The same map whether a match ends just within or just beyond the threshold, and where its score is almost 0."""
    matches = matches_under(MAP, noise=0.3)
    maps = []
    for away in (1.5 - 1e-5, 1.5 + 1e-5):
        xy2 = matches.xy2.clone()
        xy2[7] = apply(MAP, matches.xy1[7].double()).float() + torch.tensor([away, 0.0])
        maps.append(estimate(Matches(matches.xy1, xy2, matches.score)).matrix)
    torch.testing.assert_close(*maps, rtol=0, atol=1e-5)
    score = matches.score.clone()
    score[7] = 1e-7
    rest = torch.arange(len(matches)) != 7
    torch.testing.assert_close(
        estimate(Matches(matches.xy1, matches.xy2, score)).matrix, estimate(matches[rest]).matrix, rtol=0, atol=1e-5
    )


@pytest.mark.parametrize(
    ("matches", "reason"),
    [
        (Matches.none(), "0 matches: at least 6 are needed"),
        (matches_under(MAP, LEAST_INLIERS - 1), "5 matches: at least 6 are needed"),
        (matches_under(MAP, 12, wrong=12), "of 12 matches agree"),
        (matches_under(torch.diag(torch.tensor([1.0, -1])).double() @ MAP), "turn the picture over"),
        (Matches(torch.ones(20, 2), torch.ones(20, 2), torch.ones(20)), "no affine map"),
    ],
)
def test_where_there_is_no_map_there_is_a_reason(matches: Matches, reason: str) -> None:
    fit = estimate(matches)
    assert reason in fit.reason and fit.matrix.isnan().all() and not fit.inliers.any()
    motion = decompose(fit.matrix, (64, 64))
    assert all(math.isnan(value) for value in (motion.dx, motion.dy, motion.rotation, motion.scale, motion.shear))


@pytest.mark.parametrize("degrees", [-170.0, -30, 0, 12, 90, 179])
@pytest.mark.parametrize("scale", [0.5, 1.0, 1.7])
def test_a_similarity_is_taken_apart(degrees: float, scale: float) -> None:
    motion = decompose(map_of(degrees, scale, (5.0, -7.0)), (64, 64))
    assert [float(motion.dx), float(motion.dy)] == pytest.approx([5, -7])
    assert float(motion.rotation) == pytest.approx(degrees) and float(motion.scale) == pytest.approx(scale)
    assert float(motion.shear) == pytest.approx(0, abs=1e-7)


def test_counter_clockwise_is_positive() -> None:
    """A point right of the centre goes up, to smaller y."""
    matrix = map_of(10)
    assert apply(matrix, torch.tensor([60.0, 31.5]))[1] < 31.5 and decompose(matrix, (64, 64)).rotation > 0


@pytest.mark.parametrize("k", [0.0, 0.3, -1.2])
def test_shear_is_that_of_a_simple_shear_in_any_direction(k: float) -> None:
    """(σ₁ − σ₂) / √(σ₁σ₂) by singular values; scale is the root of the area's factor."""
    turn = map_of(35)[:, :2]
    linear = 1.3 * turn @ torch.tensor([[1.0, k], [0, 1]], dtype=torch.float64) @ turn.T
    motion = decompose(about_centre(linear, torch.zeros(2).double(), (64, 64)), (64, 64))
    values = torch.linalg.svdvals(linear)
    assert float(motion.shear) == pytest.approx(abs(k), abs=1e-7)
    assert float(motion.shear) == pytest.approx(float((values[0] - values[1]) / values.prod().sqrt()), abs=1e-7)
    assert float(motion.scale) == pytest.approx(1.3) and float(motion.dx) == pytest.approx(0, abs=1e-9)


def test_many_at_once() -> None:
    maps = torch.stack([map_of(5), MAP, identity()]).view(3, 1, 2, 3)
    assert decompose(maps, (64, 64)).rotation.flatten().tolist() == pytest.approx([5, 12, 0])


def test_joined_and_undone() -> None:
    other, xy = map_of(-40, 0.7, (1.0, 9.0)), torch.rand(5, 2).double()
    torch.testing.assert_close(apply(compose(MAP, other), xy), apply(MAP, apply(other, xy)))
    torch.testing.assert_close(compose(MAP, invert(MAP)), identity())
    torch.testing.assert_close(invert(torch.stack([MAP, other]))[1], invert(other))
