"""Ways from a sample to the same z in another class: what arrives, and what parts and units change (Fig. S20)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lis.linking.region import Region
from lis.quantify.averages import Average, unwrapped
from lis.quantify.change import change
from lis.quantify.measures import MEASURES, interpreted
from lis.units.tuned import long_table


@dataclass(frozen=True)
class Paths:
    """N ways from a sample to its counterpart in T steps; K labels, C classes of the run."""

    origin: Tensor
    """`[N]` int64, an index among the classes of the run."""
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
        indices = torch.tensor([self.known.index(name) for name in self.class_names])
        return self.prediction == indices[self.target][:, None]

    @property
    def pairs(self) -> list[tuple[int, int, Tensor]]:
        """Origin, target and the rows of each ordered pair of classes, in the order of the rows."""
        both = torch.stack([self.origin, self.target], 1)
        result = list(dict.fromkeys(map(tuple, both.tolist())))
        return [(o, t, (both == torch.tensor([o, t])).all(1).nonzero()[:, 0]) for o, t in result]


def sample_table(paths: Paths, region: Region) -> pd.DataFrame:
    """A row per way.

    Columns: origin, target, sample_index, arrived (the last image is called the target), beyond (its w lies beyond 99 %
    of the training samples), success (arrived, and not beyond), probability (of the target, last image), boundary (in
    [0, 1]: the middle between the last image before the target is answered and the first after; NaN without),
    w_distance and r_distance (from first to last).

    Args:
        paths: all ways.
        region: where w of training samples lies.
    """
    names, arrived, beyond = np.asarray(paths.class_names), paths.at_target[:, -1], region.slack(paths.w[:, 1]) < 0
    return pd.DataFrame(
        {
            "origin": names[paths.origin.numpy()],
            "target": names[paths.target.numpy()],
            "sample_index": paths.sample_index.numpy(),
            "arrived": arrived.numpy(),
            "beyond": beyond.numpy(),
            "success": (arrived & ~beyond).numpy(),
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
    seen = interpreted(paths.measures)[:, None]

    def table(rows: Tensor) -> pd.DataFrame:
        average, columns = _over_samples(paths.change[rows])
        table = long_table({"label": paths.labels, "measure": MEASURES}, columns | {"interpreted": seen})
        size = pd.Series(average.ranked.abs().flatten().numpy()).where(table["interpreted"])
        rank = size.groupby(table["measure"]).rank(ascending=False, method="first")
        return table.assign(rank=rank.fillna(0).astype(int))

    return _by_pair(paths, table)


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
    std = np.where(units["status"] == "live", units["std"], np.nan)

    def table(rows: Tensor) -> pd.DataFrame:
        subset = paths.shift[rows].double().numpy()
        mean = subset.mean(0)
        columns = {"unit": range(len(mean)), "change": mean, "standard": mean / std}
        table = pd.DataFrame(columns | {"agree": (np.sign(subset) == np.sign(mean)).mean(0)})
        return table.iloc[np.argsort(-np.abs(mean), kind="stable")].assign(rank=range(1, len(mean) + 1))

    return _by_pair(paths, table)


def _by_pair(paths: Paths, table: Callable[[Tensor], pd.DataFrame]) -> pd.DataFrame:
    """What `table` makes of the rows of every pair of classes, with the pair's origin and target in front."""
    tables = [
        (paths.class_names[origin], paths.class_names[target], table(rows)) for origin, target, rows in paths.pairs
    ]
    for origin, target, part in tables:
        part.insert(0, "origin", origin)
        part.insert(1, "target", target)
    return pd.concat([part for *_, part in tables], ignore_index=True)


def typical(paths: Paths, rows: Tensor) -> int:
    """The row that stands for a pair: of the ways that arrive, the one whose change in R is nearest to their mean.

    Where none arrives, of all.
    """
    arrived = rows[paths.at_target[rows, -1]]
    among = arrived if len(arrived) else rows
    shift = paths.shift[among]
    return int(among[(shift - shift.mean(0)).norm(dim=1).argmin()])
