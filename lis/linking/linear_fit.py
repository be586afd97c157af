"""LR and ridge: the two ways to a linear link. Both read the moments only, never the pairs."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import pandas as pd

from lis.config import RidgeConfig
from lis.linking.linear import link_of
from lis.linking.ridge import choose_ridge, grid, ridge_path
from lis.linking.spectrum import Spectrum
from lis.linking.training import FittedLink, Settings, TrainingPairs

SHOWN = grid(33, 1e-6, 1e2)
"""Ridges that are shown beside plain least squares."""


class LeastSquaresFit:
    """LR: the paper's least squares (§3.1); table "path" shows what a ridge would do."""

    def fit(self, training: TrainingPairs, settings: Settings) -> FittedLink:
        """Solves the normal equations with ridge 0."""
        start = time.perf_counter()
        shown = ridge_path(training.moments.spectrum(standardised=True), SHOWN)
        spectrum = training.moments.spectrum(standardised=False)
        path = pd.concat([ridge_path(spectrum, [0.0]), shown], ignore_index=True)
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
