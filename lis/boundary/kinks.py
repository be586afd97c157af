"""Which measure of which part jumps where the answer changes, compared with its change elsewhere (paper §4.5; S7)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


def normalised(values: Tensor) -> Tensor:
    """Curves `[n, T, …]` divided by their largest |value|; NaN is passed over, a curve of 0 stays 0.

    Example:
        >>> normalised(torch.tensor([[0.0, 1.0, -4.0]]))
        tensor([[ 0.0000,  0.2500, -1.0000]])
    """
    largest = values.abs().nan_to_num(0).amax(1, keepdim=True)
    return values / torch.where(largest == 0, 1, largest)


@dataclass(frozen=True)
class Kinks:
    """Of curves `[n, …]`; NaN where a curve is not known on both sides of the boundary."""

    jump: Tensor
    """Change over the step that crosses the boundary."""
    elsewhere: Tensor
    """Mean |change| of the other steps."""
    score: Tensor
    """|jump| / mean |change| of all T − 1 steps: 1 as everywhere, T − 1 where all of the change is at the boundary."""
    bend: Tensor
    """Mean change per step after the boundary minus the one before it."""


def kinks(curves: Tensor, crossing: Tensor) -> Kinks:
    """How much curves jump and bend at a boundary.

    Args:
        curves: values at even steps, `[n, T, …]`.
        crossing: number of the step, from k to k + 1, that crosses: `[n]` int64.

    Example:
        >>> curve = torch.tensor([[0.0, 1.0, 2.0, 8.0, 9.0]])
        >>> found = kinks(curve, torch.tensor([2]))
        >>> [round(float(x), 3) for x in (found.jump, found.elsewhere, found.score, found.bend)]
        [6.0, 1.0, 2.667, 0.0]
    """
    steps = curves.diff(dim=1)
    place = torch.arange(steps.shape[1]).reshape(1, -1, *[1] * (steps.ndim - 2))
    at = crossing.reshape(-1, 1, *[1] * (steps.ndim - 2))
    jump = torch.where(place == at, steps, torch.nan).nansum(1)
    known = torch.where(place == at, steps, 0).isfinite().all(1)
    every = steps.abs().nanmean(1)
    found = {
        "jump": jump,
        "elsewhere": torch.where(place == at, torch.nan, steps.abs()).nanmean(1),
        "score": torch.where(every > 0, jump.abs() / every, torch.nan),
        "bend": torch.where(place > at, steps, torch.nan).nanmean(1)
        - torch.where(place < at, steps, torch.nan).nanmean(1),
    }
    return Kinks(**{name: torch.where(known, values, torch.nan) for name, values in found.items()})
