"""Streamed least squares against float64 scikit-learn and NumPy."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import t as student
from sklearn.linear_model import LinearRegression, Ridge

from lis.linking.equations import Spectrum
from lis.linking.linear import LeastSquares, LinearLink, link_of
from lis.linking.linear_fit import choose_ridge, grid, ridge_path
from lis.linking.link import jackknife
from lis.linking.moments import STRIPE, Moments


def world(n=400, units=30, w_dim=6, seed=0):
    """Correlated, rectified units of different scales, and a w that they partly explain."""
    rng = np.random.default_rng(seed)
    r = np.maximum(rng.normal(size=(n, units)) @ rng.normal(size=(units, units)) / 5 + 0.3, 0)
    r *= np.geomspace(0.1, 10, units)
    return r, r @ rng.normal(size=(units, w_dim)) + rng.normal(size=(n, w_dim))


def deficient(n=500, dtype=np.float64):
    """Constant, silent, duplicate, scaled, summed and one-sample units among ordinary ones."""
    r, w = world(n)
    r[:, 3] = 0
    r[:, 4] = 0.3
    r[:, 6] = r[:, 5]
    r[:, 8] = -3 * r[:, 7]
    r[:, 10] = r[:, 11] + r[:, 12]
    r[:, 13] = 0
    r[17, 13] = 0.05
    return r.astype(dtype), w.astype(dtype)


def near_dead(n=500):
    """Units that vary in one or two samples."""
    r, w = world(n)
    r[:, 3:5] = 0
    r[[17, 18], 3] = 0.5, 0.05
    r[22, 4] = 2
    return r, w


def faint(n=500):
    """A unit that varies by so little that least squares cuts it, or nearly so."""
    r, w = world(n)
    r[:, 5] *= 1e-5
    return r, w


def wide(n=40):
    """More units than samples, some of them equal, constant or nearly dead."""
    r, w = world(n, units=90)
    r[:, 3] = 0.3
    r[:, 6] = r[:, 5]
    r[:, 7] = 0
    r[17, 7] = 0.5
    return r, w


def collect(r, w, blocks=1, cuts=()):
    moments = LeastSquares(blocks)
    for part_r, part_w in zip(np.split(r, cuts), np.split(w, cuts), strict=True):
        moments.update(part_r, part_w)
    return moments


def plain_path(r, w):
    return ridge_path(collect(r, w).spectrum(standardised=False), [0.0])


def same(a, b, tolerance=1e-10):
    np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=tolerance, atol=tolerance)


def state_close(a, b):
    a, b = a.state(), b.state()
    assert a.keys() == b.keys()
    for name in a:
        x, y = (state[name].double().numpy() for state in (a, b))
        if name.endswith("products"):
            x, y = (np.concatenate([np.tril(p[: p.shape[1]]), p[p.shape[1] :]]) for p in (x, y))
        np.testing.assert_allclose(x, y, rtol=1e-10, atol=1e-10, err_msg=name)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_coefficients_equal_scikit_learn_where_well_conditioned(dtype):
    r, w = (x.astype(dtype) for x in world())
    link, reference = collect(r, w).solve(), LinearRegression().fit(r.astype(np.float64), w.astype(np.float64))
    same(link.coef, reference.coef_.T)
    same(link.intercept, reference.intercept_, 1e-9)
    same(link(torch.from_numpy(r).double()), reference.predict(r.astype(np.float64)), 1e-9)
    assert link(torch.from_numpy(r)).dtype == torch.from_numpy(r).dtype


def test_more_units_than_a_stripe_and_more_samples_than_a_chunk():
    r, w = world(n=1300, units=STRIPE + 40, w_dim=3)
    same(collect(r, w).solve().coef, LinearRegression().fit(r, w).coef_.T, 1e-8)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_predictions_equal_scikit_learn_where_rank_deficient(dtype):
    r, w = (x.astype(np.float64) for x in deficient(dtype=dtype))
    link, reference = collect(r.astype(dtype), w.astype(dtype)).solve(), LinearRegression().fit(r, w)
    same(link(torch.from_numpy(r)), reference.predict(r), 1e-7)
    # One unit more or less in a null direction would leave the predictions as they are.
    same(link.coef, reference.coef_.T, 1e-5)
    assert (link.coef[[3, 4]] == 0).all()
    same(link.coef[5], link.coef[6], 1e-6)


def test_more_units_than_samples():
    r, w = world(n=40, units=90)
    link, reference = collect(r, w).solve(), LinearRegression().fit(r, w)
    new = world(n=50, units=90, seed=1)[0]
    same(link(torch.from_numpy(new)), reference.predict(new), 1e-6)


def test_far_more_units_than_samples_need_no_matrix_of_units():
    rng = np.random.default_rng(0)
    r, w = rng.normal(size=(30, 60_000)), rng.normal(size=(30, 2))  # products of r would take 29 GB
    moments = collect(r, w, blocks=3)
    link = moments.solve()
    same(link(torch.from_numpy(r)), w, 1e-8)
    assert jackknife(moments, link).low.shape == (60_000,)


@pytest.mark.parametrize("ridge", [0.0, 1e-6, 0.1])
@pytest.mark.parametrize("data", [world, near_dead, wide, deficient, faint])
def test_factorisation_and_eigenvalues_give_the_same_link(data, ridge):
    """To 1e-7 of the largest coefficient; least squares needs the eigenvalues where one of them may have to be cut."""
    r, w = data()
    moments, solved = collect(r, w, blocks=4), []
    for leave_out in (None, 1, 2):
        equations = moments.equations(ridge > 0, leave_out)
        quick, exact = equations.solve(ridge), Spectrum.of(equations).solution(ridge)
        expected = equations.coefficients(exact)
        same(moments.solve(ridge, leave_out).coef, expected, 1e-7 * float(expected.abs().max()))
        solved.append(quick is not None)
    assert solved == 3 * [ridge > 0 or data not in (deficient, faint)]


@pytest.mark.parametrize("condition", [1e2, 1e6, 1e10])
def test_ill_conditioned_links_are_as_exact_as_the_condition_allows(condition):
    """By factorisation and by eigenvalues, against the factors that the samples are made of."""
    rng = np.random.default_rng(0)
    samples, axes = (np.linalg.qr(rng.normal(size=(n, 40)))[0] for n in (300, 40))
    samples -= samples.mean(0)
    inner = np.linalg.qr(samples)[0] * np.geomspace(1, condition**-0.5, 40)
    coef = rng.normal(size=(40, 2))
    moments = collect(inner @ axes.T, inner @ axes.T @ coef)
    equations = moments.equations(standardised=False)
    for solution in (equations.solve(0.0), Spectrum.of(equations).solution(0.0)):
        assert solution is not None
        same(equations.coefficients(solution), coef, 1e-15 * condition + 1e-12)


def test_a_ridge_cuts_nothing():
    """A direction of almost no variance, far below the cut of plain least squares, against the closed form."""
    r, w = world()
    r = np.c_[r / r.std(0), (r[:, 0] / r[:, 0].std() + 1e-7 * np.random.default_rng(0).normal(size=len(r)))]
    s, ridge = (r - r.mean(0)) / r.std(0), 1e-8
    inner = np.linalg.solve(s.T @ s / len(s) + ridge * np.eye(31), s.T @ (w - w.mean(0)) / len(s))
    spectrum = collect(r, w).spectrum(standardised=True)
    assert spectrum.rank == 30
    same(link_of(spectrum.equations, spectrum.solution(ridge)).coef, inner / r.std(0)[:, None], 1e-5)
    same(collect(r, w).solve(ridge).coef, inner / r.std(0)[:, None], 1e-5)


def test_scales_and_offsets_cost_no_precision():
    r, w = world()
    r = r * np.geomspace(1e-1, 1e1, r.shape[1]) + 1e4
    link, reference = collect(r, w, cuts=(7, 150)).solve(), LinearRegression().fit(r, w)
    same(link(torch.from_numpy(r)), reference.predict(r), 1e-6)


def test_a_drifting_offset_costs_no_precision():
    r, w = world()
    r = r + np.linspace(0, 1e3, len(r))[:, None]
    link, reference = collect(r, w, cuts=range(20, 400, 20)).solve(), LinearRegression().fit(r, w)
    same(link(torch.from_numpy(r)), reference.predict(r), 1e-6)


def test_chunks_and_merged_streams_give_the_same_moments():
    r, w = deficient()
    for blocks in (1, 3):
        whole = collect(r, w, blocks)
        state_close(whole, collect(r, w, blocks, cuts=(1, 5, 77, 78, 300)))
        for cuts in ([100, 101], [20, 50, 60], [400, 410]):
            merged = LeastSquares(blocks)
            merged.merge(LeastSquares(blocks))
            for part_r, part_w in zip(np.split(r, cuts), np.split(w, cuts), strict=True):
                merged.merge(collect(part_r, part_w, blocks))
            state_close(whole, merged)


def test_samples_are_kept_until_they_outnumber_the_units():
    r, w = world(n=61)
    few, many = collect(r[:60], w[:60], blocks=2), collect(r, w, blocks=2)
    assert torch.equal(few.state()["1.r"], torch.from_numpy(r[1:60:2]))
    assert "0.products" in many.state() and "1.r" in many.state()
    few.update(r[60:], w[60:])
    state_close(few, many)


def test_moments_without_some_samples_are_those_of_the_rest():
    r, w = (torch.from_numpy(values) for values in near_dead())
    r[:, 7] = 1e4  # a unit that varies only in what is taken away
    r[:100, 7] += r[:100, 8]
    whole, part, rest = (Moments.empty(30, 6, r.device) for _ in range(3))
    whole.add(r, w)
    part.add(r[:100], w[:100])
    rest.add(r[100:], w[100:])
    left = whole.without(part)
    assert left.count == 400
    assert left.std[7] == 0
    for name in ("mean", "squares", "std"):
        same(getattr(left, name), getattr(rest, name), 1e-9)
    alive = torch.arange(30) != 7
    same(left.products[:30].tril()[alive][:, alive], rest.products[:30].tril()[alive][:, alive], 1e-8)


def test_merging_leaves_the_other_stream_as_it_is():
    r, w = world()
    left, right = LeastSquares(), collect(r[:200], w[:200])
    left.merge(right)
    left.update(r[200:], w[200:])
    state_close(right, collect(r[:200], w[:200]))


def test_blocks_do_not_change_the_link():
    r, w = world()
    same(collect(r, w, blocks=7).solve().coef, collect(r, w).solve().coef)


def test_state_round_trip_goes_on_as_before():
    r, w = world()
    for blocks in (1, 3, 20):
        first = collect(r[:250], w[:250], blocks)
        again = LeastSquares.from_state({name: value.clone() for name, value in first.state().items()})
        for moments in (first, again):
            moments.update(r[250:], w[250:])
        assert torch.equal(first.solve().coef, again.solve().coef)
        assert again.count == 400
    assert LeastSquares.from_state(LeastSquares(4).state()).blocks == 4


def test_ridge_equals_the_closed_form_on_standardised_units():
    r, w = world()
    for ridge in (1e-6, 1e-2, 3.0):
        s = (r - r.mean(0)) / r.std(0)
        inner = np.linalg.solve(s.T @ s / len(s) + ridge * np.eye(s.shape[1]), s.T @ (w - w.mean(0)) / len(s))
        link = collect(r, w).solve(ridge)
        same(link.coef, inner / r.std(0)[:, None], 1e-8)
        same(link(torch.from_numpy(r)), Ridge(alpha=ridge * len(s)).fit(s, w).predict(s), 1e-8)


def test_cross_validation_error_equals_brute_force():
    r, w = deficient(n=60)
    path = ridge_path(collect(r, w).spectrum(standardised=True), [1e-3, 0.1, 10.0])
    alive = r.std(0) > 1e-12
    s = np.c_[(r[:, alive] - r[:, alive].mean(0)) / r[:, alive].std(0)]
    for ridge, gcv in zip(path["ridge"], path["gcv_mse"], strict=True):
        hat = s @ np.linalg.solve(s.T @ s + ridge * len(s) * np.eye(s.shape[1]), s.T) + 1 / len(s)
        residual = w - hat @ w
        same(gcv, (residual**2).mean() / (1 - np.trace(hat) / len(s)) ** 2, 1e-6)


def test_cross_validation_error_of_least_squares_and_of_a_saturated_fit():
    r, w = world(n=200)
    mse = ((w - LinearRegression().fit(r, w).predict(r)) ** 2).mean()
    same(plain_path(r, w)["gcv_mse"], [mse / (1 - 31 / 200) ** 2])
    assert plain_path(r[:20], w[:20])["gcv_mse"].item() == np.inf


def test_path_shrinks_the_steps_and_choose_takes_the_least_error():
    r, w = deficient()
    moments = collect(r, w)
    path = pd.concat([plain_path(r, w), ridge_path(moments.spectrum(standardised=True), grid(5, 1e-4, 1e2))])
    assert (np.diff(path["mean_step_norm"].to_numpy()) < 0).all()
    alive = moments.statistics().status != "dead"
    for ridge, step in zip(path["ridge"], path["mean_step_norm"], strict=True):
        coef = moments.solve(ridge).coef.numpy()
        same(step, ((r.max(0) - r.min(0)) * np.linalg.norm(coef, axis=1))[alive].mean())
    chosen = choose_ridge(path)
    assert path["gcv_mse"].min() == path["gcv_mse"][path["ridge"] == chosen].item()


@pytest.mark.parametrize(("data", "n"), [(deficient, 500), (deficient, 100), (near_dead, 120), (wide, 40), (wide, 105)])
def test_jackknife_equals_a_plain_loop(data, n):
    """From moments, from samples that are summed up, in the samples' space, and with some of both."""
    r, w = data(n)
    for ridge in (0.0, 0.05):
        moments, k = collect(r, w, blocks=5, cuts=(3, 200)), 5
        known = jackknife(moments, moments.solve(ridge), ridge)
        others = [np.arange(len(r)) % k != block for block in range(k)]
        rows = np.stack([collect(r[kept], w[kept]).solve(ridge).coef.numpy() for kept in others])
        error = np.sqrt((k - 1) / k * ((rows - rows.mean(0)) ** 2).sum(0))
        same(known.coef_error, error, 1e-6)
        steps = (r.max(0) - r.min(0)) * np.linalg.norm(rows, axis=2)
        margin = student.ppf(0.975, k - 1) * np.sqrt((k - 1) / k * ((steps - steps.mean(0)) ** 2).sum(0))
        same(known.high, known.step_norm.numpy() + margin, 1e-6)
        same(known.low, np.maximum(known.step_norm.numpy() - margin, 0), 1e-6)


