"""Small statistics that several stages share."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.stats import binomtest


def wilson(kept: int, n: int) -> tuple[float, float]:
    """95 % Wilson interval of the share `kept / n`.

    Example:
        >>> [round(bound, 3) for bound in wilson(9, 10)]
        [0.596, 0.982]
    """
    interval = binomtest(kept, n).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)


def kept_table(names: tuple[str, ...], class_index: np.ndarray, kept: np.ndarray) -> pd.DataFrame:
    """Share of samples that keep their class, by class and for "all": class, kept, low, high, n (Wilson 95 %)."""
    groups = [(name, kept[class_index == c]) for c, name in enumerate(names)] + [("all", kept)]
    rows = [(name, own.mean(), *wilson(int(own.sum()), len(own)), len(own)) for name, own in groups]
    return pd.DataFrame(rows, columns=["class", "kept", "low", "high", "n"])
