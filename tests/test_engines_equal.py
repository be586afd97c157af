"""Pairs, link, tuning and counterfactuals are those of one process, whatever the engine and the number of workers."""

from __future__ import annotations

import os
import signal
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import psutil
import pytest
from helpers.commandline import SMALL, STORE, begin, drafts, fork, lis
from helpers.forked import make_shards
from helpers.stored import count, numbers

pytestmark = pytest.mark.full

STAGES = "analysis.stages=[tuning,unit_statistics,counterfactuals]"
RUN = (
    *SMALL,
    "classes=dogs",
    "threads=1",
    "shard_size=10",
    "tuning.units=64",
    "counterfactuals.max_steps=20",
    "hydra.run.dir=run",
    STAGES,
)


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """Checksums of all tensors and tables of a run in one process."""
    cwd = tmp_path_factory.mktemp("inprocess")
    finish(cwd)
    assert count(cwd / STORE, "tuning-shard") > 10
    return numbers(cwd / STORE)


def finish(cwd: Path, *overrides: str) -> None:
    code, output = lis(*RUN, *overrides, cwd=cwd, timeout=900)
    assert code == 0, output


def arguments(engine: str, workers: int) -> tuple[str, ...]:
    if engine == "local":
        return ("engine=local", f"engine.devices=[{','.join(['cpu'] * workers)}]")
    return ("engine=ray", f"engine.workers={workers}")


def help_out(cwd: Path, workers: int) -> list[BaseProcess]:
    return [fork(make_shards, RUN, str(cwd), str(cwd / f"worker{k}")) for k in range(workers)]


@pytest.mark.parametrize("workers", [1, 2, 3])
@pytest.mark.parametrize("engine", ["local", "ray"])
def test_an_engine_gives_what_one_process_gives(
    engine: str, workers: int, expected: dict[str, dict[str, str]], tmp_path: Path
) -> None:
    pytest.importorskip(engine if engine == "ray" else "lis")
    finish(tmp_path, *arguments(engine, workers))
    assert numbers(tmp_path / STORE) == expected


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_workers_give_what_one_process_gives(workers: int, expected: dict[str, dict[str, str]], tmp_path: Path) -> None:
    for process in help_out(tmp_path, workers):
        process.join(900)
        assert process.exitcode == 0
    made = numbers(tmp_path / STORE)
    finish(tmp_path)
    assert made == numbers(tmp_path / STORE) == expected


@pytest.mark.parametrize("engine", ["local", "ray", "worker"])
def test_a_worker_killed_while_it_tunes_changes_no_number(
    engine: str, expected: dict[str, dict[str, str]], tmp_path: Path
) -> None:
    pytest.importorskip(engine if engine == "ray" else "lis")
    if engine == "worker":
        processes = help_out(tmp_path, 2)
    else:
        with (tmp_path / "output").open("ab") as output:
            processes = [begin(*RUN, *arguments(engine, 2), cwd=tmp_path, output=output.fileno())]
    victim = tuner(tmp_path / STORE, processes)
    victim.kill()
    for process in processes:
        process.join(900)
        killed = engine == "worker" and process.pid == victim.pid
        assert process.exitcode == (-signal.SIGKILL if killed else 0)
    finish(tmp_path)
    assert numbers(tmp_path / STORE) == expected


def tuner(store: Path, processes: list[BaseProcess]) -> psutil.Process:
    """A process, other than the run itself, that tunes units just now."""
    drivers = {os.getpid(), *(process.pid for process in processes if len(processes) == 1)}
    while any(process.is_alive() for process in processes):
        for draft in drafts(store, "tuning-shard"):
            pid = int(draft.name.split("@")[1].partition(".")[0])
            if pid not in drivers:
                return psutil.Process(pid)
        time.sleep(0.005)
    pytest.fail("all was made before anybody was killed")
