"""Ways to read a table, with plain types."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd


def where(table: pd.DataFrame, **equal: Any) -> pd.DataFrame:
    """The rows in which every named column has the given value.

    Example:
        >>> where(pd.DataFrame({"metric": ["a", "b"], "value": [1, 2]}), metric="b")["value"].tolist()
        [2]
    """
    mask = np.ones(len(table), dtype=bool)
    for name, value in equal.items():
        mask &= (table[name] == value).to_numpy(dtype=bool)
    return pd.DataFrame(table.loc[mask])


def known(table: pd.DataFrame, name: str) -> pd.DataFrame:
    """The rows in which a column is finite.

    Example:
        >>> known(pd.DataFrame({"value": [1.0, np.nan]}), "value")["value"].tolist()
        [1.0]
    """
    return pd.DataFrame(table.loc[np.isfinite(np.asarray(table[name], dtype=np.float64))])


def column(table: pd.DataFrame, name: str) -> np.ndarray:
    """The finite values of a column, float64."""
    values = np.asarray(table[name], dtype=np.float64)
    return values[np.isfinite(values)]


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows as dictionaries."""
    return [{str(key): value for key, value in row.items()} for row in table.to_dict("records")]
