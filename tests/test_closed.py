"""Gauss–Newton through classifier ∘ generator: derivatives, one step, several values, and what cannot be derived."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from lis.classifiers.planted import _Draws
from lis.linking.forward import Forward
from lis.memory import Batches
from lis.units.closed import Closed
from lis.units.jacobians import Jacobians, by_axis, by_unit
from lis.units.perturbation import Perturbation

UNITS, W_DIM, K = 6, 5, 3
CPU = torch.device("cpu")


DRAW = torch.Generator().manual_seed(3)
FIRST, SECOND, MIXED = (
    torch.randn(*size, generator=DRAW, dtype=torch.float64) for size in ((W_DIM, 7), (7, UNITS), (W_DIM, UNITS))
)


def network(w: Tensor) -> Tensor:
    """A smooth network of a hidden layer."""
    return torch.tanh(0.3 * w @ FIRST) @ SECOND + 0.1 * w.square() @ MIXED


def linear(w: Tensor) -> Tensor:
    return w @ MIXED + 1.0


@pytest.fixture
def forward() -> Forward:
    """Of a world whose w spans three of five dimensions; the last unit is dead."""
    draw = torch.Generator().manual_seed(0)
    axes = torch.linalg.qr(torch.randn(W_DIM, K, generator=draw, dtype=torch.float64))[0]
    w = torch.randn(400, K, generator=draw, dtype=torch.float64) @ axes.T
    r, live = network(w), torch.arange(UNITS) < UNITS - 1
    std = r.std(0).where(live, 0.0)
    return Forward.fit(r, w, torch.zeros(400, dtype=torch.int64), std, live)[0]


def closed(forward: Forward, encode: Callable[[Tensor], Tensor] = network, penalty: float = 1e-3) -> Closed:
    return Closed(Jacobians(encode, forward, Batches(8), CPU), forward, penalty)


def differences(w: Tensor, axes: Tensor, h: float = 1e-5) -> Tensor:
    """`[n, units, k]`, one axis after the other."""
    return torch.stack([(network(w + h * axis) - network(w - h * axis)) / (2 * h) for axis in axes.T], 2)


@pytest.mark.parametrize("tangents", [1, 2, 8])
def test_forward_mode_gives_what_differences_give(tangents: int) -> None:
    draw = torch.Generator().manual_seed(1)
    w, axes = (torch.randn(*size, generator=draw, dtype=torch.float64) for size in ((4, W_DIM), (W_DIM, K)))
    local = by_axis(network, w, axes, Batches(tangents))
    assert torch.equal(local.r, network(w))
    torch.testing.assert_close(local.gain, differences(w, axes), rtol=1e-7, atol=1e-8)


def test_reverse_mode_gives_the_same_for_the_units_that_are_asked_for() -> None:
    draw = torch.Generator().manual_seed(1)
    w, axes = (torch.randn(*size, generator=draw, dtype=torch.float64) for size in ((4, W_DIM), (W_DIM, K)))
    local, units = by_unit(network, w, axes, torch.tensor([0, 4])), torch.tensor([0, 4])
    torch.testing.assert_close(local.gain[:, units], differences(w, axes)[:, units], rtol=1e-7, atol=1e-8)
    assert not local.gain[:, [1, 2, 3, 5]].any()
    assert not local.r.requires_grad


@pytest.mark.parametrize("inference", [False, True])
def test_the_cheaper_mode_is_taken(forward: Forward, inference: bool) -> None:
    jacobians = Jacobians(network, forward, Batches(8), CPU)
    with torch.inference_mode(inference):
        local = jacobians(torch.zeros(3, W_DIM, dtype=torch.float64))
    assert jacobians.forwards and jacobians.passes == 1 + K
    few = replace(forward, std=forward.std.where(torch.arange(UNITS) < 2, 0.0))
    by_rows = Jacobians(network, few, Batches(8), CPU)
    assert not by_rows.forwards and by_rows.passes == 3
    with torch.inference_mode(inference):
        other = by_rows(torch.zeros(3, W_DIM, dtype=torch.float64))
    torch.testing.assert_close(other.gain[:, :2], local.gain[:, :2])


class _NoTangent(torch.autograd.Function):
    """Half, which knows its gradient alone."""

    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return x / 2

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return gradient / 2


def test_an_operation_without_the_one_derivative_has_the_other(
    forward: Forward, caplog: pytest.LogCaptureFixture
) -> None:
    def encode(w: Tensor) -> Tensor:
        half = _NoTangent.apply(network(w))
        assert isinstance(half, Tensor)
        return half

    jacobians, w = Jacobians(encode, forward, Batches(8), CPU), torch.zeros(1, W_DIM, dtype=torch.float64)
    with caplog.at_level(logging.WARNING):
        gain = jacobians(w).gain
    assert not jacobians.forwards
    assert "derivatives in reverse mode, which takes longer: forward mode:" in caplog.text
    torch.testing.assert_close(gain[:, :-1], differences(w, jacobians.whitened)[:, :-1] / 2)


def test_a_network_that_passes_part_of_its_derivative_on_is_told_from_differences(forward: Forward) -> None:
    def encode(w: Tensor) -> Tensor:
        return network(w.detach()) + 1e-3 * w.sum(1, keepdim=True)

    with pytest.raises(ValueError, match=r"forward mode: it differs from differences by .*reverse mode: it differs"):
        Jacobians(encode, forward, Batches(8), CPU)(torch.ones(1, W_DIM, dtype=torch.float64))


def test_a_network_without_gradients_is_refused(forward: Forward) -> None:
    @torch.inference_mode()
    def encode(w: Tensor) -> Tensor:
        return network(w)

    with pytest.raises(ValueError, match=r"which these models do not give.*along=faithful"):
        Jacobians(encode, forward, Batches(8), CPU)(torch.ones(1, W_DIM, dtype=torch.float64))


def solved_by_kkt(forward: Forward, gain: np.ndarray, unit: int, asked: float, penalty: float) -> np.ndarray:
    """x of min ‖(J x − e)/σ‖²/live + λ‖x‖² with J_u x = asked, by one system with a multiplier."""
    live, k = forward.live.numpy(), gain.shape[1]
    a, e = (gain / np.where(live, forward.std.numpy(), 1)[:, None])[live], np.zeros(live.sum())
    e[unit] = asked / float(forward.std[unit])
    matrix = np.zeros((k + 1, k + 1))
    matrix[:k, :k] = 2 * (a.T @ a / live.sum() + penalty * np.eye(k))
    matrix[:k, k] = matrix[k, :k] = gain[unit]
    return np.linalg.solve(matrix, np.r_[2 * a.T @ e / live.sum(), asked])[:k]


def test_of_a_linear_network_one_step_is_the_constrained_least_squares(forward: Forward) -> None:
    base = torch.zeros(2, W_DIM, dtype=torch.float64)
    wide, unit = replace(forward, bound=torch.tensor(1e6, dtype=torch.float64)), Perturbation.of_unit(1, 0.0, 2.0)
    result = closed(wide, linear, 0.2)
    w = result.moved(base, [unit], torch.tensor([[1.5]]))[0, :, 0]
    gain = (linear(result.jacobians.whitened.T) - linear(base[:1])).T.numpy()
    x = solved_by_kkt(wide, gain, 1, 1.5 - float(linear(base)[0, 1]), 0.2)
    np.testing.assert_allclose(w, np.tile(result.jacobians.whitened.numpy() @ x, (2, 1)), rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(linear(w)[:, 1], 1.5, rtol=1e-9)


def test_the_image_itself_shows_the_value(forward: Forward) -> None:
    draw = torch.Generator().manual_seed(2)
    base = 0.3 * torch.randn(3, K, generator=draw, dtype=torch.float64) @ forward.axes.T
    at, sigma = network(base)[:, 2], float(forward.std[2])
    unit = replace(Perturbation.of_unit(2, -sigma / 2, sigma / 2), relative=True)
    w = closed(forward).moved(base, [unit], unit.values(2)[None])[0]
    reached = network(w.flatten(0, 1))[:, 2].view(3, 2) - at[:, None]
    torch.testing.assert_close(reached / sigma, torch.tensor([[-0.5, 0.5]] * 3, dtype=torch.float64), atol=0.05, rtol=0)
    inside = (w - base[:, None]).flatten(0, 1)
    torch.testing.assert_close(inside @ forward.axes @ forward.axes.T, inside)  # in the span of w


def test_w_stops_where_samples_do_and_what_is_not_asked_stays(forward: Forward) -> None:
    base = torch.zeros(1, W_DIM, dtype=torch.float64)
    far = replace(Perturbation.of_unit(0, 0.0, 1e3), relative=True)
    w = closed(forward).moved(base, [far], torch.tensor([[0.0, 1e3]]))[0, 0]
    assert torch.equal(w[0], base[0])
    assert float(forward.distance(w[1:])) <= float(forward.bound) * (1 + 1e-9)


def test_units_together_are_as_one_by_one_and_derivatives_at_the_samples_are_shared(
    forward: Forward, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = torch.Generator().manual_seed(4)
    base = 0.3 * torch.randn(3, K, generator=draw, dtype=torch.float64) @ forward.axes.T
    asked = [Perturbation.of_unit(u, -1.0, 1.0) for u in (0, 3)]
    values = torch.stack([each.values(4) for each in asked])
    together, alone = closed(forward), closed(forward)
    w = together.moved(base, asked, values)
    apart = [alone.moved(base, [each], v[None])[0] for each, v in zip(asked, values, strict=True)]
    torch.testing.assert_close(w, torch.stack(apart))
    assert len(alone._cache) == 3
    monkeypatch.setattr("lis.units.closed.CACHED", 2 * 8 * UNITS * K)  # of two samples at once
    torch.testing.assert_close(closed(forward).moved(base, asked, values), w)


def test_a_direction_and_a_group(forward: Forward) -> None:
    base, d = torch.zeros(1, W_DIM, dtype=torch.float64), torch.tensor([1.0, -1.0, 0.5, 0.0, 0.2, 0.0])
    whole = Perturbation.along("mixture", d, -0.3, 0.3, relative=True)
    sigma = forward.std.float()
    group = Perturbation.along("units", torch.tensor([1.0, 1, 0, 0, 0, 0]) * sigma, -0.2, 0.2, True, exact=(0, 1))
    result = closed(forward)
    for asked in (whole, group):
        w = result.moved(base, [asked], torch.tensor([[0.3 if asked is whole else 0.2]]))[0, 0]
        change = network(w)[0] - network(base)[0]
        held = asked.held(forward.std, forward.live)
        weights = (held / forward.std).where(held != 0, 0.0)
        wanted = weights @ (asked.target(UNITS).double() * (0.3 if asked is whole else 0.2))
        torch.testing.assert_close(weights @ change, wanted, atol=0.02, rtol=0.05)


def test_a_group_that_moves_only_together_in_one_sample_takes_the_forward_models_step(forward: Forward) -> None:
    def encode(w: Tensor) -> Tensor:
        r = network(w)
        return r.index_copy(1, torch.tensor([1]), 2 * r[:, [0]])

    base = torch.zeros(1, W_DIM, dtype=torch.float64)
    asked = Perturbation.along("units", torch.tensor([1.0, 2, 0, 0, 0, 0]), -0.1, 0.1, True, exact=(0, 1))
    w = closed(forward, encode).moved(base, [asked], asked.values(2)[None])
    assert w.isfinite().all()


def test_noise_that_is_drawn_for_each_image_neither_breaks_derivatives_nor_counts(forward: Forward) -> None:
    def encode(w: Tensor) -> Tensor:
        drawn = _Draws.apply(w.detach(), 1)
        assert isinstance(drawn, Tensor)
        return network(w).index_copy(1, torch.tensor([3]), drawn.double())

    plain, noisy = closed(forward), closed(forward, encode)
    base, unit = torch.zeros(2, W_DIM, dtype=torch.float64), Perturbation.of_unit(2, -0.2, 0.2)
    asked = replace(unit, relative=True)
    w = noisy.moved(base, [asked], asked.values(2)[None])[0]
    assert noisy.jacobians.noise.tolist() == [False, False, False, True, False, False]
    assert noisy.jacobians.forwards and not plain.jacobians.noise.any()
    change = network(w.flatten(0, 1))[:, 2].view(2, 2).diff(dim=1)[:, 0]
    torch.testing.assert_close(change, torch.full((2,), 0.4, dtype=torch.float64), atol=0.02, rtol=0)


def test_no_more_passes_than_are_said(forward: Forward) -> None:
    seen: list[int] = []

    def encode(w: Tensor) -> Tensor:
        seen.append(len(w))
        return network(w)

    result = closed(forward, encode)
    result.jacobians(torch.ones(1, W_DIM, dtype=torch.float64))  # which is checked once
    seen.clear()
    asked = [replace(Perturbation.of_unit(u, -0.5, 0.5), relative=True) for u in (0, 2)]
    result.moved(torch.zeros(2, W_DIM, dtype=torch.float64), asked, torch.stack([p.values(3) for p in asked]))
    assert 0 < sum(seen) <= result.passes(2, 2, 3)


def test_values_begin_at_the_nearest_one_towards_the_sample(forward: Forward) -> None:
    seen: list[int] = []

    def encode(w: Tensor) -> Tensor:
        seen.append(len(w))
        return linear(w)

    base = torch.zeros(1, W_DIM, dtype=torch.float64)
    unit = replace(Perturbation.of_unit(1, -1.0, 1.0), relative=True)
    w = closed(forward, encode).moved(base, [unit], unit.values(5)[None])[0, 0]
    reached = linear(w)[:, 1] - linear(base)[0, 1]
    torch.testing.assert_close(reached, unit.values(5).double(), atol=1e-6, rtol=1e-6)
    assert torch.equal(w[2], base[0])
    still = replace(unit, low=0.0, high=0.0)
    assert torch.equal(closed(forward).moved(base, [still], torch.zeros(1, 1))[0, 0], base)  # nothing is asked
