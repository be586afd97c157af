"""What is asked of activations: one unit, a group or any direction in R set to values in a range (paper §4.3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from lis.rounding import linear


@dataclass(frozen=True, eq=False)
class Perturbation:
    """The projection r·d on a direction d of R, ‖d‖ = 1, set to values in a range: r' = r + (v − r·d) d.

    Example:
        >>> r = torch.tensor([[1.0, 5.0]])
        >>> Perturbation.of_unit(0, low=0.0, high=4.0).applied(r, torch.tensor([0.0, 4.0])).tolist()
        [[[0.0, 5.0], [4.0, 5.0]]]
        >>> Perturbation.along("both", torch.tensor([3.0, 4.0]), -5.0, 5.0).project(r).tolist()
        [4.599999904632568]
    """

    name: str
    """A unit's number, or what a direction is called."""
    low: float
    """The first value of r·d."""
    high: float
    """The last value."""
    unit: int = -1
    """u where d is the unit vector e_u; −1 for another direction."""
    direction: Tensor | None = None
    """d `[units]`; None for a unit."""
    exact: tuple[int, ...] = ()
    """Units of which each is to arrive as it is asked: those of a group; empty for a unit, which is, and where only the
    direction as a whole is to arrive."""
    relative: bool = False
    """The values are counted from each sample's own projection: v is added to r·d."""

    @classmethod
    def of_unit(cls, unit: int, low: float, high: float) -> Self:
        """One unit, from `low` to `high`."""
        return cls(str(unit), low, high, unit)

    @classmethod
    def along(
        cls,
        name: str,
        direction: Tensor,
        low: float,
        high: float,
        relative: bool = False,
        exact: tuple[int, ...] = (),
    ) -> Self:
        """A direction `[units]` of any length; `low` and `high` are projections on the unit vector.

        Raises:
            ValueError: it has no finite length above 0.
        """
        norm = direction.norm()
        if not (norm.isfinite() and norm > 0):
            raise ValueError(f"direction {name!r} has length {float(norm):g}: expected a finite one above 0")
        return cls(name, low, high, direction=direction / norm, exact=exact, relative=relative)

    @property
    def label(self) -> str:
        """`unit 3`, or the direction's name: for messages."""
        return f"unit {self.unit}" if self.direction is None else self.name

    def values(self, steps: int) -> Tensor:
        """Values v `[steps]` float32, evenly from `low` to `high`."""
        return torch.linspace(self.low, self.high, steps)

    def project(self, r: Tensor) -> Tensor:
        """r·d `[n]` of `r [n, units]`."""
        return r[:, self.unit] if self.direction is None else linear(r, self.direction.to(r)[None])[..., 0]

    def shift(self, r: Tensor, values: Tensor) -> Tensor:
        """How far `r [n, units]` moves along d to reach `values [steps]`: `[n, steps]`."""
        values = values.to(r).expand(len(r), -1)
        return values if self.relative else values - self.project(r)[:, None]

    def applied(self, r: Tensor, values: Tensor) -> Tensor:
        """r' `[n, steps, units]` of `r [n, units]` with the projection at `values [steps]`."""
        return self._along(r[:, None].repeat(1, len(values), 1), self.shift(r, values))

    def without(self, r: Tensor) -> Tensor:
        """r − (r·d) d: what `r [n, units]` holds of the other directions."""
        return self._along(r.clone(), -self.project(r))

    def held(self, std: Tensor, live: Tensor) -> Tensor:
        """What is to arrive exactly, rows `[m, units]` that weigh r in standard deviations: a unit, each unit of a
        group, or the direction itself.

        Args:
            std: σ of each unit, `[units]`.
            live: those that count, `[units]` bool.
        """
        if self.exact or self.direction is None:
            return _rows(self.exact or (self.unit,), len(std)).to(std)
        row = (self.direction.to(std) / std).where(live, 0.0)
        return (row / row.norm())[None]

    def target(self, units: int) -> Tensor:
        """The change of r that a step of 1 asks for, d `[units]`."""
        return _rows((self.unit,), units)[0] if self.direction is None else self.direction

    def _along(self, r: Tensor, shift: Tensor) -> Tensor:
        """Adds `shift [...]` times d to `r [..., units]`, in place."""
        if self.direction is None:
            r[..., self.unit] += shift
            return r
        return r.add_(shift[..., None] * self.direction.to(r))


def _rows(chosen: tuple[int, ...], units: int) -> Tensor:
    """A row for each chosen unit, 1 there and 0 elsewhere: `[chosen, units]`."""
    result = torch.zeros(len(chosen), units)
    result[range(len(chosen)), chosen] = 1
    return result
