"""Sparsity against Eq. 2 written out."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from lis.quantify.sparsity import hoyer, label_sparsity, largest, scaled


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def with_gaps(*shape: int, share: float = 0.3) -> torch.Tensor:
    x = random(*shape)
    return torch.where(torch.rand(*shape, generator=torch.Generator().manual_seed(1)) < share, torch.nan, x)


def reference(x: list[float]) -> float:
    """Paper, Eq. 2, over the entries that are there."""
    x = [value for value in x if not math.isnan(value)]
    k = len(x)
    if k < 2 or not any(x):
        return math.nan
    one, two = sum(abs(value) for value in x), math.sqrt(sum(value**2 for value in x))
    return (math.sqrt(k) - one / two) / (math.sqrt(k) - 1)


@pytest.mark.parametrize("share", [0, 0.3, 0.8])
def test_equal_to_the_equation(share: float) -> None:
    x = with_gaps(6, 40, 4, share=share)
    found = hoyer(x, dim=1)
    assert found.shape == (6, 4) and found.dtype == torch.float32
    for i, j in np.ndindex(6, 4):
        assert found[i, j].item() == pytest.approx(reference(x[i, :, j].tolist()), abs=1e-6, nan_ok=True)


@pytest.mark.parametrize("k", [2, 9, 45])
def test_ends_of_the_scale(k: int) -> None:
    one = torch.zeros(k)
    one[k // 2] = -3
    assert hoyer(one) == 1 and hoyer(torch.full((k,), -0.1)) < 1e-12
    assert hoyer(one * 1e-30) == 1 and hoyer(one * 1e30) == 1
    assert 0 <= hoyer(random(k)) <= 1


@pytest.mark.parametrize("x", [[0.0, 0.0], [math.nan, 2.0], [1.0], [math.nan] * 3, [0.0, math.nan, 0.0], []])
def test_too_little_to_tell(x: list[float]) -> None:
    assert hoyer(torch.tensor(x)).isnan()


def test_labels_that_are_absent_are_not_labels() -> None:
    x = random(9)
    x[[2, 5]] = torch.nan
    assert hoyer(x) == hoyer(x[~x.isnan()])


def test_scaled_changes_reach_one() -> None:
    change = with_gaps(7, 9, 5) * torch.tensor([1.0, 100, 0.01, 0, 5])
    found = scaled(change)
    sizes = found.nan_to_num(0).abs().amax((0, 1))
    assert sizes.tolist() == pytest.approx([1, 1, 1, 0, 1])
    assert torch.equal(found.isnan(), change.isnan()) and (found[..., 3].nan_to_num(0) == 0).all()
    for m in range(5):
        top = max((abs(v) for v in change[..., m].flatten().tolist() if not math.isnan(v)), default=0)
        assert largest(change)[m] == top
    torch.testing.assert_close(scaled(change, largest(change)), found, equal_nan=True)
    assert (largest(torch.full((2, 3, 5), torch.nan)) == 0).all()


def test_label_sparsity_of_one_measure_and_of_all() -> None:
    change = with_gaps(7, 9, 5) * torch.tensor([1.0, 100, 0.01, 3, 5])
    found = label_sparsity(change)
    assert found.shape == (7, 6)
    tops = [np.nanmax(np.abs(change[..., m].numpy())) for m in range(5)]
    for unit in range(7):
        for m in range(5):
            assert found[unit, m].item() == pytest.approx(reference(change[unit, :, m].tolist()), abs=1e-6)
        together = [change[unit, k, m].item() / tops[m] for k in range(9) for m in range(5)]
        assert found[unit, 5].item() == pytest.approx(reference(together), abs=1e-6)


def test_only_all_together_depends_on_the_scale() -> None:
    change, scale = random(3, 9, 5), torch.tensor([1.0, 2, 3, 4, 5])
    found, plain = label_sparsity(change, scale), label_sparsity(change)
    assert torch.equal(found[:, :5], plain[:, :5]) and not torch.allclose(found[:, 5], plain[:, 5])
    torch.testing.assert_close(label_sparsity(change[:1], scale), found[:1])
