"""Multinomial logistic regression with a ridge penalty that cross-validation chooses."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.special import log_softmax
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold

from lis.progress import Progress
from lis.unit_statistics import UnitStatistics

GRID = tuple(10.0 ** (k / 2) for k in range(-12, 7))
"""Candidates for C, from 1e-6 to 1e3 in half decades."""
PATIENCE = 3
"""Points of the grid without a smaller loss after which the path ends: beyond, fits are slow and only get worse."""
_PATH_TOLERANCE, _TOLERANCE = 1e-5, 1e-7
"""Largest entry of the gradient of the mean loss at which a fit ends."""

Array = NDArray[np.floating[Any]]
Integers = NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Coordinates:
    """Where the regression is fitted: x = (r − mean)·basis, the standardised units in the span of the samples.

    A ridge penalty does not see a rotation, and its solution lies in the span of the samples, so that the probabilities
    are those of a fit to all standardised units, however many there are (Hastie & Tibshirani 2004).
    """

    x: Array
    """The samples, `[n, min(n, units)]`."""
    mean: Array
    """`[units]`."""
    basis: Array
    """`[units, min(n, units)]`; the rows of dead units are 0."""

    @classmethod
    def of(cls, r: Array) -> Coordinates:
        """Coordinates of the samples `r [n, units]`.

        Raises:
            ValueError: every unit is dead.
        """
        gain = _gain(r)
        mean = r.mean(0, dtype=np.float64)
        axes, rotated = np.linalg.qr(((r - mean) * gain).T)
        return cls(rotated.T.copy(), mean, gain[:, None] * axes)

    def unfold(self, coefficients: Array, intercept: Array) -> tuple[Array, Array]:
        """Weight `[classes, units]` and bias `[classes]` on r of coefficients `[classes, coordinates]` on x."""
        weight = coefficients @ self.basis.T
        return weight, intercept - weight @ self.mean


def _gain(r: Array) -> Array:
    """1/σ of each unit, 0 for dead ones."""
    low, high = r.min(0), r.max(0)
    mean, std = r.mean(0, dtype=np.float64), r.std(0, dtype=np.float64)
    tensors = (torch.from_numpy(np.asarray(value, np.float64)) for value in (mean, std, low, high))
    dead = UnitStatistics(len(r), *tensors, resolution=float(np.finfo(r.dtype).eps)).dead.numpy()
    if dead.all():
        raise ValueError(
            f"all {len(dead)} units of the classifier are constant over the {len(r)} samples of the linear probe: "
            "expected some that vary; check the classifier's weights and preprocessing"
        )
    return np.where(dead, 0.0, 1 / np.where(dead, 1.0, std))


@dataclass(frozen=True)
class Fit:
    """A fitted probe: softmax(weight·r + bias) are the probabilities of the classes."""

    weight: Array
    """`[classes, units]`, float64."""
    bias: Array
    """`[classes]`, float64."""
    strength: float
    """C, the inverse of the penalty's weight."""
    path: pd.DataFrame
    """`C`, `log_loss` (mean over folds), `se` (its standard error), `accuracy`, `chosen` (one row true)."""


def fit(r: Array, labels: Integers, folds: int, progress: Progress) -> Fit:
    """Minimises Σ −log p(class | r) + ‖weight of the standardised units‖² / 2C, with the C of the smallest loss.

    Units are standardised over all samples before these are divided into folds. The intercept has no penalty; of two
    classes the difference of their weights has it.

    Args:
        r: activations, `[n, units]` float.
        labels: class of each sample, 0 … classes − 1, `[n]`, in an order that says nothing else about them.
        folds: of the cross-validation that chooses C from `GRID`, stratified by class.
        progress: shows the points of the grid.

    Raises:
        ValueError: every unit is dead.
    """
    coordinates = Coordinates.of(r)
    steps = cross_validated(coordinates.x, labels, folds)
    rows = list(progress.track(steps, total=len(GRID), label="linear probe: regularisation"))
    path = pd.DataFrame(rows, columns=["C", "log_loss", "se", "accuracy"])
    best = int(np.argmin(path["log_loss"]))
    model = _regression(_TOLERANCE).set_params(C=GRID[best]).fit(coordinates.x, labels)
    weight, bias = coordinates.unfold(*_parameters(model))
    return Fit(weight, bias, GRID[best], path.assign(chosen=np.arange(len(path)) == best))


def cross_validated(x: Array, labels: Integers, folds: int) -> Iterator[tuple[float, float, float, float]]:
    """C, mean log loss over held-out folds, its standard error and the mean accuracy, along `GRID`.

    Every fit starts from that of the C before. Ends `PATIENCE` points after the smallest mean loss.
    """
    splits = list(StratifiedKFold(folds).split(x, labels))
    models = [_regression(_PATH_TOLERANCE) for _ in splits]
    means: list[float] = []
    for c in GRID:
        for model, (kept, _) in zip(models, splits, strict=True):
            _fit_quietly(model.set_params(C=c), x[kept], labels[kept])
        fitted = zip(models, splits, strict=True)
        scores = np.array([_score(model, x[held], labels[held]) for model, (_, held) in fitted])
        mean, accuracy = scores.mean(0)
        yield c, mean, scores[:, 0].std(ddof=1) / np.sqrt(folds), accuracy
        means.append(mean)
        if len(means) - 1 - int(np.argmin(means)) >= PATIENCE:
            return


def _regression(tolerance: float) -> Any:
    return LogisticRegression(tol=tolerance, max_iter=5000, warm_start=True)


def _fit_quietly(model: Any, x: Array, labels: Integers) -> None:
    with warnings.catch_warnings():  # a fit that ends early is judged by its loss, as all are
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(x, labels)


def _parameters(model: Any) -> tuple[Array, Array]:
    """Coefficients and intercepts, a row per class; of two classes scikit-learn keeps the difference alone."""
    if len(model.classes_) > 2:
        return model.coef_, model.intercept_
    half = np.array([-0.5, 0.5])
    return half[:, None] * model.coef_, half * model.intercept_


def _score(model: Any, x: Array, labels: Integers) -> tuple[float, float]:
    """Log loss and accuracy on samples."""
    coefficients, intercept = _parameters(model)
    logits = x @ coefficients.T + intercept
    return log_loss(logits, labels), float((logits.argmax(1) == labels).mean())


def log_loss(logits: Array, labels: Integers) -> float:
    """Mean of −log p(class) in nats, for logits `[n, classes]`."""
    return float(-log_softmax(logits, axis=1)[np.arange(len(labels)), labels].mean())
