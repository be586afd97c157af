"""Whether the units that classes rest on are those that match a concept (Bau et al. 2020, Fig. S4c-g), beside shuffled
units.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lis.dissection.ablation import importance_order
from lis.statistics import RANGE

TOP = (2, 3, 4, 5)
"""Numbers k of leading units of a class (Bau et al. 2020)."""
BUCKETS = 16
"""Groups of units by their mean importance (Bau et al. 2020)."""
SHUFFLES = 1000


@dataclass(frozen=True)
class Interpretability:
    """How the importance of units goes with how well they match a concept."""

    classes: dict[int, Tensor]
    """By k: for how many classes each unit is among the k most important, `[U]` int64."""
    by_classes: dict[int, tuple[Tensor, Tensor, Tensor, Tensor]]
    """By k: these numbers `[m]`, how many units have them, mean IoU, and its standard error (NaN for one unit)."""
    bucket_importance: Tensor
    """Mean importance of each bucket, the most important first, `[buckets]`."""
    bucket_iou: Tensor
    """Mean best IoU of each bucket, `[buckets]`; dead units (NaN) are left out."""


def importance_vs_interpretability(
    importance: Tensor,
    iou: Tensor,
    order: Tensor | None = None,
    buckets: int = BUCKETS,
    top: Sequence[int] = TOP,
    positive: bool = False,
) -> Interpretability:
    """Mean best IoU by the number of classes that a unit serves (Fig. S4c-f), and in buckets of importance (Fig. S4g).

    Args:
        importance: `[U, C]`.
        iou: best IoU of each unit `[U]`; NaN: a dead unit, which no mean counts.
        order: units of each class, the most important first, `[C, U]`; None: `importance_order`.
        buckets: sorted by mean importance over classes, of equally many units, but for one more in the first ones where
            the units do not divide.
        top: numbers k of leading units.
        positive: a unit serves a class only with a positive importance; the published counts take any.

    Raises:
        ValueError: there are fewer units than buckets.
    """
    units, classes = importance.shape
    if not 1 <= buckets <= units:
        raise ValueError(f"{buckets} buckets of {units} units: expected 1 to {units} buckets")
    ranked = importance_order(importance) if order is None else order
    leads = torch.zeros(units, classes, dtype=torch.int64).scatter(0, ranked[:classes].T, _ranks(units, classes))
    counted = (importance > 0) if positive else torch.ones_like(importance, dtype=torch.bool)
    served = {k: ((leads < k) & counted).sum(1) for k in top}
    groups = importance.mean(1).argsort(descending=True, stable=True).tensor_split(buckets)
    return Interpretability(
        served,
        {k: _mean_by(counts, iou.double()) for k, counts in served.items()},
        torch.stack([importance.mean(1)[group].mean() for group in groups]),
        torch.stack([iou.double()[group].nanmean() for group in groups]),
    )


def _ranks(units: int, classes: int) -> Tensor:
    return torch.arange(units)[:, None].expand(units, classes)


def _mean_by(counts: Tensor, iou: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Values of `counts [U]`, and number, mean and standard error of the finite `iou [U]` at each."""
    alive = ~iou.isnan()
    values = counts[alive].unique()
    groups = [iou[alive & (counts == value)] for value in values]
    sizes = torch.tensor([len(group) for group in groups])
    means = torch.stack([group.mean() for group in groups]) if groups else torch.empty(0)
    errors = [group.std() / len(group) ** 0.5 if len(group) > 1 else torch.tensor(torch.nan) for group in groups]
    return values, sizes, means, torch.stack(errors).double() if errors else torch.empty(0)


def best_iou(units: pd.DataFrame, agreement: pd.DataFrame) -> Tensor:
    """Best IoU of each unit of a layer with any concept but the background, `[U]` float64.

    0 where a unit overlaps with none, NaN of a dead unit. That it labels no unit where both meet on few images does not
    matter: without those of low agreement, every mean would be too high.

    Args:
        units: table "units" of the stage "dissect", of one layer.
        agreement: its table "agreement", of that layer.
    """
    concepts = pd.DataFrame(agreement[agreement["kind"] != "background"])
    unit, iou = (torch.from_numpy(np.array(concepts[name])) for name in ("unit", "iou"))
    best = torch.zeros(len(units), dtype=torch.float64).scatter_reduce(0, unit, iou.double().nan_to_num(0), "amax")
    order, dead = (torch.from_numpy(np.array(units[name])) for name in ("unit", "dead"))
    return best[order].where(~dead.bool(), torch.nan)


def interpretability_table(
    importance: Tensor, iou: Tensor, rng: np.random.Generator, shuffles: int = SHUFFLES
) -> pd.DataFrame:
    """Curves of Fig. S4c-g, beside the same curves of units whose IoU are shuffled among them.

    Dead units are left out. A unit serves a class where it is among the k most important with a positive importance: in
    a network that bears the loss of most units, ranks of equal importance are but the order of the units.

    Args:
        importance: `[U, C]`.
        iou: best IoU of each unit `[U]`, NaN of dead ones.
        rng: of the shuffles.
        shuffles: how many.

    Returns:
        columns k (0: the buckets), x (classes that are served, or the bucket, the most important first), importance
        (mean of the bucket, else NaN), units, iou (mean), error (standard error), control, low, high (mean and 95 % of
        the shuffles).
    """
    live = ~iou.isnan()
    importance, iou = importance[live], iou[live].double()
    observed = importance_vs_interpretability(importance, iou, buckets=min(BUCKETS, len(iou)), positive=True)
    shuffled = torch.stack([iou[torch.from_numpy(rng.permutation(len(iou)))] for _ in range(shuffles)])
    groups = importance.mean(1).argsort(descending=True, stable=True).tensor_split(min(BUCKETS, len(iou)))
    rows = [
        (k, int(value), torch.nan, *_compared(iou, shuffled, counts == value))
        for k, counts in observed.classes.items()
        for value in counts.unique()
    ]
    for x, (group, mean) in enumerate(zip(groups, observed.bucket_importance.tolist(), strict=True), 1):
        rows.append((0, x, mean, *_compared(iou, shuffled, group)))
    heads = ["k", "x", "importance", "units", "iou", "error", "control", "low", "high"]
    return pd.DataFrame(rows, columns=pd.Index(heads))


def _compared(iou: Tensor, shuffled: Tensor, group: Tensor) -> tuple[float, ...]:
    """Number, mean IoU, its standard error, and mean and range of the means of the shuffles `[shuffles, U]`."""
    subset, control = iou[group], shuffled[:, group].mean(1)
    error = float(subset.std() / len(subset) ** 0.5) if len(subset) > 1 else float("nan")
    low, high = control.quantile(torch.tensor(RANGE, dtype=control.dtype)).tolist()
    return len(subset), float(subset.mean()), error, float(control.mean()), low, high
