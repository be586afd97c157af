"""The bootstrap, intervals of shares and q-values against plain loops, and their coverage."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lis import statistics
from lis.statistics import (
    benjamini_hochberg,
    benjamini_yekutieli,
    bootstrap,
    control_test,
    interval,
    p_control,
    q_values,
    resample,
    retention,
    wilson,
)


def _rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def one_class(samples: int) -> Tensor:
    return torch.zeros(samples, dtype=torch.int64)


def test_a_resample_draws_rows_with_replacement() -> None:
    counts = resample(one_class(7), _rng(), 500)
    assert counts.shape == (500, 7) and (counts.sum(1) == 7).all()
    rng = _rng()
    for row in counts.int().tolist():
        assert row == np.bincount(rng.integers(7, size=7), minlength=7).tolist()


def test_a_resample_has_as_many_of_each_class() -> None:
    index = torch.tensor([0, 1, 1, 1, 0, 2])
    counts = resample(index, _rng(), 400)
    for c, n in ((0, 2), (1, 3), (2, 1)):
        assert (counts[:, index == c].sum(1) == n).all()
    assert (counts.mean(0) - 1).abs().max() < 0.15


@pytest.mark.parametrize("at_once", [2**22, 100])
def test_there_were_two_bootstraps(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    """That of the cycle drew rows one resample after another; however many are drawn at once, its ends stay."""
    monkeypatch.setattr(statistics, "AT_ONCE", at_once)
    values, rng = _rng(1).gamma(2.0, size=(30, 3)), _rng(2)
    means = np.stack([values[rng.integers(30, size=30)].mean(0) for _ in range(400)])
    ends = bootstrap(torch.from_numpy(values), _rng(2), 400)
    np.testing.assert_allclose(ends, np.quantile(means, [0.025, 0.975], axis=0), rtol=1e-13)
    for one, other in zip(
        ends, interval(torch.from_numpy(values)[None], resample(one_class(30), _rng(2), 400)), strict=True
    ):
        torch.testing.assert_close(one, other[0], rtol=1e-13, atol=0)


@pytest.mark.parametrize("at_once", [2**22, 100])
def test_an_interval_equals_plain_resampling(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    """Whatever is computed at once."""
    monkeypatch.setattr(statistics, "AT_ONCE", at_once)
    values = random(3, 6, 2)
    values[0, :2, 0] = torch.nan
    counts = resample(one_class(6), np.random.default_rng(0), 40)
    low, high = interval(values, counts)
    assert low.shape == high.shape == (3, 2)
    for place in np.ndindex(3, 2):
        x = values[place[0], :, place[1]].double().numpy()
        means = []
        for row in counts.int().tolist():
            drawn = [x[s] for s, times in enumerate(row) for _ in range(times) if not np.isnan(x[s])]
            means += [np.mean(drawn)] if drawn else []
        expected = np.quantile(means, [0.025, 0.975])
        np.testing.assert_allclose([low[place], high[place]], expected, rtol=1e-4, atol=1e-5)


def test_an_interval_covers_the_mean() -> None:
    values = random(400, 50, seed=3)
    low, high = interval(values, resample(one_class(50), np.random.default_rng(1)))
    assert 0.9 < float(((low < 0) & (high > 0)).float().mean()) < 0.97


def test_bootstrap_interval_is_the_one_of_theory() -> None:
    """For many values: mean ± 1.96 standard errors; and it does not depend on the columns beside."""
    values = _rng().exponential(size=(2000, 2))
    low, high = bootstrap(torch.from_numpy(values), _rng(1), 2000)
    error = values.std(0) / np.sqrt(2000)
    np.testing.assert_allclose(low, values.mean(0) - 1.96 * error, atol=0.2 * error.max())
    np.testing.assert_allclose(high, values.mean(0) + 1.96 * error, atol=0.2 * error.max())
    np.testing.assert_allclose(bootstrap(torch.from_numpy(values[:, :1]), _rng(1), 2000)[0], low[:1])


def test_bootstrap_covers_the_mean() -> None:
    """About 95 of 100 intervals hold the true mean."""
    hits = 0
    for seed in range(200):
        sample = torch.from_numpy(_rng(seed).normal(3.0, 1.0, size=(40, 1)))
        low, high = bootstrap(sample, _rng(1000 + seed), 200)
        hits += bool(low <= 3.0 <= high)
    assert 175 <= hits <= 200


@pytest.mark.parametrize(("kept", "n"), [(0, 7), (5, 7), (7, 7), (880, 1000)])
def test_wilson_interval_solves_its_equation(kept: int, n: int) -> None:
    """The bounds are the shares p with |k/n − p| = 1.96·√(p(1 − p)/n)."""
    share, z = kept / n, 1.959964
    roots = np.roots([1 + z**2 / n, -2 * share - z**2 / n, share**2])
    np.testing.assert_allclose(wilson(kept, n), np.sort(roots.real), atol=1e-6)


def test_retention_counts_by_class() -> None:
    """A row per class and one for all."""
    table = retention(("a", "b"), np.array([0, 0, 0, 1]), np.array([True, False, True, True])).set_index("class")
    assert table["kept"].to_dict() == pytest.approx({"a": 2 / 3, "b": 1.0, "all": 0.75})
    assert table["n"].to_dict() == {"a": 3, "b": 1, "all": 4}
    low, kept, high = table[["low", "kept", "high"]].to_numpy().T
    assert (low <= kept + 1e-9).all() and (kept <= high + 1e-9).all()


def test_q_is_the_smallest_rate_at_which_a_test_is_rejected() -> None:
    """Benjamini and Hochberg's step-up rule: all up to the last with p ≤ rate · rank / n are rejected."""
    p = np.array([0.04, 0.001, np.nan, 0.03, 0.2, 0.012])
    ordered = np.sort(p[~np.isnan(p)])
    q = benjamini_hochberg(p)
    for value, rate in zip(p, q, strict=True):
        later = [x * len(ordered) / rank for rank, x in enumerate(ordered, 1) if x >= value]
        assert np.isnan(rate) if np.isnan(value) else rate == pytest.approx(min(later))
    assert np.isnan(benjamini_hochberg(np.full(2, np.nan))).all()
    np.testing.assert_allclose(benjamini_yekutieli(p), np.minimum(q * sum(1 / k for k in range(1, 6)), 1))
    both = q_values(torch.from_numpy(p).reshape(2, 3))
    np.testing.assert_allclose(both[0].flatten(), q)
    np.testing.assert_allclose(both[1].flatten(), benjamini_yekutieli(p))


