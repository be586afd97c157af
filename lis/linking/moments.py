"""Means and centred second moments of a stream of pairs (r, w), in float64 and in bounded memory.

Chunks and whole streams are joined by Chan, Golub & LeVeque's formula (1983): the moments of a union are the sum of
the moments, plus n₁n₂/(n₁+n₂) times the outer product of the difference of the means. Every chunk is centred on its
own mean first, so a large constant offset costs no precision.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Self

import torch
from torch import Tensor

CHUNK = 1024
"""Samples that are cast to float64 at a time."""
STRIPE = 512
"""Columns per matrix product: the products above the diagonal stripe are never computed."""
CANCELLED = 1e-13
"""What is left of a sum of squares below this share of it is rounding."""


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

    @property
    def std(self) -> Tensor:
        """Standard deviation of every unit, `[units]`."""
        return (self.products.diagonal() / self.count).sqrt()

    @property
    def variance_w(self) -> Tensor:
        """Mean squared deviation, `[w_dim]`."""
        return self.squares / self.count

    def add(self, r: Tensor, w: Tensor) -> None:
        """Joins samples `r [n, units]`, `w [n, w_dim]` of any float type; n should be a few hundred or more."""
        for start in range(0, len(r), CHUNK):
            self._add(r[start : start + CHUNK], w[start : start + CHUNK])

    def _add(self, r: Tensor, w: Tensor) -> None:
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

    def without(self, other: Moments) -> Moments:
        """The moments of the samples that are left when some of them, at least one fewer, are taken away."""
        other = other.to(self.mean.device)
        count, units = self.count - other.count, self.units
        mean = self.mean + (self.mean - other.mean) * (other.count.double() / count)
        row = (mean - other.mean) * (count.double() * other.count / self.count).sqrt()
        products = (self.products - other.products).addr_(row, row[:units], alpha=-1)
        # A unit that varied only in what is taken away is constant from now on.
        variation = products.diagonal()
        variation[variation <= CANCELLED * self.products.diagonal()] = 0.0
        return Moments(count, mean, products, (self.squares - other.squares - row[units:] ** 2).clamp(min=0))

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


@dataclass(frozen=True)
class Samples:
    """Few samples, centred: what `Moments` sum up, before any sum; float64."""

    mean: Tensor
    """Mean of [r | w], `[units + w_dim]`."""
    r: Tensor
    """r − r̄, `[n, units]`."""
    w: Tensor
    """w − w̄, `[n, w_dim]`."""

    @classmethod
    def of(cls, r: Tensor, w: Tensor) -> Self:
        """Samples `r [n, units]`, `w [n, w_dim]` of any float type, n ≥ 1."""
        r, w = r.double(), w.double()
        mean_r, mean_w = r.mean(0), w.mean(0)
        return cls(torch.cat([mean_r, mean_w]), r - mean_r, w - mean_w)

    @property
    def count(self) -> int:
        """Samples."""
        return len(self.r)

    @property
    def units(self) -> int:
        """Width of r."""
        return self.r.shape[1]

    @property
    def std(self) -> Tensor:
        """Standard deviation of every unit, `[units]`."""
        return self.r.square().mean(0).sqrt()

    @property
    def variance_w(self) -> Tensor:
        """Mean squared deviation, `[w_dim]`."""
        return self.w.square().mean(0)


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


class Block:
    """Samples (r, w): kept as they are while they are at most as many as units, and summed up from then on.

    So a block takes no more room than its moments, and few samples can be solved for in their own space.

    Args:
        units: width of r.
        w_dim: width of w.
        device: where everything is kept.
    """

    def __init__(self, units: int, w_dim: int, device: torch.device) -> None:
        self.units, self.w_dim, self.device = units, w_dim, device
        self.count = 0
        """Samples so far."""
        self._parts = [(torch.empty(0, units, device=device), torch.empty(0, w_dim, device=device))]
        self._moments: Moments | None = None

    def add(self, r: Tensor, w: Tensor) -> None:
        """Joins samples `r [n, units]` and `w [n, w_dim]` of any float type."""
        self.count += len(r)
        if self.count > self.units:
            self._summed().add(r, w)
        elif len(r):
            self._parts.append((r.to(self.device, copy=True), w.to(self.device, copy=True)))

    def merge(self, other: Block) -> None:
        """Joins the samples of another block."""
        if other._moments is None:
            self.add(*other.samples())
        else:
            self._summed().merge(other._moments)
            self.count += other.count

    def samples(self) -> tuple[Tensor, Tensor]:
        """r `[n, units]` and w `[n, w_dim]`, all in one; of no more samples than units."""
        if len(self._parts) > 1:
            r, w = zip(*self._parts, strict=True)
            self._parts = [(torch.cat(r), torch.cat(w))]
        return self._parts[0]

    def moments(self) -> Moments:
        """The moments of all samples; not to be changed."""
        if self._moments is not None:
            return self._moments
        total = Moments.empty(self.units, self.w_dim, self.device)
        self.join(total)
        return total

    def join(self, total: Moments) -> None:
        """Adds all samples to moments."""
        if self._moments is None:
            total.add(*self.samples())
        else:
            total.merge(self._moments)

    def state(self) -> dict[str, Tensor]:
        """What is kept, as named tensors; `from_state` is the way back."""
        return dict(zip("rw", self.samples(), strict=True)) if self._moments is None else vars(self._moments)

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor]) -> Self:
        """What `state` was taken from; shares the tensors of moments."""
        if "r" in state:
            block = cls(state["r"].shape[1], state["w"].shape[1], state["r"].device)
            block.add(state["r"], state["w"])
            return block
        moments = Moments(**state)
        block = cls(moments.units, len(moments.squares), moments.mean.device)
        block._moments, block.count = moments, int(moments.count)
        return block

    def _summed(self) -> Moments:
        """The moments, from now on all that is kept."""
        if self._moments is None:
            self._moments = self.moments()
            self._parts = []
        return self._moments
