"""Bootstrap intervals and p-values against plain loops, and their coverage."""

from __future__ import annotations

import cmath
import math

import numpy as np
import pytest
import torch
from helpers.shapes import apart
from torch import Tensor

from lis import statistics
from lis.statistics import interval, p_control, resample
from lis.units.ranking import axial_interval, change_interval


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("at_once", [2**22, 100])
def test_an_interval_of_axes_equals_plain_resampling(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    """Around 90°, where the interval of the numbers spans nearly the whole half circle."""
    monkeypatch.setattr(statistics, "AT_ONCE", at_once)
    degrees = (80 + 20 * torch.rand(3, 6, 2, generator=torch.Generator().manual_seed(0)) + 90) % 180 - 90
    degrees[0, :2, 0] = torch.nan
    counts = resample(torch.zeros(6, dtype=torch.int64), np.random.default_rng(0), 40)
    low, high = axial_interval(degrees, counts)
    for place in np.ndindex(3, 2):
        x = degrees[place[0], :, place[1]].tolist()
        doubled = [cmath.exp(2j * math.radians(v)) if v == v else 0j for v in x]
        sums = [sum(times * z for times, z in zip(row, doubled, strict=True)) for row in counts.int().tolist()]
        mean = sum(doubled)
        away = [math.degrees(cmath.phase(z / mean)) / 2 for z in sums if z]
        expected = np.quantile(away, [0.025, 0.975]) + math.degrees(cmath.phase(mean)) / 2
        for found, end in zip((low[place].item(), high[place].item()), expected, strict=True):
            assert apart(found, end) < 1e-2
        assert 0 < high[place] - low[place] < 20


def test_only_the_angle_is_an_axis() -> None:
    change, counts = random(4, 7, 2, 5), resample(torch.zeros(7, dtype=torch.int64), np.random.default_rng(0), 50)
    low, high = change_interval(change, counts)
    ends = (low, high), interval(change, counts), axial_interval(change[..., 4], counts)
    for found, linear, axial in zip(*ends, strict=True):
        torch.testing.assert_close(found[..., :4], linear[..., :4])
        torch.testing.assert_close(found[..., 4], axial)
    assert axial_interval(torch.ones(0, 4, 3), resample(torch.zeros(4, dtype=torch.int64), np.random.default_rng(0)))[
        0
    ].shape == (0, 3)


def test_one_sample_has_no_interval() -> None:
    values = torch.tensor([[1.0, torch.nan, torch.nan], [1.0, 2.0, torch.nan], [torch.nan] * 3])
    low, high = interval(values, resample(torch.zeros(3, dtype=torch.int64), np.random.default_rng(0)))
    assert low.isnan().tolist() == high.isnan().tolist() == [True, False, True]
    low, _ = interval(torch.ones(2, 1, 3), resample(torch.zeros(1, dtype=torch.int64), np.random.default_rng(0)))
    assert low.isnan().all()
    low, _ = interval(torch.ones(0, 4, 3), resample(torch.zeros(4, dtype=torch.int64), np.random.default_rng(0)))
    assert low.shape == (0, 3)


def test_p_equals_counting() -> None:
    observed, null = random(6, 2, 3), random(9, 2, 3, seed=1)
    null[:4, 0, 0] = torch.nan
    observed[2, 1, 1] = torch.nan
    null[3, 0, 1] = -observed[0, 0, 1]  # as large counts
    p = p_control(observed, null.expand(6, *null.shape))
    for place in np.ndindex(*observed.shape):
        known = [x for x in null[:, *place[1:]].tolist() if x == x]
        expected = (1 + sum(abs(x) >= abs(observed[place]) for x in known)) / (1 + len(known))
        if observed[place].isnan():
            assert p[place].isnan()
        else:
            assert p[place].item() == pytest.approx(float(expected))


def test_without_random_directions_there_is_no_p() -> None:
    assert p_control(random(4, 2), random(4, 0, 2)).isnan().all()
    assert p_control(random(4, 2), torch.full((4, 3, 2), torch.nan)).isnan().all()
