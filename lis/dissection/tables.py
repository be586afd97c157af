"""Tables of the stage "importance"."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lis.dissection.ablation import (
    LEADING,
    SharedUnits,
    activation_class_correlation,
    importance_order,
)
from lis.statistics import wilson
from lis.units.tuned import long_table

if TYPE_CHECKING:
    from lis.dissection.layer_data import LayerData


def importance_table(layer: str, names: list[str], train: Tensor, test: Tensor, data: LayerData) -> pd.DataFrame:
    """Table "importance", of importances `[U, C]` of both splits, and the data of the test split."""
    columns = {
        "importance": train,
        "test_importance": test,
        "correlation": activation_class_correlation(data.tail, data.activations),
        "rank": importance_order(train).argsort(1).T + 1,
    }
    table = long_table({"unit": range(len(train)), "class": names}, columns)
    table.insert(0, "layer", layer)
    return table


def curves_table(
    layer: str, names: Sequence[str], curves: Tensor, counts: Sequence[int], quantiles: tuple[float, float]
) -> pd.DataFrame:
    """Table "curves", of curves `[2 C + draws, counts, C]` along the `removal_orders` and then along random ones."""
    of_class, random = curves[: 2 * len(names)].unflatten(0, (len(names), 2)), curves[2 * len(names) :]
    low, high = torch.quantile(random, torch.tensor(quantiles, dtype=random.dtype), dim=0)
    rows = []
    for c, name in enumerate(names):
        for kind, curve in zip(("least", "most"), of_class[c], strict=True):
            rows += [
                (layer, name, kind, n, y, np.nan, np.nan) for n, y in zip(counts, curve[:, c].tolist(), strict=True)
            ]
        band = (random.mean(0)[:, c].tolist(), low[:, c].tolist(), high[:, c].tolist())
        rows += [(layer, name, "random", n, *scores) for n, *scores in zip(counts, *band, strict=True)]
    heads = ["layer", "class", "order", "n", "balanced_accuracy", "low", "high"]
    return pd.DataFrame(rows, columns=pd.Index(heads))


def shared_table(names: Sequence[str], triples: Sequence[SharedUnits]) -> pd.DataFrame:
    """Table "shared"."""
    rows = [(*(names[c] for c in triple.classes), *triple.units) for triple in triples]
    heads = ["class_a", "class_b", "class_c", "unit_ab", "unit_ac", "unit_bc"]
    return pd.DataFrame(rows, columns=pd.Index(heads))


def sign_facts(table: pd.DataFrame) -> dict[str, float | None]:
    """Shares of positive correlations of leading and of other units, their 95 % Wilson intervals, and of how many.

    Shares are None where no correlation is known.
    """
    known = table[table["correlation"].notna()]
    leading = (known["rank"] <= LEADING) & (known["importance"] > 0)
    facts: dict[str, float | None] = {}
    for name, subset in (("top_positive", known[leading]), ("positive", known[~leading])):
        positive, n = int(np.sum(subset["correlation"] > 0)), len(subset)
        low, high = wilson(positive, n) if n else (None, None)
        facts |= {name: positive / n if n else None, f"{name}_low": low, f"{name}_high": high, f"{name}_of": n}
    return facts
