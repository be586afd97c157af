"""Steps in pixels that move the answer as far as a counterfactual does: the contrast to it (paper §1, §2).

A counterfactual is meant to be seen. An adversarial image has the same effect on the classifier, and next to nothing
that a person would see. Both start from the image of f(r) and end where the target has the same probability.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

BLOCK = 4
"""Pixels, in both directions, over whose mean a change counts as coarse."""
_HALVINGS = 20


@dataclass(frozen=True)
class Steps:
    """How an image is moved."""

    length: float
    """Root mean square over the pixels of one step; images lie in [-1, 1]."""
    most: int
    """Steps at most."""


@dataclass(frozen=True)
class Attack:
    """What became of n images."""

    image: Tensor
    """`[n, 3, H, W]` in [-1, 1]."""
    probability: Tensor
    """Of the target, `[n]`."""
    reached: Tensor
    """Whether it is what was asked for, `[n]` bool."""
    steps: Tensor
    """Gradient steps taken, `[n]` int64."""


def attack(logits: Callable[[Tensor], Tensor], image: Tensor, target: Tensor, goal: Tensor, steps: Steps) -> Attack:
    """Move images straight up the log probability of their targets until it is as large as asked, and no further.

    x ← clamp(x + η g / rms(g)), g = ∂ log p_target / ∂x; each image that has reached its goal leaves the batch. Then
    the last step is shortened by bisection, so that the probability is the goal's and not one beyond it.

    Args:
        logits: images → logits `[n, classes]`; differentiable.
        image: starts, `[n, 3, H, W]` in [-1, 1].
        target: class of each, `[n]` int64.
        goal: probability of the target that is wanted, `[n]`, below 1.
        steps: η, and how many.
    """
    x, before = image.clone(), image.clone()
    taken = torch.zeros(len(x), dtype=torch.int64, device=x.device)
    p, gradient = _probability(logits, x, target)
    for _ in range(steps.most):
        going = (p < goal).nonzero()[:, 0]
        if not len(going):
            break
        before[going] = x[going]
        x[going] = _moved(x[going], gradient[going], steps.length)
        taken[going] += 1
        p[going], gradient[going] = _probability(logits, x[going], target[going])
    reached = p >= goal
    x = torch.where((reached & (taken > 0)).view(-1, 1, 1, 1), _shortened(logits, before, x, target, goal), x)
    with torch.no_grad():
        p = logits(x).float().softmax(1).gather(1, target[:, None])[:, 0]
    return Attack(x, p, reached, taken)


def _probability(logits: Callable[[Tensor], Tensor], x: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Probability of the targets `[n]`, and the gradient of its logarithm by the images."""
    with torch.inference_mode(False), torch.enable_grad():
        x = x.detach().clone().requires_grad_()
        log_p = logits(x).float().log_softmax(1).gather(1, target[:, None])[:, 0]
        (gradient,) = torch.autograd.grad(log_p.sum(), x)
    return log_p.detach().exp(), gradient


def _moved(x: Tensor, gradient: Tensor, length: float) -> Tensor:
    rms = gradient.square().mean((1, 2, 3), keepdim=True).sqrt()
    return (x + length * gradient / rms.clamp(min=1e-30)).clamp(-1, 1)


@torch.no_grad()
def _shortened(logits: Callable[[Tensor], Tensor], before: Tensor, after: Tensor, target: Tensor, goal: Tensor):
    """Where on the line from `before` to `after` the goal is first met, by bisection."""
    low, high = torch.zeros(len(before), 1, 1, 1).to(before), torch.ones(len(before), 1, 1, 1).to(before)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        p = logits(before + middle * (after - before)).float().softmax(1).gather(1, target[:, None])[:, 0]
        there = (p >= goal).view(-1, 1, 1, 1)
        low, high = torch.where(there, low, middle), torch.where(there, middle, high)
    return before + high * (after - before)


def difference(first: Tensor, last: Tensor) -> dict[str, Tensor]:
    """How far images `[n, 3, H, W]` in [-1, 1] are apart, in what a person may see: each `[n]`.

    - mse: mean squared difference of the pixels
    - largest: the largest difference of a pixel
    - coarse: share of the squared difference that is left when both are averaged over 4 × 4 pixels; NaN where they are
      equal. Next to nothing for noise, near 1 for a part that has moved or changed its colour.

    Example:
        >>> x = torch.zeros(1, 3, 8, 8)
        >>> {name: round(float(value), 3) for name, value in difference(x, x + 0.5).items()}
        {'mse': 0.25, 'largest': 0.5, 'coarse': 1.0}
    """
    moved = last.float() - first.float()
    mse = moved.square().mean((1, 2, 3))
    coarse = F.avg_pool2d(moved, BLOCK, ceil_mode=True).square().mean((1, 2, 3))
    return {"mse": mse, "largest": moved.abs().amax((1, 2, 3)), "coarse": coarse / torch.where(mse > 0, mse, torch.nan)}
