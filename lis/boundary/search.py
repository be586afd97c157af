"""The search for counterfactuals: many at once in R, each until its image is of the target class (paper §3.3)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Literal, Self

import torch
from torch import Tensor
from torch.nn import functional as F

from lis.rounding import linear, one_thread
from lis.types import Link

Rule = Callable[[Tensor, Tensor, int], Tensor]
"""Gradient `[n, units]`, memory `[n, 2, units]` (0 at first, written to), number of the step from 1 → what is taken off
Δr, before it is multiplied by the learning rate: `[n, units]`. No counterfactual knows of another."""
_DECAY = (0.9, 0.999)
_TINY = 1e-12


@dataclass(frozen=True)
class Settings:
    """How Δr is looked for."""

    optimizer: str = "published"
    """A name in `OPTIMIZERS`."""
    learning_rate: float = 0.5
    start: float = 1.0
    """Bound of the uniform start in every coordinate of the metric."""
    max_steps: int = 2000
    check_every: int = 1
    """Steps between two looks at the image."""
    lambda1: float = 0.6
    lambda2: float = 10.0
    l1: float = 0.0
    """Weight of ‖Δr / std‖₁."""


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
class SearchResult:
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
    def empty(cls, like: Tensor) -> Self:
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
    std: Tensor
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

    It follows from the start and the settings alone, and a start is known by its address
    (`lis.boundary.searches.starts`), so that a path need not be stored: it is its number of steps.

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
            moved = shrunk(moved, config.learning_rate * config.l1 * land.std)
        self.shift = land.within(self.problems.r, moved)
        return self.shift

    def keep(self, which: Tensor) -> None:
        """Goes on with some of the problems."""
        self.problems, self.shift = self.problems.rows(which), self.shift[which]
        self._memory, self._original = self._memory[which], self._original[which]


def search(land: Landscape, answers: Callable[[Tensor], Tensor], problems: Problems) -> SearchResult:
    """Looks for counterfactuals, all at once; those that are found leave the batch.

    The image is looked at before the first step, then every `check_every` steps, and after the last. Where it is of the
    target class, the first such step since the look before is located: the image one step earlier is not of the target
    class. An image that was of the target class between two looks, and at neither, is not seen.

    Args:
        land: loss, bounds and settings.
        answers: `r [n, units]` → logarithm of every class's probability for the image of f(r), `[n, classes]`.
        problems: what is wanted.
    """
    result, most = SearchResult.empty(problems.r), land.settings.max_steps
    descent, active, trails = Descent(land, problems), torch.arange(len(problems.r)), list[Trail]()
    trail, before = [descent.shift], torch.full_like(problems.start[:, 0], -torch.inf)
    while len(active):
        lost = ~descent.shift.isfinite().all(1)
        moved = torch.where(lost[:, None], 0, descent.shift)
        after = margin(answers(descent.problems.r + moved), descent.problems.target)
        hit = (after > 0) & ~lost
        result.shift[active], result.steps[active] = moved, descent.taken
        result.success[active], result.diverged[active] = hit.cpu(), lost.cpu()
        trails.append(Trail(active[hit.cpu()], torch.stack([x[hit] for x in trail]), before[hit], after[hit]))
        active = active[~(hit | lost).cpu()]
        descent.keep(~(hit | lost))
        before = after[~(hit | lost)]
        if descent.taken >= most:
            break
        steps = min(land.settings.check_every, most - descent.taken)
        trail = [descent.shift, *(descent.step() for _ in range(steps))] if len(active) else []
    _locate(result, trails, answers, problems)
    return result


def margin(answers: Tensor, target: Tensor) -> Tensor:
    """How far the target is ahead of the next class `[n]`: above 0 where `answers [n, classes]` name it.

    Example:
        >>> margin(torch.tensor([[1.0, 3.0, 2.5]]), torch.tensor([1]))
        tensor([0.5000])
    """
    ahead = answers.gather(1, target[:, None])[:, 0]
    return ahead - answers.scatter(1, target[:, None], -torch.inf).amax(1)


@dataclass(frozen=True, eq=False)
class Trail:
    """Δr of some problems since the look before they were found."""

    rows: Tensor
    """Indices of the problems, `[m]` int64."""
    shifts: Tensor
    """`[steps, m, units]`: the last is of the target class; the first is not, where there are more."""
    before: Tensor
    """Margin at the first of them, `[m]`."""
    after: Tensor
    """Margin at the last, `[m]`."""


def _locate(result: SearchResult, trails: list[Trail], answers: Callable[[Tensor], Tensor], problems: Problems) -> None:
    """The first step that reaches the target, for all problems at once.

    Margins at two steps say where the border should lie; every third guess is the middle, so that no more looks are
    needed than three times those of bisection, and mostly there are two.
    """
    ends = [(trail, column) for trail in trails if len(trail.shifts) > 1 for column in range(len(trail.rows))]
    if not ends:
        return
    rows = torch.stack([trail.rows[column] for trail, column in ends])
    subset = problems.rows(rows.to(problems.r.device))
    low, high = torch.zeros_like(rows), torch.tensor([len(trail.shifts) - 1 for trail, _ in ends])
    below, above = (torch.stack([getattr(t, name)[c] for t, c in ends]).cpu() for name in ("before", "after"))
    last, looks = high.clone(), 0
    while len(between := (high - low > 1).nonzero()[:, 0]):
        share = -below / (above - below) if looks % 3 < 2 else torch.full_like(below, 0.5)
        step = (low + ((high - low) * share).ceil().long()).clamp(low + 1, high - 1)[between]
        picked = zip(between.tolist(), step.tolist(), strict=True)
        shift = torch.stack([ends[i][0].shifts[k, ends[i][1]] for i, k in picked])
        there = subset.rows(between.to(subset.r.device))
        ahead = margin(answers(there.r + shift), there.target).cpu()
        hit = ahead > 0
        high[between[hit]], above[between[hit]] = step[hit], ahead[hit]
        low[between[~hit]], below[between[~hit]] = step[~hit], ahead[~hit]
        looks += 1
    result.shift[rows] = torch.stack([trail.shifts[k, c] for (trail, c), k in zip(ends, high.tolist(), strict=True)])
    result.steps[rows] -= last - high


def identity(original: Tensor, moved: Tensor) -> Tensor:
    """L_ID = f(r)·f(r + Δr) / (‖f(r)‖₂ ‖f(r + Δr)‖₂), paper Eq. 4: how far the picture is still the same.

    Args:
        original: f(r) `[n, w_dim]`.
        moved: f(r + Δr) `[n, w_dim]`.

    Returns:
        Cosines `[n]` in [-1, 1]; 0 where either is 0.

    Example:
        >>> import torch
        >>> identity(torch.tensor([[1.0, 0.0]]), torch.tensor([[2.0, 2.0]]))
        tensor([0.7071])
    """
    return F.cosine_similarity(original, moved, dim=1)


def counterfactual_loss(
    logits: Tensor, origin: Tensor, target: Tensor, identity: Tensor, lambda1: float = 0.6, lambda2: float = 10.0
) -> Tensor:
    """L = −o_target(r + Δr) + λ₁ o_orig(r + Δr) − λ₂ L_ID, paper Eq. 3.

    Args:
        logits: o(r + Δr) `[n, classes]`.
        origin: class c_orig `[n]` int64.
        target: class c_target `[n]` int64.
        identity: L_ID `[n]`.
        lambda1: λ₁.
        lambda2: λ₂.

    Returns:
        `[n]`, one loss per counterfactual: their gradients do not mix.

    Example:
        >>> import torch
        >>> logits = torch.tensor([[3.0, 1.0, 0.0]])
        >>> counterfactual_loss(logits, torch.tensor([0]), torch.tensor([1]), torch.tensor([0.5]))
        tensor([-4.2000])
    """
    of_target, of_origin = (logits.gather(1, which[:, None])[:, 0] for which in (target, origin))
    return -of_target + lambda1 * of_origin - lambda2 * identity


def gradient_descent(gradient: Tensor, memory: Tensor, step: int) -> Tensor:
    """The gradient g itself."""
    return gradient


def normalised(gradient: Tensor, memory: Tensor, step: int) -> Tensor:
    """g / ‖g‖₂: every step has the length of the learning rate.

    Example:
        >>> normalised(torch.tensor([[3.0, 4.0]]), torch.zeros(1, 2, 2), 1)
        tensor([[0.6000, 0.8000]])
    """
    return gradient / gradient.norm(dim=1, keepdim=True).clamp(min=_TINY)


def adam(gradient: Tensor, memory: Tensor, step: int) -> Tensor:
    """m̂ / (√v̂ + ε) with the decays 0.9 and 0.999 (Kingma & Ba 2015, Algorithm 1)."""
    corrected = []
    for index, (decay, power) in enumerate(zip(_DECAY, (1, 2), strict=True)):
        memory[:, index] = decay * memory[:, index] + (1 - decay) * gradient**power
        corrected.append(memory[:, index] / (1 - decay**step))
    return corrected[0] / (corrected[1].sqrt() + 1e-8)


@dataclass(frozen=True)
class Optimizer:
    """A rule with its metric and its usual numbers."""

    rule: Rule
    learning_rate: float
    start: float
    """Bound of the uniform start in every coordinate of the metric."""
    metric: Literal["units", "pairs"]
    """`units`: a step of 1 is one unit of activation. `pairs`: it is one standard deviation of the training pairs."""
    signed: bool = True
    """The start is uniform in [−start, start); False: in [0, start)."""


OPTIMIZERS = {
    "published": Optimizer(gradient_descent, 0.5, 1.0, "units", signed=False),
    "adam": Optimizer(adam, 0.02, 0.1, "units"),
    "natural": Optimizer(normalised, 0.1, 0.3, "pairs"),
}
"""What `counterfactuals.optimizer` can name.

