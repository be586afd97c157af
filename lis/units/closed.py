"""A change that is checked against the network itself: Gauss–Newton through classifier ∘ generator.

The forward model is one for all samples; the network bends. Here each sample has a Jacobian of its own, taken again
after every step, so that what its *own image* shows reaches the value while the other units stay at what the image of
f(r) has. It takes a hundred passes and more for each unit, sample and value, where the other ways take one.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Sequence
from functools import partial
from typing import Self

import torch
from torch import Tensor

from lis.context import Context
from lis.linking.forward import TOGETHER, Forward
from lis.memory import GIB
from lis.types import encode as encode_style
from lis.units.jacobians import Encode, Jacobians, Local, require_derivatives
from lis.units.perturbation import Perturbation

log = logging.getLogger(__name__)
STEPS = 3
"""Of Gauss–Newton for each value."""
PENALTY = 0.1
"""λ where `tuning.penalty` says nothing."""
SILENT = 0.1
"""Where a sample's own derivative of what is asked is below this share of the forward model's, as that of a ReLU which
is off, the forward model's is taken for the step."""
SHARES = (1.0, 0.5, 0.25)
"""Of a step that are tried."""
HELD = 10.0
"""How much more what is asked counts than what the others do, where the best part of a step is looked for."""
GAINS = 0.98
"""A sample whose last step left more of what was lost is not moved further."""
CACHED = GIB // 4
"""Bytes of Jacobians that are kept for the units to come, and of those that are held at once."""


def validate_closed(ctx: Context) -> None:
    """Checks, before any work, that the models of a run have derivatives.

    Raises:
        ValueError: they have none.
    """
    require_derivatives(_encode(ctx), ctx.generator.mean_w[:1].to(ctx.device))


def _encode(ctx: Context) -> Encode:
    return partial(encode_style, ctx.classifier, ctx.generator)


