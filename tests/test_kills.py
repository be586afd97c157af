"""Jobs in a shared store that are killed or stand still at any moment: nothing is lost, damaged or left behind."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
from helpers import jobs, network
from helpers.commandline import drafts, fork
from helpers.stored import manifests

from lis.store import Store

pytestmark = pytest.mark.slow


@contextmanager
def started(number: int, root: Path, seconds: float, lease: float, total: int | None = None) -> Iterator[list]:
    """So many jobs, which are gone at the end."""
    processes = [fork(jobs.work, root, seconds, lease, total) for _ in range(number)]
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.join()


def ended(process: BaseProcess, seconds: float = 60) -> int | None:
    """Its exit code."""
    process.join(seconds)
    return process.exitcode


def check(root: Path) -> int:
    """The store is what one undisturbed job leaves, and each artifact was published once; how many there are."""
    lines = [line.split() for line in (root / "log").read_text().splitlines()]
    total = max(int(number) for number, *_ in lines) + 1
    jobs.work(root, 0.0, 1.0, total)  # the last one, behind all that were killed
    jobs.work(root / "undisturbed", 0.0, 1.0, total)
    assert contents(root / "store") == contents(root / "undisturbed" / "store")
    published = {tuple(line.split()) for line in (root / "log").read_text().splitlines()}
    assert len(published) == total, "made again"
    assert not (root / "store" / "set-aside").exists(), "damaged"
    assert not [path for top in ("locks", "drafts") for path in (root / "store" / top).glob("*/*")]
    return total


def contents(store: Path) -> dict[str, bytes]:
    """Every file of tensors in a store."""
    return {str(file.relative_to(store)): file.read_bytes() for file in store.rglob("*.safetensors")}


@pytest.mark.parametrize("kills", [20, pytest.param(200, marks=pytest.mark.full)])
def test_jobs_killed_at_random_moments_lose_and_leave_nothing(kills: int, tmp_path: Path) -> None:
    """Every other time one of those that are making something just then."""
    moments = random.Random(kills)
    with started(3, tmp_path, 0.01, 1.0) as processes:
        for kill in range(kills):
            time.sleep(moments.uniform(0.0, 0.08))
            victim = moments.choice(at_work(processes, tmp_path / "store") if kill % 2 else processes)
            assert victim.is_alive(), victim.exitcode
            victim.kill()
            victim.join()
            processes[processes.index(victim)] = fork(jobs.work, tmp_path, 0.01, 1.0)
        (tmp_path / "stop").touch()
        assert [ended(process) for process in processes] == [0] * 3
    assert check(tmp_path) > kills / 4


def at_work(processes: list[BaseProcess], store: Path) -> list[BaseProcess]:
    """Those that are making something, as soon as there is one."""
    making: list[BaseProcess] = []

    def look() -> bool:
        owners = [draft.name.split("@")[1].partition(".")[0] for draft in drafts(store)]
        making[:] = [process for process in processes if str(process.pid) in owners]
        return bool(making)

    wait_for(look)
    return making


@pytest.mark.parametrize("pauses", [2, pytest.param(10, marks=pytest.mark.full)])
def test_a_job_that_stands_still_and_the_one_that_takes_over_both_finish(pauses: int, tmp_path: Path) -> None:
    """One is stopped in the middle of an artifact, and goes on while the other makes it, or once that is published."""
    moments = random.Random(pauses)
    for pause in range(pauses):
        pause_once(root_of(tmp_path / str(pause)), moments.uniform(0.0, 0.15), until=(MAKES, MADE)[pause % 2])


MAKES, MADE = "the other makes it", "the other has published it"


def pause_once(root: Path, delay: float, until: str) -> None:
    """Stop a job for longer than its lease, and let it and another one end."""
    with started(1, root, 0.2, 0.3, 4) as (paused,):
        key = stop_in_an_artifact(paused, root / "store", delay)
        with started(1, root, 0.2, 0.3, 4) as (other,):
            wait_for(lambda: is_made(root / "store", key) or (until == MAKES and jobs_at(root / "store", key) == 2))
            resume(paused)
            assert [ended(paused), ended(other)] == [0, 0]
    assert check(root) == 4


def root_of(root: Path) -> Path:
    """The folder, made."""
    root.mkdir()
    return root


def wait_for(ready) -> None:
    """Until it is, for a minute at most."""
    end = time.monotonic() + 60
    while not ready():
        assert time.monotonic() < end
        time.sleep(0.005)


def stop_in_an_artifact(process: BaseProcess, store: Path, delay: float) -> str:
    """SIGSTOP while the process makes an artifact; its key."""
    while True:
        wait_for(lambda: any(drafts(store, "whole")))
        time.sleep(delay)
        os.kill(process.pid or 0, signal.SIGSTOP)
        if keys := [draft.name.partition("@")[0] for draft in drafts(store, "whole")]:
            return keys[0]
        resume(process)


def resume(process: BaseProcess) -> None:
    os.kill(process.pid or 0, signal.SIGCONT)


def is_made(store: Path, key: str) -> bool:
    """Whether an artifact is finished."""
    return (store / "whole" / key).is_dir()


def jobs_at(store: Path, key: str) -> int:
    """How many jobs are making an artifact."""
    return sum(draft.name.startswith(key) for draft in drafts(store, "whole"))


def test_jobs_that_want_the_same_do_it_once(tmp_path: Path) -> None:
    with started(4, tmp_path, 0.1, 1.0, 3) as processes:
        assert [ended(process) for process in processes] == [0] * 4
    assert check(tmp_path) == 3


def test_a_living_owner_is_waited_for_and_a_killed_one_replaced(tmp_path: Path) -> None:
    with started(1, tmp_path, 60, 0.3, 1) as (first,):
        wait_for(lambda: any(drafts(tmp_path / "store", "whole")))
        with started(1, tmp_path, 0.0, 0.3, 2) as (second,):
            time.sleep(1.0)  # longer than a lease
            assert second.is_alive() and not manifests(tmp_path / "store")
            first.kill()
            assert ended(second) == 0
    assert check(tmp_path) == 2 and Store(tmp_path / "store").find(jobs.recipe(1))


@pytest.mark.parametrize("total", [12, pytest.param(60, marks=pytest.mark.full)])
def test_a_good_artifact_of_which_another_machine_saw_half_was_thrown_away_simulated(
    total: int, tmp_path: Path
) -> None:
    """On a network file system, as `helpers.network` simulates one."""
    processes = [fork(network.work, tmp_path, 0.01, 1.0, total, seed) for seed in range(3)]
    try:
        assert [ended(process, 600) for process in processes] == [0] * 3
    finally:
        for process in processes:
            process.kill()
    assert check(tmp_path) == total
