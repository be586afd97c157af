"""How the jobs of a sweep ended: a row each, on the page of the sweep, as a table, and for `python -m lis.store`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

if TYPE_CHECKING:
    import pandas as pd

ENDED = ("status", "seconds")
"""Columns of the list of runs beside what varied and the main numbers."""


@dataclass(frozen=True, eq=False)
class Outcome:
    """How a job of a sweep ended."""

    folder: Path
    overrides: Sequence[str] = ()
    """What was typed for it."""
    failure: str | None = None
    """Why it failed; None: it did not."""
    seconds: float | None = None
    """How long it took; None where nobody noted it."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """The numbers of `metrics.json`; none where it has not got so far."""

    @property
    def status(self) -> str:
        """`done` or `failed`."""
        return "done" if self.failure is None else "failed"


def outcome_table(outcomes: Sequence[Outcome]) -> pd.DataFrame:
    """A row per job: `job`, `overrides`, `status`, `seconds`, `failure`, and the numbers that a run prints."""
    import pandas as pd  # takes long, and whoever only starts a run draws no table

    rows = [
        {
            "job": outcome.folder.name,
            "overrides": " ".join(outcome.overrides),
            "status": outcome.status,
            "seconds": outcome.seconds,
            "failure": outcome.failure or "",
            **main_metrics(outcome.metrics),
        }
        for outcome in outcomes
    ]
    return pd.DataFrame(rows)


def main_metrics(metrics: Mapping[str, float]) -> dict[str, float]:
    """The numbers of a run that are told first: those without a stage, and distances beside random pairs.

    Example:
        >>> main_metrics({"class_kept": 0.9, "link/samples": 300, "mse_w/ratio_random": 0.2})
        {'class_kept': 0.9, 'mse_w/ratio_random': 0.2}
    """
    return {name: value for name, value in metrics.items() if "/" not in name or name.endswith("/ratio_random")}


def run_row(
    outcome: Outcome,
    varied: Mapping[Path, Sequence[str]],
    numbers: Callable[[Mapping[str, float]], list[str]],
    out: Path,
) -> dict[str, Any]:
    """A row of the list of runs: what varied, how it ended, and the main numbers.

    Args:
        outcome: of the job.
        varied: what varied, for the folders of the jobs with a result; it is left blank of a job without.
        numbers: the cells of a run's metrics.
        out: the sweep's folder; the address of a page in it is relative, so that it can be moved.
    """
    blank = [""] * len(next(iter(varied.values())))
    seconds = "–" if outcome.seconds is None else f"{outcome.seconds:,.1f}"
    status = "done" if outcome.failure is None else f"failed ({' '.join(outcome.overrides)}): {outcome.failure}"
    page = (outcome.folder / "report.html").resolve()
    inside = page.is_file() and page.is_relative_to(out.resolve())
    return {
        **unlinked(outcome),
        "page": quote(page.relative_to(out.resolve()).as_posix()) if inside else "",
        "cells": [*varied.get(outcome.folder, blank), status, seconds, *numbers(outcome.metrics)],
    }


def unlinked(outcome: Outcome) -> dict[str, Any]:
    """The row of a run of which nothing else can be told."""
    return {"folder": outcome.folder.name, "page": "", "cells": [], "failed": outcome.failure is not None}


def write_sweep(outcomes: Sequence[Outcome], artifacts: Mapping[str, str], file: Path) -> None:
    """Write how the jobs ended and which artifacts in the store the sweep has, by name."""
    jobs = [asdict(outcome) | {"folder": outcome.folder.name, "status": outcome.status} for outcome in outcomes]
    file.write_text(json.dumps({"artifacts": artifacts, "jobs": jobs}, indent=1))
