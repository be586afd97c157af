"""Correlations of columns with missing values against scipy's, one by one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr

from lis.statistics import pearson, spearman


@pytest.mark.parametrize(("own", "reference"), [(pearson, pearsonr), (spearman, spearmanr)])
def test_correlations_equal_scipys(own: Any, reference: Any) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(12, 3, 2)), rng.normal(size=(12, 3, 2))
    a[:, 1] = rng.integers(0, 3, (12, 2))  # ties
    a[:3, 0, 0] = b[2:5, 0, 0] = b[:9, 2, 1] = np.nan
    r = own(a, b)
    for place in np.ndindex(3, 2):
        x, y = a[:, *place], b[:, *place]
        both = ~(np.isnan(x) | np.isnan(y))
        assert r[place] == pytest.approx(reference(x[both], y[both])[0], abs=1e-12)


@pytest.mark.parametrize("own", [pearson, spearman])
def test_there_is_no_correlation_without_variation(own: Any) -> None:
    x = np.array([0.1, 0.2, 0.3])
    assert np.isnan(own(x, np.full(3, 0.1))) and np.isnan(own(x[:2], x[:2])) and np.isnan(own(x, np.full(3, np.nan)))
    assert own(x, x) == pytest.approx(1) and own(x, -x) == pytest.approx(-1)
    assert own(np.zeros((0, 2)), np.zeros((0, 2))).shape == (2,)
