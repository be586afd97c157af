"""The search for counterfactuals: many at once in R, each until its image is of the target class (paper §3.3)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Self

import torch
from torch import Tensor

from lis.boundary.loss import counterfactual_loss, identity
from lis.boundary.rules import OPTIMIZERS, shrunk
from lis.rounding import linear
from lis.types import Link


@dataclass(frozen=True)
class Settings:
    """How Δr is looked for."""

    optimizer: str = "published"
    """A name in `OPTIMIZERS`."""
    learning_rate: float = 0.5
    max_steps: int = 2000
    check_every: int = 1
    """Steps between two looks at the image."""
    lambda1: float = 0.6
    lambda2: float = 10.0
    l1: float = 0.0
    """Weight of ‖Δr / spread‖₁."""


@dataclass(frozen=True, eq=False)
class Problems:
    """n counterfactuals that are wanted."""

    r: Tensor
    """Activations of the originals, `[n, units]`."""
    origin: Tensor
    """Their class among the classifier's, `[n]` int64."""
    target: Tensor
    """The class that is wanted, `[n]` int64."""
    start: Tensor
    """Δr before the first step, in the coordinates of the metric: `[n, units]`."""

    def rows(self, which: Tensor) -> Self:
        """Some of them."""
        return type(self)(*(getattr(self, field.name)[which] for field in fields(self)))


@dataclass(frozen=True, eq=False)
class Found:
    """What became of n searches."""

    shift: Tensor
    """Δr `[n, units]`: after the first step whose image is of the target class, or the last; 0 where it diverged."""
    steps: Tensor
    """Steps taken, `[n]` int64."""
    success: Tensor
    """`[n]` bool."""
    diverged: Tensor
    """Whether Δr was no longer finite, `[n]` bool: such a search is given up."""

    @classmethod
    def nothing(cls, like: Tensor) -> Self:
        """Of n searches from `like [n, units]`, none of which has begun."""
        flags = torch.zeros(2, len(like), dtype=torch.bool)
        return cls(torch.zeros_like(like), torch.zeros(len(like), dtype=torch.int64), *flags)


@dataclass(frozen=True)
class Landscape:
    """What the searches of a run share: where they go down, and within which bounds.

    Where R is non-negative, r + Δr ≥ 0 is kept by projection: after every step, and at the start, Δr becomes
    max(Δr, −r). The loss and the image therefore see the same activations, and a unit at 0 keeps its gradient.
    """

    link: Link
    head: Callable[[Tensor], Tensor]
    """`r [n, units]` → logits `[n, classes]`."""
    metric: Tensor | None
    """L `[units, units]`: what goes downhill is s with Δr = L s. None: Δr itself."""
    spread: Tensor
    """What a unit's part in the L1 penalty is divided by, `[units]`."""
    nonnegative: bool
    settings: Settings

    def steepest(self, gradient: Tensor) -> Tensor:
        """Gradient by s, Lᵀg, `[n, units]` of a gradient by Δr."""
        return gradient if self.metric is None else linear(gradient, self.metric.T)

    def moved(self, s: Tensor) -> Tensor:
        """Δr = L s `[n, units]`."""
        return s if self.metric is None else linear(s, self.metric)

    def loss(self, problems: Problems, shift: Tensor, original: Tensor) -> Tensor:
        """Eq. 3 `[n]` for Δr = `shift` `[n, units]`; `original` is f(r) `[n, w_dim]`."""
        moved, config = problems.r + shift, self.settings
        same = identity(original, self.link(moved))
        return counterfactual_loss(
            self.head(moved), problems.origin, problems.target, same, config.lambda1, config.lambda2
        )

    def within(self, r: Tensor, shift: Tensor) -> Tensor:
        """Δr with r + Δr ≥ 0 where R is non-negative."""
        return torch.maximum(shift, -r) if self.nonnegative else shift


class Descent:
    """The way of Δr downhill, step by step, for all problems of a batch. It depends on no image.

    Args:
        land: where it goes down.
        problems: what is wanted.
    """

    def __init__(self, land: Landscape, problems: Problems) -> None:
        self.land, self.problems = land, problems
        self.shift = land.within(problems.r, land.moved(problems.start))
        self.taken = 0
        self._memory = torch.zeros(len(problems.r), 2, problems.r.shape[1], device=problems.r.device)
        with torch.no_grad():
            self._original = land.link(problems.r)

    def step(self) -> Tensor:
        """One step of all; Δr after it, `[n, units]`."""
        land, config = self.land, self.land.settings
        shift = self.shift.detach().requires_grad_()
        with torch.enable_grad():
            loss = land.loss(self.problems, shift, self._original).sum()
        (gradient,) = torch.autograd.grad(loss, shift)
        self.taken += 1
        down = OPTIMIZERS[config.optimizer].rule(land.steepest(gradient), self._memory, self.taken)
        moved = shift.detach() - config.learning_rate * land.moved(down)
        if config.l1:
            moved = shrunk(moved, config.learning_rate * config.l1 * land.spread)
        self.shift = land.within(self.problems.r, moved)
        return self.shift

    def keep(self, which: Tensor) -> None:
        """Goes on with some of the problems."""
        self.problems, self.shift = self.problems.rows(which), self.shift[which]
        self._memory, self._original = self._memory[which], self._original[which]


