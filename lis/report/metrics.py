"""The numbers of a run as one flat dictionary, for `metrics.json` and for a tracker."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from lis.report.frames import column
from lis.report.html import Attempts, Shown
from lis.report.sections import discover

if TYPE_CHECKING:
    import pandas as pd

    from lis.store import Artifact

Measured = tuple[dict[str, float], list[Shown]]
"""Numbers by key, and the failed sections in the place of those that are missing."""
Collector = Callable[["Artifact"], dict[str, float]]
COLLECTORS: dict[str, list[Collector]] = {}
"""What reads the numbers of each stage."""


def metrics(stage: str) -> Callable[[Collector], Collector]:
    """Register what reads numbers off the artifact of a stage; its docstring tells the keys. A stage may have several,
    in whatever modules below `lis.report` they lie.
    """

    def register(collector: Collector) -> Collector:
        COLLECTORS.setdefault(stage, []).append(collector)
        return collector

    return register


def collect_metrics(artifacts: Mapping[str, Artifact]) -> dict[str, float]:
    """Finite numbers of the artifacts that exist, in their order; what of a stage fails has none, as the log tells.

    A key is the stage's name or that of a measure, and what is told of it behind a slash: see what is decorated with
    `metrics`.
    """
    return attempt_metrics(artifacts)[0]


def attempt_metrics(artifacts: Mapping[str, Artifact]) -> Measured:
    """The numbers of `collect_metrics`, and a failed section of the report for each stage whose numbers raise."""
    discover()
    tried = Attempts()
    found: dict[str, float] = {}
    for stage, artifact in artifacts.items():
        for collect in COLLECTORS.get(stage, ()):
            found |= tried(f"Numbers of {stage}", partial(_finite, collect, artifact), {})
    return found, tried.failed


def means(table: pd.DataFrame, names: Sequence[str]) -> dict[str, float]:
    """The mean of each column over its finite values, without the columns that have none."""
    columns = {name: column(table, name) for name in names}
    return {name: float(values.mean()) for name, values in columns.items() if len(values)}


def prefixed(prefix: str, numbers: Mapping[str, float | None]) -> dict[str, float]:
    """Numbers with `<prefix>/` before their keys, without those that are None.

    Example:
        >>> prefixed("link", {"rank": 9, "ridge": None})
        {'link/rank': 9}
    """
    return {f"{prefix}/{name}": value for name, value in numbers.items() if value is not None}


def _finite(collect: Collector, artifact: Artifact) -> dict[str, float]:
    return {key: float(value) for key, value in collect(artifact).items() if math.isfinite(value)}
