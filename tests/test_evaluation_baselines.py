"""Unrelated pairs, intervals and tests against plain definitions."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from lis.linking.evaluation import (
    PAIRINGS,
    paired_test,
    partners,
    summarise,
    tour,
    within_class_tour,
)
from lis.streams import Stream

CLASSES = torch.tensor([0] * 5 + [1] * 2 + [2] * 9)


def _rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("seed", range(5))
def test_random_partners_are_a_permutation_without_fixed_points(seed: int) -> None:
    """Each sample is the partner of exactly one other."""
    partner = partners(tour(16, _rng(seed)))
    assert sorted(partner.tolist()) == list(range(16))
    assert not (partner == torch.arange(16)).any()


@pytest.mark.parametrize("seed", range(5))
def test_within_class_partners_stay_in_their_class(seed: int) -> None:
    """A permutation without fixed points in each class."""
    order = within_class_tour(CLASSES, Stream("baselines", seed))
    partner = partners(order, CLASSES)
    assert sorted(order.tolist()) == sorted(partner.tolist()) == list(range(16))
    assert not (partner == torch.arange(16)).any()
    assert torch.equal(CLASSES[partner], CLASSES)


def test_every_partner_is_as_likely_as_any_other() -> None:
    """Over many tours of 4 samples, each of the 12 pairs has its share."""
    counts = torch.zeros(4, 4)
    for seed in range(3000):
        counts[torch.arange(4), partners(tour(4, _rng(seed)))] += 1
    assert counts.diagonal().sum() == 0
    assert (counts[~torch.eye(4, dtype=torch.bool)] / 1000 - 1).abs().max() < 0.12


def test_partners_are_neighbours_in_the_order() -> None:
    """So that a batch of consecutive samples needs one image more, not twice as many."""
    order = tour(10, _rng())
    partner = partners(order)
    assert all(int(partner[a]) == int(b) for a, b in itertools.pairwise(order))


def test_a_lonely_sample_is_an_error() -> None:
    """No other sample of its class to compare with."""
    with pytest.raises(ValueError, match=r"pairs\.test"):
        partners(torch.arange(3), torch.tensor([0, 0, 1]))


def _signed_rank_p(a: np.ndarray, b: np.ndarray) -> float:
    """Exact two-sided p by going through all signs of the ranks of |a − b|."""
    ranks = np.argsort(np.argsort(np.abs(a - b))) + 1
    observed = ranks[a > b].sum()
    sums = np.array([np.dot(signs, ranks) for signs in itertools.product((0, 1), repeat=len(ranks))])
    return min(1.0, 2 * min((sums <= observed).mean(), (sums >= observed).mean()))


@pytest.mark.parametrize("shift", [0.0, 0.5, 2.0])
def test_paired_test_is_wilcoxons_signed_rank_test(shift: float) -> None:
    """Against the enumeration of all signs."""
    a, b = _rng(3).normal(size=9), _rng(4).normal(size=9) + shift
    assert paired_test(a, b) == pytest.approx(_signed_rank_p(a, b))


def test_equal_values_do_not_differ() -> None:
    """p is 1, not undefined."""
    assert paired_test(np.ones(4), np.ones(4)) == 1.0


def test_summary_has_the_means_and_ratios() -> None:
    """Against numpy, and a cycle that is clearly better than both baselines."""
    rng = _rng()
    values = {name: rng.gamma(4, size, size=300) for name, size in zip(PAIRINGS, (0.2, 1.0, 0.6), strict=True)}
    row = summarise(values, 200, _rng(1))
    assert row["n"] == 300
    assert row["random"] == pytest.approx(values["random"].mean())
    assert row["ratio_within_class"] == pytest.approx(values["cycle"].mean() / values["within-class"].mean())
    assert row["cycle_low"] < row["cycle"] < row["cycle_high"] < row["within_class_low"] < row["random_low"]
    assert max(row["p_random"], row["p_within_class"]) < 1e-10
