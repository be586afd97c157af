"""The linear link w̃ = r·B + b: exact least squares, streamed (paper Eq. 1 with the linear regression of §3.1)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pytorch_lightning import LightningModule
from torch import Tensor

from lis.linking.equations import NormalEquations, Spectrum
from lis.linking.moments import CHUNK, Block, Extremes, Moments, Samples
from lis.unit_ranges import UnitStatistics


class LinkModule(LightningModule):
    """A map from r to w̃ that can be stored: made again by `type(link)(**link.settings)` and `load_state_dict`.

    Args:
        settings: the constructor's arguments, `units` and `w_dim` among them.
    """

    def __init__(self, **settings: int) -> None:
        super().__init__()
        self.settings = settings

    def __call__(self, r: Tensor) -> Tensor:
        """w̃ `[..., w_dim]` of r `[..., units]`."""
        return super().__call__(r)


class LinearLink(LinkModule):
    """w̃ = r·B + b, with B and b in float64.

    Args:
        units: width of r.
        w_dim: width of w.
    """

    coef: Tensor
    """B, `[units, w_dim]`: row u is the change of w̃ per unit of activation of unit u."""
    intercept: Tensor
    """b, `[w_dim]`."""

    def __init__(self, units: int, w_dim: int) -> None:
        super().__init__(units=units, w_dim=w_dim)
        self.register_buffer("coef", torch.zeros(units, w_dim, dtype=torch.float64))
        self.register_buffer("intercept", torch.zeros(w_dim, dtype=torch.float64))

    @classmethod
    def of(cls, coef: Tensor, intercept: Tensor) -> Self:
        """The link with these coefficients `[units, w_dim]` and this intercept `[w_dim]`."""
        link = cls(*coef.shape).to(coef.device)
        link.coef, link.intercept = coef, intercept
        return link.eval()

    def forward(self, r: Tensor | NDArray[Any]) -> Tensor:
        """w̃ `[..., w_dim]` of r `[..., units]`, in r's dtype; differentiable."""
        r = torch.as_tensor(r)
        rows = r.reshape(-1, r.shape[-1]).split(4 * CHUNK)
        w = torch.cat([(part.to(self.coef.dtype) @ self.coef + self.intercept).to(r.dtype) for part in rows])
        return w.reshape(*r.shape[:-1], -1)

    def direction(self, unit: int) -> Tensor:
        """Change of w̃ per unit of activation of one unit, `[w_dim]`.

        Raises:
            ValueError: there is no such unit.
        """
        if not 0 <= unit < len(self.coef):
            raise ValueError(f"unit {unit}: expected 0 to {len(self.coef) - 1}, the units of the linked layer")
        return self.coef[unit]

    def step_norms(self, ranges: Tensor) -> Tensor:
        """‖Δw̃‖ when a unit moves by its range `[units]`, the difference of its largest and smallest activation."""
        return ranges * torch.linalg.vector_norm(self.coef, dim=1)


