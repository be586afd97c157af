"""Jobs that start the same stage at once: they share its shards, and one of them assembles it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.fakes import make_context

from lis.context import Context
from lis.shards import Shards
from lis.store import Artifact, Draft, Recipe, Store

STAGE = Recipe("stage", 1, {})


@dataclass(frozen=True)
class Job:
    """A run that notes what it makes, and waits before and while it does so."""

    ctx: Context
    made: list[Any]
    before: Callable[[int], object] = lambda _: None
    inputs: tuple[str, ...] = ()


def build(job: Job, block: int, draft: Draft) -> None:
    job.made.append(block)
    job.before(block)
    draft.tensors("block", {"x": torch.tensor([float(block)])})


SHARDS = Shards("shard", 1, lambda job, block: {"block": block}, build)


def stage(job: Job, blocks: int) -> Artifact:
    """The sum of all blocks."""

    def assemble(draft: Draft) -> None:
        total = SHARDS.tensors(job, range(blocks), "blocks")["x"].sum()
        job.made.append("stage")
        draft.json("sum", {"sum": float(total)})

    return job.ctx.store.make(STAGE, assemble)


def jobs(folder: Path, count: int, before: Callable[[int], object] = lambda _: None) -> list[Job]:
    """Jobs on one store, each with its own view of it."""
    return [Job(make_context(folder), [], before) for _ in range(count)]


def together(runs: list[Job], blocks: int) -> list[Artifact]:
    """All run at once."""
    with ThreadPoolExecutor(len(runs)) as pool:
        return list(pool.map(lambda job: stage(job, blocks), runs))


def first_waits(met: threading.Barrier) -> Callable[[int], object]:
    """What has a job begin its first block only when all others have begun one."""
    begun: list[int] = []

    def before(block: int) -> None:
        begun.append(block)
        if len(begun) == 1:
            met.wait(30)

    return before


@pytest.mark.parametrize("count", [2, 3])
def test_jobs_started_together_share_the_shards_and_make_each_once(count: int, tmp_path: Path) -> None:
    met = threading.Barrier(count)
    runs = [Job(job.ctx, [], first_waits(met)) for job in jobs(tmp_path, count)]
    artifacts = together(runs, 12)
    made = [each for job in runs for each in job.made]
    assert sorted(map(str, made)) == sorted(map(str, [*range(12), "stage"]))
    assert {artifact.json("sum")["sum"] for artifact in artifacts} == {66.0}
    assert all(len(job.made) > 1 for job in runs)
    assert not list((tmp_path / "drafts").rglob("*@*")) and not list((tmp_path / "locks").rglob("[0-9]"))


def test_a_job_that_comes_later_takes_part_at_once(tmp_path: Path) -> None:
    first, second = jobs(tmp_path, 2)
    started, helped = threading.Event(), threading.Event()

    def slow(block: int) -> None:
        if block == 0:
            started.set()
            assert helped.wait(30)

    first, second = Job(first.ctx, [], slow), Job(second.ctx, [], lambda block: block == 3 and helped.set())
    with ThreadPoolExecutor(2) as pool:
        one = pool.submit(stage, first, 4)
        assert started.wait(30)
        two = pool.submit(stage, second, 4)
        assert one.result().key == two.result().key
    assert first.made[0] == 0 and second.made[:3] == [1, 2, 3]
    assert (first.made + second.made).count("stage") == 1


def test_a_stage_without_shards_is_made_by_one_job(tmp_path: Path) -> None:
    runs, made = jobs(tmp_path, 2), []

    def slow(draft: Draft) -> None:
        made.append(1)
        time.sleep(0.1)
        draft.json("x", {})

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda job: job.ctx.store.make(STAGE, slow), runs))
    assert made == [1]


def test_a_stage_inside_a_stage_is_shared_too(tmp_path: Path) -> None:
    """As where a stage asks for pairs of another class while it is made."""
    runs = jobs(tmp_path, 2, lambda _: time.sleep(0.02))
    outer = Recipe("outer", 1, {})

    def made_by(job: Job) -> Artifact:
        return job.ctx.store.make(outer, lambda draft: draft.json("sum", dict(stage(job, 8).json("sum"))))

    with ThreadPoolExecutor(2) as pool:
        artifacts = list(pool.map(made_by, runs))
    made = [each for job in runs for each in job.made]
    assert sorted(map(str, made)) == sorted(map(str, [*range(8), "stage"]))
    assert [artifact.json("sum")["sum"] for artifact in artifacts] == [28.0, 28.0]


def test_an_error_of_one_job_leaves_the_stage_to_the_other(tmp_path: Path) -> None:
    def fail(block: int) -> None:
        raise RuntimeError(f"block {block}")

    broken, sound = jobs(tmp_path, 2)
    with pytest.raises(RuntimeError, match="block 0"):
        stage(Job(broken.ctx, [], fail), 3)
    assert stage(sound, 3).json("sum")["sum"] == 3.0 and sound.made == [0, 1, 2, "stage"]


def test_threads_of_one_store_share_shards_too(tmp_path: Path) -> None:
    """As in a notebook: one store, two threads, and what the other makes is waited for by each in its own way."""
    ctx, met = make_context(tmp_path), threading.Barrier(2)
    runs = [Job(ctx, [], first_waits(met)) for _ in range(2)]
    artifacts = together(runs, 8)
    made = [each for job in runs for each in job.made]
    assert sorted(map(str, made)) == sorted(map(str, [*range(8), "stage"]))
    assert {artifact.json("sum")["sum"] for artifact in artifacts} == {28.0}


def test_a_stage_of_no_shards_keeps_its_lock(tmp_path: Path) -> None:
    first, second = jobs(tmp_path, 2)

    def assemble(draft: Draft) -> None:
        assert SHARDS.tensors(first, [], "blocks") == {}
        assert second.ctx.store.attempt(STAGE, assemble) is None, "another job may make it meanwhile"
        draft.json("sum", {})

    first.ctx.store.make(STAGE, assemble)


def test_a_shard_is_not_waited_for(tmp_path: Path) -> None:
    store, other, inside = Store(tmp_path), Store(tmp_path), threading.Event()
    free = threading.Event()

    def slow(draft: Draft) -> None:
        inside.set()
        assert free.wait(30)
        draft.json("x", {"by": "first"})

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(store.attempt, STAGE, slow)
        assert inside.wait(30)
        assert other.attempt(STAGE, lambda draft: draft.json("x", {"by": "second"})) is None
        free.set()
        assert first.result() is not None
    artifact = other.attempt(STAGE, lambda draft: draft.json("x", {"by": "second"}))
    assert artifact is not None and artifact.json("x") == {"by": "first"}
