"""The search for counterfactuals: many at once in R, each until its image is of the target class (paper §3.3).

The paper goes down the logits of r + Δr (Eq. 3), which the image of f(r + Δr) need not share. `objective="image"` takes
the logits of the image itself, which is what a search is judged by.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Self

import torch
from torch import Tensor
from torch.nn import functional as F

from lis.boundary.optimizers import OPTIMIZERS, shrunk
from lis.linking.region import ClassRegion
from lis.memory import Batches
from lis.rounding import linear
from lis.types import Link

MOST_STEPS = {"image": 100, "link": 2000}
"""Usual steps at most, by objective."""


@dataclass(frozen=True)
class Settings:
    """How Δr is looked for."""

    objective: str = "link"
    """Whose logits are in the loss: `link`, those of r + Δr, as the paper has it; `image`, those of the image."""
    until: float | None = None
    """Probability of the target that the image is to have; None: it is the likeliest."""
    optimizer: str = "published"
    """A name in `OPTIMIZERS`."""
    learning_rate: float = 0.5
    start: float = 1.0
    """Bound of the uniform start in every coordinate of the metric."""
    max_steps: int = 2000
    check_every: int = 1
    """Steps between two looks at the image; with `image` every step looks at it."""
    lambda1: float = 0.6
    lambda2: float = 10.0
    l1: float = 0.0
    """Weight of ‖Δr / std‖₁."""
    near: float | None = None
    """Weight of the distance of w to the target's training pairs (`ClassRegion`); None: it counts nothing."""

    def described(self) -> dict[str, Any]:
        """By name, for keys and facts; `near` only where it is given: searches without it have the keys of before."""
        return {name: value for name, value in asdict(self).items() if name != "near" or value is not None}


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
    passes: Tensor
    """Images that were made for each, `[n]` int64; one with a gradient counts once."""
    ahead: Tensor
    """How far the target was ahead at the last look (`Judge`), `[n]`."""
    halfway: Tensor
    """The same at the last look in the first half of the steps, `[n]`."""

    @classmethod
    def empty(cls, like: Tensor) -> Self:
        """Of n searches from `like [n, units]`, none of which has begun."""
        flags, counts = torch.zeros(2, len(like), dtype=torch.bool), torch.zeros(2, len(like), dtype=torch.int64)
        ahead = torch.full((2, len(like)), -torch.inf)
        return cls(torch.zeros_like(like), counts[0], flags[0], flags[1], counts[1], ahead[0], ahead[1])


@dataclass(frozen=True)
class Judge:
    """Whether a search has what it wants: always a question to the image of f(r + Δr), whatever the loss looks at."""

    answers: Callable[[Tensor], Tensor]
    """`r [n, units]` → logarithm of every class's probability for the image of f(r), `[n, classes]`."""
    slack: Callable[[Tensor], Tensor] | None = None
    """`r [n, units]` → how far f(r) lies within the training samples, `[n]`: below 0 beyond 99 % of them. None: it may
    lie anywhere."""
    until: float | None = None
    """As in `Settings`."""

    def __call__(self, r: Tensor, target: Tensor) -> Tensor:
        """How far the target is ahead `[n]`: above 0 where the image of f(r) is what is wanted."""
        return self.of(self.answers(r), r, target)

    def of(self, answers: Tensor, r: Tensor, target: Tensor) -> Tensor:
        """The same of images whose `answers [n, classes]` are known."""
        ahead = margin(answers, target)
        if self.until is not None:
            ahead = torch.minimum(ahead, answers.gather(1, target[:, None])[:, 0] - math.log(self.until))
        return ahead if self.slack is None else torch.minimum(ahead, self.slack(r).to(ahead))


@dataclass(frozen=True)
class Landscape:
    """What the searches of a run share: where they go down, and within which bounds.

    Where R is non-negative, r + Δr ≥ 0 is kept by projection: after every step, and at the start, Δr becomes
    max(Δr, −r). The loss and the image therefore see the same activations, and a unit at 0 keeps its gradient.
    """

    link: Link
    head: Callable[[Tensor], Tensor]
    """`r [n, units]` → logits `[n, classes]`."""
    see: Callable[[Tensor], Tensor]
    """`w [n, w_dim]` → logits `[n, classes]` of its image; differentiable."""
    batches: Batches
    """How many images at once, with a gradient."""
    metric: Tensor | None
    """L `[units, units]`: what goes downhill is s with Δr = L s. None: Δr itself."""
    std: Tensor
    """What a unit's part in the L1 penalty is divided by, `[units]`."""
    nonnegative: bool
    settings: Settings
    regions: Mapping[int, ClassRegion] = field(default_factory=dict)
    """Of the classes that can be a target, by their index among the classifier's; needed with `near` alone."""

    def steepest(self, gradient: Tensor) -> Tensor:
        """Gradient by s, Lᵀg, `[n, units]` of a gradient by Δr."""
        return gradient if self.metric is None else linear(gradient, self.metric.T)

    def moved(self, s: Tensor) -> Tensor:
        """Δr = L s `[n, units]`."""
        return s if self.metric is None else linear(s, self.metric)

    @property
    def sees(self) -> bool:
        """Whether the loss is one of the image."""
        return self.settings.objective == "image"

    def loss(self, problems: Problems, shift: Tensor, original: Tensor) -> tuple[Tensor, Tensor]:
        """Eq. 3 + near · `distance`, `[n]`, for Δr = `shift [n, units]`, and its logits; `original` is f(r)."""
        moved, config = problems.r + shift, self.settings
        w = self.link(moved)
        logits = self.see(w) if self.sees else self.head(moved)
        same = identity(original, w)
        loss = counterfactual_loss(logits, problems.origin, problems.target, same, config.lambda1, config.lambda2)
        return loss if config.near is None else loss + config.near * self.distance(w, problems.target), logits

    def distance(self, w: Tensor, target: Tensor) -> Tensor:
        """How far `w [n, w_dim]` lies from the training pairs of each one's `target [n]`, `[n]`: see `ClassRegion`."""
        result = torch.zeros_like(w[:, 0])
        for index in target.unique().tolist():
            result[target == index] = self.regions[index].distance(w[target == index])
        return result

    def within(self, r: Tensor, shift: Tensor) -> Tensor:
        """Δr with r + Δr ≥ 0 where R is non-negative."""
        return torch.maximum(shift, -r) if self.nonnegative else shift


