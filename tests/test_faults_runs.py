"""Runs whose driver, workers, `lis.worker` or actors of Ray are killed at random moments lose nothing."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path

import psutil
import pytest
from helpers import forked
from helpers.commandline import ROOT, SMALL, STORE, begin, drafts, fork, metrics
from helpers.stored import manifests, numbers

from lis.store import read_artifact

pytestmark = pytest.mark.slow

RUN = (*SMALL, "threads=1", "shard_size=15", "pairs.train=45", "link=fc_l1", "hydra.run.dir=run")
LOCAL = ("engine=local", "engine.devices=[cpu,cpu]")
RAY = ("engine=ray", "engine.workers=2")


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run in one process that nobody disturbed."""
    cwd = tmp_path_factory.mktemp("unbroken")
    finish(cwd)
    return cwd


@contextmanager
def started(cwd: Path, *overrides: str, before: Callable[[], object] | None = None) -> Iterator[BaseProcess]:
    """A run at work, or with `worker` as the only override `lis.worker`; gone at the end, with all that it started."""
    if overrides == ("worker",):
        process = fork(forked.make_shards, RUN, str(cwd), str(cwd / "output"))
    else:
        with (cwd / "output").open("ab") as output:
            process = begin(*RUN, *overrides, cwd=cwd, output=output.fileno(), before=before)
    begun: set[psutil.Process] = set()
    try:
        yield process
        begun |= family(process)
    finally:
        process.kill()
        process.join()
    gone(begun)


def family(process: BaseProcess) -> set[psutil.Process]:
    """A run that lives, and all processes that it has started."""
    try:
        run = psutil.Process(process.pid)
        return {run, *run.children(recursive=True)}
    except psutil.NoSuchProcess:
        return set()


def gone(processes: set[psutil.Process]) -> None:
    """Wait for the end of what a run has started, which is to end with it."""
    _, alive = psutil.wait_procs(processes, 30)
    left = [process for process in alive if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]
    assert not left, f"left behind: {left}"


def finish(cwd: Path, *overrides: str) -> None:
    """Start the run in `cwd` once more, and let it end."""
    with started(cwd, *overrides) as process:
        process.join(300)
        assert process.exitcode == 0, (cwd / "output").read_text()


def check(unbroken: Path, cwd: Path, before: dict[str, str]) -> None:
    """The finished run in `cwd` has made nothing again, and has left what the unbroken one has: bit by bit."""
    assert before.items() <= manifests(cwd / STORE).items(), "made again"
    assert metrics(cwd / "run") == metrics(unbroken / "run") and numbers(cwd / STORE) == numbers(unbroken / STORE)
    assert not [path for top in ("locks", "drafts") for path in (cwd / STORE / top).glob("*/*")]
    assert not (cwd / STORE / "set-aside").exists()


def wait_for(process: BaseProcess, ready: Callable[[], bool]) -> bool:
    """Whether it is ready before the process ends."""
    while not (is_ready := ready()) and process.is_alive():
        time.sleep(0.005)
    return is_ready


def makers(cwd: Path, process: BaseProcess) -> list[psutil.Process]:
    """The processes of a run that are making something just now, itself or its workers."""
    owners = {int(draft.name.split("@")[1].partition(".")[0]) for draft in drafts(cwd / STORE)}
    return [each for each in family(process) if each.pid in owners]


def strike(
    process: BaseProcess, victim: str, number: signal.Signals, cwd: Path, moments: random.Random
) -> set[psutil.Process] | None:
    """Send a signal to a run, or to a worker that makes something for it.

    Returns:
        What the run had started before; None where there was nothing to make.
    """
    at_work: list[psutil.Process] = []

    def look() -> bool:
        at_work[:] = [each for each in makers(cwd, process) if victim == "driver" or each.pid != process.pid]
        return bool(at_work)

    if not wait_for(process, look):
        return None
    time.sleep(moments.uniform(0.0, 0.3))
    pid, begun = process.pid if victim == "driver" else moments.choice(at_work).pid, family(process)
    try:
        os.kill(pid or 0, number)
    except ProcessLookupError:  # it has ended in this moment
        return None
    return begun


def ended_by(process: BaseProcess, number: signal.Signals, cwd: Path) -> None:
    """A driver ends as the signal says."""
    process.join(60)
    expected = -signal.SIGKILL if number == signal.SIGKILL else 128 + number
    assert process.exitcode == expected, (cwd / "output").read_text()


Kill = tuple[Sequence[str], str, signal.Signals]
"""What is started, who of it is the victim, and the signal."""


def campaign(cwd: Path, kills: Sequence[Kill], moments: random.Random, before: Callable[[], object] | None) -> int:
    """Start the run again and again, each time with one kill more; how many there were before all was made."""
    struck, known = 0, dict[str, str]()
    for overrides, victim, number in kills:
        with started(cwd, *overrides, before=before) as process:
            begun = strike(process, victim, number, cwd, moments)
            struck += begun is not None
            if begun is not None and victim == "driver":
                ended_by(process, number, cwd)
                gone(begun)
            elif begun is not None:
                more = len(manifests(cwd / STORE)) + 2
                wait_for(process, lambda more=more: len(manifests(cwd / STORE)) >= more)
            else:
                process.join(300)
                assert process.exitcode == 0, (cwd / "output").read_text()
        now = manifests(cwd / STORE)
        assert known.items() <= now.items(), "made again"
        for folder in now:
            read_artifact(cwd / STORE / folder)
        known = now
    return struck


def importable() -> None:
    """Have what Ray starts find `lis`."""
    os.environ["PYTHONPATH"] = str(ROOT)


KILL, TERM = signal.SIGKILL, signal.SIGTERM
QUICK: Sequence[Kill] = [(LOCAL, "worker", KILL), (LOCAL, "driver", TERM), (("worker",), "driver", KILL)]
ALL: Sequence[Kill] = [
    (engine, victim, number) for engine in (LOCAL, RAY) for victim in ("driver", "worker") for number in (KILL, TERM)
] + [(("worker",), "driver", KILL), (("worker",), "driver", TERM)]


def test_runs_killed_at_random_moments_lose_nothing(unbroken: Path, tmp_path: Path) -> None:
    moments = random.Random(1)
    assert campaign(tmp_path, moments.sample(QUICK, 3), moments, forked.use) == 3
    before = manifests(tmp_path / STORE)
    finish(tmp_path)
    check(unbroken, tmp_path, before)


@pytest.mark.full
def test_thirty_kills_of_drivers_workers_and_actors_lose_nothing(unbroken: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    moments, struck = random.Random(30), 0
    for attempt in range(30):
        cwd = tmp_path / str(attempt)
        cwd.mkdir()
        struck += campaign(cwd, moments.sample(ALL, 4), moments, importable)
        before = manifests(cwd / STORE)
        finish(cwd, *moments.choice([(), LOCAL]))
        check(unbroken, cwd, before)
        if struck >= 30:
            return
    pytest.fail(f"{struck} kills in 30 runs")
