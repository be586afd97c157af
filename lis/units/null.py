"""Random directions in R that move w̃ as far as units do: what selectivity and relevance are held against."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from scipy.optimize import root_scalar
from torch import Tensor

from lis.streams import Stream
from lis.types import Link
from lis.units.perturbation import Perturbation, step_norm

EXACT = 1e-6
"""A step is as long as wanted within this share."""
_DOUBLINGS = 60


@torch.inference_mode()
def null_directions(
    link: Link, r: Tensor, std: Tensor, steps: Sequence[float], count: int, seed: int
) -> list[Perturbation]:
    """`count` random directions, centred on each sample.

    d ∝ g ⊙ σ with g standard normal (stream "null directions") and σ the units' standard deviations, so that no
    direction stands out in standardised units. Its length is chosen so that the mean of ‖w̃(last) − w̃(first)‖ over the
    samples is that of a unit, the units taken in turn.

    Args:
        link: the link.
        r: samples `[n, units]`.
        std: standard deviation of each unit, `[units]`; 0 for units that are left out.
        steps: ‖w̃(last) − w̃(first)‖ of each unit.
        count: how many.
        seed: of the run.

    Raises:
        ValueError: along a direction no step is as long.
    """
    draws = Stream("null directions", seed).normal(None, torch.arange(count), len(std)).to(r.device)
    found = []
    for k, draw in enumerate(draws * std):
        unit = Perturbation.along(f"random {k}", draw, -0.5, 0.5, relative=True)
        length = _reached(
            lambda s, unit=unit: step_norm(link, r, _of_length(unit, s)), steps[k % len(steps)], unit.name
        )
        found.append(_of_length(unit, length))
    return found


def _of_length(direction: Perturbation, length: float) -> Perturbation:
    return replace(direction, low=-length / 2, high=length / 2)


def _reached(step: Callable[[float], float], wanted: float, name: str) -> float:
    """The length whose `step` is the wanted one: at once where it is proportional, else by Brent's method."""
    first = step(1.0)
    length = wanted / first if first > 0 else 1.0
    if abs(step(length) - wanted) <= EXACT * wanted:
        return length
    for _ in range(_DOUBLINGS):
        if step(length) >= wanted:
            return float(root_scalar(lambda s: step(s) - wanted, bracket=(0.0, length), rtol=EXACT).root)
        length *= 2
    raise ValueError(
        f"direction {name!r} moves w by {step(length):g} at most, expected {wanted:g} as for a unit: fit another link "
        "(link=ridge), or set tuning.null_directions=0"
    )
