"""The equations of least squares with a ridge, of units or of samples, and their solutions for every ridge."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lis.linking.moments import Moments, Samples
from lis.unit_ranges import UnitStatistics

CUT = 1e-12
"""Eigenvalues of K + h up to this share of the largest are cut: 1e-6 in singular values, as in scikit-learn ≥ 1.7."""
MARGIN = 10.0
"""How far above the cut the smallest eigenvalue is to be estimated, where links are solved for without eigenvalues."""
ILL_CONDITIONED = 1e7
"""From this condition number of K + h on, solutions are refined."""


@dataclass(frozen=True)
class NormalEquations:
    """(K + h) X = T; float64."""

    units: UnitStatistics
    live: Tensor
    """Units that take part, ascending, `[live]` int64."""
    scale: Tensor
    """σ, `[live]`."""
    mean_w: Tensor
    """`[w_dim]`."""
    variance_w: Tensor
    """Mean squared deviation, `[w_dim]`."""
    matrix: Tensor
    """K, of which only the lower triangle is read, `[m, m]`."""
    target: Tensor
    """T, the right-hand side, `[m, w_dim]`."""
    samples: Tensor | None
    """S, where the equations are those of the samples; None where they are those of the units."""

    @classmethod
    def of(cls, data: Moments | Samples, units: UnitStatistics, standardised: bool) -> NormalEquations:
        """Of the samples' own statistics `units`; with σ the standard deviation (`standardised`) or 1."""
        live = (~units.dead).nonzero()[:, 0]
        scale = units.std[live] if standardised else torch.ones_like(units.std[live])
        of = _of_samples(data, live, scale) if isinstance(data, Samples) else _of_moments(data, live, scale)
        return cls(units, live, scale, data.mean[data.units :], data.variance_w, *of)

    def solve(self, ridge: float) -> Tensor | None:
        """X `[m, w_dim]` by Cholesky factorisation; None where K + h may have an eigenvalue that is to be cut."""
        factor, failed = torch.linalg.cholesky_ex(self._regular(ridge))
        largest = self.matrix.trace() + ridge  # or less
        if failed or _smallest_eigenvalue(factor) <= MARGIN * CUT * largest:
            return None
        return torch.cholesky_solve(self.target, factor)

    def residual(self, solution: Tensor, ridge: float) -> Tensor:
        """T − (K + h) X, `[m, w_dim]`."""
        lower, diagonal = self.matrix.tril(), self.matrix.diagonal()[:, None]
        return self.target - lower @ solution - lower.T @ solution + (diagonal - ridge) * solution

    def coefficients(self, solution: Tensor) -> Tensor:
        """Coefficients on r, `[units, w_dim]`, of a solution X; 0 for dead units."""
        inner = solution if self.samples is None else self.samples.T @ (solution / self.units.count)
        coef = inner.new_zeros(len(self.units.mean), inner.shape[1])
        coef[self.live] = inner / self.scale[:, None]
        return coef

    def _regular(self, ridge: float) -> Tensor:
        """K + h; in the samples' space with the direction filled that centring has emptied, and T with it."""
        if self.samples is None and not ridge:
            return self.matrix
        empty = 0.0 if self.samples is None else self.matrix.trace() / len(self.matrix) ** 2
        matrix = self.matrix + empty
        matrix.diagonal().add_(ridge)
        return matrix


def _of_samples(data: Samples, live: Tensor, scale: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
    s, n = data.r[:, live] / scale, data.count
    if n <= len(live):
        return s @ s.T / n, data.w, s
    return s.T @ s / n, s.T @ data.w / n, None


def _of_moments(data: Moments, live: Tensor, scale: Tensor) -> tuple[Tensor, Tensor, None]:
    matrix = data.products[live[:, None], live]
    matrix /= data.count * scale
    matrix /= scale[:, None]
    return matrix, (data.products[data.units :, live] / (data.count * scale)).T, None


def _smallest_eigenvalue(factor: Tensor) -> Tensor:
    """Of L Lᵀ, from above, by inverse iteration from a few random directions."""
    x = torch.randn(len(factor), 8, dtype=factor.dtype, generator=torch.Generator().manual_seed(0)).to(factor.device)
    for _ in range(3):
        x = torch.cholesky_solve(x / torch.linalg.vector_norm(x, dim=0), factor)
    return 1 / torch.linalg.vector_norm(x, dim=0).max()  # infinite where there is no direction


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
        retained = gain[gain > 0]
        return float(retained.max() / retained.min()) if len(retained) else 1.0

    def _gain(self, ridge: float) -> Tensor:
        """1 / (Λ + h), 0 where cut."""
        shifted = self.eigenvalues + ridge
        return torch.where(shifted > CUT * shifted[-1:], 1 / shifted, 0.0)
