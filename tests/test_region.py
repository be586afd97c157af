"""Where w of samples lies: distances against plain loops, and the bound that 99 % of other samples keep."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.distance import mahalanobis
from torch import Tensor

from lis.linking.region import COVERED, ClassRegion, Region

CLASSES, PER_CLASS, W_DIM = 3, 400, 4
INDEX = torch.arange(CLASSES).repeat_interleave(PER_CLASS)
MEANS = 9 * torch.eye(CLASSES, W_DIM, dtype=torch.float64)


def samples(seed: int) -> Tensor:
    """`[classes · per class, w_dim]`, of one covariance around each mean."""
    rng = torch.Generator().manual_seed(seed)
    mixed = torch.randn(len(INDEX), W_DIM, generator=rng, dtype=torch.float64)
    return MEANS[INDEX] + mixed @ torch.diag(torch.tensor([2.0, 1.0, 0.5, 0.1], dtype=torch.float64))


@pytest.fixture(scope="module")
def region() -> Region:
    return Region.around(samples(0), INDEX)


def test_the_distance_is_mahalanobis_to_the_nearest_class(region: Region) -> None:
    train, other = samples(0).numpy(), samples(1).numpy()[::97]
    means = np.stack([train[INDEX.numpy() == k].mean(0) for k in range(CLASSES)])
    inverse = np.linalg.inv(np.cov((train - means[INDEX.numpy()]).T, ddof=0))
    expected = [min(np.sqrt((w - mean) @ inverse @ (w - mean)) for mean in means) for w in other]
    np.testing.assert_allclose(region.distance(torch.from_numpy(other)), expected, rtol=1e-9)


def test_slack_goes_from_1_at_a_class_to_0_at_the_bound(region: Region) -> None:
    step = region.bound * region.axes[:, -1] * region.variance[-1].sqrt()
    share = torch.tensor([0.0, 0.25, 0.99, 1.0, 1.01, 1.5], dtype=torch.float64)
    w = region.mean_w[1] + share[:, None] * step
    torch.testing.assert_close(region.slack(w), 1 - share, atol=1e-9, rtol=0)
    assert region.slack(w.float().unflatten(0, (2, 3))).shape == (2, 3)


def test_it_covers_99_percent_of_samples_that_it_was_not_made_of(region: Region) -> None:
    inside = (region.slack(samples(2)) >= 0).double().mean().item()
    assert inside == pytest.approx(COVERED, abs=0.008)


def test_it_needs_samples_of_each_class_to_hold_out() -> None:
    with pytest.raises(ValueError, match="a class has 5 training pairs: expected more than 5 of each"):
        Region.around(samples(0)[:10], torch.arange(2).repeat_interleave(5))


@pytest.mark.parametrize("rank", [W_DIM, 2])
def test_the_distance_to_a_class_is_by_its_own_scatter(rank: int) -> None:
    """SciPy's Mahalanobis distance by the pseudo-inverse, over the rank."""
    train, other = (samples(seed)[INDEX == 1] @ torch.diag(torch.arange(W_DIM) < rank).double() for seed in (0, 1))
    other[:, rank:] = 5
    inverse = np.linalg.pinv(np.cov(train.numpy(), rowvar=False, bias=True), rcond=1e-8, hermitian=True)
    expected = [mahalanobis(w, train.mean(0).numpy(), inverse) ** 2 / rank for w in other.numpy()]
    region = ClassRegion.of(train, "pug")
    assert region.scores.shape == (W_DIM, rank)
    np.testing.assert_allclose(region.distance(other), expected, rtol=1e-9)
    np.testing.assert_allclose(region.distance(train).mean(), 1)
    assert region.distance(other.float()).dtype == torch.float32


@pytest.mark.parametrize(("n", "axes"), [(1, 0), (W_DIM + 1, W_DIM), (3, 2)])
def test_a_class_with_too_few_samples_for_a_scatter_is_named(n: int, axes: int) -> None:
    message = f"class 'pug': w of its {n} training pairs varies along {axes} axes, .* raise pairs.train, or leave"
    with pytest.raises(ValueError, match=message):
        ClassRegion.of(samples(0)[:n], "pug")


def test_a_class_whose_w_never_varies_is_named() -> None:
    with pytest.raises(ValueError, match="class 'pug': w of its 20 training pairs varies along 0 axes"):
        ClassRegion.of(torch.ones(20, W_DIM), "pug")