class LeastSquares:
    """Collects pairs (r, w) chunk by chunk and solves for the linear link.

    At most `8·units·(units + w_dim)` bytes are kept per block, however many samples there are: the samples themselves
    while they are no more than units, means and products from then on. Both add up over chunks, shards and devices
    (`merge`). Units may outnumber samples: the link is then solved for in the samples' space.

    Calls with hundreds of samples or more are efficient. All is kept on the device of the first r.

    Args:
        blocks: samples go in turn into this many blocks, for a delete-one-block jackknife of single rows.

    Raises:
        ValueError: fewer than one block.

    Example:
        >>> r = torch.tensor([[0.0], [1.0], [2.0]])
        >>> moments = LeastSquares()
        >>> moments.update(r, 3 * r + 1)
        >>> link = moments.solve()
        >>> round(float(link.coef), 6), round(float(link.intercept), 6)
        (3.0, 1.0)
    """

    def __init__(self, blocks: int = 1) -> None:
        if blocks < 1:
            raise ValueError(f"LeastSquares(blocks={blocks}): expected 1 or more")
        self.blocks = blocks
        self.count = 0
        """Samples so far."""
        self._blocks: list[Block] = []
        self._total: Moments | None = None
        self._extremes: Extremes | None = None
        self._resolution = 0.0

    @torch.no_grad()
    @torch.inference_mode(False)
    def update(self, r: Tensor | NDArray[Any], w: Tensor | NDArray[Any]) -> None:
        """Adds the samples `r [n, units]` and `w [n, w_dim]`, float32 or float64.

        Raises:
            ValueError: other shapes or dtypes, or a sample that is not finite; names its index among all samples of
                the stream. Nothing of the call is then added.
        """
        r, w = _matrix("r", r), _matrix("w", w)
        self._check_shapes(r, w)
        if not len(r):
            return
        extremes = self._check_finite(r, w)
        if not self._blocks:
            self._blocks = [Block(r.shape[1], w.shape[1], r.device) for _ in range(self.blocks)]
        for offset in range(self.blocks):
            rows = slice(offset, None, self.blocks)
            self._blocks[(self.count + offset) % self.blocks].add(r[rows], w[rows])
        self._count(len(r), extremes, max(torch.finfo(r.dtype).eps, torch.finfo(w.dtype).eps))

    def merge(self, other: LeastSquares) -> None:
        """Adds the samples of another stream, as if they had come after these.

        Raises:
            ValueError: the number of blocks or the widths differ.
        """
        if other._extremes is None:
            return
        if self._extremes is None:
            self._extremes = Extremes(other._extremes.minimum.clone(), other._extremes.maximum.clone())
            self._blocks = [Block(other.units, other.w_dim, block.device) for block in other._blocks]
        if (self.blocks, self.units, self.w_dim) != (other.blocks, other.units, other.w_dim):
            raise ValueError(
                f"cannot merge moments of {other.blocks} blocks, {other.units} units and w_dim {other.w_dim} "
                f"into {self.blocks}, {self.units} and {self.w_dim}: all three must agree"
            )
        for index, block in enumerate(other._blocks):
            self._blocks[(self.count + index) % self.blocks].merge(block)
        self._count(other.count, other._extremes, other._resolution)

    @property
    def units(self) -> int:
        """Width of r."""
        return self._first.units

    @property
    def w_dim(self) -> int:
        """Width of w."""
        return self._first.w_dim

    def statistics(self) -> UnitStatistics:
        """Mean, standard deviation and range of every unit, and which are dead or near-dead."""
        return self._statistics(self._data())

    def equations(self, standardised: bool, leave_out: int | None = None) -> NormalEquations:
        """What a link is the solution of, over all samples or without those of one block.

        Args:
            standardised: on standardised units, for every ridge above 0; or on the units as they are, for ridge 0.
            leave_out: a block.

        Raises:
            ValueError: no samples.
        """
        data = self._data(leave_out)
        return NormalEquations.of(data, self._statistics(data), standardised)

    def spectrum(self, standardised: bool) -> Spectrum:
        """The eigendecomposition of the equations of all samples: links for every ridge."""
        return Spectrum.of(self.equations(standardised))

    def solve(self, ridge: float = 0.0, leave_out: int | None = None) -> LinearLink:
        """The link of least squared error, plus n·ridge times the squared norm of the standardised units' coefficients.

        Directions whose eigenvalue plus ridge is at most 1e-12 of the largest are cut. Among the solutions that then
        remain the one of minimum norm is taken, so that single coefficients stay bounded.

        Args:
            ridge: relative to the number of samples n; 0 is ordinary least squares on the units as they are.
            leave_out: a block to solve without.

        Raises:
            ValueError: no samples, or a negative ridge.
        """
        if not ridge >= 0:
            raise ValueError(f"ridge={ridge}: expected 0 or more, relative to the number of samples")
        equations = self.equations(ridge > 0, leave_out)
        solution = equations.solve(ridge)
        return link_of(equations, Spectrum.of(equations).solution(ridge) if solution is None else solution)

    def state(self) -> dict[str, Tensor]:
        """Everything that was collected, as named tensors; `from_state` is the way back."""
        if self._extremes is None:
            return {"blocks": torch.tensor(self.blocks)}
        numbers = {"blocks": self.blocks, "count": self.count, "resolution": self._resolution}
        state = {name: torch.tensor(value) for name, value in numbers.items()} | vars(self._extremes)
        for index, block in enumerate(self._blocks):
            state |= {f"{index}.{name}": tensor for name, tensor in block.state().items()}
        return state

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor]) -> Self:
        """What `state` was taken from; may share its tensors."""
        new = cls(int(state["blocks"]))
        if "count" in state:
            new.count, new._resolution = int(state["count"]), float(state["resolution"])
            new._extremes = Extremes(state["minimum"], state["maximum"])
            parts = [{k.split(".")[1]: v for k, v in state.items() if k.startswith(f"{b}.")} for b in range(new.blocks)]
            new._blocks = [Block.from_state(part) for part in parts]
        return new

    @property
    def _first(self) -> Block:
        if not self._blocks:
            raise ValueError("no samples yet: call update(r, w) first")
        return self._blocks[0]

    @property
    def _range(self) -> Extremes:
        if self._extremes is None:
            raise ValueError("no samples yet: call update(r, w) first")
        return self._extremes

    def _data(self, leave_out: int | None = None) -> Moments | Samples:
        """All samples, or those of all blocks but one: as they are where they are no more than units."""
        blocks = [block for index, block in enumerate(self._blocks) if index != leave_out]
        count = sum(block.count for block in blocks)
        if not count:
            raise ValueError("no samples: call update(r, w) first, with more samples than a block has")
        if count <= self.units:
            r, w = zip(*(block.samples() for block in blocks), strict=True)
            return Samples.of(torch.cat(r), torch.cat(w))
        if self._total is None:
            self._total = self._sum()
        return self._total if leave_out is None else self._total.without(self._blocks[leave_out].moments())

    def _sum(self) -> Moments:
        if self.blocks == 1:
            return self._first.moments()
        total = Moments.empty(self.units, self.w_dim, self._first.device)
        for block in self._blocks:
            block.join(total)
        return total

    def _statistics(self, data: Moments | Samples) -> UnitStatistics:
        """Of these samples, but with the range of all."""
        low, high = self._range.minimum, self._range.maximum
        return UnitStatistics(int(data.count), data.mean[: data.units], data.std, low, high, self._resolution)

    def _count(self, n: int, extremes: Extremes, resolution: float) -> None:
        if self._extremes is None:
            self._extremes = extremes
        self._extremes.merge(extremes)
        self._resolution = max(self._resolution, resolution)
        self.count += n
        self._total = None

    def _check_shapes(self, r: Tensor, w: Tensor) -> None:
        if len(r) != len(w):
            raise ValueError(f"r has {len(r)} samples and w has {len(w)}: expected one w per r")
        if self._blocks and (r.shape[1], w.shape[1]) != (self.units, self.w_dim):
            raise ValueError(
                f"r and w have widths {r.shape[1]} and {w.shape[1]}: expected {self.units} and {self.w_dim} as before"
            )

    def _check_finite(self, r: Tensor, w: Tensor) -> Extremes:
        """The extremes of r, once r and w are known to be finite."""
        extremes = [Extremes.of(part) for part in r.split(CHUNK)]
        whole = extremes[0]
        for part in extremes[1:]:
            whole.merge(part)
        suspects = [("w", w)] if not math.isfinite(float(w.sum())) else []  # may only have overflowed
        if not bool((whole.minimum.isfinite() & whole.maximum.isfinite()).all()):
            suspects.append(("r", r))
        for name, values in suspects:
            bad = (~values.isfinite()).any(1).nonzero()[:, 0].tolist()
            if bad:
                raise ValueError(
                    f"{name} of sample {self.count + bad[0]} is not finite: expected finite numbers in all "
                    f"{values.shape[1]} dimensions; leave the sample out or mend the model that made it"
                )
        return whole


def link_of(equations: NormalEquations, solution: Tensor) -> LinearLink:
    """The link of a solution of these equations."""
    coef = equations.coefficients(solution)
    return LinearLink.of(coef, equations.mean_w - equations.units.mean @ coef)


def _matrix(name: str, values: Tensor | NDArray[Any]) -> Tensor:
    if isinstance(values, np.ndarray):
        values = torch.from_numpy(np.require(values, requirements=["C", "W"]))  # copies only where torch cannot share
    if values.ndim != 2 or not values.is_floating_point():
        raise ValueError(
            f"{name} has shape {tuple(values.shape)} and dtype {values.dtype}: "
            "expected [samples, width] in float32 or float64"
        )
    return values.detach()