class Closed:
    """Style codes whose own images show what is asked.

    Args:
        jacobians: of r̃ by w.
        forward: σ of the units, which are live, and where w stops.
        penalty: λ, as of `Forward.least_leakage`.
    """

    def __init__(self, jacobians: Jacobians, forward: Forward, penalty: float) -> None:
        self.jacobians, self.forward, self.penalty = jacobians, forward, penalty
        self._cache: OrderedDict[bytes, Local] = OrderedDict()
        self._told = False
        device, whitened = jacobians.device, jacobians.whitened
        self._std, self._live = forward.std.to(device), forward.live.to(device)
        self._predicted = forward.gain.to(device) @ whitened

    @classmethod
    def of(cls, ctx: Context, forward: Forward, penalty: float) -> Self:
        """Of the models of a run."""

        return cls(Jacobians(_encode(ctx), forward, ctx.batches(gradient=True), ctx.device), forward, penalty)

    @property
    def cost(self) -> str:
        """What it takes, in words; known once there is a Jacobian, and told before the first sample is moved."""
        mode = ("forward", "reverse")[not self.jacobians.forwards]
        return (
            f"{self._first} passes of generator and classifier for the first value of a unit in a sample to each side "
            f"of its own, {self._further} for each further value, at most, and {self.jacobians.passes} for each "
            f"sample, which its units share ({mode} mode)"
        )

    def passes(self, units: int, samples: int, values: int) -> int:
        """Of generator and classifier that so many values of each unit in each sample take, at most."""
        return samples * (self.jacobians.passes + units * (self._first + (values - 1) * self._further))

    @property
    def _first(self) -> int:
        return self._further - self.jacobians.passes

    @property
    def _further(self) -> int:
        return STEPS * (self.jacobians.passes + 1 + 2 * len(SHARES))

    def moved(self, base: Tensor, asked: Sequence[Perturbation], values: Tensor) -> Tensor:
        """w of samples whose images are to take each of a number of values along each of P units or directions.

        With r̃ of an image and r̃₀ of that of the base, sought is Δw in the span of w with d·r̃ = v (or d·r̃₀ + v, of
        values that are counted from each sample's own) and all else as in r̃₀. Each of `STEPS` steps solves
        min ‖(J δ − e)/σ‖² / live + λ ‖x + δ‖², subject to held·J δ = held·e, where e is what is still missing, J the
        derivative of r̃ where the sample now is, and x, δ and Δw are counted in standard deviations along the axes of
        w; then w stops where 99 % of held-out samples do. Values begin where the nearest one towards the sample ended.

        Args:
            base: f(r), `[n, w_dim]`.
            asked: the units or directions; as many quantities are held in each.
            values: v `[P, steps]`.

        Returns:
            `[P, n, steps, w_dim]` float64, on the CPU.

        Raises:
            ValueError: as `Jacobians`.
        """
        parts = [self._moved_together(some, asked, values) for some in base.split(self._gains_at_once)]
        return torch.cat(parts, 1)

    def _moved_together(self, base: Tensor, asked: Sequence[Perturbation], values: Tensor) -> Tensor:
        """The same of as many samples as derivatives are held of."""
        start = self._at(base)
        if not self._told:
            log.info("tuning.along=closed: %s", self.cost)
            self._told = True
        shift = torch.stack([p.shift(start.r, v.to(start.r)) for p, v in zip(asked, values, strict=True)]).double()
        depth, before = _ordered(shift)
        held = torch.stack([p.held(self._std, self._live) for p in asked])
        target = torch.stack([p.target(len(self._std)).to(self._std) for p in asked])
        x = torch.zeros(*shift.shape, start.gain.shape[2], dtype=torch.float64, device=shift.device)
        for level in range(int(depth.max()) + 1):
            moving = ((depth == level) & (shift != 0)).nonzero()
            for rows in moving.split(self._gains_at_once) if len(moving) else ():
                p, i, t = rows.unbind(1)
                first = None if level else Local(start.r[i], start.gain[i])
                begun = x[p, i, before[p, i, t]] if level else x[p, i, t]
                goal = start.r[i] + shift[p, i, t, None] * target[p]
                x[p, i, t] = self._descended(base[i], first, begun, goal, held[p])
        return self._moved(base[:, None], x).cpu()

    @property
    def _gains_at_once(self) -> int:
        """How many Jacobians are held in double precision."""
        return max(1, CACHED // (8 * self._predicted.numel()))

    def _descended(self, base: Tensor, first: Local | None, x: Tensor, goal: Tensor, held: Tensor) -> Tensor:
        """x `[m, k]` after all steps; `first` is what the network is where `x` begins, where that is known."""
        rows = torch.arange(len(x), device=x.device)
        for _ in range(STEPS):
            here = first or self.jacobians(self._moved(base[rows], x[rows]).to(base))
            first, missing = None, goal[rows] - here.r
            steps = [self._step(x[rows], missing, gain, held[rows]) for gain in (here.gain.double(), self._predicted)]
            tried = torch.stack([x[rows], *(x[rows] + share * step for share in SHARES for step in steps)], 1)
            tried, lost = self._judged(base[rows], tried, goal[rows], held[rows])
            least, best = lost.min(1)
            x = x.index_put((rows,), tried[torch.arange(len(rows)), best])
            rows = rows[least < GAINS * lost[:, 0]]
            if not len(rows):
                break
        return x

    def _judged(self, base: Tensor, x: Tensor, goal: Tensor, held: Tensor) -> tuple[Tensor, Tensor]:
        """`x [m, tried, k]` as far as w may go, and what is lost there, `[m, tried]`.

        That is `HELD` times the square of what is missing of the held quantities, and the mean square of what all live
        units lack, in standard deviations; noise, of which no step gets rid, lacks nothing.
        """
        shifts = x @ self.jacobians.whitened.T
        x = x * self.forward.stopped(base.cpu(), shifts.cpu()).to(x)[..., None]
        missing = goal[:, None] - self.jacobians.encoded(self._moved(base[:, None], x).to(base))
        own = (missing @ self._weights(held).mT).square().sum(2)
        counted = self._live & ~self.jacobians.noise
        others = (missing / self._std).where(counted, 0.0).square().sum(2) / self._live.sum()
        return x, HELD * own + others

    def _weights(self, held: Tensor) -> Tensor:
        """Of activations, rows `[m, q, units]`."""
        return (held / self._std).where(held != 0, 0.0)

    def _step(self, x: Tensor, missing: Tensor, gain: Tensor, held: Tensor) -> Tensor:
        """δ `[m, k]` with derivatives `[m, units, k]`, or the same for all; see `moved`."""
        weights = self._weights(held)
        rows, predicted = weights @ gain, weights @ self._predicted
        rows = rows.where(rows.norm(dim=2, keepdim=True) > SILENT * predicted.norm(dim=2, keepdim=True), predicted)
        rows = _apart(rows, predicted)
        live = self._live.sum()
        scaled = (gain / self._std[:, None]).where(self._live[:, None], 0.0)
        asked = (missing / self._std).where(self._live & ~self.jacobians.noise, 0.0)
        matrix = scaled.mT @ scaled / live + self.penalty * torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
        right = (scaled.mT @ asked[..., None])[..., 0] / live - self.penalty * x
        free, inverse = _solved(matrix, right[..., None]), _solved(matrix, rows.mT)
        lacking = weights @ missing[..., None] - rows @ free
        return (free + inverse @ torch.linalg.solve(rows @ inverse, lacking))[..., 0]

    def _moved(self, base: Tensor, x: Tensor) -> Tensor:
        return base.double() + x @ self.jacobians.whitened.T

    def _at(self, base: Tensor) -> Local:
        """r̃ and its derivatives at the samples themselves: computed once for all of their units."""
        keys = [row.numpy().tobytes() for row in base.cpu()]
        if new := [i for i, key in enumerate(keys) if key not in self._cache]:
            made = self.jacobians(base[new])
            self._cache |= {keys[i]: Local(r, gain) for i, r, gain in zip(new, *made, strict=True)}
        for key in keys:
            self._cache.move_to_end(key)
        result = Local(*(torch.stack(column) for column in zip(*(self._cache[key] for key in keys), strict=True)))
        size = result.gain[0].numel() * result.gain.element_size()
        while len(self._cache) > max(len(keys), CACHED // size):
            self._cache.popitem(last=False)
        return result


def _apart(rows: Tensor, predicted: Tensor) -> Tensor:
    """Derivatives of what is held `[m, q, k]`; the predicted ones where a sample moves some only together."""
    if rows.shape[1] < 2:
        return rows
    sizes = torch.linalg.svdvals(rows / rows.norm(dim=2, keepdim=True))
    return rows.where((sizes[:, -1] > TOGETHER * sizes[:, 0])[:, None, None], predicted)


def _solved(matrix: Tensor, right: Tensor) -> Tensor:
    return torch.cholesky_solve(right, torch.linalg.cholesky(matrix))


def _ordered(shift: Tensor) -> tuple[Tensor, Tensor]:
    """Of shifts `[..., steps]`: how many lie between each and 0, and the index of the nearest of these, of the same
    shape; where there is none, any.
    """
    size, same = shift.abs(), shift[..., None].sign() == shift[..., None, :].sign()
    later = torch.arange(shift.shape[-1], device=shift.device)
    tie = (size[..., None] == size[..., None, :]) & (later[:, None] > later)
    between = same & ((size[..., None, :] < size[..., None]) | tie)
    nearest = size[..., None, :].where(between, -1.0).argmax(-1)
    return between.sum(-1), nearest
