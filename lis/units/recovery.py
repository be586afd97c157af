"""Measured change beside true change: are the units ranked alike, and are the same ones at the head?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from lis.quantify.change import change, relative
from lis.quantify.measures import MEASURES
from lis.units.correlation import spearman
from lis.units.effects import average
from lis.units.ranking import top
from lis.units.tables import long_table

COMPARED = ("extent", "relative", *MEASURES)
"""What is compared, the angle last. `extent` is the difference of areas in fractions of the frame, where an absent
label has none: it is known of every sample. `relative` is the paper's change of area, of which `area` is the logarithm:
a part that nearly vanishes at one end makes it huge."""
HEAD = 10
"""Units at the head of a ranking."""

Array = NDArray[np.floating]
Statistic = Callable[[Tensor, Tensor], Array]


@dataclass(frozen=True)
class Recovery:
    """Measured and true changes of P units in S samples, in the M things `COMPARED` of K labels."""

    unit: Tensor
    """`[P]` int64."""
    labels: tuple[str, ...]
    interpreted: Tensor
    """Which labels are large enough to be interpreted, `[K]` bool."""
    measured: Tensor
    """`[P, S, K, M]`, NaN where a label is absent."""
    true: Tensor
    """`[P, S, K, M]`, likewise."""

    @cached_property
    def means(self) -> tuple[Tensor, Tensor]:
        """Measured and true effect `[P, K, M]` on average over the samples that have both.

        NaN where either has no mean angle: such a unit is not ranked.
        """
        known = ~(self.measured.isnan() | self.true.isnan())
        measured, true = (average(x.where(known, torch.nan)).ranked for x in (self.measured, self.true))
        known = ~(measured.isnan() | true.isnan())
        return measured.where(known, torch.nan), true.where(known, torch.nan)

    @property
    def agreement(self) -> pd.DataFrame:
        """How far the measured ranking is the true one.

        label, measure, spearman (of the signed effects, over units), overlap (units among the `HEAD` largest
        |effect| in both), spearman_seed and overlap_seed (the same of changes within a sample, mean over samples),
        units, ranked (units with an effect: fewer where angles have no mean), seeds, interpreted.
        """
        columns = {
            "spearman": rank_correlation(*self.means),
            "overlap": head_overlap(*self.means),
            "spearman_seed": self._by_sample(rank_correlation),
            "overlap_seed": self._by_sample(head_overlap),
            "units": len(self.unit),
            "ranked": (~self.means[0].isnan()).sum(0),
            "seeds": self.measured.shape[1],
            "interpreted": self.interpreted[:, None],
        }
        return long_table({"label": self.labels, "measure": COMPARED}, columns)

    @property
    def units(self) -> pd.DataFrame:
        """unit, label, measure, measured and true (effects)."""
        axes = {"unit": self.unit, "label": self.labels, "measure": COMPARED}
        return long_table(axes, dict(zip(("measured", "true"), self.means, strict=True)))

    def _by_sample(self, statistic: Statistic) -> Array:
        """Mean of a statistic over the samples where there is one, `[K, M]`."""
        pairs = zip(self.measured.unbind(1), self.true.unbind(1), strict=True)
        values = [torch.from_numpy(statistic(measured, true)) for measured, true in pairs]
        return torch.stack(values).nanmean(0).numpy()


def compared(first: Tensor, last: Tensor) -> Tensor:
    """Changes `[..., K, M]`, in the order of `COMPARED`, between measures `[..., K, 5]`.

    Example:
        >>> none, some = torch.full((1, 5), torch.nan), torch.tensor([[0.25, 0.5, 1.0, 0.5, 10.0]])
        >>> compared(none, some).tolist()[0][:2]
        [0.25, nan]
    """
    extent = (last[..., :1].nan_to_num(0) - first[..., :1].nan_to_num(0)).to(last.dtype)
    changes = change(first, last)
    return torch.cat([extent, relative(changes[..., :1]), changes], -1)


def rank_correlation(measured: Tensor, true: Tensor) -> Array:
    """Spearman's correlation over units `[K, M]` of changes `[P, K, M]`; NaN for fewer than three, or constant ones."""
    return spearman(measured.numpy(), true.numpy())


def head_overlap(measured: Tensor, true: Tensor) -> Array:
    """How many of the `HEAD` largest |changes| `[P, K, M]` over units are so in both, `[K, M]`; NaN where none is."""
    heads = [top(values.movedim(0, -1), HEAD) for values in (measured, true)]
    known = heads[0].any(-1) & heads[1].any(-1)
    return (heads[0] & heads[1]).sum(-1).double().where(known, torch.nan).numpy()


def summary(agreement: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Mean spearman and overlap over the interpreted labels by measure, of `Recovery.agreement`."""
    own = agreement[agreement["interpreted"]]
    means = {name: own.loc[own["measure"] == name, ["spearman", "overlap"]].mean() for name in COMPARED}
    return {name: {str(column): float(value) for column, value in row.items()} for name, row in means.items()}
