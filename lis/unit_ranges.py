"""What the training pairs say about each unit of R, before any link: range, spread, and whether it is alive."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

ROUNDING = 4.0
"""A range within this many units of rounding of the input's dtype is no range."""
SILENT = 1e-6
"""A standard deviation below this share of the median is rounding noise of the network."""
FAINT = 1e-4
"""A standard deviation below this share of the median is near-dead."""


@dataclass(frozen=True)
class UnitStatistics:
    """Statistics `[units]` (float64) of n samples.

    *dead*: constant up to the rounding of the input's dtype, or with a standard deviation below 1e-6 of the median of
    the units that vary. Least squares leaves these out (coefficient 0).

    *near-dead*: active in effectively fewer than max(5, n/1000) samples, or with a standard deviation below 1e-4 of
    the median. A near-dead unit takes part in the fit, but its row rests on a handful of samples. The effective
    number of active samples is the participation ratio n·E[a]²/E[a²] of the activation above the minimum,
    a = r − min r: it is k for a unit that is equally active in k samples and silent in all others.
    """

    count: int
    mean: Tensor
    std: Tensor
    """Square root of the mean squared deviation (divided by n)."""
    minimum: Tensor
    maximum: Tensor
    resolution: float
    """Machine epsilon of the coarsest dtype among the inputs."""

    @property
    def range(self) -> Tensor:
        """Maximum − minimum."""
        return self.maximum - self.minimum

    @property
    def active(self) -> Tensor:
        """Effective number of samples in which the unit is above its minimum; NaN for a constant unit."""
        above = self.mean - self.minimum
        return self.count * above**2 / (self.std**2 + above**2)

    @property
    def dead(self) -> Tensor:
        """Units that carry no signal, bool."""
        return self._constant | (self.std <= SILENT * self._typical_std)

    @property
    def near_dead(self) -> Tensor:
        """Units, among those that are not dead, whose row rests on little, bool."""
        few = self.active < max(5.0, self.count / 1000)
        return ~self.dead & (few | (self.std < FAINT * self._typical_std))

    @property
    def status(self) -> np.ndarray:
        """`live`, `near-dead` or `dead` for each unit."""
        dead, near_dead = self.dead.cpu().numpy(), self.near_dead.cpu().numpy()
        return np.where(dead, "dead", np.where(near_dead, "near-dead", "live"))

    @property
    def _constant(self) -> Tensor:
        largest = torch.maximum(self.minimum.abs(), self.maximum.abs())
        return self.range <= ROUNDING * self.resolution * largest

    @property
    def _typical_std(self) -> Tensor:
        varying = self.std[~self._constant]
        return varying.median() if len(varying) else self.std.new_zeros(())
