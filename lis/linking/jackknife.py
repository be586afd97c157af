"""How well single rows of a linear link are known: the delete-one-block jackknife (Quenouille 1949, Tukey 1958)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from scipy.stats import t as student
from torch import Tensor

if TYPE_CHECKING:
    from lis.linking.linear import LeastSquares

LEVEL = 0.95
"""Coverage of the intervals."""


@dataclass(frozen=True)
class Jackknife:
    """Estimates and errors of a linear link's rows; float64."""

    coef: Tensor
    """Coefficients on all samples, `[units, w_dim]`."""
    coef_error: Tensor
    """Standard error of every coefficient, `[units, w_dim]`."""
    step_norm: Tensor
    """‖Δw‖ from a unit's minimum to its maximum, `[units]`."""
    low: Tensor
    """Lower end of the step norm's 95 % interval, at least 0, `[units]`."""
    high: Tensor
    """Upper end, `[units]`."""


def jackknife(moments: LeastSquares, ridge: float = 0.0) -> Jackknife:
    """Solves again without each of the k blocks, and takes Student's t with k − 1 degrees of freedom.

    The standard error of a statistic θ is √((k−1)/k Σ (θ₋ᵦ − mean θ₋)²). A block holds every k-th sample, so the
    blocks are alike in classes. The range of a unit is that of all samples throughout.

    Raises:
        ValueError: the moments were collected with fewer than two blocks.
    """
    k = moments.blocks
    if k < 2:
        raise ValueError(f"a jackknife over {k} block: expected 2 or more; collect with LeastSquares(blocks=10)")
    whole = moments.spectrum(ridge > 0)
    coef = whole.coefficients(ridge)
    rows = torch.stack([moments.spectrum(ridge > 0, leave_out=block).coefficients(ridge) for block in range(k)])
    steps = torch.stack([whole.step_norms(row) for row in rows])
    step_norm = whole.step_norms(coef)
    margin = float(student.ppf((1 + LEVEL) / 2, k - 1)) * _error(steps)
    return Jackknife(coef, _error(rows), step_norm, (step_norm - margin).clamp(min=0), step_norm + margin)


def _error(left_out: Tensor) -> Tensor:
    k = len(left_out)
    return ((left_out - left_out.mean(0)).square().sum(0) * (k - 1) / k).sqrt()
