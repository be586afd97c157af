"""Arrays with named axes as long tables: a row per combination of the axes' values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor


def long_table(axes: Mapping[str, Sequence[Any] | Tensor], columns: Mapping[str, Any]) -> pd.DataFrame:
    """A column per axis and per array; the last axis runs fastest.

    Args:
        axes: values along each axis, by name.
        columns: arrays or CPU tensors that broadcast to the lengths of the axes, by name.

    Example:
        >>> long_table({"unit": [4, 7], "label": ["ear", "eye"]}, {"change": [[1, 2], [3, 4]]})
           unit label  change
        0     4   ear       1
        1     4   eye       2
        2     7   ear       3
        3     7   eye       4
    """
    size = tuple(len(values) for values in axes.values())
    places = np.indices(size).reshape(len(size), -1)
    named = {name: np.asarray(values)[place] for (name, values), place in zip(axes.items(), places, strict=True)}
    flat = {name: np.broadcast_to(np.asarray(values), size).reshape(-1) for name, values in columns.items()}
    return pd.DataFrame(named | flat)
