"""The forward model: what a change of w does to r, within classes, and how far w goes over the training samples.

A link is a backward model, w̃ = r·B + b; its rows are filters. A unit is moved by what *expresses* it, for which the
regression the other way is needed (Haufe et al. 2014, *NeuroImage* 87): r − r̄_c = (w − w̄_c)·Fᵀ, c the sample's class.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Self

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lis.linking.region import Region
from lis.linking.scatter import Folds, Scatter

RIDGES = (0.0, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Of which F's is chosen, relative to the mean variance of w along its axes."""
TOGETHER = 1e-5
"""What w does to some quantities, each of length 1, spans a direction less where its smallest singular value is at most
this share of the largest."""


@dataclass(frozen=True)
class Forward(Region):
    """F and what it rests on; float64. Everything is within classes."""

    gain: Tensor
    """F, `[units, w_dim]`: the change of r per step in w."""
    cross: Tensor
    """Cov(r, w), `[units, w_dim]`."""
    std: Tensor
    """σ of each unit over all training pairs, `[units]`."""
    live: Tensor
    """Which units are live, `[units]` bool: the others count nowhere."""

    @classmethod
    def fit(
        cls, r: Tensor, w: Tensor, class_index: Tensor, std: Tensor, live: Tensor
    ) -> tuple[Self, pd.DataFrame, pd.DataFrame]:
        """From pairs of training samples.

        Args:
            r: `[n, units]` of any float type.
            w: `[n, w_dim]`.
            class_index: `[n]` int64, ascending; every class has a sample.
            std: σ of each unit, `[units]`.
            live: `[units]` bool.

        Returns:
            The model; a table with a row per ridge: ridge, r2 (mean over live units, held out), chosen; and one with a
            row per unit: unit, r2 (share of its variance within classes that w tells of held-out samples, NaN for
            units that are not live).

        Raises:
            ValueError: w does not vary within classes, or there are too few samples to hold any out.
        """
        folds = Folds.of(r, w, class_index)
        region, total, parts, rests = Region.of(folds), folds.total, folds.parts, folds.rests
        r2 = torch.stack([_r2(parts, rests, ridge) for ridge in RIDGES]).where(live, torch.nan)
        best = int(r2.nanmean(1).nan_to_num(-torch.inf).argmax())
        model = cls(
            axes=region.axes,
            variance=region.variance,
            mean_w=region.mean_w,
            bound=region.bound,
            gain=total.gain(RIDGES[best]),
            cross=total.cross / total.count.sum(),
            std=std.double(),
            live=live,
        )
        ridges = pd.DataFrame({"ridge": RIDGES, "r2": r2.nanmean(1).cpu(), "chosen": np.arange(len(RIDGES)) == best})
        return model, ridges, pd.DataFrame({"unit": range(len(std)), "r2": r2[best].cpu()})

    @classmethod
    def unfitted(cls, w_dim: int, std: Tensor, live: Tensor) -> Self:
        """Of too few samples: w tells of no unit, and nobody knows where samples stop.

        Args:
            w_dim: width of w.
            std: σ of each unit, `[units]`.
            live: `[units]` bool.
        """
        nothing = torch.zeros(len(std), w_dim, dtype=torch.float64)
        span, mean_w, unknown = nothing.new_zeros(w_dim, 0), nothing.new_zeros(1, w_dim), nothing.new_tensor(torch.nan)
        region = (span, nothing.new_zeros(0), mean_w, unknown)
        return cls(*region, gain=nothing, cross=nothing.clone(), std=std.double(), live=live)

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor]) -> Self:
        """What `tensors` of a model gave."""
        return cls(**{field.name: tensors[field.name] for field in fields(cls)})

    @property
    def tensors(self) -> dict[str, Tensor]:
        """What `from_tensors` reads."""
        return {field.name: getattr(self, field.name).contiguous() for field in fields(self)}

    def silent(self, held: Tensor) -> list[int]:
        """Which of the held quantities, rows `[m, units]` as of `pattern`, w says nothing of: their indices."""
        return (~self._moved(held).any(1)).nonzero()[:, 0].tolist()

    def dependent(self, held: Tensor) -> int | None:
        """Index of the first held quantity, rows `[m, units]` as of `pattern`, that w moves only together with those
        before it; None where w can give each of them any value.

        Of a quantity that w says nothing of, see `silent`.
        """
        rows = self._moved(held)
        rows = rows / rows.norm(dim=1, keepdim=True)
        for count in range(2, len(rows) + 1):
            sizes = torch.linalg.svdvals(rows[:count])
            if count > rows.shape[1] or not sizes[-1] > TOGETHER * sizes[0]:
                return count - 1
        return None

    def pattern(self, target: Tensor, held: Tensor) -> Tensor:
        """Δw along what goes with the held quantities, so that F gives each of them exactly what the target asks.

        Δw = Q μ, with the columns of Q the covariances of w with the held quantities, and held·FΔw = held·target; for a
        single unit Cov(w, r_u) / (F Cov(w, r_u))_u.

        Args:
            target: t, the change of r that is asked, `[units]` in activations.
            held: the quantities that are to arrive exactly, rows `[m, units]`: functionals of r in standard deviations.

        Returns:
            Δw `[w_dim]`; not finite where w says nothing of a held quantity.
        """
        scaled, target = self._scaled(held), target.to(self.gain)
        q = self.axes @ (self.axes.T @ (scaled @ self.cross).T)
        return q @ _solved((scaled @ self.gain) @ q, scaled @ target)

    def least_leakage(self, target: Tensor, held: Tensor, penalty: float) -> Tensor:
        """The Δw whose predicted change is closest to the target, among those that give the held quantities exactly.

        min ‖(FΔw − t)/σ‖² / live + λ Δwᵀ Σ_w⁺ Δw, subject to held·FΔw = held·t, with Δw in the span of w.

        Args:
            target: t `[units]`, in activations; 0 where units are to stay.
            held: as for `pattern`.
            penalty: λ, above 0.

        Returns:
            Δw `[w_dim]`; not finite where w says nothing of a held quantity.
        """
        scaled, target = self._scaled(held), target.to(self.gain)
        values, vectors = self._spectrum
        asked = (target / self.std).where(self.live, 0.0)
        rows = self._moved(held) @ vectors
        inverse = 1 / (values + penalty)
        free = inverse * (vectors.T @ (self._standardised.T @ asked)) / self.live.sum()
        weights = _solved((rows * inverse) @ rows.T, scaled @ target - rows @ free)
        return self._whitened @ (vectors @ (free + inverse * (rows.T @ weights)))

    @property
    def expressed(self) -> Tensor:
        """How far w expresses each unit within classes, `[units]` in [0, 1]: the standard deviation of what w tells of
        it, √(Cov(r_u, w) Σ_w⁺ Cov(w, r_u)), over its σ; 0 for a unit of σ 0."""
        told = (self.cross @ (self.axes / self.variance.sqrt())).norm(dim=1)
        return torch.where(self.std > 0, told / self.std, 0.0)

    def _scaled(self, held: Tensor) -> Tensor:
        """Held quantities per activation, `[m, units]`; a unit that does not vary counts in none that leaves it out."""
        held = held.to(self.gain)
        return (held / self.std).where(held != 0, 0.0)

    def _moved(self, held: Tensor) -> Tensor:
        """Predicted change of held quantities per standard deviation along each axis, `[m, k]`."""
        return (self._scaled(held) @ self.gain) @ self._whitened

    @cached_property
    def _whitened(self) -> Tensor:
        """What makes Δw of a step in standard deviations along the axes, `[w_dim, k]`."""
        return self.axes * self.variance.sqrt()

    @cached_property
    def _standardised(self) -> Tensor:
        """Predicted change of each unit in σ per standard deviation along each axis, `[units, k]`; 0 if not live."""
        return ((self.gain @ self._whitened) / self.std[:, None]).where(self.live[:, None], 0.0)

    @cached_property
    def _spectrum(self) -> tuple[Tensor, Tensor]:
        """Of the mean over live units of the outer products of the rows above."""
        rows = self._standardised
        values, vectors = torch.linalg.eigh(rows.T @ rows / self.live.sum())
        return values.clamp(min=0), vectors


