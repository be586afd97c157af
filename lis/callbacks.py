"""Around Hydra's jobs: the output folder is tried out first, and a sweep ends in one page and one verdict."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from lis.config.overrides import as_typed
from lis.files import read_json, read_yaml
from lis.store import check_writable

log = logging.getLogger(__name__)

FAILURE = "failure.json"
"""Written into the folder of a run that failed; holds `error`."""
PLAN = "plan.json"
"""Written into the folder of a run that is only planned; holds what a sum is made of."""
_RESULT = "metrics.json"
_CONFIG, _OVERRIDES = ".hydra/config.yaml", ".hydra/overrides.yaml"
_AGAIN = "run the same command again"

Versions = Mapping[Path, tuple[int, ...]]
"""Which version of a file is known: its inode, size, and times of writing and of change in nanoseconds."""


class SweepReport(Callback):
    """Writes the comparison page of a sweep and names every job that failed.

    A failed job does not stop the others, since each keeps its error to itself (in `failure.json`); here the sweep as a
    whole fails. Hydra swallows what a callback raises, except `SystemExit`.
    """

    def __init__(self) -> None:
        self._earlier: Versions = {}

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """End the program if the run's folder cannot be written."""
        _require_writable(config.hydra.run.dir, "hydra.run.dir")

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """End the program if the sweep's folder cannot be written."""
        _require_writable(config.hydra.sweep.dir, "hydra.sweep.dir")
        self._earlier = versions(Path(config.hydra.sweep.dir))

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Write `<sweep>/report.html`, log every failed job, and end the program with 1 if there is one."""
        folder = Path(config.hydra.sweep.dir)
        jobs = sweep_jobs(folder, self._earlier)
        failures = {job: reason for job in jobs if (reason := failure(job, self._earlier)) is not None}
        done = [job for job in jobs if _is_new(job / _RESULT, self._earlier)]  # also where only a figure failed
        is_whole = True
        try:
            if done:
                log.info("comparison of %s jobs: %s", len(done), _compare(done, folder))
        except Exception:
            log.exception("the comparison page is not whole")
            is_whole = False
        if planned := [job / PLAN for job in jobs if _is_new(job / PLAN, self._earlier)]:
            from lis.planning.text import sum_of_jobs  # not needed while a single run starts

            log.info("%s", sum_of_jobs([read_json(file, remedy=_AGAIN) for file in planned]))
        if failures:
            log.error("%s of %s jobs failed:", len(failures), len(jobs))
            for job, reason in failures.items():
                log.error("  job %s (%s): %s", job.name, " ".join(overrides(job)) or "no overrides", reason)
        if failures or not is_whole:
            sys.exit(1)


def versions(folder: Path) -> Versions:
    """What lies in the folders of a sweep's jobs before it starts.

    Clocks would not do: a sweep may follow within the tick of a file system's clock.
    """
    return {file: _version(file) for name in (_CONFIG, _RESULT, FAILURE, PLAN) for file in folder.glob(f"*/{name}")}


def sweep_jobs(folder: Path, earlier: Versions) -> list[Path]:
    """The folders of the jobs of a sweep, but for those that `earlier` sweeps left, in their order."""
    jobs = [file.parent.parent for file in folder.glob(f"*/{_CONFIG}") if _is_new(file, earlier)]
    return sorted(jobs, key=lambda job: (int(job.name) if job.name.isdigit() else sys.maxsize, job.name))


def failure(job: Path, earlier: Versions) -> str | None:
    """Why a job failed; None if it did not.

    A job that was refused leaves the result of an `earlier` one in its folder.

    Raises:
        ValueError: what says why cannot be read.
    """
    if _is_new(file := job / FAILURE, earlier):
        reason = read_json(file, remedy=_AGAIN).get("error")
        if not isinstance(reason, str):
            raise ValueError(f"{file}: error is {reason!r:.40}: expected a text, as a run writes it; {_AGAIN}")
        return reason
    return None if _is_new(job / _RESULT, earlier) or _is_new(job / PLAN, earlier) else "it ended without a result"


def _is_new(file: Path, earlier: Versions) -> bool:
    return file.exists() and earlier.get(file) != _version(file)


def _version(file: Path) -> tuple[int, ...]:
    status = file.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def overrides(job: Path) -> list[str]:
    """What was given on the command line for this job; empty where it was not noted.

    Raises:
        ValueError: what was noted cannot be read.
    """
    if not (file := job / _OVERRIDES).exists():
        return []
    given = read_yaml(file, "what was typed", _AGAIN)
    if not isinstance(given, list) or not all(isinstance(override, str) for override in given):
        raise ValueError(f"{file} holds {given!r:.40}: expected a list of texts, as Hydra writes it; {_AGAIN}")
    return [as_typed(override) for override in given]


def _compare(jobs: list[Path], folder: Path) -> Path:
    from lis.report.comparison import write_comparison  # draws: not needed while a single run starts

    return write_comparison(jobs, folder)


def _require_writable(folder: str, key: str) -> None:
    try:
        check_writable(Path(folder), key)
    except ValueError as error:
        sys.exit(str(error))
