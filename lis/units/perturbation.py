"""Moving activations along one unit or any direction in R, and what a link makes of them (paper §4.3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from lis.rounding import linear
from lis.types import Link


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
    relative: bool = False
    """The values are counted from each sample's own projection: v is added to r·d."""

    @classmethod
    def of_unit(cls, unit: int, low: float, high: float) -> Self:
        """One unit, from `low` to `high`."""
        return cls(str(unit), low, high, unit)

    @classmethod
    def along(cls, name: str, direction: Tensor, low: float, high: float, relative: bool = False) -> Self:
        """A direction `[units]` of any length; `low` and `high` are projections on the unit vector.

        Raises:
            ValueError: it has no finite length above 0.
        """
        norm = direction.norm()
        if not (norm.isfinite() and norm > 0):
            raise ValueError(f"direction {name!r} has length {float(norm):g}: expected a finite one above 0")
        return cls(name, low, high, direction=direction / norm, relative=relative)

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

    def linked(self, link: Link, device: torch.device) -> Tensor | None:
        """dᵀB `[w_dim]` on the link's `device`: the change of w̃ per step of 1 along d; None for a link that bends.

        What has a `direction` is taken as linear.
        """
        of_unit = getattr(link, "direction", None)
        if of_unit is None:
            return None
        if self.direction is None:
            return of_unit(self.unit)
        d = self.direction.double().to(device)
        return link(torch.stack([torch.zeros_like(d), d])).diff(dim=0)[0]

    def _along(self, r: Tensor, shift: Tensor) -> Tensor:
        """Adds `shift [...]` times d to `r [..., units]`, in place."""
        if self.direction is None:
            r[..., self.unit] += shift
            return r
        return r.add_(shift[..., None] * self.direction.to(r))


def perturbed(link: Link, r: Tensor, perturbation: Perturbation, values: Tensor) -> Tensor:
    """w̃ of samples that take each of a number of values along a direction.

    w̃ = f(r + s·d) with s = v − r·d, for any link f; where it is linear, f(r) + s·dᵀB, so that r is multiplied once.

    Args:
        link: f.
        r: activations `[n, units]`.
        perturbation: d.
        values: v `[steps]`.

    Returns:
        `[n, steps, w_dim]`, in r's dtype.

    Raises:
        ValueError: a w̃ is not finite; names the unit or direction and its range.

    Example:
        >>> from lis.linking.linear import LinearLink
        >>> double = LinearLink.of(2 * torch.eye(2), torch.zeros(2))
        >>> unit = Perturbation.of_unit(0, low=0.0, high=3.0)
        >>> perturbed(double, torch.tensor([[1.0, 5.0]]), unit, unit.values(2)).tolist()
        [[[0.0, 10.0], [6.0, 10.0]]]
    """
    linked = perturbation.linked(link, r.device)
    if linked is None:
        moved = perturbation.applied(r, values)
        w = link(moved.flatten(0, 1)).unflatten(0, moved.shape[:2])
    else:
        w = link(r)[:, None] + (perturbation.shift(r, values)[..., None] * linked).to(r.dtype)
    return _finite(w, perturbation)


def step_norm(link: Link, r: Tensor, perturbation: Perturbation) -> float:
    """Mean of ‖w̃(high) − w̃(low)‖ over samples `r [n, units]`; the same for each where the link is linear.

    Raises:
        ValueError: it is not finite.
    """
    linked = perturbation.linked(link, r.device)
    if linked is None:
        step = perturbed(link, r, perturbation, perturbation.values(2)).diff(dim=1)[:, 0].norm(dim=1).mean()
    else:
        step = abs(perturbation.high - perturbation.low) * linked.norm()
    return float(_finite(step, perturbation))


def _finite(w: Tensor, perturbation: Perturbation) -> Tensor:
    """What a perturbation gives, checked."""
    if not w.isfinite().all():
        raise ValueError(
            f"the link gives no finite w for {perturbation.label} between {perturbation.low:g} and "
            f"{perturbation.high:g}: expected finite numbers; fit another link (link=ridge)"
        )
    return w
