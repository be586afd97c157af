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


def mean(table: pd.DataFrame, name: str) -> float:
    """The mean of the finite values of a column; NaN where there are none."""
    values = column(table, name)
    return float(values.mean()) if len(values) else float("nan")


def split(table: pd.DataFrame, name: str) -> dict[Any, pd.DataFrame]:
    """The rows by the value of a column, in the order in which the values come first.

    Example:
        >>> list(split(pd.DataFrame({"label": ["b", "a", "b"]}), "label"))
        ['b', 'a']
    """
    return {value: where(table, **{name: value}) for value in dict.fromkeys(table[name])}


def mean_by(table: pd.DataFrame, by: str | list[str], name: str) -> pd.DataFrame:
    """The mean of a column for each value of one or several others, a row each."""
    return pd.DataFrame(table.groupby(by, as_index=False)[name].mean())


def distribution(table: pd.DataFrame, by: str | list[str], name: str) -> pd.DataFrame:
    """Number, mean, standard deviation, ends, quartiles and 5–95 % of a column for each value of others, a row each."""
    values = known(table, name).groupby(by, sort=False)[name]
    return pd.DataFrame(values.describe(percentiles=[0.05, 0.25, 0.5, 0.75, 0.95]).reset_index())


def pairs_of(table: pd.DataFrame, first: str = "origin", second: str = "target") -> list[tuple[Any, Any]]:
    """The pairs of values of two columns, in the order in which they come first."""
    return list(dict.fromkeys(zip(table[first], table[second], strict=True)))


def ends(table: pd.DataFrame, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The rows with the smallest and with the largest value of a column.

    Example:
        >>> ends(pd.DataFrame({"value": [2, 1, 3]}), "value")
        ({'value': 1}, {'value': 3})
    """
    ordered = records(table.sort_values(name, kind="stable"))
    return ordered[0], ordered[-1]


def row_of(table: pd.DataFrame, name: str) -> dict[str, Any]:
    """The row of a class, or of "all" classes together."""
    return records(where(table, **{"class": name}))[0]


def largest(table: pd.DataFrame, name: str) -> dict[str, Any]:
    """The first row with the largest value of a column."""
    return records(table.nlargest(1, columns=name))[0]


def apart(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of pairs of two classes, `class_a` and `class_b`, that differ."""
    return pd.DataFrame(table[(table["class_a"] != table["class_b"]).to_numpy(dtype=bool)])


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows as dictionaries."""
    return [{str(key): value for key, value in row.items()} for row in table.to_dict("records")]
