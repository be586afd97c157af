"""One unit or direction in pictures: link, image, answer, and which true factor moved (paper §4.3, §4.4)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from lis.context import Context
from lis.images import to_uint8
from lis.linking.evaluation import TrueFactors
from lis.types import Link
from lis.units.perturbation import Perturbation, perturbed, require_finite

STILL = 1e-5
"""A factor whose standard deviation is below this share of the largest does not vary but for rounding."""


@dataclass(frozen=True)
class Strip:
    """What becomes of n samples along a perturbation: the pictures and the answers."""

    w: Tensor
    """w̃ `[n, steps, w_dim]`."""
    image: Tensor
    """Ĩ `[n, steps, 3, H, W]` uint8."""
    probability: Tensor
    """Softmax of the classifier's logits of Ĩ, `[n, steps, classes]`, over all classes that it knows."""

    @property
    def prediction(self) -> Tensor:
        """What the classifier calls each image: `[n, steps]` int64."""
        return self.probability.argmax(2)

    @property
    def flipped(self) -> Tensor:
        """Whether the prediction is another than at the first step: `[n, steps]` bool."""
        return self.prediction != self.prediction[:, :1]


@torch.inference_mode()
def tune(ctx: Context, link: Link, r: Tensor, perturbation: Perturbation, values: Tensor) -> Strip:
    """Samples `r [n, units]` at each of `values [steps]`, generated and classified batch by batch.

    Raises:
        ValueError: the link gives a w̃ that is not finite.
    """
    w = perturbed(link, r, perturbation, values)
    require_finite(w, perturbation)

    def shown(w: Tensor) -> tuple[Tensor, Tensor]:
        image = ctx.generator.synthesize(w.to(ctx.device))
        return to_uint8(image), ctx.classifier.head(ctx.classifier.features(image)).float().softmax(1).cpu()

    images, probabilities = zip(*ctx.batches().map(shown, w.flatten(0, 1)), strict=True)
    size = (len(r), len(values))
    return Strip(w, torch.cat(images).unflatten(0, size), torch.cat(probabilities).unflatten(0, size))


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
