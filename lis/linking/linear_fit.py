"""LR and ridge: the two ways to a linear link. Both read the moments only, never the pairs."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

from lis.linking.linear import LeastSquares, link_of
from lis.linking.ridge import choose_ridge, grid, ridge_path
from lis.linking.training import FittedLink, Settings, TrainingPairs

SHOWN = grid(33, 1e-6, 1e2)
"""Ridges that are shown beside plain least squares."""


class LeastSquaresFit:
    """LR: the paper's least squares (§3.1); table "path" shows what a ridge would do."""

    def fit(self, training: TrainingPairs, settings: Settings) -> FittedLink:
        """Solves the normal equations with ridge 0."""
        return _fit("lr", training.moments, [0.0, *SHOWN], ridge=0.0)


@dataclass(frozen=True)
class RidgeFit:
    """Ridge on standardised units, chosen from a path by generalised cross-validation.

    Args:
        steps, smallest, largest: the path, log-spaced, relative to the number of samples.
    """

    steps: int = 33
    smallest: float = 1e-6
    largest: float = 1e2

    def __post_init__(self) -> None:
        grid(self.steps, self.smallest, self.largest)  # refuses what makes no path

    def fit(self, training: TrainingPairs, settings: Settings) -> FittedLink:
        """Solves with the ridge of least cross-validation error.

        Raises:
            ValueError: no ridge has a finite error.
        """
        return _fit("ridge", training.moments, grid(self.steps, self.smallest, self.largest), ridge=None)


def _fit(kind: str, moments: LeastSquares, ridges: Sequence[float], ridge: float | None) -> FittedLink:
    """A linear link with a given ridge, or with the best of the path."""
    start = time.perf_counter()
    path = ridge_path(moments, ridges)
    ridge = choose_ridge(path) if ridge is None else ridge
    path["chosen"] = path["ridge"] == ridge
    spectrum = moments.spectrum(ridge > 0)
    chosen = path[path["chosen"]].iloc[0]
    facts = {"ridge": ridge, "rank": spectrum.rank, "condition": spectrum.condition, "mse": spectrum.mse(ridge)}
    finite = math.isfinite(chosen["gcv_mse"])  # not with as many degrees of freedom as samples
    facts |= {"gcv_mse": float(chosen["gcv_mse"]) if finite else None}
    facts |= {"mean_step_norm": float(chosen["mean_step_norm"])}
    facts["seconds"] = time.perf_counter() - start
    return FittedLink(kind, link_of(spectrum, ridge), facts, {"path": path}, ridge)
