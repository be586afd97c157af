"""What is kept of a stream's samples: the samples themselves while they are few, their moments from then on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

import torch
from torch import Tensor

from lis.linking.moments import Moments


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