def search(land: Landscape, answers: Callable[[Tensor], Tensor], problems: Problems) -> Found:
    """Looks for counterfactuals, all at once; those that are found leave the batch.

    The image is looked at before the first step, then every `check_every` steps, and after the last. Where it is of the
    target class, the first such step since the look before is located: the image one step earlier is not of the target
    class. An image that was of the target class between two looks, and at neither, is not seen.

    Args:
        land: loss, bounds and settings.
        answers: `r [n, units]` → logarithm of every class's probability for the image of f(r), `[n, classes]`.
        problems: what is wanted.
    """
    found, most = Found.nothing(problems.r), land.settings.max_steps
    descent, active, trails = Descent(land, problems), torch.arange(len(problems.r)), list[Trail]()
    trail, before = [descent.shift], torch.full_like(problems.start[:, 0], -torch.inf)
    while len(active):
        lost = ~descent.shift.isfinite().all(1)
        moved = torch.where(lost[:, None], 0, descent.shift)
        after = margin(answers(descent.problems.r + moved), descent.problems.target)
        hit = (after > 0) & ~lost
        found.shift[active], found.steps[active] = moved, descent.taken
        found.success[active], found.diverged[active] = hit.cpu(), lost.cpu()
        trails.append(Trail(active[hit.cpu()], torch.stack([x[hit] for x in trail]), before[hit], after[hit]))
        active = active[~(hit | lost).cpu()]
        descent.keep(~(hit | lost))
        before = after[~(hit | lost)]
        if descent.taken >= most:
            break
        steps = min(land.settings.check_every, most - descent.taken)
        trail = [descent.shift, *(descent.step() for _ in range(steps))] if len(active) else []
    _locate(found, trails, answers, problems)
    return found


def margin(answers: Tensor, target: Tensor) -> Tensor:
    """How far the target is ahead of the next class `[n]`: above 0 where `answers [n, classes]` name it.

    Example:
        >>> margin(torch.tensor([[1.0, 3.0, 2.5]]), torch.tensor([1]))
        tensor([0.5000])
    """
    own = answers.gather(1, target[:, None])[:, 0]
    return own - answers.scatter(1, target[:, None], -torch.inf).amax(1)


@dataclass(frozen=True, eq=False)
class Trail:
    """Δr of some problems since the look before they were found."""

    rows: Tensor
    """Places of the problems, `[m]` int64."""
    shifts: Tensor
    """`[steps, m, units]`: the last is of the target class; the first is not, where there are more."""
    before: Tensor
    """Margin at the first of them, `[m]`."""
    after: Tensor
    """Margin at the last, `[m]`."""


def _locate(found: Found, trails: list[Trail], answers: Callable[[Tensor], Tensor], problems: Problems) -> None:
    """The first step that reaches the target, for all problems at once.

    Margins at two steps say where the border should lie; every third guess is the middle, so that no more looks are
    needed than three times those of bisection, and mostly there are two.
    """
    ends = [(trail, column) for trail in trails if len(trail.shifts) > 1 for column in range(len(trail.rows))]
    if not ends:
        return
    rows = torch.stack([trail.rows[column] for trail, column in ends])
    own = problems.rows(rows.to(problems.r.device))
    low, high = torch.zeros_like(rows), torch.tensor([len(trail.shifts) - 1 for trail, _ in ends])
    below, above = (torch.stack([getattr(t, name)[c] for t, c in ends]).cpu() for name in ("before", "after"))
    last, looks = high.clone(), 0
    while len(between := (high - low > 1).nonzero()[:, 0]):
        share = -below / (above - below) if looks % 3 < 2 else torch.full_like(below, 0.5)
        step = (low + ((high - low) * share).ceil().long()).clamp(low + 1, high - 1)[between]
        picked = zip(between.tolist(), step.tolist(), strict=True)
        shift = torch.stack([ends[i][0].shifts[k, ends[i][1]] for i, k in picked])
        there = own.rows(between.to(own.r.device))
        ahead = margin(answers(there.r + shift), there.target).cpu()
        hit = ahead > 0
        high[between[hit]], above[between[hit]] = step[hit], ahead[hit]
        low[between[~hit]], below[between[~hit]] = step[~hit], ahead[~hit]
        looks += 1
    found.shift[rows] = torch.stack([trail.shifts[k, c] for (trail, c), k in zip(ends, high.tolist(), strict=True)])
    found.steps[rows] -= last - high


def retrace(land: Landscape, problems: Problems, steps: int) -> Tensor:
    """The way of Δr once more, `[steps + 1, n, units]`: it follows from the start and the settings alone.

    A start is known by its address (`lis.boundary.wanted.starts`), so that a path need not be kept: it is its number of
    steps.
    """
    descent = Descent(land, problems)
    return torch.stack([descent.shift, *(descent.step() for _ in range(steps))])
