"""How a search steps downhill, and in which metric (paper §3.3)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from lis.rounding import one_thread

Rule = Callable[[Tensor, Tensor, int], Tensor]
"""Gradient `[n, units]`, memory `[n, 2, units]` (0 at first, written to), number of the step from 1 → what is taken off
Δr, before it is multiplied by the learning rate: `[n, units]`. No counterfactual knows of another."""
_DECAY = (0.9, 0.999)
_TINY = 1e-12


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
    learning_rate: Mapping[str, float]
    """By objective."""
    start: float
    """Bound of the uniform start in every coordinate of the metric."""
    metric: Literal["units", "pairs"]
    """`units`: a step of 1 is one unit of activation. `pairs`: it is one standard deviation of the training pairs."""
    signed: bool = True
    """The start is uniform in [−start, start); False: in [0, start)."""


OPTIMIZERS = {
    "published": Optimizer(gradient_descent, {"link": 0.5, "image": 0.5}, 1.0, "units", signed=False),
    "adam": Optimizer(adam, {"link": 0.02, "image": 0.1}, 0.1, "units"),
    "natural": Optimizer(normalised, {"link": 0.1, "image": 0.5}, 0.3, "pairs"),
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