@pytest.mark.parametrize(
    ("draw", "low", "high"),
    [(torch.randn, 0.1, 1.1), (lambda *size, generator: torch.rand(*size, generator=generator).log(), 0.6, 1.3)],
    ids=["normal", "exponential"],
)
def test_p_in_the_tail_is_no_smaller_than_it_should_be(
    draw: Any, low: float, high: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """p ≤ 0.002, beyond what 64 draws can count, in 0.2 % of tests at most, for a light or an exponential tail.

    Of a tail that is fitted whatever it is like.
    """
    monkeypatch.setattr("lis.statistics.MARGIN", -9.0)
    monkeypatch.setattr("lis.statistics.FAMILY_VARIATION", 9.0)
    generator = torch.Generator().manual_seed(0)
    observed, null = draw(60000, generator=generator), draw(60000, 64, generator=generator)
    p = p_control(observed, null)
    assert abs(float((p <= 0.2 + 1e-9).double().mean()) / 0.2 - 1) < 0.05
    assert low < float((p <= 0.002).double().mean()) / 0.002 < high
    assert p_control(torch.full((100,), 12.0), null[:100]).median() < 1e-3


def test_a_heavy_tail_is_seen_as_such() -> None:
    """Of Cauchy draws, whose largest are far beyond all others, p stays near what counting gives."""
    generator = torch.Generator().manual_seed(0)
    ratio = lambda *size: torch.randn(*size, generator=generator) / torch.randn(*size, generator=generator)  # noqa: E731
    p = p_control(ratio(20000), ratio(20000, 64))
    assert float((p <= 0.01).double().mean()) < 0.02


@pytest.mark.parametrize(
    ("draw", "least", "most"),
    [(torch.distributions.Normal(0.0, 1.0), 0.7, 0.9), (torch.distributions.Laplace(0.0, 1.0), 0.9, 1.1)]
    + [(torch.distributions.StudentT(5.0), 1.1, 1.4)],
    ids=["normal", "laplace", "t5"],
)
def test_a_family_tells_what_tail_it_has(draw: Any, least: float, most: float) -> None:
    """What is drawn from the null itself is called in 5 % of families at most, whatever its tail.

    256 units × 15 cells beside 128 directions and their opposites: p of a heavy tail is what is counted.
    """
    torch.manual_seed(0)
    called, variations = [], []
    for _ in range(20):
        observed, null = draw.sample((256, 15)), draw.sample((128, 15))
        null = torch.stack([null, -null], 1).flatten(0, 1).expand(256, -1, -1)
        found = control_test(observed, null, 2)
        variations.append(float(found.variation.mean()))
        called.append(bool((q_values(found.p)[0] <= 0.05).any()))
        assert found.extrapolated.any() or float(found.p.min()) >= 1 / 129 - 1e-9
    assert least < np.mean(variations) < most and np.mean(called) <= 0.05


def drawn(kind: str, n: int, columns: int) -> Tensor:
    """Normal, but of every fifth column, `columns [n, columns]`, or of all where there is no "fifth"."""
    if kind == "normal":
        return torch.randn(n, columns)
    heavy = torch.distributions.StudentT(3.0).sample((n, columns))
    return torch.where(torch.arange(columns) % 5 == 0, heavy, torch.randn(n, columns)) if kind == "fifth" else heavy


@pytest.mark.parametrize("directions", [32, 64, 128])
@pytest.mark.parametrize("kind", ["normal", "fifth", "heavy"])
def test_a_heavy_column_does_not_hide_in_a_family(kind: str, directions: int) -> None:
    """Of 45 columns a fifth or all are of Student's t with 3 degrees of freedom: 5 % of families at most are called."""
    torch.manual_seed(1)
    called = []
    for _ in range(100):
        null = drawn(kind, directions, 45)
        found = control_test(drawn(kind, 64, 45), null.expand(64, -1, -1))
        called.append(bool((q_values(found.p)[0] <= 0.05).any()))
        assert directions > 32 or not found.extrapolated.any()
    assert np.mean(called) <= 0.05


def test_each_column_is_decided_by_itself() -> None:
    """Of two alike but for one draw far out, p of the other goes on; without a tail it is counted."""
    null = ((torch.arange(128) - 63.5).double() / 64)[:, None].repeat(1, 2)
    null[-1, 1] = 9.0
    found = control_test(torch.full((3, 2), 2.0), null.expand(3, -1, -1))
    assert found.extrapolated.tolist() == [False, False]  # together their tails are too heavy
    light = control_test(torch.full((3, 1), 2.0), null[:, :1].expand(3, -1, -1))
    assert light.extrapolated.all() and (light.p < 1e-4).all()
    family = torch.cat([null[:, :1].expand(-1, 60), null[:, 1:]], 1)
    found = control_test(torch.full((3, 61), 2.0), family.expand(3, -1, -1))
    assert found.extrapolated.tolist() == [True] * 60 + [False]
    assert (found.p[:, -1] == 2 / 129).all() and found.facts["counted"] == pytest.approx(1 / 61)
    assert found.facts["largest"] == float(found.variation[-1])
    flat = control_test(torch.ones(3, 1), torch.ones(3, 128, 1))
    assert flat.variation.isnan().all() and not flat.extrapolated.any() and (flat.p == 1).all()
    assert flat.facts == {"counted": 1.0}
    assert float(p_control(torch.tensor([2.0]), torch.tensor([[1.0, torch.inf, torch.nan]]))) == pytest.approx(2 / 3)


def test_a_tail_of_a_family_is_that_of_its_tests() -> None:
    """Against the excesses by hand: nulls of differing size, one test without a value, one with too few draws."""
    generator = torch.Generator().manual_seed(0)
    observed, null = torch.randn(4, generator=generator), torch.randn(4, 80, generator=generator).exp()
    observed[1], null[2, :20], null[3, 20:] = torch.nan, torch.nan, torch.nan
    expected = []
    for k in (0, 2):
        draws = np.sort(null[k][~null[k].isnan()].double().numpy())[::-1]
        excess = draws[: len(draws) // 5] - draws[len(draws) // 5]
        expected.append(np.var(excess, ddof=1) / np.mean(excess) ** 2)
    assert float(control_test(observed, null).variation) == pytest.approx(np.mean(expected))
    assert (
        control_test(observed[3:], null[3:]).variation.isnan()
        and control_test(observed[:0], null[:0]).variation.isnan()
    )


def test_a_null_of_pairs_counts_each_once() -> None:
    """A direction and its opposite do the same: twice as many draws, and the same p."""
    observed, null = random(200), random(200, 30, seed=1)
    doubled = torch.stack([null, -null], 2).flatten(1)
    torch.testing.assert_close(p_control(observed, doubled, 2), p_control(observed, null), rtol=1e-2, atol=1e-3)
    assert p_control(torch.tensor([9.0]), torch.zeros(1, 0)).isnan().all()