def test_dead_and_near_dead_units_are_told_from_live_ones():
    rng = np.random.default_rng(0)
    r = np.maximum(rng.normal(size=(20_000, 12)), 0).astype(np.float32)
    r[:, 0], r[:, 1] = 0, 0.7
    r[:, 2] = np.float32(1000) + np.float32(1e-4) * rng.integers(0, 2, len(r))  # two neighbouring float32 values
    r[:, 3] *= 1e-8
    r[:, 4] = 0
    r[:15, 4] = 1
    r[:, 5] *= 5e-5
    r[:, 6] = 0
    r[:25, 6] = 1
    expected = ["dead"] * 4 + ["near-dead"] * 2 + ["live"] * 6
    units = collect(r, r[:, :2]).statistics()
    assert units.status.tolist() == expected
    same(units.active[[4, 6]], [15, 25], 1e-6)
    same(units.mean, r.mean(0, dtype=np.float64))
    same(units.std, r.astype(np.float64).std(0), 1e-9)
    same(units.maximum, r.max(0), 0)


def test_only_dead_units_give_the_mean():
    w = np.random.default_rng(0).normal(size=(9, 2))
    link = collect(np.ones((9, 3)), w).solve()
    assert (link.coef == 0).all()
    same(link.intercept, w.mean(0))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_named_and_nothing_is_added(value):
    r, w = world(n=90)
    for name, broken in (("r", r.copy()), ("w", w.copy())):
        moments = collect(r[:50], w[:50], blocks=2)
        broken[61, 2] = value
        with pytest.raises(ValueError, match=f"{name} of sample 61 is not finite"):
            moments.update((broken if name == "r" else r)[50:], (broken if name == "w" else w)[50:])
        moments.update(r[50:], w[50:])
        state_close(moments, collect(r, w, blocks=2))