def _solved(matrix: Tensor, right: Tensor) -> Tensor:
    """X of matrix·X = right, scaled first; not finite where the matrix is singular."""
    scale = matrix.diagonal().abs().sqrt()
    solution, info = torch.linalg.solve_ex(matrix / scale[:, None] / scale, right / scale)
    return solution / scale if not info else torch.full_like(right, torch.nan)


def _held_out_errors(held: Scatter, rest: Scatter, ridge: float) -> tuple[Tensor, Tensor]:
    """`[units]`: squared errors of the rest's F on held-out samples, and their squares around the rest's means."""
    rest, held = rest.around(*rest.shifts), held.around(*rest.shifts)
    gain = rest.gain(ridge)
    explained = 2 * (gain * held.cross).sum(1) - ((gain @ held.products) * gain).sum(1)
    return held.squares - explained, held.squares


def _r2(parts: Sequence[Scatter], rests: Sequence[Scatter], ridge: float) -> Tensor:
    """Share of each unit's variance within classes that F tells of samples it was not fitted to, `[units]` float64."""
    errors = [_held_out_errors(part, rest, ridge) for part, rest in zip(parts, rests, strict=True)]
    left, whole = (torch.stack(list(column)).sum(0) for column in zip(*errors, strict=True))
    return 1 - left / whole
