"""Averages over samples against plain complex numbers and searches, and what was wrong when angles were averaged."""

from __future__ import annotations

import cmath
import math

import numpy as np
import pytest
import torch
from helpers.shapes import apart
from torch import Tensor

from lis.quantify.averages import UNIFORM, Average, axial_mean, axial_median, median, median_change, rayleigh
from lis.quantify.ellipse import half_circle


def axes(*shape: int, seed: int = 0, around: float | None = None) -> Tensor:
    """Random axes, or such as lie within 40° of `around`; a tenth is missing."""
    draw = torch.Generator().manual_seed(seed)
    angle = torch.rand(*shape, generator=draw)
    angle = 180 * angle - 90 if around is None else half_circle(around + 80 * angle - 40)
    return angle.where(torch.rand(shape, generator=draw) > 0.1, torch.nan)


def slow_mean(degrees: list[float]) -> tuple[float, float]:
    """Half the argument of the mean of e^{2iδ}, and its modulus."""
    known = [x for x in degrees if not math.isnan(x)]
    if not known:
        return math.nan, math.nan
    mean = sum(cmath.exp(2j * math.radians(x)) for x in known) / len(known)
    return math.degrees(cmath.phase(mean)) / 2, abs(mean)


def test_plus_85_and_minus_85_degrees_average_to_90_and_not_to_0() -> None:
    change = torch.zeros(4, 5)
    change[:, 4] = torch.tensor([85.0, -85.0, 85.0, -85.0])
    found = Average.of(change)
    assert abs(found.value[4].item()) == pytest.approx(90, abs=1e-3)
    assert found.resultant.item() == pytest.approx(math.cos(math.radians(10)), abs=1e-5)
    assert abs(median_change(change)[4].item()) > 80


def test_the_mean_of_axes_equals_complex_numbers() -> None:
    degrees = torch.cat([axes(20, 7), axes(20, 7, seed=1, around=88), torch.full((1, 7), torch.nan)])
    mean, resultant = axial_mean(degrees, 1)
    for row, x, r in zip(degrees.tolist(), mean.tolist(), resultant.tolist(), strict=True):
        expected, length = slow_mean(row)
        if math.isnan(expected):
            assert math.isnan(x) and math.isnan(r)
        else:
            assert -90 < x <= 90 and apart(x, expected) < 1e-3 and r == pytest.approx(length, abs=1e-5)


def test_the_period_does_not_matter() -> None:
    degrees = axes(9)
    turned = degrees + 180 * torch.tensor([1, -1, 0, 2, 1, 0, -3, 1, 0])
    for f in (lambda x: axial_mean(x)[0], axial_median):
        assert apart(f(degrees).item(), f(turned).item()) < 1e-2


def test_a_mean_of_90_degrees_without_a_direction_is_no_angle() -> None:
    """R·mean stays small, and what has no value leads no ranking."""
    change = torch.zeros(20, 5)
    change[:, 4] = torch.linspace(-90, 90, 21)[1:]
    change[0, 4] = 89.0
    found = Average.of(change)
    assert found.value[4].isnan() and found.ranked[4].isnan()
    assert found.resultant < 0.1 and abs(found.effect[4]) < 9
    assert (found.value[:4] == 0).all() and (found.n == 20).all()
    assert found.resultants[:4].isnan().all() and found.resultants[4] == found.resultant


def test_rayleigh_rejects_as_many_uniform_samples_as_it_says() -> None:
    draw = torch.Generator().manual_seed(0)
    for n, exact in ((3, 0.0359), (4, 0.0536), (8, 0.0497), (20, 0.0496)):
        _, resultant = axial_mean(180 * torch.rand(40_000, n, generator=draw), 1)
        assert (rayleigh(resultant, torch.tensor(n)) <= UNIFORM).double().mean() == pytest.approx(exact, abs=0.004)
    assert rayleigh(torch.tensor(torch.nan), torch.tensor(5)).isnan()


def test_two_samples_never_have_a_mean_angle() -> None:
    change = torch.zeros(2, 5)
    assert Average.of(change).value[4].isnan() and Average.of(torch.zeros(3, 5)).value[4] == 0


def test_the_median_axis_has_the_smallest_sum_of_distances() -> None:
    """Against a search over all directions, in steps of a tenth of a degree."""
    everywhere = np.arange(-90, 90, 0.1)
    for seed in range(20):
        degrees = axes(9, seed=seed, around=85 if seed % 2 else None)
        known = degrees[~degrees.isnan()].tolist()
        sums = [sum(apart(x, a) for x in known) for a in everywhere]
        found = axial_median(degrees).item()
        assert sum(apart(x, found) for x in known) <= min(sums) + 1e-3


def test_the_median_axis_of_an_even_number_lies_between_the_middle_two() -> None:
    assert apart(axial_median(torch.tensor([70.0, 80.0, -80.0, -60.0])).item(), 90) < 1e-3
    assert axial_median(torch.tensor([torch.nan, 10.0])).item() == pytest.approx(10)
    assert axial_median(torch.full((3, 2), torch.nan)).isnan().all() and axial_median(torch.empty(0, 2)).isnan().all()


def test_the_median_of_what_is_known() -> None:
    values = torch.randn(6, 7, 3, generator=torch.Generator().manual_seed(0))
    values[0, :4] = values[1, :6] = values[2] = torch.nan
    expected = [
        [float(np.median(x[~np.isnan(x)])) if (~np.isnan(x)).any() else np.nan for x in of.T] for of in values.numpy()
    ]
    torch.testing.assert_close(median(values, 1), torch.tensor(expected), equal_nan=True)
    assert median(values[:, :0], 1).isnan().all()


def test_any_dimension_of_samples() -> None:
    change = torch.randn(3, 8, 2, 5, generator=torch.Generator().manual_seed(0))
    change[..., 4] = axes(3, 8, 2, around=20)
    found = Average.of(change, dim=1)
    assert found.value.shape == found.n.shape == (3, 2, 5) and found.resultant.shape == (3, 2)
    for p, k in np.ndindex(3, 2):
        own = Average.of(change[p, :, k])
        for name, values in vars(own).items():
            torch.testing.assert_close(getattr(found, name)[p, k], values, equal_nan=True)
        torch.testing.assert_close(median_change(change, 1)[p, k], median_change(change[p, :, k]), equal_nan=True)
