"""The bootstrap, intervals of shares and q-values against plain loops, and their coverage."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from lis import statistics
from lis.statistics import benjamini_hochberg, bootstrap, interval, resample, retention, wilson


def _rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_a_resample_draws_rows_with_replacement() -> None:
    counts = resample(7, _rng(), 500)
    assert counts.shape == (500, 7) and (counts.sum(1) == 7).all()
    rng = _rng()
    for row in counts.int().tolist():
        assert row == np.bincount(rng.integers(7, size=7), minlength=7).tolist()


@pytest.mark.parametrize("at_once", [2**22, 100])
def test_there_were_two_bootstraps(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    """That of the cycle drew rows one resample after another; however many are drawn at once, its ends stay."""
    monkeypatch.setattr(statistics, "AT_ONCE", at_once)
    values, rng = _rng(1).gamma(2.0, size=(30, 3)), _rng(2)
    means = np.stack([values[rng.integers(30, size=30)].mean(0) for _ in range(400)])
    ends = bootstrap(torch.from_numpy(values), _rng(2), 400)
    np.testing.assert_allclose(ends, np.quantile(means, [0.025, 0.975], axis=0), rtol=1e-13)
    for one, other in zip(ends, interval(torch.from_numpy(values)[None], resample(30, _rng(2), 400)), strict=True):
        torch.testing.assert_close(one, other[0], rtol=1e-13, atol=0)


@pytest.mark.parametrize("at_once", [2**22, 100])
def test_an_interval_equals_plain_resampling(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    """Whatever is computed at once."""
    monkeypatch.setattr(statistics, "AT_ONCE", at_once)
    values = random(3, 6, 2)
    values[0, :2, 0] = torch.nan
    counts = resample(6, np.random.default_rng(0), 40)
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
    low, high = interval(values, resample(50, np.random.default_rng(1)))
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
