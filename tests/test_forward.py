"""The forward model against regression by lstsq, a constrained solver, bisection and a loop over folds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lis.linking.forward import RIDGES, Forward
from lis.linking.region import COVERED
from lis.linking.scatter import FOLDS

CLASSES, PER_CLASS, UNITS, W_DIM, RANK = 3, 60, 7, 6, 4
INDEX = torch.arange(CLASSES).repeat_interleave(PER_CLASS)
Array = np.ndarray


def sampled(noise: float = 0.3, seed: int = 0) -> tuple[Tensor, Tensor]:
    """r and w of a world whose w spans four of six dimensions and whose last unit is dead."""
    draw = torch.Generator().manual_seed(seed)

    def normal(*size: int) -> Tensor:
        return torch.randn(*size, generator=draw, dtype=torch.float64)

    axes = torch.linalg.qr(normal(W_DIM, RANK))[0] * torch.tensor([2.0, 1.0, 0.5, 0.2])
    w = normal(len(INDEX), RANK) @ axes.T + 3 * normal(CLASSES, W_DIM)[INDEX]
    r = w @ normal(W_DIM, UNITS) + noise * normal(len(INDEX), UNITS) + normal(CLASSES, UNITS)[INDEX]
    r[:, -1] = 0.0
    return r, w


@pytest.fixture(scope="module")
def fitted() -> tuple[Tensor, Tensor, Forward]:
    r, w = sampled()
    live = torch.arange(UNITS) < UNITS - 1
    return r, w, Forward.fit(r, w, INDEX, r.std(0, correction=0), live)[0]


def centred(x: Tensor) -> Array:
    return np.concatenate([(x[c == INDEX] - x[c == INDEX].mean(0)).numpy() for c in range(CLASSES)])


def unit(k: int) -> tuple[Tensor, Tensor]:
    """Target and held quantity of a unit."""
    return torch.eye(UNITS)[k], torch.eye(UNITS)[[k]]


def test_without_noise_the_gain_is_that_of_least_squares_within_classes() -> None:
    r, w = sampled(noise=0.0)
    model, ridges, _ = Forward.fit(r, w, INDEX, r.std(0), torch.arange(UNITS) < UNITS - 1)
    assert ridges.loc[ridges["chosen"], "ridge"].item() <= RIDGES[1]
    slow = np.linalg.lstsq(centred(w), centred(r), rcond=1e-8)[0].T
    np.testing.assert_allclose(model.gain, slow, rtol=2e-3, atol=2e-3)


def test_the_ridge_is_that_of_the_largest_held_out_r2(fitted: tuple[Tensor, Tensor, Forward]) -> None:
    r, w, _ = fitted
    ridges: Any
    _, ridges, units = Forward.fit(r, w, INDEX, r.std(0), torch.arange(UNITS) < UNITS - 1)
    assert ridges["chosen"].sum() == 1 and ridges["r2"][ridges["chosen"]].item() == ridges["r2"].max()
    assert units["r2"].isna().tolist() == [False] * (UNITS - 1) + [True]
    assert ridges["r2"].max() == pytest.approx(units["r2"].mean())


def test_the_span_of_w(fitted: tuple[Tensor, Tensor, Forward]) -> None:
    _, w, model = fitted
    covariance = centred(w).T @ centred(w) / len(w)
    assert model.axes.shape == (W_DIM, RANK)
    np.testing.assert_allclose(model.axes * model.variance @ model.axes.T, covariance, atol=1e-10)
    np.testing.assert_allclose(model.axes.T @ model.axes, np.eye(RANK), atol=1e-10)


def by_kkt(quadratic: Array, linear: Array, rows: Array, right: Array) -> Array:
    """min ½ xᵀQx − xᵀg with A x = b, by one system with multipliers."""
    n, m = len(linear), len(right)
    matrix = np.block([[quadratic, rows.T], [rows, np.zeros((m, m))]])
    return np.linalg.solve(matrix, np.concatenate([linear, right]))[:n]


def slow_least_leakage(model: Forward, target: Array, held: Array, penalty: float) -> Array:
    live = model.live.numpy()
    std, gain, axes = model.std.numpy()[live], model.gain.numpy()[live], model.axes.numpy()
    a, e = gain @ axes / std[:, None], target[live] / std  # in coordinates along the axes
    quadratic = a.T @ a / live.sum() + penalty * np.diag(1 / model.variance.numpy())
    rows = held[:, live] / std @ gain @ axes
    return axes @ by_kkt(quadratic, a.T @ e / live.sum(), rows, held[:, live] / std @ target[live])


@pytest.mark.parametrize("penalty", [1e-3, 0.1, 10.0])
@pytest.mark.parametrize("kind", ["unit", "group", "direction"])
def test_least_leakage_is_the_constrained_minimum(
    fitted: tuple[Tensor, Tensor, Forward], kind: str, penalty: float
) -> None:
    model = fitted[2]
    target, held = unit(2)
    if kind == "group":
        target, held = torch.tensor([1.0, 0, 0, 2.0, 0, 0, 0]), torch.eye(UNITS)[[0, 3]]
    if kind == "direction":
        target = torch.tensor([0.5, -1, 0.3, 0, 0.2, 1, 0])
        held = (target / model.std).where(model.live, 0.0)[None].float()
    found = model.least_leakage(target, held, penalty)
    slow = slow_least_leakage(model, target.double().numpy(), held.double().numpy(), penalty)
    np.testing.assert_allclose(found, slow, rtol=1e-6, atol=1e-9)
    weights = (held.double() / model.std).where(held != 0, 0.0)
    torch.testing.assert_close(weights @ model.gain @ found, weights @ target.double())  # held exactly


def test_patterns_are_covariances_scaled_by_the_forward_model(fitted: tuple[Tensor, Tensor, Forward]) -> None:
    r, w, model = fitted
    for k in range(UNITS - 1):
        covariance = centred(w).T @ centred(r)[:, k]
        expected = covariance / (model.gain.numpy()[k] @ covariance)
        np.testing.assert_allclose(model.pattern(*unit(k)), expected, rtol=1e-8, atol=1e-12)


def test_a_large_penalty_gives_the_direction_of_the_forward_models_pattern(
    fitted: tuple[Tensor, Tensor, Forward],
) -> None:
    model = fitted[2]
    expected = model.axes * model.variance @ model.axes.T @ model.gain[1]
    found = model.least_leakage(*unit(1), 1e9)
    torch.testing.assert_close(found / found.norm(), expected / expected.norm(), rtol=1e-5, atol=1e-7)


def test_the_bound_is_that_of_a_loop_over_folds(fitted: tuple[Tensor, Tensor, Forward]) -> None:
    _, w, model = fitted
    distances = []
    for fold in range(FOLDS):
        position = torch.arange(len(w)) % PER_CLASS
        out = position % FOLDS == fold
        rest, index = w[~out], INDEX[~out]
        means = torch.stack([rest[index == c].mean(0) for c in range(CLASSES)])
        around = rest - means[index]
        inverse = torch.linalg.pinv(around.T @ around / len(around), rtol=1e-8, hermitian=True)
        for one in w[out]:
            distances.append(min(float((one - m) @ inverse @ (one - m)) ** 0.5 for m in means))
    assert float(model.bound) == pytest.approx(np.quantile(distances, COVERED), rel=1e-6)


def inside(model: Forward, w: Array) -> Array:
    """Which of `w [n, w_dim]` lie within the bound of a class."""
    inverse = np.linalg.pinv((model.axes * model.variance @ model.axes.T).numpy(), rcond=1e-8, hermitian=True)
    squares = [((w - m) @ inverse * (w - m)).sum(1) for m in model.mean_w.numpy()]
    return np.min(squares, axis=0) ** 0.5 <= float(model.bound) * (1 + 1e-9)


def test_w_stops_at_the_last_place_within_the_bound_of_any_class(fitted: tuple[Tensor, Tensor, Forward]) -> None:
    _, w, model = fitted
    draw = torch.Generator().manual_seed(1)
    base, length = w[:40], torch.linspace(0.5, 30, 40)[:, None]
    change = torch.randn(40, RANK, generator=draw, dtype=torch.float64) @ model.axes.T * length
    change[20:30] = model.mean_w[1] - base[20:30]  # into another class, perhaps over a gap
    shares = model.stopped(base, change[:, None])[:, 0]
    for start, step, share in zip(base.numpy(), change.numpy(), shares.numpy(), strict=True):
        grid = np.linspace(0, 1, 4001)
        within = grid[inside(model, start + grid[:, None] * step)]
        assert share == pytest.approx(within.max(initial=0.0), abs=3e-4)
    assert 0 < int((shares < 1).sum()) < len(shares)


def test_samples_in_parts_stop_where_all_together_do(
    fitted: tuple[Tensor, Tensor, Forward], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, w, model = fitted
    change = 8 * torch.randn(len(w), 3, W_DIM, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    whole = model.stopped(w, change)
    monkeypatch.setattr("lis.linking.region.STOPPED_BYTES", 8000)
    torch.testing.assert_close(model.stopped(w, change), whole, rtol=1e-12, atol=1e-12)
    assert model.stopped(w[:0], change[:0]).shape == (0, 3)


def test_too_many_units_of_a_group_move_only_together(fitted: tuple[Tensor, Tensor, Forward]) -> None:
    model = fitted[2]
    twins = replace(model, gain=model.gain.index_copy(0, torch.tensor([3]), -2 * model.gain[[0]]))
    rows = torch.eye(UNITS)
    assert twins.dependent(rows[[0, 2, 3]]) == 2 and twins.dependent(rows[[0, 2, 1]]) is None
    assert model.dependent(rows[: RANK + 1]) == RANK and model.dependent(rows[:RANK]) is None  # w has four dimensions
    mute = replace(model, gain=model.gain.index_fill(0, torch.tensor(1), 0.0))
    assert mute.silent(rows[[0, 1, 2]]) == [1] and model.silent(rows[:3]) == []


def test_too_few_samples_leave_units_their_standard_deviation_alone() -> None:
    live = torch.tensor([True, False])
    model = Forward.unfitted(W_DIM, torch.tensor([2.0, 1.0]), live)
    assert model.std.tolist() == [2, 1] and torch.equal(model.live, live) and not model.expressed.any()
    assert model.bound.isnan() and not model.beyond(torch.randn(3, W_DIM)).any()
    assert all(
        torch.equal(x, Forward.from_tensors(model.tensors).tensors[name]) or x.isnan().all()
        for name, x in model.tensors.items()
    )


def test_beyond_is_what_lies_at_the_bound_or_further(fitted: tuple[Tensor, Tensor, Forward]) -> None:
    _, w, model = fitted
    axis = model.axes[:, 0] * model.variance[0].sqrt()
    far = model.mean_w[0] + torch.tensor([0.5, 1.0, 2.0])[:, None] * model.bound * axis
    alone = replace(model, mean_w=model.mean_w[:1])
    assert alone.beyond(far).tolist() == [False, True, True]
    assert float(model.beyond(w).double().mean()) <= 0.02


def test_what_w_says_nothing_of_has_no_direction(fitted: tuple[Tensor, Tensor, Forward]) -> None:
    model = fitted[2]
    mute = replace(model, gain=model.gain.clone().index_fill_(0, torch.tensor([1]), 0.0))
    assert not mute.least_leakage(*unit(1), 0.1).isfinite().any()


def test_what_is_written_is_read(fitted: tuple[Tensor, Tensor, Forward]) -> None:
    model = fitted[2]
    again = Forward.from_tensors(model.tensors)
    assert all(torch.equal(getattr(again, name), x) for name, x in model.tensors.items())


def test_too_few_samples_and_a_constant_w_are_refused() -> None:
    r, w = sampled()
    live = torch.ones(UNITS, dtype=torch.bool)
    few = torch.cat([torch.arange(FOLDS), 60 + torch.arange(20), 120 + torch.arange(20)])
    with pytest.raises(ValueError, match=r"a class has 5 training pairs: expected more than 5 .*raise pairs.train"):
        Forward.fit(r[few], w[few], INDEX[few], r.std(0), live)
    with pytest.raises(ValueError, match="w is the same for all samples of each class"):
        Forward.fit(r, torch.zeros_like(w), INDEX, r.std(0), live)
