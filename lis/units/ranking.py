"""Which units change a label most, measure by measure, and whether the measures agree (Fig. 4A; S9–S11)."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lis.quantify.measures import MEASURES
from lis.units.effects import Effects, per_length
from lis.units.intervals import interval, p_null, resample
from lis.units.tables import long_table


def by_size(values: Tensor) -> Tensor:
    """Places along the last axis, the largest absolute value first, NaN last.

    Example:
        >>> by_size(torch.tensor([0.5, float("nan"), -2.0])).tolist()
        [2, 0, 1]
    """
    return values.abs().nan_to_num(-1.0).argsort(dim=-1, descending=True, stable=True)


def top(values: Tensor, most: int) -> Tensor:
    """Which places along the last axis are among the `most` largest absolute values, bool; NaN never is."""
    head = by_size(values)[..., :most]
    return torch.zeros_like(values, dtype=torch.bool).scatter(-1, head, True) & ~values.isnan()


def ranking(effects: Effects, null: Effects, rng: np.random.Generator) -> pd.DataFrame:
    """Units by the size of their mean change, for every label and measure.

    Args:
        effects: of the units.
        null: of random directions.
        rng: of the bootstrap.

    Returns:
        label, measure, rank (1: largest |change|; without a change last), unit, change (mean over the samples of all
        classes), low, high (95 % bootstrap over the samples), p_null (share of random directions with at least the
        same |change| at equal ‖Δw‖), mean_area (fraction of the frame), interpreted; by rank within label and measure.
    """
    tuned = effects.tuned
    low, high = interval(effects.change, resample(len(tuned.class_index), rng))
    p = p_null(per_length(effects.mean, tuned), per_length(null.mean, null.tuned))
    columns = {"change": effects.mean, "low": low, "high": high, "p_null": p}
    order = by_size(effects.mean.movedim(0, -1))
    ordered = {name: values.movedim(0, -1).gather(-1, order) for name, values in columns.items()}
    label = {"mean_area": effects.mean_area[:, None, None], "interpreted": effects.interpreted[:, None, None]}
    axes = {"label": tuned.labels, "measure": MEASURES, "rank": range(1, len(tuned.unit) + 1)}
    return long_table(axes, {"unit": tuned.unit[order]} | ordered | label)


def overlap(effects: Effects, most: int) -> pd.DataFrame:
    """How many units the heads of two measures' rankings share: label, measure_a, measure_b, overlap.

    Args:
        effects: of the units.
        most: units at the head of a ranking.
    """
    heads = top(effects.mean[:, effects.kept].movedim(0, -1), most).float()
    shared = torch.einsum("kap,kbp->kab", heads, heads).long()
    rows = [
        (label, MEASURES[a], MEASURES[b], int(shared[k, a, b]))
        for k, label in enumerate(effects.kept_labels)
        for a, b in combinations(range(len(MEASURES)), 2)
    ]
    return pd.DataFrame(rows, columns=["label", "measure_a", "measure_b", "overlap"])
