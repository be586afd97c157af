"""The distribution of changes, on ones whose distribution is known."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from helpers.perturbed import tuned
from scipy.stats import normaltest

from lis.quantify.measures import MEASURES
from lis.units.unit_statistics import distribution, scaled_changes


def test_changes_are_scaled_by_the_largest() -> None:
    made = tuned(6)
    made.measures[0, :, :, 1] = torch.nan
    made.measures[..., 2, 0] = 1e-5  # not interpreted
    scaled = scaled_changes(made)
    assert list(scaled) == list(MEASURES)
    for m, name in enumerate(MEASURES):
        found = [made.average.effect[p, k, m].item() for p in range(6) for k in range(2) if (p, k) != (0, 1)]
        expected = np.array(found) / max(abs(x) for x in found)
        np.testing.assert_allclose(scaled[name].numpy(), expected, rtol=1e-5)


def test_normal_and_other_distributions() -> None:
    rng = np.random.default_rng(0)
    normal, heavy = rng.normal(0, 0.2, 2000), rng.laplace(0, 0.1, 2000)
    table: Any = distribution({"area": torch.from_numpy(normal), "angle": torch.from_numpy(heavy)}).set_index("measure")
    assert table.loc["area", "p_normal"] == pytest.approx(normaltest(normal).pvalue)
    assert table.loc["angle", "p_normal"] < 1e-6 and table.loc["angle", "n"] == 2000
    assert table.loc["angle", "kurtosis"] == pytest.approx(3, abs=1)
    centred = normal - normal.mean()
    assert table.loc["area", "skew"] == pytest.approx(np.mean(centred**3) / np.mean(centred**2) ** 1.5)


def test_too_few_or_equal_changes_have_no_test() -> None:
    values = {"area": torch.randn(19), "luminance": torch.zeros(50), "entropy": torch.empty(0)}
    table: Any = distribution(values)
    assert table["n"].tolist() == [19, 50, 0]
    assert table[["statistic", "p_normal", "skew", "kurtosis"]].isna().all(axis=None)


def test_nothing_to_scale() -> None:
    made = tuned(3, absent=0)
    still, none = (replace(made, measures=torch.full_like(made.measures, value)) for value in (0.5, torch.nan))
    assert all((values == 0).all() and len(values) == 9 for values in scaled_changes(still).values())
    assert all(len(values) == 0 for values in scaled_changes(none).values())
