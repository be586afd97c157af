"""Means and centred second moments of a stream of pairs (r, w), in float64 and in bounded memory.

Chunks and whole streams are joined by Chan, Golub & LeVeque's formula (1983): the moments of a union are the sum of
the moments, plus n₁n₂/(n₁+n₂) times the outer product of the difference of the means. Every chunk is centred on its
own mean first, so a large constant offset costs no precision.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Self

import torch
from torch import Tensor

STRIPE = 512
"""Columns per matrix product: the products above the diagonal stripe are never computed."""


@dataclass
class Moments:
    """Count, mean and centred products of x = [r | w]; only what least squares reads is kept."""

    count: Tensor
    """Samples, int64 scalar."""
    mean: Tensor
    """Mean of x, `[units + w_dim]`."""
    products: Tensor
    """Σ (x − x̄)(r − r̄)ᵀ, `[units + w_dim, units]`: the Gram matrix of r (lower triangle) above the products w·rᵀ."""
    squares: Tensor
    """Σ (w − w̄)², `[w_dim]`."""

    @classmethod
    def empty(cls, units: int, w_dim: int, device: torch.device) -> Self:
        """The moments of no sample."""
        sizes = (units + w_dim,), (units + w_dim, units), (w_dim,)
        zeros = (torch.zeros(size, dtype=torch.float64, device=device) for size in sizes)
        return cls(torch.zeros((), dtype=torch.int64, device=device), *zeros)

    @property
    def units(self) -> int:
        """Width of r."""
        return self.products.shape[1]

    def add(self, r: Tensor, w: Tensor) -> None:
        """Joins a chunk `r [n, units]`, `w [n, w_dim]` of any float type; n should be a few hundred to thousand."""
        n, units = len(r), self.units
        x = torch.empty(n + 1, len(self.mean), dtype=torch.float64, device=self.mean.device)
        x[:n, :units], x[:n, units:] = r, w
        mean = x[:n].mean(0)
        x[:n] -= mean
        # Chan's outer product enters as one more row, so that it costs no pass over the products of its own.
        x[n] = self._join(torch.tensor(n, device=mean.device), mean)
        for start in range(0, units, STRIPE):
            stripe = slice(start, min(start + STRIPE, units))
            self.products[start:, stripe].addmm_(x[:, start:].T, x[:, stripe])
        self.squares += torch.linalg.vector_norm(x[:, units:], dim=0) ** 2

    def merge(self, other: Moments) -> None:
        """Joins the moments of other samples."""
        other = other.to(self.mean.device)
        row, units = self._join(other.count, other.mean), self.units
        self.products.add_(other.products).addr_(row, row[:units])
        self.squares += other.squares + row[units:] ** 2

    def _join(self, count: Tensor, mean: Tensor) -> Tensor:
        """Joins count and mean, and returns √(n₁n₂/(n₁+n₂)) times the difference of the means."""
        total = (self.count + count).clamp(min=1)
        shift = mean - self.mean
        row = shift * (self.count.double() * count / total).sqrt()
        self.mean += shift * (count / total.double())
        self.count += count
        return row

    def to(self, device: torch.device) -> Moments:
        """The moments on a device."""
        return Moments(**{field.name: getattr(self, field.name).to(device) for field in fields(self)})


@dataclass
class Extremes:
    """Range of every unit."""

    minimum: Tensor
    """`[units]` float64."""
    maximum: Tensor
    """`[units]` float64."""

    @classmethod
    def of(cls, r: Tensor) -> Self:
        """The extremes of `r [n, units]`, n ≥ 1; NaN where a unit has one."""
        low, high = torch.aminmax(r, dim=0)
        return cls(low.double(), high.double())

    def merge(self, other: Extremes) -> None:
        """Joins the extremes of other samples."""
        self.minimum = torch.minimum(self.minimum, other.minimum.to(self.minimum.device))
        self.maximum = torch.maximum(self.maximum, other.maximum.to(self.maximum.device))
