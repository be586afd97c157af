"""Pairs of generated images whose true displacement is known (part world): what matchers are tried on."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lis.generators.partworld import PartWorld
from lis.generators.partworld.displacement import kind_of
from lis.matches import pixel_grid
from lis.streams import Stream
from lis.types import Generator


def validate_trials(generator: Generator) -> PartWorld:
    """The generator, as one that knows true displacements.

    Raises:
        ValueError: it does not.
    """
    if not isinstance(generator, PartWorld):
        raise ValueError(
            f"{type(generator).__name__} does not know how far a point moves: matchers are held against the truth on "
            "part world only; use gan=partworld, or leave matching out of analysis.stages"
        )
    return generator


@dataclass(frozen=True)
class Trials:
    """n pairs of images of one class."""

    w: Tensor
    """`[n, w_dim]`: of the first images."""
    moved: Tensor
    """`[n, w_dim]`: of the second."""
    field: Tensor
    """True displacement `[n, H, W, 2]` in pixels, NaN in the background and where a point is hidden."""

    def between(self, steps: int) -> Tensor:
        """Style codes `[n, steps, w_dim]` on the straight line from the first to the second image."""
        share = torch.linspace(0, 1, steps)[None, :, None].to(self.w)
        return self.w[:, None] + share * (self.moved - self.w)[:, None]


def trials(generator: PartWorld, kind: str, class_index: int, n: int, seed: int) -> Trials:
    """Two figures of a class that differ in all factors of one kind, as two samples of that class do.

    Args:
        generator: part world.
        kind: `pose`, `parts` or `colours`.
        class_index: a place among the generator's classes.
        n: pairs; the same for any n.
        seed: of the run.
    """
    world = generator.world
    draws = Stream("matching", seed).normal(class_index, torch.arange(2 * n), len(generator.factor_names))
    first, other = world.factors_of(draws, class_index).unflatten(0, (n, 2)).unbind(1)
    changes = torch.tensor([kind_of(name) == kind for name in generator.factor_names])
    w, moved = (world.to_w(u).to(generator.mean_w.device) for u in (first, torch.where(changes, other, first)))
    return Trials(w, moved, generator.displacement(w, moved).cpu())


def nearest_affine(field: Tensor) -> Tensor:
    """The affine map `[2, 3]` float64 with the least squared distance to a displacement field `[H, W, 2]`.

    Pixels that are NaN are left out; NaN where fewer than three are known.

    Example:
        >>> nearest_affine(torch.tensor([3.0, -2.0]).expand(5, 5, 2))[:, 2].round().tolist()
        [3.0, -2.0]
    """
    known = ~field.isnan().any(2)
    if int(known.sum()) < 3:  # three points define an affine map
        return torch.full((2, 3), torch.nan, dtype=torch.float64)
    at = pixel_grid(*known.shape)[known].double()
    there = at + field[known].double()
    design = torch.cat([at, torch.ones(len(at), 1, dtype=torch.float64)], 1)
    return torch.linalg.lstsq(design, there, driver="gelsd").solution.T
