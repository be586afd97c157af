"""First and last style codes of tuned units: as tuning kept them, or moved again where that takes no pass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import pandas as pd
import torch
from torch import Tensor

from lis.store import Artifact
from lis.units.directions import Directions
from lis.units.perturbation import Perturbation
from lis.units.traversal import first
from lis.units.tuning import ENDS, perturbations


@dataclass(frozen=True)
class Ends:
    """Where units lead samples, from their smallest to their largest value."""

    directions: Directions
    """Which way a unit is moved."""
    r: Tensor
    """The samples, `[n, units]`."""
    by_range: Mapping[tuple[int, float, float], Tensor] | None = None
    """w `[n, 2, w_dim]` of each unit that was tuned, by its number, smallest and largest value; None where w follows
    from r alone."""

    @classmethod
    def of(cls, tuned: Artifact, directions: Directions, per_class: int | None = None) -> Self:
        """Of the artifact of `lis.units.tuning`, in its first so many samples of each class; None: in all.

        Along `closed` nothing is moved again, which would take the passes of the whole tuning once more.
        """
        samples, units = tuned.table("seeds"), tuned.table("units")
        class_index = torch.from_numpy(samples["class_index"].to_numpy(copy=True))
        rows = torch.arange(len(class_index))
        if per_class is not None:
            rows = first({"rows": rows, "class_index": class_index}, per_class)["rows"]
        r = tuned.tensors("seeds")["r"][rows]
        if directions.along != "closed":
            return cls(directions, r)
        asked = [_range(unit) for unit in perturbations(pd.DataFrame(units[units["tuned"]]))]
        return cls(directions, r, dict(zip(asked, tuned.tensors(ENDS)["w"][:, rows], strict=True)))

    def __call__(self, unit: Perturbation) -> Tensor:
        """w at the smallest and the largest value of a tuned unit, `[n, 2, w_dim]`.

        Raises:
            ValueError: a w is not finite, or along `closed` the unit was not tuned over this range.
        """
        if self.by_range is None:
            return self.directions.moved(self.r, unit, unit.values(2))
        if _range(unit) not in self.by_range:
            number, low, high = _range(unit)
            raise ValueError(
                f"unit {number} from {low:g} to {high:g} was not tuned along closed, expected one of the "
                f"{len(self.by_range)} tuned units over its whole range: tune it too (tuning.units)"
            )
        return self.by_range[_range(unit)]


def _range(unit: Perturbation) -> tuple[int, float, float]:
    """Number, smallest and largest value of a unit."""
    return unit.unit, unit.low, unit.high
