"""Killed in the middle of anything and started again, stopped for a while, or started twice at once: one unbroken run's
result.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
from helpers.commandline import SMALL, STORE, begin, drafts, made, metrics
from helpers.stored import manifests, numbers

import lis.build
from lis.store import Store

pytestmark = pytest.mark.slow

RUN = (*SMALL, "threads=1", "shard_size=20", "link=fc_l1")
STAGES = ("pairs-shard", "pairs-train", "pairs-test", "link", "evaluation", "similarity")
"""Folders of the store, in the order in which a run fills them."""


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nobody disturbed."""
    cwd = tmp_path_factory.mktemp("unbroken")
    finish(cwd)
    return cwd


def short_lease() -> None:
    """Has a run take over what another one has stood still at for a second."""
    lis.build.Store = partial(Store, lease=1.0)


@contextmanager
def started(cwd: Path, name: str = "run") -> Iterator[BaseProcess]:
    """A run at work, which is gone at the end."""
    with (cwd / f"{name}.txt").open("wb") as output:
        process = begin(*RUN, f"hydra.run.dir={name}", cwd=cwd, output=output.fileno(), before=short_lease)
    try:
        yield process
    finally:
        process.kill()
        process.join()


def ended(process: BaseProcess, cwd: Path, name: str = "run") -> None:
    """Wait for the end of a run, which is a good one."""
    process.join(300)
    assert process.exitcode == 0, (cwd / f"{name}.txt").read_text()


def wait_for(process: BaseProcess, ready: Callable[[], bool]) -> bool:
    """Whether it is ready before the process ends."""
    while not (is_ready := ready()) and process.is_alive():
        time.sleep(0.002)
    return is_ready


def killed_while_making(stage: str, cwd: Path, delay: float = 0.0) -> bool:
    """Start a run and kill it while it makes an artifact of the stage."""
    with started(cwd) as process:
        is_making = wait_for(process, lambda: any(drafts(cwd / STORE, stage)))
        time.sleep(delay)
    return is_making


def same_as(unbroken: Path, cwd: Path) -> None:
    """What the finished run in `cwd` has left is what the unbroken one has left."""
    assert metrics(cwd / "run") == metrics(unbroken / "run")
    assert numbers(cwd / STORE) == numbers(unbroken / STORE)
    assert not [path for top in ("locks", "drafts") for path in (cwd / STORE / top).glob("*/*")]
    assert not (cwd / STORE / "set-aside").exists()


def finish(cwd: Path) -> None:
    """Start the run in `cwd` once more, and let it end."""
    with started(cwd) as process:
        ended(process, cwd)


def test_killed_once_in_every_stage(unbroken: Path, tmp_path: Path) -> None:
    for stage in STAGES:
        assert killed_while_making(stage, tmp_path), f"{stage} was made before it could be killed"
    before = manifests(tmp_path / STORE)
    finish(tmp_path)
    same_as(unbroken, tmp_path)
    assert before.items() <= manifests(tmp_path / STORE).items()  # what was finished is not made again


@pytest.mark.full
def test_killed_fifty_times_inside_stages(unbroken: Path, tmp_path: Path) -> None:
    moments, kills = random.Random(0), 0
    for attempt in range(100):
        cwd = tmp_path / str(attempt)
        cwd.mkdir()
        before: dict[str, str] = {}
        for stage in STAGES:  # none twice: each kill is further on
            kills += killed_while_making(stage, cwd, moments.choice((0.0, 0.005, 0.02, 0.1)))
            assert before.items() <= (before := manifests(cwd / STORE)).items()
        finish(cwd)
        assert before.items() <= manifests(cwd / STORE).items()
        same_as(unbroken, cwd)
        if kills >= 50:
            return


@pytest.mark.parametrize("pauses", [1, pytest.param(10, marks=pytest.mark.full)])
def test_a_run_that_stands_still_and_the_one_that_takes_over_both_finish(
    pauses: int, unbroken: Path, tmp_path: Path
) -> None:
    """Stopped in each stage in turn, for longer than its lease; it goes on once the other has finished that artifact,
    or at the same time as it.
    """
    for pause in range(pauses):
        cwd = tmp_path / str(pause)
        cwd.mkdir()
        pause_once(cwd, STAGES[pause % len(STAGES)], is_awaited=pause % 2 == 0)
        same_as(unbroken, cwd)
        assert metrics(cwd / "other") == metrics(unbroken / "run")


def pause_once(cwd: Path, stage: str, is_awaited: bool) -> None:
    with started(cwd) as paused:
        assert wait_for(paused, lambda: any(drafts(cwd / STORE, stage)))
        os.kill(paused.pid or 0, signal.SIGSTOP)
        held = {draft.name.partition("@")[0] for draft in drafts(cwd / STORE, stage)}
        with started(cwd, "other") as other:
            assert wait_for(other, lambda: taken_over(cwd / STORE / stage, held, paused, is_awaited))
            os.kill(paused.pid or 0, signal.SIGCONT)
            ended(paused, cwd)
            ended(other, cwd, "other")


def taken_over(stage: Path, held: set[str], paused: BaseProcess, is_awaited: bool) -> bool:
    """Whether the other run has made what the paused one held or, unless that is awaited, makes it."""
    if all((stage / key).is_dir() for key in held):
        return True
    others = {
        draft.name.partition("@")[0]
        for draft in drafts(stage.parent, stage.name)
        if f"@{paused.pid}." not in draft.name
    }
    return not is_awaited and held <= others


def test_two_runs_at_once_do_the_work_once(unbroken: Path, tmp_path: Path) -> None:
    with started(tmp_path) as first, started(tmp_path, "other") as second:
        ended(first, tmp_path)
        ended(second, tmp_path, "other")
    work = made(tmp_path / "run") + made(tmp_path / "other")
    assert len(work) == len(set(work)) == len(manifests(tmp_path / STORE))
    assert metrics(tmp_path / "run") == metrics(tmp_path / "other") == metrics(unbroken / "run")


def test_a_run_waits_for_one_that_is_killed_and_takes_over(unbroken: Path, tmp_path: Path) -> None:
    with started(tmp_path, "first") as first:
        assert wait_for(first, lambda: any(drafts(tmp_path / STORE)))
        with started(tmp_path) as second:
            log = tmp_path / "run" / "lis.log"
            assert wait_for(second, lambda: log.exists() and "waiting for" in log.read_text()), "the first was too fast"
            first.kill()
            ended(second, tmp_path)
    same_as(unbroken, tmp_path)