def test_bad_input_is_refused():
    r, w = world(n=10)
    with pytest.raises(ValueError, match="blocks=0"):
        LeastSquares(0)
    with pytest.raises(ValueError, match="no samples"):
        LeastSquares().solve()
    with pytest.raises(ValueError, match="10 samples and w has 9"):
        LeastSquares().update(r, w[:9])
    with pytest.raises(ValueError, match=r"\(10,\)"):
        LeastSquares().update(r[:, 0], w)
    with pytest.raises(ValueError, match="int64"):
        LeastSquares().update(torch.ones(10, 3, dtype=torch.int64), w)
    with pytest.raises(ValueError, match="widths 29 and 6: expected 30 and 6"):
        collect(r, w).update(r[:, :29], w)
    with pytest.raises(ValueError, match="cannot merge"):
        collect(r, w).merge(collect(r, w, blocks=2))
    with pytest.raises(ValueError, match="ridge=-1"):
        collect(r, w).solve(-1)
    with pytest.raises(ValueError, match="over 1 block"):
        jackknife(collect(r, w), collect(r, w).solve())
    with pytest.raises(ValueError, match="steps=0"):
        grid(0, 1, 2)
    with pytest.raises(ValueError, match="no ridge"):
        choose_ridge(plain_path(r, w))


def test_inputs_may_be_read_only_reversed_or_from_inference():
    r, w = world()
    r.flags.writeable = False
    moments = LeastSquares()
    with torch.inference_mode():
        moments.update(r[::-1], w[::-1])
        moments.update(torch.from_numpy(w.copy()) @ torch.ones(6, 30, dtype=torch.float64), w)
    moments.update(r, w)
    assert moments.count == 1200


def test_a_link_is_differentiable_and_takes_any_leading_shape():
    link = LinearLink.of(torch.randn(4, 3).double(), torch.randn(3).double())
    r = torch.randn(2, 5, 4, requires_grad=True)
    same(link(r).detach(), (r.double() @ link.coef + link.intercept).detach(), 1e-6)
    link(r).sum().backward()
    assert r.grad is not None
    same(r.grad[0, 0], link.coef.sum(1), 1e-6)
    assert link(r[0, 0]).shape == (3,)
    assert torch.equal(link.direction(2), link.coef[2])
    assert not list(link.parameters())
    for unit in (-1, 4):
        with pytest.raises(ValueError, match=f"unit {unit}: expected 0 to 3"):
            link.direction(unit)