class Descent:
    """The way of Δr downhill, step by step, for all problems of a batch.

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
        self._slope: Tensor | None = None
        with torch.no_grad():
            self._original = land.link(problems.r)

    def look(self) -> Tensor:
        """Log probability of every class `[n, classes]`, of the logits that the loss takes; the slope there is kept."""
        every = torch.arange(len(self.shift), device=self.shift.device)
        parts = list(self.land.batches.map(self._part, every)) if self.land.sees else [self._part(every)]
        slopes, answers = zip(*parts, strict=True)
        self._slope = torch.cat(slopes)
        return torch.cat(answers)

    def _part(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Gradient of the loss by Δr, and `look`, of some of the problems."""
        with torch.inference_mode(False), torch.enable_grad():
            shift, problems = self.shift[rows].clone().requires_grad_(), self.problems.rows(rows)
            loss, logits = self.land.loss(problems, shift, self._original[rows].clone())
            (slope,) = torch.autograd.grad(loss.sum(), shift)
        return slope, logits.detach().float().log_softmax(1)

    def step(self) -> Tensor:
        """One step of all; Δr after it, `[n, units]`."""
        land, config = self.land, self.land.settings
        if self._slope is None:
            self.look()
        assert self._slope is not None
        self.taken += 1
        down = OPTIMIZERS[config.optimizer].rule(land.steepest(self._slope), self._memory, self.taken)
        moved = self.shift - config.learning_rate * land.moved(down)
        if config.l1:
            moved = shrunk(moved, config.learning_rate * config.l1 * land.std)
        self.shift, self._slope = land.within(self.problems.r, moved), None
        return self.shift

    def keep(self, which: Tensor) -> None:
        """Goes on with some of the problems."""
        self.problems, self.shift = self.problems.rows(which), self.shift[which]
        self._memory, self._original = self._memory[which], self._original[which]
        self._slope = None if self._slope is None else self._slope[which]


def search(land: Landscape, judge: Judge, problems: Problems) -> SearchResult:
    """Looks for counterfactuals, all at once; those that are found leave the batch.

    The image is looked at before the first step, then every `check_every` steps, and after the last. Where it is what
    is wanted, the first such step since the look before is located: the image one step earlier is not. An image that
    was it between two looks, and at neither, is not seen. Where the loss is one of the image, every step has looked at
    it already; what it finds is looked at once more as everything else is.

    Args:
        land: loss, bounds and settings.
        judge: says what is wanted.
        problems: from where to where.
    """
    result, most = SearchResult.empty(problems.r), land.settings.max_steps
    every = 1 if land.sees else land.settings.check_every
    descent, active, trails = Descent(land, problems), torch.arange(len(problems.r)), list[Trail]()
    trail, before = [descent.shift], torch.full_like(problems.start[:, 0], -torch.inf)
    while len(active):
        result.steps[active] = descent.taken
        lost = ~descent.shift.isfinite().all(1)
        if lost.any():
            result.diverged[active[lost.cpu()]] = True
            result.shift[active[lost.cpu()]] = 0
            active, before, trail = active[~lost.cpu()], before[~lost], [x[~lost] for x in trail]
            descent.keep(~lost)
            if not len(active):
                break
        after, looks = _ahead(descent, judge)
        hit = after > 0
        result.shift[active], result.ahead[active] = descent.shift, after.cpu()
        result.success[active] = hit.cpu()
        result.passes[active] += looks.cpu()
        if 2 * descent.taken <= most:
            result.halfway[active] = after.cpu()
        trails.append(Trail(active[hit.cpu()], torch.stack([x[hit] for x in trail]), before[hit], after[hit]))
        active, before = active[~hit.cpu()], after[~hit]
        descent.keep(~hit)
        if descent.taken >= most:
            break
        steps = min(every, most - descent.taken)
        trail = [descent.shift, *(descent.step() for _ in range(steps))] if len(active) else []
    _locate(result, trails, judge, problems)
    return result


def _ahead(descent: Descent, judge: Judge) -> tuple[Tensor, Tensor]:
    """How far the targets are ahead `[n]`, and the images that it took to know, `[n]` int64."""
    moved, target = descent.problems.r + descent.shift, descent.problems.target
    looks = torch.ones_like(target)
    if not descent.land.sees:
        return judge(moved, target), looks
    ahead = judge.of(descent.look(), moved, target)
    hit = ahead > 0
    if hit.any():
        ahead, looks = ahead.masked_scatter(hit, judge(moved[hit], target[hit])), looks + hit
    return ahead, looks


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


def _locate(result: SearchResult, trails: list[Trail], judge: Judge, problems: Problems) -> None:
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
        ahead = judge(there.r + shift, there.target).cpu()
        result.passes[rows[between]] += 1
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
