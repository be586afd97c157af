"""Engines with workers, and `lis.worker`: the same results as in process, by other processes."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.fakes import make_context

from lis import worker
from lis.build import context
from lis.compose import composed
from lis.context import Context
from lis.devices import JOB, find_device
from lis.distributed import Local, Ray
from lis.distributed.identity import Identity, identity
from lis.engine import InProcess
from lis.linking.pairs import test_pairs as pairs_stage
from lis.shards import Shards
from lis.store import Draft, Store

SETTINGS = ("classes=dogs", "size=smoke", "pairs.test=12", "shard_size=8", "threads=1", "analysis.stages=[pairs/test]")


def context_of(store: Path) -> Context:
    """A small run on a store."""
    return context(composed([*SETTINGS, f"store={store}"], Path.cwd()))


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    """What the run gives in process."""
    return pairs_stage(context_of(tmp_path_factory.mktemp("store"))).tensors("pairs")


def require_equal(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    """Bit by bit: on part world r and w depend on no batch, and no process."""
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], values) for name, values in expected.items())


def note(job: Any, block: int, draft: Draft) -> None:
    draft.tensors("block", {"process": torch.tensor([os.getpid()]), "block": torch.tensor([block])})


def nothing(job: Any, block: int) -> dict[str, str]:
    return {}


def number(job: Any, block: int) -> dict[str, Any]:
    return {"block": block}


def all_ready(engine: Local | Ray) -> None:
    """Wait for every worker: one that is ready first would make all that costs nothing."""
    pool, end = engine._pool, time.monotonic() + 120
    assert pool is not None
    while len(pool.ready) < len(pool.names):
        assert time.monotonic() < end
        pool.wait(0.2)


NOTES = Shards("note-shard", 1, number, note, nothing)


class Job:
    """Of `NOTES`."""

    def __init__(self, ctx: Context) -> None:
        self.ctx, self.inputs = ctx, ()


@pytest.fixture(scope="module")
def local() -> Iterator[Local]:
    """Two processes."""
    engine = Local(["cpu", "cpu"])
    yield engine
    engine.close()


@pytest.mark.slow
def test_two_processes_give_what_one_gives(local: Local, expected: dict[str, torch.Tensor], tmp_path: Path) -> None:
    ctx = replace(context_of(tmp_path), engine=local)
    require_equal(pairs_stage(ctx).tensors("pairs"), expected)
    all_ready(local)
    process = NOTES.tensors(Job(ctx), range(40), "notes")
    assert process["block"].tolist() == list(range(40))
    assert len(set(process["process"].tolist())) == 2 and os.getpid() not in process["process"].tolist()


@pytest.mark.slow
def test_ray_gives_what_one_process_gives(expected: dict[str, torch.Tensor], tmp_path: Path) -> None:
    pytest.importorskip("ray")
    engine = Ray(workers=2)
    try:
        ctx = replace(context_of(tmp_path), engine=engine)
        require_equal(pairs_stage(ctx).tensors("pairs"), expected)
        all_ready(engine)
        process = NOTES.tensors(Job(ctx), range(40), "notes")["process"].tolist()
        assert len(set(process)) == 2 and os.getpid() not in process
    finally:
        engine.close()


def test_what_is_in_the_store_starts_no_worker(tmp_path: Path) -> None:
    ctx = make_context(tmp_path)
    before = NOTES.tensors(Job(ctx), range(5), "notes")
    for engine in (Local(["cpu"]), Ray()):
        again = NOTES.tensors(Job(replace(ctx, engine=engine)), range(5), "notes")
        assert again["process"].tolist() == before["process"].tolist() and engine._pool is None


def test_models_that_are_objects_are_refused(tmp_path: Path) -> None:
    ctx = replace(make_context(tmp_path), engine=Local(["cpu"]))
    with pytest.raises(ValueError, match=r"is an object, which other processes cannot build.*engine=inprocess"):
        NOTES.tensors(Job(ctx), range(2), "notes")


def test_without_a_gpu_devices_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(ValueError, match=r"no GPU; expected engine.devices=\[cpu,cpu\]"):
        Local()
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert Local().devices == ["cuda:0", "cuda:1"] and Local(["1", "cpu"]).devices == ["cuda:1", "cpu"]
    for name in ("gpu", "2"):
        with pytest.raises(ValueError, match=rf"device '{name if name == 'gpu' else 'cuda:2'}'.*engine\.devices=…"):
            Local(["cpu", name])


def test_another_program_is_refused_by_name() -> None:
    own = identity()
    own.require_same(replace(own, host="other"))
    for other in (replace(own, version="9.9"), replace(own, sources="0" * 8)):
        with pytest.raises(ValueError, match=rf"{other.host} runs lis {other.version} \(sources {other.sources}\)"):
            own.require_same(other)
    assert isinstance(own, Identity)


@pytest.mark.parametrize(
    ("numbers", "device"),
    [
        ({"LOCAL_RANK": "7"}, "cuda:3"),
        ({"SLURM_LOCALID": "7"}, "cuda:3"),
        ({JOB: "7"}, "cuda:3"),
        ({JOB: "7", "SLURM_LOCALID": "1"}, "cuda:1"),
        ({JOB: "7", "SLURM_LOCALID": "1", "LOCAL_RANK": "4"}, "cuda:0"),
        ({}, "cuda:2"),
    ],
)
def test_a_process_takes_the_gpu_of_its_number(
    numbers: dict[str, str], device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LOCAL_RANK", "SLURM_LOCALID", JOB):
        monkeypatch.delenv(name, raising=False)
    for name, number in numbers.items():
        monkeypatch.setenv(name, number)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 2)
    assert find_device("auto") == torch.device(device)
    assert find_device("cuda") == torch.device("cuda:2")  # as its tensors name it


def test_a_worker_does_the_work_of_a_run(expected: dict[str, torch.Tensor], tmp_path: Path) -> None:
    assert worker.main([*SETTINGS, f"store={tmp_path}"]) == 0
    ctx = context_of(tmp_path)
    store, ctx = Store(tmp_path), replace(ctx, engine=InProcess())
    (folder,) = (tmp_path / "pairs-test").glob("[0-9a-f]*")
    artifact = pairs_stage(replace(ctx, store=store))
    assert artifact.path == folder
    require_equal(artifact.tensors("pairs"), expected)


def test_a_worker_says_what_is_wrong(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert worker.main(["clases=dogs", f"store={tmp_path}"]) == 1
    assert "did you mean classes?" in caplog.text
