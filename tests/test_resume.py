"""Killed in the middle of anything and started again, or started twice at once: one unbroken run's result."""

from __future__ import annotations

import os
import random
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from commandline import SMALL, lis, made, manifests, metrics, start

pytestmark = pytest.mark.slow

RUN = (*SMALL, "shard_size=20", "link=fc_l1")
STAGES = ("pairs-shard", "pairs-train", "pairs-test", "link", "evaluation", "similarity")
"""Folders of the store, in the order in which a run fills them."""


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nobody disturbed."""
    cwd = tmp_path_factory.mktemp("unbroken")
    code, output = lis(*RUN, "hydra.run.dir=run", cwd=cwd)
    assert code == 0, output
    return cwd


def drafts(cwd: Path, stage: str = "") -> Iterator[Path]:
    """What is being made just now. os.walk passes over folders that vanish while it looks."""
    for folder, _, _ in os.walk(cwd / "outputs" / "store" / "drafts" / stage):
        if len(Path(folder).name) == 8:  # stages and keys have other lengths
            yield Path(folder)


def kill_when(process: subprocess.Popen[str], ready) -> bool:
    """`kill -9` as soon as `ready()`; False if the process ended first."""
    while process.poll() is None:
        if ready():
            process.kill()
            process.communicate()
            return True
        time.sleep(0.002)
    process.communicate()
    return False


def killed_while_making(stage: str, cwd: Path) -> bool:
    """Start a run and kill it while it makes an artifact of the stage."""
    process = start(*RUN, "hydra.run.dir=run", cwd=cwd)
    return kill_when(process, lambda: any(drafts(cwd, stage)))


def same_as(unbroken: Path, cwd: Path) -> None:
    """What the finished run in `cwd` has left is what the unbroken one has left."""
    assert metrics(cwd / "run") == metrics(unbroken / "run")
    assert manifests(cwd / "outputs" / "store").keys() == manifests(unbroken / "outputs" / "store").keys()
    assert not list(drafts(cwd))


def finish(cwd: Path) -> None:
    """Start the run in `cwd` once more, and let it end."""
    code, output = lis(*RUN, "hydra.run.dir=run", cwd=cwd)
    assert code == 0, output


def test_killed_once_in_every_stage(unbroken: Path, tmp_path: Path) -> None:
    for stage in STAGES:
        assert killed_while_making(stage, tmp_path), f"{stage} was made before it could be killed"
    before = manifests(tmp_path / "outputs" / "store")
    finish(tmp_path)
    same_as(unbroken, tmp_path)
    assert before.items() <= manifests(tmp_path / "outputs" / "store").items()  # what was finished is not made again


def test_killed_again_and_again_at_random_moments(unbroken: Path, tmp_path: Path) -> None:
    moments = random.Random(0)
    for _ in range(3):
        process = start(*RUN, "hydra.run.dir=run", cwd=tmp_path)
        known = len(manifests(tmp_path / "outputs" / "store"))
        wanted = known + moments.randrange(1, 8)
        kill_when(process, lambda wanted=wanted: len(manifests(tmp_path / "outputs" / "store")) >= wanted)
    finish(tmp_path)
    same_as(unbroken, tmp_path)


def test_two_runs_at_once_do_the_work_once(unbroken: Path, tmp_path: Path) -> None:
    runs = [start(*RUN, f"hydra.run.dir=run{number}", cwd=tmp_path) for number in range(2)]
    outputs = [run.communicate(timeout=300)[0] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], outputs
    work = made(tmp_path / "run0") + made(tmp_path / "run1")
    assert len(work) == len(set(work)) == len(manifests(tmp_path / "outputs" / "store"))
    assert metrics(tmp_path / "run0") == metrics(tmp_path / "run1") == metrics(unbroken / "run")


def test_a_run_waits_for_one_that_is_killed_and_takes_over(unbroken: Path, tmp_path: Path) -> None:
    first = start(*RUN, "hydra.run.dir=first", cwd=tmp_path)
    while not any(drafts(tmp_path)):
        time.sleep(0.002)
    with ThreadPoolExecutor() as pool:
        second = pool.submit(lis, *RUN, "hydra.run.dir=run", cwd=tmp_path)
        assert kill_when(first, lambda: (tmp_path / "run" / "lis.log").exists()), "the first run was too fast"
        code, output = second.result()
    assert code == 0, output
    same_as(unbroken, tmp_path)
