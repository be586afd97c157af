"""Around Hydra's jobs: the output folder is tried out first, each job of a sweep is composed once, and the sweep ends
in a page, a table and a verdict.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from lis.config.overrides import as_typed
from lis.files import read_json, read_yaml
from lis.folder import record
from lis.report.outcomes import Outcome, outcome_table
from lis.stopping import stop
from lis.store import check_writable
from lis.store.inventory import SUMMARY

log = logging.getLogger(__name__)

FAILURE = "failure.json"
"""Written into the folder of a run that failed; holds `error`."""
PLAN = "plan.json"
"""Written into the folder of a run that is only planned; holds what a sum is made of."""
_RESULT, _LOG, _TABLE = "metrics.json", "lis.log", "jobs.csv"
_LINES, _TAIL = 6, 4096
"""Lines at the end of a failed job's log that are told, and bytes in which they are looked for."""
_CONFIG, _OVERRIDES = ".hydra/config.yaml", ".hydra/overrides.yaml"
_WRITTEN = (_CONFIG, _RESULT, FAILURE, PLAN, SUMMARY, _LOG)
_AGAIN = "run the same command again"
_UNUSED = 64
"""Configurations that are kept at once, of some megabytes each; others are composed twice."""

Versions = Mapping[Path, tuple[int, ...]]
"""Which version of a file is known: its inode, size, and times of writing and of change in nanoseconds."""


