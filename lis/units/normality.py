"""How changes are distributed over units and labels (S12)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import kurtosis, normaltest, skew
from torch import Tensor

from lis.quantify.measures import MEASURES
from lis.units.effects import Effects

FEWEST = 20
"""Values below which the test of normality says nothing (Anscombe & Glynn 1983)."""


def scaled_changes(effects: Effects) -> dict[str, Tensor]:
    """Effects of all units in all interpreted labels by measure, over the largest of them: `[n]` in [-1, 1]."""
    values = effects.average.effect[:, effects.kept].flatten(0, 1)
    return {name: _scaled(column[~column.isnan()]) for name, column in zip(MEASURES, values.unbind(-1), strict=True)}


def distribution(scaled: Mapping[str, Tensor]) -> pd.DataFrame:
    """Whether scaled changes are normally distributed.

    Args:
        scaled: of `scaled_changes`.

    Returns:
        measure, n, statistic and p_normal (D'Agostino & Pearson 1973), skew, kurtosis (0 for a normal distribution);
        NaN for fewer than `FEWEST` values or values that are all equal.
    """
    return pd.DataFrame([{"measure": name, "n": len(values)} | _moments(values) for name, values in scaled.items()])


def _scaled(values: Tensor) -> Tensor:
    largest = values.abs().max() if len(values) else values.new_ones(())
    return values / largest.where(largest > 0, 1.0)


def _moments(values: Tensor) -> dict[str, float]:
    x = values.double().numpy()
    if len(x) < FEWEST or np.ptp(x) < 1e-9:
        return dict.fromkeys(("statistic", "p_normal", "skew", "kurtosis"), float("nan"))
    test: Any = normaltest(x)
    return {
        "statistic": float(test.statistic),
        "p_normal": float(test.pvalue),
        "skew": float(skew(x)),
        "kurtosis": float(kurtosis(x)),
    }
