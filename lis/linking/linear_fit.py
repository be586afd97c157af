"""LR and ridge: the two ways to a linear link. Both read the moments only, never the pairs."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from lis.config import RidgeConfig
from lis.linking.equations import Spectrum
from lis.linking.linear import link_of
from lis.linking.training import FittedLink, Settings, TrainingPairs


class LeastSquaresFit:
    """LR: the paper's least squares (§3.1); table "path" shows what a ridge would do."""

    def fit(self, training: TrainingPairs, settings: Settings) -> FittedLink:
        """Solves the normal equations with ridge 0."""
        start = time.perf_counter()
        ridges = ridge_path(training.moments.spectrum(standardised=True), grid(33, 1e-6, 1e2))
        spectrum = training.moments.spectrum(standardised=False)
        path = pd.concat([ridge_path(spectrum, [0.0]), ridges], ignore_index=True)
        return _fitted("lr", spectrum, path, 0.0, start)


@dataclass(frozen=True)
class RidgeFit:
    """Ridge on standardised units, chosen from a path by generalised cross-validation.

    Args:
        steps, smallest, largest: the path, log-spaced, relative to the number of samples.
    """

    steps: int = RidgeConfig.steps
    smallest: float = RidgeConfig.smallest
    largest: float = RidgeConfig.largest

    def __post_init__(self) -> None:
        grid(self.steps, self.smallest, self.largest)  # refuses what makes no path

    def fit(self, training: TrainingPairs, settings: Settings) -> FittedLink:
        """Solves with the ridge of least cross-validation error.

        Raises:
            ValueError: no ridge has a finite error.
        """
        start = time.perf_counter()
        spectrum = training.moments.spectrum(standardised=True)
        path = ridge_path(spectrum, grid(self.steps, self.smallest, self.largest))
        return _fitted("ridge", spectrum, path, choose_ridge(path), start)


def _fitted(kind: str, spectrum: Spectrum, path: pd.DataFrame, ridge: float, start: float) -> FittedLink:
    """The link with a ridge of the path; `start` is when the fit began, in seconds of `time.perf_counter`."""
    path["chosen"] = path["ridge"] == ridge
    chosen = path[path["chosen"]].iloc[0]
    facts = {"ridge": ridge, "rank": spectrum.rank, "condition": spectrum.condition, "mse": spectrum.mse(ridge)}
    finite = math.isfinite(chosen["gcv_mse"])  # not with as many degrees of freedom as samples
    facts |= {"gcv_mse": float(chosen["gcv_mse"]) if finite else None}
    facts |= {"mean_step_norm": float(chosen["mean_step_norm"])}
    link = link_of(spectrum.equations, spectrum.solution(ridge))
    facts["seconds"] = time.perf_counter() - start
    return FittedLink(kind, link, facts, {"path": path}, ridge)


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
    steps = link_of(spectrum.equations, spectrum.solution(ridge)).step_norms(units.range)[~units.dead]
    return float(steps.mean()) if len(steps) else 0.0
