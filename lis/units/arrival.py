"""What of a change that is asked of R arrives in the network, once the images are encoded again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from lis.units.perturbation import Perturbation


def outmoved(own: Any, others: Any) -> Any:
    """Whether the other units move more than the one that is tuned, so that no meaning is read from its images.

    Args:
        own, others: means of these fields of `Arrival`, numbers or arrays; False where one is not known.

    Example:
        >>> outmoved(np.array([2.0, -0.3, np.nan]), np.array([0.5, 0.4, 0.4])).tolist()
        [False, True, False]
    """
    return others >= np.abs(own)


@dataclass(frozen=True)
class Arrival:
    """Of n samples, from the first to the last image of a unit or direction; float32.

    With r̃ the activations of an image and Δr̃ = r̃(last) − r̃(first). Units that are not live count nowhere but where one
    is tuned itself.
    """

    reencoded_share: Tensor
    """Δr̃·d over the change of r·d that was asked: `[n]`; 1 where all of it arrives."""
    own: Tensor
    """Δr̃·d in standard deviations of r·d, positive the way it was asked: `[n]`."""
    others: Tensor
    """Root mean square of the rest, Δr̃ − (Δr̃·d) d, over the other live units, each in its σ: `[n]`; NaN without any."""
    more: Tensor
    """Share of the other live units that move more than the tuned one, each in its σ: `[n]`, 0.5 for one that is like
    the others. NaN of a direction, where no unit is tuned, and without others."""

    @classmethod
    def of(cls, asked: Perturbation, first: Tensor, last: Tensor, std: Tensor, along: float) -> Self:
        """What arrived.

        Args:
            asked: the unit or direction, with its range.
            first: r̃ of the first images, `[n, units]`.
            last: r̃ of the last images.
            std: σ of each unit, `[units]`; infinite for units that are not live.
            along: standard deviation of r·d; of a unit its σ, live or not.

        Example:
            >>> unit = Perturbation.of_unit(0, low=0.0, high=4.0)
            >>> first, last = torch.tensor([[0.0, 1.0, 9.0]]), torch.tensor([[1.0, 3.0, 9.0]])
            >>> arrival = Arrival.of(unit, first, last, torch.tensor([2.0, 1.0, torch.inf]), along=2.0)
            >>> [float(x) for x in vars(arrival).values()]
            [0.25, 0.5, 2.0, 1.0]
        """
        change = last - first
        moved, span = asked.project(change), asked.high - asked.low
        own = moved / (along or torch.nan) * (-1 if span < 0 else 1)
        rest = (asked.without(change) / std).abs()
        counted = std.isfinite()
        if asked.unit >= 0:
            counted = counted & (torch.arange(len(std), device=std.device) != asked.unit)
            more = (rest[:, counted] > own.abs()[:, None]).float().mean(1).where(own.isfinite(), torch.nan)
            size = int(counted.sum())
        else:
            more, size = torch.full_like(own, torch.nan), int(counted.sum()) - 1
        others = (rest.square().sum(1) / (size if size > 0 else torch.nan)).sqrt()
        return cls(moved / (span or torch.nan), own, others, more)
