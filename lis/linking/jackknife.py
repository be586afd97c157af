"""How well single rows of a linear link are known: the delete-one-block jackknife (Quenouille 1949, Tukey 1958)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from scipy.stats import t as student
from torch import Tensor

from lis.linking.linear import LeastSquares, LinearLink

LEVEL = 0.95
"""Coverage of the intervals."""


@dataclass(frozen=True)
class Jackknife:
    """Steps of a linear link and how well they are known; float64."""

    coef_error: Tensor
    """Standard error of every coefficient, `[units, w_dim]`."""
    step_norm: Tensor
    """‖Δw‖ from a unit's minimum to its maximum, `[units]`."""
    low: Tensor
    """Lower end of the step norm's 95 % interval, at least 0, `[units]`."""
    high: Tensor
    """Upper end, `[units]`."""


def jackknife(moments: LeastSquares, link: LinearLink, ridge: float = 0.0) -> Jackknife:
    """Solves again without each of the k blocks, and takes Student's t with k − 1 degrees of freedom.

    The standard error of a statistic θ is √((k−1)/k Σ (θ₋ᵦ − mean θ₋)²). A block holds every k-th sample, so the
    blocks are alike in classes. The range of a unit is that of all samples throughout.

    Args:
        moments: the samples, in blocks.
        link: of all samples, with this ridge.
        ridge: relative to the number of samples.

    Raises:
        ValueError: the moments were collected with fewer than two blocks.
    """
    k, reach = moments.blocks, moments.statistics().reach
    if k < 2:
        raise ValueError(f"a jackknife over {k} block: expected 2 or more; collect with LeastSquares(blocks=10)")
    others = [moments.solve(ridge, leave_out=block) for block in range(k)]
    step_norm = link.step_norms(reach)
    margin = float(student.ppf((1 + LEVEL) / 2, k - 1)) * _error([other.step_norms(reach) for other in others])
    coef_error = _error([other.coef for other in others])
    return Jackknife(coef_error, step_norm, (step_norm - margin).clamp(min=0), step_norm + margin)


def _error(left_out: list[Tensor]) -> Tensor:
    return torch.stack(left_out).std(0, correction=0) * (len(left_out) - 1) ** 0.5
