"""What tells a sample from its counterpart in another class: the parts that differ and the units that do (S8)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lis.quantify.averages import Average, unwrapped
from lis.quantify.change import change
from lis.quantify.measures import MEASURES, interpreted
from lis.units.tables import long_table

TOLD = ("area", "luminance", "entropy")
"""Measures by which it is told what a unit changes most: the angle of a round part says little."""


@dataclass(frozen=True)
class Paths:
    """N ways from a sample to its counterpart in T steps; K labels, C classes of the run."""

    origin: Tensor
    """`[N]` int64, a place among the classes of the run."""
    target: Tensor
    """`[N]` int64."""
    sample_index: Tensor
    """`[N]` int64, index in the stream of the test pairs."""
    w: Tensor
    """Of the first and the last image, `[N, 2, w_dim]` float32."""
    r: Tensor
    """Activations of the first and the last image, `[N, 2, units]` float32."""
    measures: Tensor
    """`[N, T, K, 5]` float32, NaN where a label is absent."""
    probability: Tensor
    """Softmax over all classes that the classifier knows, of those of the run: `[N, T, C]` float32."""
    prediction: Tensor
    """`[N, T]` int64: index into the classifier's classes."""
    known: tuple[str, ...]
    """The classes of the classifier."""
    class_names: tuple[str, ...]
    labels: tuple[str, ...]

    @property
    def change(self) -> Tensor:
        """Change of every measure from the first image to the last, `[N, K, 5]`."""
        return change(self.measures[:, 0], self.measures[:, -1])

    @property
    def shift(self) -> Tensor:
        """Change of every unit from the first image to the last, `[N, units]`."""
        return self.r[:, 1] - self.r[:, 0]

    @property
    def target_probability(self) -> Tensor:
        """Probability of each way's target, `[N, T]`."""
        return self.probability[torch.arange(len(self.target)), :, self.target]

    @property
    def at_target(self) -> Tensor:
        """Whether the classifier answers with the target, `[N, T]` bool."""
        places = torch.tensor([self.known.index(name) for name in self.class_names])
        return self.prediction == places[self.target][:, None]

    @property
    def pairs(self) -> list[tuple[int, int, Tensor]]:
        """Origin, target and the rows of each ordered pair of classes, in the order of the rows."""
        both = torch.stack([self.origin, self.target], 1)
        found = list(dict.fromkeys(map(tuple, both.tolist())))
        return [(o, t, (both == torch.tensor([o, t])).all(1).nonzero()[:, 0]) for o, t in found]


def sample_table(paths: Paths) -> pd.DataFrame:
    """A row per way.

    Columns: origin, target, sample_index, arrived (the last image is called the target), probability (of the target,
    last image), boundary (in [0, 1]: the middle between the last image before the target is answered and the first
    after; NaN without), w_distance and r_distance (from first to last).
    """
    names = np.asarray(paths.class_names)
    return pd.DataFrame(
        {
            "origin": names[paths.origin.numpy()],
            "target": names[paths.target.numpy()],
            "sample_index": paths.sample_index.numpy(),
            "arrived": paths.at_target[:, -1].numpy(),
            "probability": paths.target_probability[:, -1].numpy(),
            "boundary": boundary(paths.at_target).numpy(),
            "w_distance": (paths.w[:, 1] - paths.w[:, 0]).norm(dim=1).numpy(),
            "r_distance": paths.shift.norm(dim=1).numpy(),
        }
    )


def boundary(at_target: Tensor) -> Tensor:
    """Where a way enters the target for good, in [0, 1]: `[N, T]` bool → `[N]` float32.

    The middle between two images, as in the paper's supplement (S18); NaN where the last image is not the target's, or
    where the first one already is and all that follow.

    Example:
        >>> boundary(torch.tensor([[False, True, False, True, True], [False] * 5, [True] * 5])).tolist()
        [0.625, nan, nan]
    """
    steps = at_target.shape[1]
    stays = at_target.flip(1).to(torch.int64).cumprod(1).sum(1)  # images at the end that are all the target's
    middle = (steps - stays - 0.5) / (steps - 1)
    return torch.where((stays > 0) & (stays < steps), middle, torch.nan).float()


def measure_table(paths: Paths) -> pd.DataFrame:
    """What becomes of every label, a row per pair of classes, label and measure.

    Columns: origin, target, label, measure, change (mean over the samples that have the label in both images, see
    `Average`), low, high (quartiles), resultant (R of the angles; NaN for other measures), n, interpreted (the label is
    not too small over all images), rank (by |change|, of the angle R·|change|, among the interpreted labels of a pair
    and measure; 1 the largest, 0 without).
    """
    seen, tables = interpreted(paths.measures)[:, None], []
    for origin, target, rows in paths.pairs:
        average, columns = _over_samples(paths.change[rows])
        table = long_table({"label": paths.labels, "measure": MEASURES}, columns | {"interpreted": seen})
        size = pd.Series(average.ranked.abs().flatten().numpy()).where(table["interpreted"])
        rank = size.groupby(table["measure"]).rank(ascending=False, method="first").fillna(0).astype(int)
        names = {"origin": paths.class_names[origin], "target": paths.class_names[target]}
        tables.append(_named(table.assign(rank=rank), names))
    return pd.concat(tables, ignore_index=True)


def _over_samples(change: Tensor) -> tuple[Average, dict[str, Tensor]]:
    """Mean, quartiles and number of known values of `change [n, K, 5]`."""
    average, values = Average.of(change), unwrapped(change)
    known = ~average.value.isnan()
    quartiles = [values.nanquantile(share, 0) if values.numel() else average.value for share in (0.25, 0.75)]
    low, high = (x.where(known, torch.nan) for x in quartiles)
    columns = {"change": average.value, "low": low, "high": high}
    return average, columns | {"resultant": average.resultants, "n": average.n}


def unit_table(paths: Paths, units: pd.DataFrame) -> pd.DataFrame:
    """How much every unit changes, a row per pair of classes and unit, the largest change of a pair first.

    Columns: origin, target, unit, change (mean over the samples), standard (the same in standard deviations over the
    training pairs; NaN for units that are not live), agree (share of the samples whose change has the mean's sign),
    rank (by |change|, from 1).

    Args:
        paths: all ways.
        units: table "units" of the link: std, status.
    """
    spread = np.where(units["status"] == "live", units["std"], np.nan)
    tables = []
    for origin, target, rows in paths.pairs:
        own = paths.shift[rows].double().numpy()
        mean = own.mean(0)
        columns = {"unit": range(len(mean)), "change": mean, "standard": mean / spread}
        table = pd.DataFrame(columns | {"agree": (np.sign(own) == np.sign(mean)).mean(0)})
        table = table.iloc[np.argsort(-np.abs(mean), kind="stable")].assign(rank=range(1, len(mean) + 1))
        tables.append(_named(table, {"origin": paths.class_names[origin], "target": paths.class_names[target]}))
    return pd.concat(tables, ignore_index=True)


def typical(paths: Paths, rows: Tensor) -> int:
    """The row that stands for a pair: of the ways that arrive, the one whose change in R is nearest to their mean.

    Where none arrives, of all.
    """
    arrived = rows[paths.at_target[rows, -1]]
    among = arrived if len(arrived) else rows
    shift = paths.shift[among]
    return int(among[(shift - shift.mean(0)).norm(dim=1).argmin()])


def _named(table: pd.DataFrame, names: dict[str, str]) -> pd.DataFrame:
    for place, (name, value) in enumerate(names.items()):
        table.insert(place, name, value)
    return table
