"""A linear link for every ridge at once, from one eigendecomposition of its normal equations: K = V Λ Vᵀ.

X = V (Λ + h)⁻¹ Vᵀ T; the error on the training pairs and its degrees of freedom follow from Λ and Vᵀ T alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lis.linking.equations import CUT, NormalEquations

ILL_CONDITIONED = 1e7
"""From this condition number of K + h on, solutions are refined."""


@dataclass(frozen=True)
class Spectrum:
    """The eigendecomposition behind a linear link; float64."""

    equations: NormalEquations
    eigenvalues: Tensor
    """Λ, ascending, at least 0, `[m]`."""
    vectors: Tensor
    """V, one eigenvector per column, `[m, m]`."""
    projection: Tensor
    """Vᵀ T, `[m, w_dim]`."""

    @classmethod
    def of(cls, equations: NormalEquations) -> Spectrum:
        """Decomposes K."""
        eigenvalues, vectors = torch.linalg.eigh(equations.matrix)
        return cls(equations, eigenvalues.clamp(min=0), vectors, vectors.T @ equations.target)

    @property
    def condition(self) -> float:
        """Largest eigenvalue over the smallest that least squares keeps; 1 where it keeps none."""
        return self._condition(0.0)

    @property
    def rank(self) -> int:
        """Directions that the samples tell apart."""
        return int(self._gain(0.0).count_nonzero())

    def solution(self, ridge: float) -> Tensor:
        """X `[m, w_dim]` for a ridge relative to the number of samples."""
        gain = self._gain(ridge)[:, None]
        solution = self.vectors @ (gain * self.projection)
        if self._condition(ridge) > ILL_CONDITIONED:
            # An eigenvector of a small eigenvalue is known only to about condition · 1e-16: one step of refinement.
            solution += self.vectors @ (gain * (self.vectors.T @ self.equations.residual(solution, ridge)))
        return solution

    def mse(self, ridge: float) -> float:
        """Mean squared error on the training pairs, averaged over w_dim."""
        gain, power = self._gain(ridge), self.projection.square().mean(1)
        if self.equations.samples is not None:
            power *= self.eigenvalues / self.equations.units.count
        explained = gain * (2 - self.eigenvalues * gain) * power
        return max(0.0, float(self.equations.variance_w.mean() - explained.sum()))

    def gcv_mse(self, ridge: float) -> float:
        """Generalised cross-validation (Golub, Heath & Wahba 1979): mse / (1 − d/n)², d the degrees of freedom.

        d counts the intercept. Infinite where the fit has as many degrees of freedom as samples.
        """
        n = self.equations.units.count
        spare = n - 1 - float((self.eigenvalues * self._gain(ridge)).sum())
        return self.mse(ridge) * (n / spare) ** 2 if spare > 1e-9 * n else float("inf")

    def _condition(self, ridge: float) -> float:
        gain = self._gain(ridge)
        kept = gain[gain > 0]
        return float(kept.max() / kept.min()) if len(kept) else 1.0

    def _gain(self, ridge: float) -> Tensor:
        """1 / (Λ + h), 0 where cut."""
        shifted = self.eigenvalues + ridge
        return torch.where(shifted > CUT * shifted[-1:], 1 / shifted, 0.0)
