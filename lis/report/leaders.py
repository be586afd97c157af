"""Which units lead a figure: those that are reached and move more than the others do."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from lis.report.claims import callable_units
from lis.report.source import Source
from lis.units.arrival import outmoved


def reached(source: Source, units: Iterable[int]) -> np.ndarray:
    """Whether units are reached, bool; True too where the run did not test it."""
    known: dict[int, bool] = {}
    if source.has("unit_statistics", "faithfulness", "control") and callable_units(source):
        known = source.table("unit_statistics", "faithfulness").set_index("unit")["reached"].to_dict()
    return np.array([known.get(unit, True) for unit in units], dtype=bool)


def leaders_first(source: Source, table: pd.DataFrame) -> pd.DataFrame:
    """A table with a row per unit, or several, in the order in which units are shown.

    Units come first that are reached, as far as the run tested that, of these and of the others those that move more
    than the other units do (S14); else the order stays.

    Args:
        source: the run.
        table: unit, and own and others where they are known.
    """
    flags = 2 * ~reached(source, table["unit"])
    if "own" in table:
        flags += outmoved(*(table[name].to_numpy(dtype=float) for name in ("own", "others")))
    return table.iloc[np.argsort(flags, kind="stable")]
