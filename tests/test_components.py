"""Principal components, offsets and recovered factors against scikit-learn and loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.metrics import r2_score
from torch import Tensor

from lis.linking.components import factor_table, offsets_table, principal_components


def _codes(n: int = 60, dim: int = 7, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(dim, dim, generator=generator)
    return torch.randn(n, dim, generator=generator) @ mixing + 3


@pytest.mark.parametrize("n", [60, 5])
def test_components_are_those_of_scikit_learn(n: int) -> None:
    """Up to the sign, which is fixed here; also with fewer samples than dimensions."""
    w = _codes(n)
    ours, theirs = principal_components(w, 4), PCA(4, svd_solver="full").fit(w.double().numpy())
    np.testing.assert_allclose(ours.std, np.sqrt(theirs.explained_variance_), rtol=1e-6)
    np.testing.assert_allclose(ours.explained, theirs.explained_variance_ratio_, rtol=1e-6)
    np.testing.assert_allclose(ours.axes.T.abs(), np.abs(np.asarray(theirs.components_)), atol=1e-6)
    np.testing.assert_allclose(
        ours.project(w).abs(), np.abs(np.asarray(theirs.transform(w.double().numpy()))), atol=1e-5
    )
    assert all(ours.axes[ours.axes[:, k].abs().argmax(), k] > 0 for k in range(4))


def test_offsets_are_in_standard_deviations() -> None:
    """A shift along the second component is found there, and nowhere else."""
    w = _codes()
    components = principal_components(w, 3)
    shifted = w + (0.5 * components.std[1] * components.axes[:, 1]).float()
    table = offsets_table(components, components.project(w), components.project(shifted))
    np.testing.assert_allclose(table["offset"], [0, 0.5, 0], atol=1e-5)
    np.testing.assert_allclose(table["spread"], 0, atol=1e-5)
    assert table["component"].tolist() == [1, 2, 3]


def test_factors_are_scored_as_scikit_learn_does() -> None:
    """Over all, and within classes against the class means."""
    generator = torch.Generator().manual_seed(1)
    true = torch.randn(90, 3, generator=generator) + 4 * torch.arange(3).repeat_interleave(30)[:, None]
    found = true + torch.tensor([0.1, 0.7, 2.0]) * torch.randn(90, 3, generator=generator)
    classes = torch.arange(3).repeat_interleave(30)
    table = factor_table(("x", "y", "z"), true, found, classes)
    np.testing.assert_allclose(table["r2"], r2_score(true, found, multioutput="raw_values"), rtol=1e-6)
    within = table["r2_within"].tolist()
    for k in range(3):
        around = sum(float(((true[classes == c, k] - true[classes == c, k].mean()) ** 2).sum()) for c in range(3))
        error = float(((found[:, k] - true[:, k]) ** 2).sum())
        assert within[k] == pytest.approx(1 - error / around, rel=1e-4)
    assert (table["r2_within"].to_numpy() < table["r2"].to_numpy()).all()


def test_a_factor_that_does_not_vary_has_no_score() -> None:
    """NaN, not minus infinity."""
    true = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    table = factor_table(("still", "moving"), true, true + 0.1, torch.tensor([0, 1]))
    still, moving = table["r2"].tolist()
    assert np.isnan(still)
    assert moving == pytest.approx(1 - 0.02 / 0.5, rel=1e-3)
    assert np.isnan(table["r2_within"].to_numpy()).all()
