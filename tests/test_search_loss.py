"""Eq. 3 and 4 against plain loops and finite differences."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from lis.boundary.search import Landscape, Problems, Settings, counterfactual_loss, identity
from lis.linking.linear import LinearLink
from lis.linking.region import ClassRegion
from lis.memory import Batches

UNITS, W_DIM, CLASSES = 6, 4, 3


def draws(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def plain_cosine(a: list[float], b: list[float]) -> float:
    """Eq. 4, entry by entry."""
    dot = sum(x * y for x, y in zip(a, b, strict=True))
    return dot / (math.sqrt(sum(x * x for x in a)) * math.sqrt(sum(y * y for y in b)))


def plain_loss(land: Landscape, r: Tensor, shift: Tensor, origin: int, target: int) -> float:
    """Eq. 3 and `near` for one sample, entry by entry, with the logits of r + Δr or of its image."""
    moved = [float(a) + float(b) for a, b in zip(r, shift, strict=True)]
    weight, bias = HEAD.weight.tolist(), HEAD.bias.tolist()
    logits = [sum(w * x for w, x in zip(row, moved, strict=True)) + b for row, b in zip(weight, bias, strict=True)]
    coef, intercept = LINK.coef.T.tolist(), LINK.intercept.tolist()

    def linked(point: list[float]) -> list[float]:
        return [sum(c * x for c, x in zip(row, point, strict=True)) + b for row, b in zip(coef, intercept, strict=True)]

    if land.settings.objective == "image":
        logits = [sum(s * x**2 for s, x in zip(row, linked(moved), strict=True)) for row in SIGHT.tolist()]
    same = plain_cosine(linked(r.tolist()), linked(moved))
    loss = -logits[target] + land.settings.lambda1 * logits[origin] - land.settings.lambda2 * same
    if land.settings.near is None:
        return loss
    samples = SAMPLES[target].tolist()
    mean = [sum(column) / len(samples) for column in zip(*samples, strict=True)]
    scatter = [[sum((x[i] - mean[i]) * (x[j] - mean[j]) for x in samples) for j in WIDTH] for i in WIDTH]
    inverse = torch.linalg.inv(torch.tensor(scatter, dtype=torch.float64) / len(samples)).tolist()
    away = [x - m for x, m in zip(linked(moved), mean, strict=True)]
    return loss + land.settings.near * sum(away[i] * inverse[i][j] * away[j] for i in WIDTH for j in WIDTH) / W_DIM


WIDTH = range(W_DIM)
SAMPLES = [draws(20, W_DIM, seed=20 + k) @ draws(W_DIM, W_DIM, seed=30 + k) for k in range(CLASSES)]
"""Training samples of each class."""
REGIONS = {k: ClassRegion.of(w, f"class {k}") for k, w in enumerate(SAMPLES)}
LINK = LinearLink.of(draws(UNITS, W_DIM, seed=1), draws(W_DIM, seed=2))
SIGHT = draws(CLASSES, W_DIM, seed=11)
HEAD = torch.nn.Linear(UNITS, CLASSES, dtype=torch.float64)
HEAD.weight.data, HEAD.bias.data = draws(CLASSES, UNITS, seed=3), draws(CLASSES, seed=4)
HEAD.requires_grad_(False)


def see(w: Tensor) -> Tensor:
    """The logits of an image."""
    return w**2 @ SIGHT.T


@pytest.fixture(params=[("link", None), ("image", None), ("link", 0.2), ("image", 0.2)])
def land(request: pytest.FixtureRequest) -> Landscape:
    objective, near = request.param
    settings = Settings(objective, lambda1=0.7, lambda2=3.0, near=near)
    return Landscape(LINK, HEAD, see, Batches(2), None, torch.ones(UNITS), False, settings, REGIONS if near else {})


@pytest.fixture
def problems() -> Problems:
    r = draws(4, UNITS, seed=5)
    return Problems(r, torch.tensor([0, 1, 2, 0]), torch.tensor([1, 2, 0, 2]), torch.zeros_like(r))


def test_identity_is_the_cosine_of_equation_4() -> None:
    a, b = draws(5, W_DIM, seed=6), draws(5, W_DIM, seed=7)
    expected = [plain_cosine(x, y) for x, y in zip(a.tolist(), b.tolist(), strict=True)]
    torch.testing.assert_close(identity(a, b), torch.tensor(expected, dtype=torch.float64))
    assert identity(torch.zeros(1, 2), torch.ones(1, 2)).item() == 0


def test_the_loss_is_equation_3(land: Landscape, problems: Problems) -> None:
    shift = draws(4, UNITS, seed=8)
    found = land.loss(problems, shift, LINK(problems.r))[0]
    ends = zip(problems.origin.tolist(), problems.target.tolist(), strict=True)
    expected = [plain_loss(land, problems.r[k], shift[k], *pair) for k, pair in enumerate(ends)]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))


def test_its_gradient_is_that_of_finite_differences(land: Landscape, problems: Problems) -> None:
    shift, step = draws(4, UNITS, seed=9).requires_grad_(), 1e-5
    (gradient,) = torch.autograd.grad(land.loss(problems, shift, LINK(problems.r))[0].sum(), shift)
    for k in range(len(shift)):
        ends = int(problems.origin[k]), int(problems.target[k])
        for unit in range(UNITS):
            nudge = torch.zeros(UNITS, dtype=torch.float64)
            nudge[unit] = step
            at = shift[k].detach()
            rise = [plain_loss(land, problems.r[k], at + sign * nudge, *ends) for sign in (1, -1)]
            assert float(gradient[k, unit]) == pytest.approx((rise[0] - rise[1]) / (2 * step), rel=1e-5, abs=1e-7)


def test_without_a_weight_the_distance_changes_no_bit(land: Landscape, problems: Problems) -> None:
    shift, original = draws(4, UNITS, seed=8), LINK(problems.r)
    plain = replace(land, settings=replace(land.settings, near=None), regions={})
    loss, logits = replace(plain, regions=REGIONS).loss(problems, shift, original)
    assert loss.equal(plain.loss(problems, shift, original)[0]) and logits.equal(
        land.loss(problems, shift, original)[1]
    )


def test_the_weights_of_the_paper_are_the_defaults() -> None:
    logits = torch.tensor([[2.0, 5.0]])
    loss = counterfactual_loss(logits, torch.tensor([0]), torch.tensor([1]), torch.tensor([1.0]))
    assert loss.item() == pytest.approx(-5 + 0.6 * 2 - 10)
