"""Least squares and ridge for every ridge at once, from one eigendecomposition.

With s = (r − r̄)/σ, K = E[s sᵀ] = V Λ Vᵀ and E[s wᵀ], the coefficients on s are V (Λ + h)⁻¹ Vᵀ E[s wᵀ]. For h > 0 the
units are standardised (σ their standard deviation), so that the ridge is blind to their scales; for h = 0, plain least
squares, σ = 1, so that among equal solutions the shortest is taken, as LAPACK's gelsd does for the paper's regression.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lis.linking.moments import Moments
from lis.linking.units import UnitStatistics

CUT = 1e-12
"""Eigenvalues up to this share of the largest are cut: 1e-6 in singular values, as in scikit-learn ≥ 1.7."""

ILL_CONDITIONED = 1e7
"""From this condition number on, least squares is refined."""


@dataclass(frozen=True)
class Spectrum:
    """The eigendecomposition behind a linear link; float64."""

    units: UnitStatistics
    scale: Tensor
    """σ, `[units]`; infinite for dead units, which leaves them out."""
    mean_w: Tensor
    """`[w_dim]`."""
    variance_w: Tensor
    """Mean squared deviation, `[w_dim]`."""
    eigenvalues: Tensor
    """Λ, ascending, `[units]`; 0 where cut."""
    vectors: Tensor
    """V, one eigenvector per column, `[units, units]`."""
    projection: Tensor
    """Vᵀ E[s wᵀ], `[units, w_dim]`."""

    @classmethod
    def of(cls, moments: Moments, units: UnitStatistics, standardised: bool) -> Spectrum:
        """Decomposes the units' correlation matrix (`standardised`) or their covariance matrix."""
        n, width = units.count, moments.units
        scale = torch.where(units.dead, torch.inf, units.std if standardised else 1.0)
        matrix = moments.products[:width] / (n * scale)
        matrix /= scale[:, None]
        eigenvalues, vectors = torch.linalg.eigh(matrix)
        eigenvalues = torch.where(eigenvalues > CUT * eigenvalues[-1], eigenvalues, 0.0)
        cross = (moments.products[width:] / (n * scale)).T
        projection = vectors.T @ cross
        result = cls(units, scale, moments.mean[width:], moments.squares / n, eigenvalues, vectors, projection)
        if not standardised and result.condition > ILL_CONDITIONED:
            projection += vectors.T @ result._residual(matrix, cross)
        return result

    @property
    def condition(self) -> float:
        """Largest eigenvalue over the smallest that was kept; 1 where none was."""
        kept = self.eigenvalues[self.eigenvalues > 0]
        return float(kept[-1] / kept[0]) if len(kept) else 1.0

    @property
    def rank(self) -> int:
        """Directions that the samples tell apart."""
        return int(self.eigenvalues.count_nonzero())

    def coefficients(self, ridge: float = 0.0) -> Tensor:
        """Coefficients on r, `[units, w_dim]`, for a ridge relative to the number of samples."""
        return self.vectors @ (self._gain(ridge)[:, None] * self.projection) / self.scale[:, None]

    def step_norms(self, coef: Tensor) -> Tensor:
        """‖Δw‖ when a unit goes from its minimum to its maximum, `[units]`."""
        return self.units.reach * torch.linalg.vector_norm(coef, dim=1)

    def mse(self, ridge: float) -> float:
        """Mean squared error on the training pairs, averaged over w_dim."""
        gain = self._gain(ridge)
        explained = (gain * (2 - self.eigenvalues * gain))[:, None] * self.projection**2
        return max(0.0, float((self.variance_w - explained.sum(0)).mean()))

    def gcv_mse(self, ridge: float) -> float:
        """Generalised cross-validation (Golub, Heath & Wahba 1979): mse / (1 − d/n)², d the degrees of freedom.

        d counts the intercept. Infinite where the fit has as many degrees of freedom as samples.
        """
        n = self.units.count
        spare = n - 1 - float((self.eigenvalues * self._gain(ridge)).sum())
        return self.mse(ridge) * (n / spare) ** 2 if spare > 1e-9 * n else float("inf")

    def _residual(self, matrix: Tensor, cross: Tensor) -> Tensor:
        """What the least squares solution leaves of the normal equations: one step of iterative refinement.

        An eigenvector of a small eigenvalue is known only to about condition · 1e-16. `matrix` has its lower triangle.
        """
        solution, lower = self.vectors @ (self._gain(0.0)[:, None] * self.projection), matrix.tril_()
        return cross - lower @ solution - lower.T @ solution + lower.diagonal()[:, None] * solution

    def _gain(self, ridge: float) -> Tensor:
        return torch.where(self.eigenvalues > 0, 1 / (self.eigenvalues + ridge), 0.0)
