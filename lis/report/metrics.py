"""The numbers of a run as one flat dictionary, for `metrics.json` and for a tracker."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from lis.report import section
from lis.report.html import Attempts, Rendered

if TYPE_CHECKING:
    from lis.store import Artifact

Measured = tuple[dict[str, float], list[Rendered]]
"""Numbers by key, and the failed sections in the place of those that are missing."""


def collect_metrics(artifacts: Mapping[str, Artifact]) -> dict[str, float]:
    """Finite numbers of the artifacts that exist, in their order; what of a stage fails has none, as the log tells.

    A key is the stage's name or that of a measure, and what is told of it behind a slash: see what is decorated with
    `metrics`.
    """
    return attempt_metrics(artifacts)[0]


def attempt_metrics(artifacts: Mapping[str, Artifact]) -> Measured:
    """The numbers of `collect_metrics`, and a failed section of the report for each stage whose numbers raise."""
    section.discover()
    tried = Attempts()
    result: dict[str, float] = {}
    for stage, artifact in artifacts.items():
        for collect in section.COLLECTORS.get(stage, ()):
            result |= tried(f"Numbers of {stage}", partial(_finite, collect, artifact), {})
    return result, tried.failed


def stage_metrics(stage: str, artifact: Artifact) -> dict[str, float]:
    """The numbers of one stage; of what fails none, which is told when all are collected."""
    section.discover()
    result: dict[str, float] = {}
    for collect in section.COLLECTORS.get(stage, ()):
        with suppress(Exception):
            result |= _finite(collect, artifact)
    return result


def _finite(collect: section.Collector, artifact: Artifact) -> dict[str, float]:
    return {key: float(value) for key, value in collect(artifact).items() if math.isfinite(value)}
