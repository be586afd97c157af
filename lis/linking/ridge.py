"""The ridge path: how error and single-unit steps depend on the ridge, and the ridge that cross-validation takes.

Units are collinear, so the rows of a link are weakly identified: along the path the step of a unit shrinks several
times before the error rises.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from lis.linking.linear import link_of
from lis.linking.spectrum import Spectrum


def grid(steps: int, smallest: float, largest: float) -> list[float]:
    """Log-spaced ridges, relative to the number of samples.

    Raises:
        ValueError: fewer than one step, or not 0 < smallest ≤ largest.
    """
    if steps < 1 or not 0 < smallest <= largest:
        raise ValueError(
            f"ridge path with steps={steps}, smallest={smallest}, largest={largest}: "
            "expected steps ≥ 1 and 0 < smallest ≤ largest; set link.steps, link.smallest, link.largest"
        )
    return np.geomspace(smallest, largest, steps).tolist()


def ridge_path(spectrum: Spectrum, ridges: Iterable[float]) -> pd.DataFrame:
    """Error and step size for each ridge.

    Args:
        spectrum: of standardised units for ridges above 0, of the units as they are for a ridge of 0.
        ridges: relative to the number of samples; 0 is plain least squares.

    Returns:
        One row per ridge: `ridge`; `gcv_mse`, the generalised cross-validation estimate of the mean squared error per
        dimension of w on new samples; `mean_step_norm`, the mean ‖Δw‖ over units that are not dead, each taken from
        its minimum to its maximum.
    """
    rows = [(h, spectrum.gcv_mse(h), _mean_step_norm(spectrum, h)) for h in ridges]
    return pd.DataFrame(rows, columns=["ridge", "gcv_mse", "mean_step_norm"])


def choose_ridge(path: pd.DataFrame) -> float:
    """The ridge of a path with the smallest generalised cross-validation error; among equals the largest.

    Raises:
        ValueError: no ridge of the path has a finite error.
    """
    ridges, errors = path["ridge"].to_numpy(), path["gcv_mse"].to_numpy()
    best = errors.min()
    if not np.isfinite(best):
        raise ValueError(
            f"no ridge of {ridges.tolist()} has a finite cross-validation error: "
            "expected more samples than degrees of freedom; use more pairs or larger ridges"
        )
    return float(ridges[errors == best].max())


def _mean_step_norm(spectrum: Spectrum, ridge: float) -> float:
    units = spectrum.equations.units
    steps = link_of(spectrum.equations, spectrum.solution(ridge)).step_norms(units.reach)[~units.dead]
    return float(steps.mean()) if len(steps) else 0.0