With L Lᵀ = Σ, the covariance of the training pairs, `natural` descends in s where Δr = L s: a step goes where
activations vary, and so where an image can follow. In the metric of the units a step goes where the logits rise, which
no image need show.
"""


def data_metric(r: Tensor) -> Tensor:
    """L `[units, units]` with L Lᵀ = Σ, the covariance of activations `r [n, units]`, from its eigenvectors; float32.

    Example:
        >>> r = torch.tensor([[0.0, 1.0], [2.0, 1.0]])
        >>> (data_metric(r) @ data_metric(r).T).round(decimals=4) + 0.0
        tensor([[1., 0.],
                [0., 0.]])
    """
    with one_thread():  # searches begin at random numbers along the eigenvectors, whose signs are arbitrary
        values, vectors = torch.linalg.eigh(r.double().T.cov(correction=0))
    return (vectors * values.clamp(min=0).sqrt()).float()


def shrunk(shift: Tensor, threshold: Tensor | float) -> Tensor:
    """Soft threshold: the proximal step of an L1 penalty, after which small entries are exactly 0.

    Example:
        >>> shrunk(torch.tensor([[0.5, -2.0, 3.0]]), 1.0)
        tensor([[ 0., -1.,  2.]])
    """
    return shift.sign() * (shift.abs() - threshold).clamp(min=0)
