"""Which of several runs of a sweep is better, by the error in W of the test samples that they share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from scipy.stats import ttest_rel

from lis.report.gains import PAIRED, cycle_distances
from lis.report.jobs import Job
from lis.report.tables import where
from lis.statistics import SIGNIFICANT, benjamini_hochberg


@dataclass(frozen=True)
class Comparison:
    """Two runs that differ in one thing alone."""

    setting: str
    """Everything else that varied in the sweep."""
    better: str
    """Which of the two has the smaller mean error."""
    worse: str
    gain: float
    """1 − mean error of the better / that of the worse."""
    samples: int
    """Test samples that both have."""
    p: float
    """Two-sided paired t test of the errors: of their means, as `gain` is."""
    q: float = float("nan")
    """Benjamini and Hochberg, over all comparisons that were made together."""


def compared(jobs: Sequence[Job], group: str) -> list[Comparison]:
    """All pairs of runs that differ in one group alone and share test samples, with q over all of them.

    Each link is fitted once: what another fit of the same settings would give is not in the test.

    Args:
        jobs: of a sweep.
        group: what differs, such as "classifier".
    """
    by_setting: dict[str, dict[str, Job]] = {}
    for job in jobs:
        by_setting.setdefault(setting_of(job, group), {}).setdefault(job.values[group], job)
    pairs = [(setting, dict(two)) for setting, some in by_setting.items() for two in combinations(some.items(), 2)]
    made = [one for setting, two in pairs if (one := _comparison(setting, two)) is not None]
    q = benjamini_hochberg(np.array([one.p for one in made], dtype=float))
    return [replace(one, q=float(value)) for one, value in zip(made, q, strict=True)]


def setting_of(job: Job, group: str) -> str:
    """All that varied but one group, as one text."""
    return ", ".join(value for name, value in job.values.items() if name != group)


def _comparison(setting: str, jobs: Mapping[str, Job]) -> Comparison | None:
    """Of two runs by their names; None where they have fewer than two test samples in common.

    The test is of the means, which the sentence tells: ranks can point the other way where a few errors are large, and
    call runs of equal means different whose errors are distributed unlike.
    """
    errors = [where(cycle_distances(job.samples), metric="mse_w") for job in jobs.values() if job.samples is not None]
    if len(errors) < 2 or len(both := errors[0].merge(errors[1], on=PAIRED)) < 2:
        return None
    values = dict(zip(jobs, both[["value_x", "value_y"]].to_numpy(dtype=float).T, strict=True))
    (better, low), (worse, high) = sorted(values.items(), key=lambda item: item[1].mean())
    p = float(ttest_rel(low, high).pvalue) if (low != high).any() else 1.0  # pyright: ignore[reportAttributeAccessIssue]
    return Comparison(setting, better, worse, float(1 - low.mean() / high.mean()), len(both), p)


def winner(made: Sequence[Comparison]) -> str:
    """What is better than everything else in one setting (q ≤ 0.05 each); empty: nothing is.

    Args:
        made: all comparisons of the setting, each pair once.
    """
    values = {name for one in made for name in (one.better, one.worse)}
    beaten = Counter(one.better for one in made if one.q <= SIGNIFICANT)
    return next((name for name, count in beaten.items() if count == len(values) - 1), "")
