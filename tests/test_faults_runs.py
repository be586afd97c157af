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
from helpers.commandline import ROOT, SMALL, STORE, begin, drafts, fork
from helpers.stored import damaged, manifests, numbers

pytestmark = pytest.mark.slow

KILL, TERM, INT = signal.SIGKILL, signal.SIGTERM, signal.SIGINT

RUN = (*SMALL, "threads=1", "shard_size=10", "hydra.run.dir=run", "analysis.stages=[pairs/train,pairs/test,link]")
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
    """A run that lives, and all processes that it has started, without agents of Ray."""
    try:
        run = psutil.Process(process.pid)
        members = {run, *run.children(recursive=True)}
        agents = {each for each in members if each.name().startswith("ray::") and "Agent" in each.name()}
    except psutil.NoSuchProcess:
        return set()
    AGENTS.update(agents)
    return members - agents


AGENTS: set[psutil.Process] = set()
"""Of Ray: they end by themselves, but only a minute or two after Ray was killed."""


def gone(processes: set[psutil.Process], seconds: float = 120) -> None:
    """Wait for the end of what a run has started, which is to end with it."""
    _, alive = psutil.wait_procs(processes, seconds)
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
    assert numbers(cwd / STORE) == numbers(unbroken / STORE)
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
    """Send a signal to a run, to it and all that it has started, or to a worker that makes something for it.

    Returns:
        What the run had started before; None where there was nothing to make.
    """
    at_work: list[psutil.Process] = []

    def look() -> bool:
        at_work[:] = [each for each in makers(cwd, process) if victim != "worker" or each.pid != process.pid]
        return bool(at_work)

    if not wait_for(process, look):
        return None
    time.sleep(moments.uniform(0.0, 0.3))
    pid, begun = moments.choice(at_work).pid if victim == "worker" else process.pid or 0, family(process)
    try:
        os.kill(-pid if victim == "group" else pid, number)
    except ProcessLookupError:  # it has ended in this moment
        return None
    return begun


def ended_by(process: BaseProcess, number: signal.Signals, cwd: Path) -> bool:
    """Wait for a driver that was sent a signal, which ends as the signal says.

    Returns:
        Whether it did; False where it ended well, since nothing was left to make when the signal came.
    """
    there = manifests(cwd / STORE).keys()
    process.join(60)
    expected, output = -KILL if number == KILL else 128 + number, (cwd / "output").read_text()
    was_done = process.exitcode == 0 and manifests(cwd / STORE).keys() == there
    assert (process.exitcode == expected or was_done) and "Traceback" not in output, output
    return not was_done


Kill = tuple[Sequence[str], str, signal.Signals]
"""What is started, who of it is the victim, and the signal."""


def campaign(cwd: Path, kills: Sequence[Kill], moments: random.Random, before: Callable[[], object] | None) -> int:
    """Start the run again and again, each time with one kill more; how many there were before all was made."""
    struck, known = 0, dict[str, str]()
    for overrides, victim, number in kills:
        with started(cwd, *overrides, before=before) as process:
            begun = strike(process, victim, number, cwd, moments)
            if begun is not None and victim != "worker":
                struck += ended_by(process, number, cwd)
                gone(begun)
            elif begun is not None:
                struck += 1
                more = len(manifests(cwd / STORE)) + 2
                wait_for(process, lambda more=more: len(manifests(cwd / STORE)) >= more)
            else:
                process.join(300)
                assert process.exitcode == 0, (cwd / "output").read_text()
        now = manifests(cwd / STORE)
        assert known.items() <= now.items(), "made again"
        assert not damaged(cwd / STORE)
        known = now
    return struck


def forking() -> None:
    """Have a run fork its workers."""
    in_foreground()
    forked.use()


def spawning() -> None:
    """Have what a run starts find `lis`."""
    in_foreground()
    os.environ["PYTHONPATH"] = str(ROOT)


def in_foreground() -> None:
    """As a shell has it for Ctrl-C, wherever the tests run: the first of a group of processes, which SIGINT reaches."""
    os.setsid()
    signal.signal(INT, signal.default_int_handler)


WORKER = (("worker",), "driver")
QUICK: Sequence[Kill] = [(LOCAL, "worker", KILL), (LOCAL, "driver", TERM), (LOCAL, "group", INT), (*WORKER, KILL)]
ALL: Sequence[Kill] = [
    *(
        (engine, victim, number)
        for engine in (LOCAL, RAY)
        for victim in ("driver", "worker")
        for number in (KILL, TERM)
    ),
    *((engine, "group", number) for engine in (LOCAL, RAY) for number in (INT, TERM)),
    *((*WORKER, number) for number in (KILL, TERM, INT)),
]


def test_runs_killed_at_random_moments_lose_nothing(unbroken: Path, tmp_path: Path) -> None:
    moments = random.Random(1)
    assert campaign(tmp_path, moments.sample(QUICK, len(QUICK)), moments, forking) == len(QUICK)
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
        struck += campaign(cwd, moments.sample(ALL, 4), moments, spawning)
        before = manifests(cwd / STORE)
        finish(cwd, *moments.choice([(), LOCAL]))
        check(unbroken, cwd, before)
        if struck >= 30:
            break
    assert struck >= 30
    gone(AGENTS, 300)
