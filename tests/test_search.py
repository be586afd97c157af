"""The batched search against one problem at a time, in plain steps, and at every interval of looks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from lis.boundary.optimizers import OPTIMIZERS, adam, data_metric, shrunk
from lis.boundary.search import (
    Descent,
    Judge,
    Landscape,
    Problems,
    Settings,
    search,
)
from lis.linking.linear import LinearLink
from lis.memory import Batches

UNITS, CLASSES, N = 8, 3, 7


def draws(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


HEAD = draws(CLASSES, UNITS, seed=1)
SIGHT = draws(CLASSES, 5, seed=10)
LINK = LinearLink.of(draws(UNITS, 5, seed=2).double(), draws(5, seed=3).double())


def head(r: Tensor) -> Tensor:
    return r @ HEAD.T


def answers(r: Tensor) -> Tensor:
    """An image's answers: those of the head on r."""
    return head(r).log_softmax(1)


JUDGE = Judge(answers)


def see(w: Tensor) -> Tensor:
    """An image's logits, of another network."""
    return (w / 3).tanh() @ SIGHT.T


def seen(r: Tensor) -> Tensor:
    """An image's answers where it is looked at."""
    return see(LINK(r)).log_softmax(1)


def predict(r: Tensor) -> Tensor:
    return answers(r).argmax(1)


def retrace(land: Landscape, problems: Problems, steps: int) -> Tensor:
    """The way of Δr once more, `[steps + 1, n, units]`."""
    descent = Descent(land, problems)
    return torch.stack([descent.shift, *(descent.step() for _ in range(steps))])


def landscape(**settings: object) -> Landscape:
    chosen = Settings(optimizer="published", learning_rate=0.02, max_steps=200, lambda2=1.0)
    return Landscape(LINK, head, see, Batches(3), None, torch.ones(UNITS), True, replace(chosen, **settings))


def wanted(seed: int = 4) -> Problems:
    r = draws(N, UNITS, seed=seed).abs()
    origin, target = head(r).topk(2).indices.T
    return Problems(r, origin, target, 0.1 * draws(N, UNITS, seed=5).abs())


def slow_search(land: Landscape, problems: Problems, k: int, predict: Callable[[Tensor], Tensor]) -> tuple[Tensor, int]:
    """One problem, one step at a time, the image looked at after every step (published rule, r ≥ 0)."""
    r, shift = problems.r[k], problems.start[k].clone()
    for step in range(land.settings.max_steps + 1):
        if int(predict((r + shift)[None])[0]) == int(problems.target[k]):
            return shift, step
        variable = shift.clone().requires_grad_()
        logits, w, original = head((r + variable)[None])[0], LINK((r + variable)[None])[0], LINK(r[None])[0]
        loss = -logits[problems.target[k]] + land.settings.lambda1 * logits[problems.origin[k]]
        loss = loss - land.settings.lambda2 * (w @ original) / (w.norm() * original.norm())
        loss.backward()
        assert variable.grad is not None
        shift = torch.maximum(shift - land.settings.learning_rate * variable.grad, -r)
    return shift, land.settings.max_steps


