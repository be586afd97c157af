"""Which units are tuned: the live ones that have a range, and of those the ones with the largest linked step."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lis.types import Link
from lis.units.perturbation import Perturbation, step_norm


@torch.inference_mode()
def select(units: pd.DataFrame, link: Link, r: Tensor, most: int | None) -> pd.DataFrame:
    """Every unit: unit, minimum, maximum, step_norm, tuned, reason (why it is not tuned).

    The step_norm is ‖w̃(maximum) − w̃(minimum)‖, a mean over the samples where the link is not linear; NaN for units
    that are not live. Reasons are `dead`, `near-dead`, `no range` (none, or none that moves w̃) and `small step`.

    Args:
        units: table "units" of the link: unit, minimum, maximum, status.
        link: the link.
        r: samples `[n, units]`.
        most: how many are tuned at most; None: all.

    Raises:
        ValueError: no unit is live or moves w̃, or the link gives a w̃ that is not finite.
    """
    live = (units["status"] == "live").to_numpy()
    if not live.any():
        raise ValueError("no unit of the classifier is live: expected one or more; use another classifier")
    table = units[["unit", "minimum", "maximum"]].reset_index(drop=True)
    steps = np.full(len(table), np.nan)
    steps[live] = [step_norm(link, r, unit) for unit in perturbations(table.loc[live])]
    reason = np.where(live, "", units["status"])
    reason[steps == 0] = "no range"
    if not (reason == "").any():
        raise ValueError("no live unit of the classifier moves w: expected one or more; fit another link (link=ridge)")
    small = pd.Series(np.where(reason == "", steps, np.nan)).rank(ascending=False, method="first") > (most or np.inf)
    reason[small.to_numpy()] = "small step"
    return table.assign(step_norm=steps, tuned=reason == "", reason=reason)


def perturbations(units: pd.DataFrame) -> list[Perturbation]:
    """Every row's unit, from its minimum to its maximum."""
    rows = zip(*(units[name].tolist() for name in ("unit", "minimum", "maximum")), strict=True)
    return [Perturbation.of_unit(*row) for row in rows]
