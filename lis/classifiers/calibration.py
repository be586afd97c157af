"""Whether a classifier's confidence can be believed: reliability of the top label (Guo et al. 2017)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lis.statistics import wilson

BINS = 15
"""Bins of equal width in which confidence and accuracy are compared, as many as Guo et al. take."""
RESAMPLES = 1000
"""Test sets that are simulated from the confidences."""

Array = NDArray[np.floating[Any]]
Integers = NDArray[np.integer[Any]]
Flags = NDArray[np.bool_]


def calibration(confidence: Array, right: Flags) -> pd.DataFrame:
    """Reliability of the top label: how often it is right where its probability is in a bin.

    Args:
        confidence: the largest probability of each sample, `[n]`, in (0, 1].
        right: whether its class is the sample's, `[n]`.

    Returns:
        A row per bin of `BINS` on [0, 1], closed above: bin, lower, upper, confidence (mean), accuracy, low, high (95 %
        Wilson interval of the accuracy), n. What an empty bin does not have is NaN.
    """
    place, edges = _bins(confidence), np.linspace(0, 1, BINS + 1)
    own = [place == k for k in range(BINS)]
    rows = [(k, edges[k], edges[k + 1], *_reliability(confidence[own[k]], right[own[k]])) for k in range(BINS)]
    return pd.DataFrame(rows, columns=["bin", "lower", "upper", "confidence", "accuracy", "low", "high", "n"])


def _bins(confidence: Array) -> Integers:
    """Bin of each confidence: 0 for (0, 1/BINS], …; rounding may take a confidence of 1 no higher than the last."""
    return np.clip(np.ceil(confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)


def _reliability(confidence: Array, right: Flags) -> tuple[float, float, float, float, int]:
    n = len(right)
    if not n:
        return float("nan"), float("nan"), float("nan"), float("nan"), 0
    return float(confidence.mean()), float(right.mean()), *wilson(int(right.sum()), n), n


def expected_calibration_error(confidence: Array, right: Flags) -> float:
    """Σ over bins of (n_bin / n)·|accuracy − mean confidence|, in [0, 1] (Guo et al. 2017, Eq. 3)."""
    surplus = np.bincount(_bins(confidence), right - confidence, minlength=BINS)
    return float(np.abs(surplus).sum() / len(confidence))


def calibrated_bound(confidence: Array, rng: np.random.Generator) -> float:
    """The error that a calibrated classifier stays below in 95 % of test sets with these confidences.

    No finite test set gives it an error of 0: here each sample is right with the probability that its confidence says.
    """
    drawn = [expected_calibration_error(confidence, rng.random(len(confidence)) < confidence) for _ in range(RESAMPLES)]
    return float(np.quantile(drawn, 0.95))
