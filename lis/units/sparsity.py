"""Sparsity both ways: does a unit change few labels (Fig. 5A), is a label changed by few units (S13)?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lis.quantify.measures import MEASURES
from lis.quantify.sparsity import hoyer, label_sparsity, largest
from lis.statistics import interval, resample
from lis.units.effects import Effects
from lis.units.tables import long_table

ALL = "all"
"""All measures together."""


def label_sparsity_table(
    effects: Effects, reference: Effects, names: Mapping[str, Sequence[Any] | Tensor]
) -> pd.DataFrame:
    """Label sparsity of the median change over the samples of a class (paper Eq. 2), see `median_change`.

    Over k labels for one measure; over k labels × measures for "all", each measure divided by its largest |median
    change| in any unit and class.

    Args:
        effects: of units or random directions.
        reference: of the units: which labels are interpreted, and what is divided by.
        names: the first column: what it is called, and its values `[P]`.

    Returns:
        The first column, class, measure, sparsity.
    """
    own, median = (of.median_by_class[:, :, reference.kept] for of in (reference, effects))
    sparsity = label_sparsity(median, largest(own) if own.numel() else own.new_ones(len(MEASURES)))
    axes = {"class": effects.tuned.class_names, "measure": (*MEASURES, ALL)}
    return long_table({**names, **axes}, {"sparsity": sparsity})


def unit_sparsity(effects: Effects) -> Tensor:
    """Hoyer's sparsity of a label's changes over the units (S5.1), per sample, in the interpreted labels: `[S, K', M]`.

    1: one unit changes the label; 0: all do so alike.
    """
    labels = [hoyer(effects.change[:, :, k], dim=0) for k in effects.kept]
    return torch.stack(labels, 1) if labels else effects.change.new_zeros(effects.change.shape[1], 0, len(MEASURES))


def unit_sparsity_table(effects: Effects, rng: np.random.Generator) -> pd.DataFrame:
    """Mean of `unit_sparsity` over samples, with its 95 % bootstrap interval: label, measure, sparsity, low, high."""
    by_sample = unit_sparsity(effects)
    low, high = interval(by_sample[None], resample(len(by_sample), rng))
    columns = {"sparsity": by_sample.nanmean(0), "low": low[0], "high": high[0]}
    return long_table({"label": effects.kept_labels, "measure": MEASURES}, columns)
