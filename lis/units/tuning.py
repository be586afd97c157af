"""One unit or direction in pictures: link, image, answer, and which true factor moved (paper §4.3, §4.4)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from lis.context import Context
from lis.linking.evaluation import TrueFactors
from lis.look import Look, Looker
from lis.types import Link
from lis.units.perturbation import Perturbation, perturbed, require_finite

STILL = 1e-5
"""A factor whose standard deviation is below this share of the largest does not vary but for rounding."""


@dataclass(frozen=True)
class Strip:
    """What becomes of n samples along a perturbation."""

    w: Tensor
    """w̃ `[n, steps, w_dim]`."""
    look: Look
    """Of the images, `[n, steps, …]`."""

    @property
    def flipped(self) -> Tensor:
        """Whether the prediction is another than at the first step: `[n, steps]` bool."""
        prediction = self.look.prediction
        return prediction != prediction[:, :1]


@torch.inference_mode()
def tune(looker: Looker, link: Link, r: Tensor, perturbation: Perturbation, values: Tensor) -> Strip:
    """Samples `r [n, units]` at each of `values [steps]`, generated and looked at.

    Raises:
        ValueError: the link gives a w̃ that is not finite, or as `Looker`.
    """
    w = perturbed(link, r, perturbation, values)
    require_finite(w, perturbation)
    return Strip(w, looker(w))


@dataclass(frozen=True)
class Truth:
    """The true factors of a generator that knows them."""

    names: tuple[str, ...]
    factors: Callable[[Tensor], Tensor]
    """`u [n, factors]` of `w [n, w_dim]`, on the CPU."""
    spread: Tensor
    """Standard deviation of each factor over some samples, `[factors]`; infinite for one that does not vary."""

    @classmethod
    def of(cls, ctx: Context, w: Tensor) -> Self | None:
        """The truth with its spread over samples `w [n, w_dim]`; None where the generator does not know it."""
        generator = ctx.generator
        if not isinstance(generator, TrueFactors):
            return None

        def factors(w: Tensor) -> Tensor:
            return generator.true_factors(w.to(ctx.device)).cpu()

        spread = factors(w).std(0, correction=0)
        return cls(
            tuple(generator.factor_names), factors, torch.where(spread > STILL * spread.max(), spread, torch.inf)
        )

    def moved(self, w: Tensor) -> Tensor:
        """Change of each factor `[n, factors]` from the first to the last step of `w [n, steps, w_dim]`, in spreads."""
        first, last = (self.factors(w[:, step]) for step in (0, -1))
        return (last - first) / self.spread

    def largest(self, moved: Tensor) -> tuple[list[str], Tensor]:
        """Names and changes `[n]` of the factors that move most in each row of `moved [n, factors]`."""
        top = moved.abs().argmax(1)
        return [self.names[k] for k in top.tolist()], moved.gather(1, top[:, None])[:, 0]
