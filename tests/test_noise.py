"""What of a curve is noise: constructed curves whose noise is known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from lis.report.noise import largest_change, named, noise_ratio, noise_std

STEPS = 21
POSITION = np.linspace(0, 1, STEPS)


def noise(std: float, seed: int = 0, steps: int = STEPS) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, std, steps)


def test_the_noise_of_a_long_curve_is_its_standard_deviation() -> None:
    for std in (0.02, 3.0):
        assert noise_std(noise(std, steps=20_000)) == pytest.approx(std, rel=0.03)
        assert noise_std(noise(std, steps=20_000) + np.linspace(0, 50, 20_000)) == pytest.approx(std, rel=0.03)


def test_it_equals_a_plain_loop() -> None:
    x = noise(1.0, 3, 9)
    bends = sorted(abs(x[k - 1] - 2 * x[k] + x[k + 1]) for k in range(1, 8))
    assert noise_std(x) == pytest.approx(1.4826 * bends[3] / 6**0.5)


def test_curves_of_noise_alone_are_seldom_told_as_a_change() -> None:
    """At most in the 5 % that they may be."""
    told = [noise_ratio(noise(0.3, seed)) >= 1 for seed in range(2000)]
    assert np.mean(told) <= 0.05


FLICKER: dict[str, Callable[[np.random.Generator], np.ndarray]] = {
    "rarely": lambda rng: 1.0 * (rng.random(STEPS) < 0.1),
    "sometimes": lambda rng: 1.0 * (rng.random(STEPS) < 0.2),
    "often": lambda rng: 1.0 * (rng.random(STEPS) < 0.5),
    "rounded": lambda rng: np.round(rng.normal(0, 0.4, STEPS)),
    "heavy tails": lambda rng: rng.standard_t(3, STEPS),
}


@pytest.mark.parametrize("draw", FLICKER.values(), ids=FLICKER)
def test_pixels_that_flicker_are_seldom_told_as_a_change(draw: Callable[[np.random.Generator], np.ndarray]) -> None:
    """Also where most neighbouring steps are equal, and never without a noise."""
    rng = np.random.default_rng(0)
    ratios = np.array([noise_ratio(draw(rng)) for _ in range(1000)])
    assert np.mean(ratios >= 1) <= 0.05 and np.isfinite(ratios).all()


@pytest.mark.parametrize("curves", [24, 240])
def test_among_many_curves_of_noise_seldom_any_is_told(curves: int) -> None:
    rng = np.random.default_rng(0)
    told = [
        named({str(k): x for k, x in enumerate(rng.normal(size=(curves, STEPS)))}, 5) for _ in range(4800 // curves)
    ]
    assert np.mean([bool(names) for names in told]) <= 0.05


def test_noise_that_lasts_is_told_too_small() -> None:
    """The limit that the docstring names: neighbouring steps tell nothing of it."""
    rng, curve = np.random.default_rng(0), np.zeros(20_000)
    for k in range(1, len(curve)):
        curve[k] = 0.8 * curve[k - 1] + rng.normal()
    assert noise_std(curve) < 0.6 * curve.std()


def test_a_change_after_the_end_is_none() -> None:
    late = np.maximum(POSITION - 0.5, 0) + noise(0.005)
    assert noise_ratio(late) >= 1 and noise_ratio(late, until=11) < 1


def test_a_smooth_growth_is_told() -> None:
    for shape in (POSITION, POSITION**2, np.sin(POSITION * np.pi), 1 / (1 + np.exp(-12 * (POSITION - 0.5)))):
        assert noise_ratio(shape) >= 1
        assert noise_ratio(shape + noise(0.05)) >= 1


def test_a_kink_and_a_jump_are_no_noise() -> None:
    kink = np.maximum(POSITION - 0.6, 0)
    jump = (POSITION > 0.6).astype(float)
    for curve in (kink, jump, -jump):
        assert noise_std(curve) == pytest.approx((np.diff(curve, n=2) ** 2).mean() ** 0.5 / 6**0.5)
        assert noise_ratio(curve) >= 1
        assert noise_std(curve + noise(0.02)) < 0.04 and noise_ratio(curve + noise(0.02)) >= 1


def test_one_step_that_comes_back_is_no_change() -> None:
    blip = np.zeros(STEPS)
    blip[7] = 5.0
    assert largest_change(blip) == 0 and noise_ratio(blip) == 0


def test_nothing_is_told_where_too_little_is_known() -> None:
    assert np.isnan(noise_std(np.arange(4.0))) and np.isnan(noise_ratio(np.full(STEPS, np.nan)))
    gaps = POSITION.copy()
    gaps[::2] = np.nan
    assert np.isnan(noise_ratio(gaps))


def test_the_largest_changes_in_units_of_their_noise_are_named() -> None:
    curves = {
        "noise": noise(1.0),
        "ear": POSITION + noise(0.02, 1),
        "leg": POSITION + noise(0.1, 2),
        "cap": 0 * POSITION,
    }
    assert named(curves, 5) == ["ear", "leg"] and named(curves, 1) == ["ear"]
    assert named({"small": 0.1 * (POSITION > 0.5), "large": 1.0 * (POSITION > 0.5)}, 5) == ["large", "small"]