@pytest.mark.parametrize("every", [1, 4, 7, 500])
def test_every_problem_ends_where_plain_steps_end(every: int) -> None:
    land, problems = landscape(check_every=every), wanted()
    found = search(land, JUDGE, problems)
    assert found.success.sum() > 4 and found.steps.unique().numel() > 3
    for k in range(N):
        shift, steps = slow_search(land, problems, k, predict)
        assert int(found.steps[k]) == steps
        torch.testing.assert_close(found.shift[k], shift, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("optimizer", list(OPTIMIZERS))
def test_a_problem_does_not_know_of_the_others(optimizer: str) -> None:
    own = OPTIMIZERS[optimizer]
    metric = data_metric(draws(50, UNITS, seed=6)) if own.metric == "pairs" else None
    land = replace(
        landscape(optimizer=optimizer, learning_rate=own.learning_rate["link"] / 2, check_every=3), metric=metric
    )
    problems = wanted()
    together = search(land, JUDGE, problems)
    assert together.success.any()
    for k in range(N):
        alone = search(land, JUDGE, problems.rows(torch.tensor([k])))
        assert int(alone.steps[0]) == int(together.steps[k]) and bool(alone.success[0]) == bool(together.success[k])
        torch.testing.assert_close(alone.shift[0], together.shift[k], rtol=1e-4, atol=1e-5)


def test_the_image_is_asked_at_every_step_and_once_more_where_it_is_found() -> None:
    sizes = list[int]()

    def counted(r: Tensor) -> Tensor:
        sizes.append(len(r))
        return seen(r)

    problems = wanted()
    problems.target[:] = seen(problems.r).topk(2).indices[:, 1]
    land = landscape(objective="image", check_every=7, lambda2=0.1, learning_rate=0.2)
    found = search(land, Judge(counted), problems)
    assert found.success.sum() > 3 and sum(sizes) == int(found.success.sum())
    assert found.passes.equal(found.steps + 1 + found.success)
    path = retrace(land, problems, int(found.steps.max()))
    for k in found.success.nonzero()[:, 0].tolist():
        said = seen(problems.r[k] + path[: int(found.steps[k]) + 1, k]).argmax(1)
        assert (said == problems.target[k]).tolist() == [False] * int(found.steps[k]) + [True]
        torch.testing.assert_close(path[int(found.steps[k]), k], found.shift[k], rtol=1e-4, atol=1e-5)


def test_the_judge_wants_what_it_is_asked_for() -> None:
    r, target = torch.zeros(2, UNITS), torch.tensor([0, 0])
    told = Judge(lambda r: torch.tensor([[0.6, 0.3, 0.1], [0.3, 0.6, 0.1]]).log(), until=0.7)
    inside, beyond = (replace(told, until=None, slack=lambda r, far=far: torch.full((2,), far)) for far in (0.2, -0.1))
    assert (told(r, target) > 0).tolist() == [False, False]
    assert (replace(told, until=0.5)(r, target) > 0).tolist() == [True, False]
    assert (inside(r, target) > 0).tolist() == [True, False]
    assert (beyond(r, target) > 0).tolist() == [False, False]


def test_what_is_found_leaves_the_batch() -> None:
    sizes = list[int]()

    def counted(r: Tensor) -> Tensor:
        sizes.append(len(r))
        return answers(r)

    found = search(landscape(), Judge(counted), wanted())
    assert sizes == sorted(sizes, reverse=True) and sizes[0] == N and sizes[-1] < N
    assert sum(sizes) == int((found.steps + 1).sum())  # looked at before every step and after the last, no longer


def test_a_long_interval_needs_few_looks() -> None:
    looks = list[int]()

    def counted(r: Tensor) -> Tensor:
        looks.append(len(r))
        return answers(r)

    found = search(landscape(check_every=64), Judge(counted), wanted())
    located = int((found.success & (found.steps > 0)).sum())
    regular = sum(1 + -(-steps // 64) for steps in found.steps.tolist())
    assert located > 3 and sum(looks) - regular < 4 * located  # bisection takes 6


def test_the_image_one_step_earlier_is_not_of_the_target() -> None:
    land, problems = landscape(check_every=9), wanted()
    found = search(land, JUDGE, problems)
    path = retrace(land, problems, int(found.steps.max()))
    for k in found.success.nonzero()[:, 0].tolist():
        step = int(found.steps[k])
        said = predict(problems.r[k] + path[max(step - 1, 0) : step + 1, k]).tolist()
        assert said[-1] == int(problems.target[k]) and int(problems.target[k]) not in said[:-1]
        torch.testing.assert_close(path[step, k], found.shift[k], rtol=1e-4, atol=1e-5)


def test_a_search_that_fails_is_told() -> None:
    found = search(landscape(max_steps=3, check_every=2), Judge(lambda r: torch.zeros(len(r), CLASSES)), wanted())
    assert not found.success.any() and not found.diverged.any() and found.steps.tolist() == [3] * N
    assert found.shift.any(1).all()


def test_one_that_diverges_is_given_up_and_the_others_go_on() -> None:
    problems, land = wanted(), landscape()
    problems.r[0, 0] = 77.0
    broken = replace(land, head=lambda r: head(r) * torch.where(r[:, :1] > 70, torch.nan, 1))
    found = search(broken, Judge(lambda r: torch.where(r[:, :1] > 70, 0, answers(r))), problems)
    expected = search(land, JUDGE, problems.rows(torch.arange(1, N)))
    assert found.diverged.tolist() == [True] + [False] * (N - 1) and not found.success[0]
    assert found.shift[0].eq(0).all() and found.shift.isfinite().all()
    assert found.steps[1:].equal(expected.steps) and found.success[1:].equal(expected.success)


def test_activations_stay_non_negative_only_where_they_are() -> None:
    problems = wanted()
    bounded, free = (search(replace(landscape(), nonnegative=flag), JUDGE, problems) for flag in (True, False))
    assert (problems.r + bounded.shift).min() == 0  # the bound is reached, and kept
    assert (problems.r + free.shift).min() < 0


def test_adam_is_adam() -> None:
    x = draws(2, UNITS, seed=7)
    variable, memory = x.clone().requires_grad_(), torch.zeros(2, 2, UNITS)
    theirs = torch.optim.Adam([variable], lr=0.1)
    for step in range(1, 6):
        theirs.zero_grad()
        (variable**4).sum().backward()
        x = x - 0.1 * adam(4 * x**3, memory, step)
        theirs.step()
        torch.testing.assert_close(x, variable.detach(), rtol=1e-4, atol=1e-6)


def test_natural_steps_have_equal_length_in_the_metric() -> None:
    r = draws(40, UNITS, seed=8) @ draws(UNITS, UNITS, seed=9)
    metric = data_metric(r)
    torch.testing.assert_close(metric @ metric.T, r.T.cov(correction=0), rtol=1e-3, atol=1e-3)
    land = replace(landscape(optimizer="natural", learning_rate=0.3, l1=0.0), metric=metric, nonnegative=False)
    descent = Descent(land, wanted())
    step = descent.shift - descent.step()
    mahalanobis = (step @ torch.linalg.inv(r.T.cov(correction=0)) * step).sum(1).sqrt()
    torch.testing.assert_close(mahalanobis, torch.full((N,), 0.3), rtol=1e-2, atol=1e-3)


def test_the_soft_threshold_minimises_the_penalised_square() -> None:
    x, grid = torch.tensor([-1.4, -0.3, 0.0, 0.2, 2.0]), torch.linspace(-3, 3, 60001)
    values = 0.5 * (grid - x[:, None]) ** 2 + 0.5 * grid.abs()
    torch.testing.assert_close(shrunk(x, 0.5), grid[values.argmin(1)], atol=3e-4, rtol=0)


def test_a_penalty_moves_fewer_units() -> None:
    moved = [search(landscape(l1=l1), JUDGE, wanted()).shift.ne(0).sum(1).float().mean() for l1 in (0.0, 0.5, 1.0)]
    assert moved[0] > moved[1] > moved[2] > 0