class SweepReport(Callback):
    """Writes the comparison page of a sweep and a table of its jobs, and names every job that failed.

    A failed job does not stop the others, since each keeps its error to itself (in `failure.json`); here the sweep as a
    whole fails. Hydra swallows what a callback raises, except `SystemExit`.
    """

    running: SweepReport | None = None
    """That of the sweep that this process has begun and not ended."""

    def __init__(self) -> None:
        self._earlier: Versions = {}
        self._config = DictConfig({})

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """End the program if the run's folder cannot be written."""
        _require_writable(config.hydra.run.dir, "hydra.run.dir")

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """End the program if the sweep's folder cannot be written."""
        _require_writable(config.hydra.sweep.dir, "hydra.sweep.dir")
        self._earlier, self._config = versions(Path(config.hydra.sweep.dir)), config
        SweepReport.running, stop.store = self, str(config.store)
        _compose_once(config)

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Write the page and the table of a sweep, log every failed job, and end the program with 1 if there is one."""
        SweepReport.running = None
        folder = Path(config.hydra.sweep.dir)
        outcomes = [outcome(job, self._earlier) for job in sweep_jobs(folder, self._earlier)]
        planned = [one.folder / PLAN for one in outcomes if _is_new(one.folder / PLAN, self._earlier)]
        run = [one for one in outcomes if one.folder / PLAN not in planned]
        is_whole = True
        if planned:
            is_whole &= _attempt("the sum of the plans", lambda: _tell_sum(planned))
        if not planned or any("plan=true" not in map(str.lower, one.overrides) for one in run):
            is_whole &= self._write(run, config)
        failed = [one for one in outcomes if one.failure is not None]
        if failed:
            log.error("%s of %s jobs failed:", len(failed), len(outcomes))
            for one in failed:
                log.error("%s", _told(one, self._earlier))
        if failed or not is_whole:
            sys.exit(1)

    def _write(self, outcomes: Sequence[Outcome], config: DictConfig) -> bool:
        """Write the table and the page of a sweep, and show both on its dashboard; whether all of it was possible."""
        folder = Path(config.hydra.sweep.dir)
        # Also those of which only a figure failed.
        done = [one.folder for one in outcomes if _is_new(one.folder / _RESULT, self._earlier)]
        is_whole = _attempt(f"the table {_TABLE}", lambda: _write_table(outcomes, folder))
        if done:
            is_whole &= _attempt("the comparison page", lambda: _compare(done, outcomes, config))
        return is_whole & _attempt("the dashboard of the sweep", lambda: _show(outcomes, folder, config))

    def give_up(self) -> None:
        """End a sweep whose launcher has given up."""
        log.error(
            "the launcher has given up: jobs that ended without a result may still be running, and those that are not "
            "listed here did not begin; what is finished is kept, and the same command again finds it"
        )
        self.on_multirun_end(self._config)


@contextmanager
def ended() -> Iterator[None]:
    """Inside of the block a sweep runs; where its launcher fails, as when the queue cancels a job, its jobs are told
    all the same.
    """
    try:
        yield
    except SystemExit:
        if (sweep := SweepReport.running) is not None:
            sweep.give_up()
        raise


def _attempt(what: str, write: Callable[[], object]) -> bool:
    """Whether something could be written; if not, the log says why."""
    try:
        write()
    except Exception:
        log.exception("%s is not whole", what)
        return False
    return True


def outcome(job: Path, earlier: Versions) -> Outcome:
    """How a job of a sweep ended; what it has written and cannot be read is told as its failure."""
    try:
        reason, typed = failure(job, earlier), overrides(job)
        file = next((job / name for name in (FAILURE, SUMMARY) if _is_new(job / name, earlier)), None)
        seconds = None if file is None else read_json(file, remedy=_AGAIN).get("seconds")
        result = job / _RESULT
        metrics = read_json(result, remedy=_AGAIN) if _is_new(result, earlier) else {}
    except ValueError as error:
        return Outcome(job, (), str(error))
    return Outcome(job, typed, reason, seconds, metrics)


def _told(failed: Outcome, earlier: Versions) -> str:
    """A job that failed: what was typed for it, why, and the end of its log."""
    file, lines = failed.folder / _LOG, []
    if _is_new(file, earlier):
        with file.open("rb") as stream:
            stream.seek(max(file.stat().st_size - _TAIL, 0))
            lines = stream.read().decode(errors="replace").splitlines()
    lines = [line for line in lines if "][submitit][" not in line][-_LINES:]
    name = f"  job {failed.folder.name} ({' '.join(failed.overrides) or 'no overrides'}): {failed.failure}"
    return "\n".join([name, *(f"    {line}" for line in lines)])


def versions(folder: Path) -> Versions:
    """What lies in the folders of a sweep's jobs before it starts.

    Clocks would not do: a sweep may follow within the tick of a file system's clock.
    """
    return {file: _version(file) for name in _WRITTEN for file in folder.glob(f"*/{name}")}


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


def _tell_sum(plans: Sequence[Path]) -> None:
    """What the jobs of a sweep would take together."""
    from lis.planning.text import sum_of_jobs  # not needed while a single run starts

    log.info("%s", sum_of_jobs([read_json(file, remedy=_AGAIN) for file in plans]))


def _write_table(outcomes: Sequence[Outcome], folder: Path) -> None:
    """A row per job, in a file that spreadsheets read."""
    from lis.tracking import quoted  # takes long to import, and no answer needs it

    record(folder, [folder / _TABLE])
    quoted(outcome_table(outcomes)).to_csv(folder / _TABLE, index=False)


def _compare(jobs: Sequence[Path], outcomes: Sequence[Outcome], config: DictConfig) -> None:
    """Write the page of a sweep; its figures are those of the store where that has them."""
    from lis.report.comparison import write_comparison  # draws: not needed while a single run starts
    from lis.store import Store

    store = Store(Path(config.hydra.runtime.cwd) / Path(config.store).expanduser())
    page = write_comparison(jobs, Path(config.hydra.sweep.dir), outcomes, store)
    log.info("comparison of %s jobs: %s", len(jobs), page)


def _show(outcomes: Sequence[Outcome], folder: Path, config: DictConfig) -> None:
    """Show the comparison of a sweep on the dashboard that its jobs have been on, if any."""
    from lis.dashboard import show_sweep  # takes long to import, and no answer needs it

    show_sweep(config.get("logger", {}), folder, outcome_table(outcomes))


def _require_writable(folder: str, key: str) -> None:
    try:
        check_writable(Path(folder), key)
    except ValueError as error:
        sys.exit(str(error))


class Compositions:
    """Gives a configuration that was composed before to whoever asks for it next, and to nobody else.

    Args:
        compose: makes one of the sweep's and a job's overrides.
    """

    def __init__(self, compose: Callable[[DictConfig, list[str]], DictConfig]) -> None:
        self._compose = compose
        self._unused: dict[tuple[str, ...], DictConfig] = {}
        self._used = set[tuple[str, ...]]()

    def __call__(self, master_config: DictConfig, sweep_overrides: Sequence[str]) -> DictConfig:
        """The configuration of a job, which the caller may change."""
        job = tuple(sweep_overrides)
        if job in self._unused:
            self._used.add(job)
            return self._unused.pop(job)
        config = self._compose(master_config, list(sweep_overrides))
        if job not in self._used and len(self._unused) < _UNUSED:
            self._unused[job] = config
        return config


def _compose_once(config: DictConfig) -> None:
    """Have Hydra's own launcher take the configurations with which the sweep was checked.

    Other launchers start jobs in other processes, which compose for themselves.

    Args:
        config: of the sweep.
    """
    hydra = GlobalHydra.instance().hydra
    if hydra is not None and str(config.hydra.launcher._target_).endswith(".BasicLauncher"):
        loader = hydra.config_loader
        loader.load_sweep_config = Compositions(loader.load_sweep_config)  # pyright: ignore[reportAttributeAccessIssue]
