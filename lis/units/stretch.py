"""Ends of random directions further out in some samples of a class, where w stops in others before a unit's does."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import one_hot

EXACT = 1e-6
"""A step is as long as requested within this share."""
FURTHEST = 8.0
"""How many times further out than a unit a direction goes in some samples, at most, since w stops in others."""
_NEWTON = 12


def stretched(ends: Tensor, low: Tensor, high: Tensor, class_index: Tensor) -> Tensor:
    """Ends further out in some samples, so that w moves as far within each class though it stops in others.

    A direction that stops before a unit does would else move w less than the unit and never more, and whatever is held
    against it would be called too often. Of every class, the first ends and the last ones, and of these the ones to
    either side of f(r), are each multiplied by the factor with which their mean is what the unit has. What one side
    cannot have, since w stops in all samples, all go further by one more factor. None goes further than `FURTHEST`
    times, and of these, and of ends that only stop, those are taken whose mean length is nearest to the unit's.

    Args:
        ends: positions of the first and of the last step of S samples, `[…, S, 2]`.
        low: the outermost to one side, `[…, S, 1]`, 0 at most.
        high: to the other side, likewise, 0 at least.
        class_index: `[S]` int64.

    Returns:
        `[…, S, 2]` between `low` and `high`.

    Example:
        >>> ends, bound = torch.tensor([[-1.0, 2.0], [-1.0, 2.0]]), torch.tensor([[1.0], [9.0]])
        >>> stretched(ends, -9 * torch.ones(2, 1), bound, torch.tensor([0, 0])).tolist()
        [[-1.0, 1.0], [-1.0, 3.0]]
    """
    index = class_index.unique(return_inverse=True)[1]
    of_class = one_hot(index).T.to(ends)
    asked = torch.cat([-ends.clamp(max=0), ends.clamp(min=0)], -1)
    bound = torch.cat([-low, -low, high, high], -1).minimum(FURTHEST * asked)
    goal = of_class @ asked
    by_side = _further(asked, goal, bound, of_class, index)
    together = _further(by_side, goal.sum(-1, keepdim=True), bound, of_class, index)
    choices = [each[..., 2:] - each[..., :2] for each in (by_side, together, asked.minimum(bound))]
    missing = torch.cat([(of_class @ (lengths(each) - lengths(ends))[..., None]).abs() for each in choices], -1)
    missing = missing - EXACT * (of_class @ lengths(ends)[..., None])  # as good as none
    nearest = missing.clamp(min=0).argmin(-1)[..., index, None]
    return choices[0].where(nearest == 0, choices[1].where(nearest == 1, choices[2]))


def _further(distance: Tensor, goal: Tensor, bound: Tensor, of_class: Tensor, index: Tensor) -> Tensor:
    """Distances `[…, S, 4]`, those of each class by a factor further, that stop at their `bound`.

    The factor is found by Newton's method from below: what is left of the distances is concave in it.

    Args:
        distance: of the first and the last end to one side, and to the other; 0 where an end lies on the other.
        goal: sum over the samples of each class, `[…, C, 4]`, or `[…, C, 1]` of all four together.
        bound: as the distances.
        of_class: which samples belong to each class, `[C, S]`.
        index: class of each sample, `[S]`.
    """

    def total(values: Tensor) -> Tensor:
        return (of_class @ values).unflatten(-1, (goal.shape[-1], -1)).sum(-1)

    factor = torch.ones_like(goal)
    for _ in range(_NEWTON):
        moved = distance * factor[..., index, :]
        missing = goal - total(moved.minimum(bound))
        if (missing <= EXACT * goal).all():
            break
        slope = total(distance.where(moved < bound, 0.0))
        factor = torch.where(slope > 0, factor + missing / slope, factor).clamp(1, FURTHEST)
    return (distance * factor[..., index, :]).minimum(bound)


def lengths(ends: Tensor) -> Tensor:
    """How far apart two positions are, `[...]` of `ends [..., 2]`."""
    return ends.diff(dim=-1)[..., 0].abs()
