"""Which units change a label most, measure by measure, and whether the measures agree (Fig. 4A; S9–S11)."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lis.quantify.change import relative
from lis.quantify.measures import MEASURES
from lis.statistics import resample
from lis.units.effects import Effects, per_length
from lis.units.intervals import change_interval, p_null
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
    """Units by the size of their effect, for every label and measure: of the angle R·|mean|, of others |mean|.

    Args:
        effects: of the units.
        null: of random directions.
        rng: of the bootstrap.

    Returns:
        label, measure, rank (1: largest effect; without a change last), unit, change (mean over the samples of all
        classes, see `Average`), low, high (95 % bootstrap over the samples), relative (of the area: mean of the paper's
        relative change; else NaN), resultant (of the angle: R; else NaN), n (samples that have the change; the others
        lack the label at one end), samples, p_null (share of random directions with at least the same effect at equal
        ‖Δw‖), mean_area (fraction of the frame), interpreted; by rank within label and measure.
    """
    tuned, average = effects.tuned, effects.average
    known = ~average.value.isnan()
    low, high = change_interval(effects.change, resample(len(tuned.class_index), rng))
    p = p_null(per_length(average.effect, tuned), per_length(null.average.effect, null.tuned))
    columns = {"change": average.value, "p_null": p, "low": low, "high": high}
    columns |= {"resultant": average.resultants, "relative": _relative(effects)}
    columns = {name: values.where(known, torch.nan) for name, values in columns.items()} | {"n": average.n}
    order = by_size(average.ranked.movedim(0, -1))
    ordered = {name: values.movedim(0, -1).gather(-1, order) for name, values in columns.items()}
    label = {"mean_area": effects.mean_area[:, None, None], "interpreted": effects.interpreted[:, None, None]}
    label |= {"samples": len(tuned.class_index)}
    axes = {"label": tuned.labels, "measure": MEASURES, "rank": range(1, len(tuned.unit) + 1)}
    return long_table(axes, {"unit": tuned.unit[order]} | ordered | label)


def _relative(effects: Effects) -> Tensor:
    """Mean of the paper's relative change of areas; NaN for the other measures, `[P, K, M]`."""
    columns, area = torch.full_like(effects.average.value, torch.nan), MEASURES.index("area")
    columns[..., area] = relative(effects.change[..., area]).nanmean(1)
    return columns


def overlap(effects: Effects, most: int) -> pd.DataFrame:
    """How many units the heads of two measures' rankings share: label, measure_a, measure_b, overlap.

    Args:
        effects: of the units.
        most: units at the head of a ranking.
    """
    heads = top(effects.average.ranked[:, effects.kept].movedim(0, -1), most).float()
    shared = torch.einsum("kap,kbp->kab", heads, heads).long()
    rows = [
        (label, MEASURES[a], MEASURES[b], int(shared[k, a, b]))
        for k, label in enumerate(effects.kept_labels)
        for a, b in combinations(range(len(MEASURES)), 2)
    ]
    return pd.DataFrame(rows, columns=["label", "measure_a", "measure_b", "overlap"])
