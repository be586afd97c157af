"""`deterministic=true`: what torch is set to, in every process that computes, and what is said of what it refuses."""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.fakes import make_context
from torch import Tensor

from lis import build, job, stage
from lis.compose import composed
from lis.context import Context
from lis.determinism import CUBLAS, refusals_explained, use_deterministic
from lis.distributed.serving import Opening, Worker, opening_of
from lis.stage import REGISTRY
from lis.store import Draft


@pytest.fixture(autouse=True)
def as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No other test computes with what is set here."""
    monkeypatch.delenv(CUBLAS, raising=False)
    yield
    use_deterministic(False)
    os.environ.pop(CUBLAS, None)


def refused() -> Tensor:
    """An operation without a deterministic form, on a CPU too: which of two values is written is left open."""
    return torch.zeros(2).put_(torch.tensor([0, 0]), torch.tensor([1.0, 2.0]))


def test_torch_is_set_and_given_back() -> None:
    torch.backends.cudnn.benchmark = True
    use_deterministic(True)
    use_deterministic(True)
    assert torch.are_deterministic_algorithms_enabled() and not torch.backends.cudnn.benchmark
    assert os.environ[CUBLAS] == ":4096:8"
    use_deterministic(False)
    assert not torch.are_deterministic_algorithms_enabled() and torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = False


def test_what_a_user_set_is_not_undone_by_a_run_that_asks_for_nothing() -> None:
    torch.use_deterministic_algorithms(True)
    try:
        use_deterministic(False)
        assert torch.are_deterministic_algorithms_enabled() and CUBLAS not in os.environ
    finally:
        torch.use_deterministic_algorithms(False)


def test_cuda_that_has_started_is_refused_unless_cublas_was_told_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    with pytest.raises(ValueError, match=rf"{CUBLAS}=None: expected :4096:8; set it in the environment"):
        use_deterministic(True)
    assert not torch.are_deterministic_algorithms_enabled()
    monkeypatch.setenv(CUBLAS, ":16:8")
    use_deterministic(True)
    assert torch.are_deterministic_algorithms_enabled() and os.environ[CUBLAS] == ":16:8"


def test_an_operation_without_a_deterministic_form_is_named_with_a_remedy() -> None:
    with refusals_explained():
        refused()
    use_deterministic(True)
    told = r"the operation put_ has no .* use device=cpu, or deterministic=false"
    with pytest.raises(ValueError, match=told), refusals_explained():
        refused()
    with pytest.raises(RuntimeError, match="another one"), refusals_explained():
        raise RuntimeError("another one")


SETTINGS = ("size=smoke", "device=cpu", "threads=1", "analysis.stages=[pairs/test]", "pairs.test=4", "classes=dogs")


def test_a_run_and_its_workers_compute_so_and_say_so(tmp_path: Path) -> None:
    """What workers are given, of engine=local and of Ray, sets it in their process, too; the manifest tells it."""
    ctx = build.context(composed([*SETTINGS, f"store={tmp_path}", "deterministic=true"], Path.cwd()))
    assert torch.are_deterministic_algorithms_enabled()
    manifest = job.run_stage("pairs/test", ctx).manifest
    assert manifest["deterministic"] is True and manifest["threads"] == torch.get_num_threads()
    opening = opening_of(ctx, "cpu", 1)
    use_deterministic(False)  # as in a process of its own
    worker = Worker(opening)
    assert torch.are_deterministic_algorithms_enabled() and worker.ctx.config.deterministic


def test_the_key_of_a_result_does_not_know_it(tmp_path: Path) -> None:
    """On a CPU the bits are the same, so that what one run has made is read by the other."""
    plain, strict = (composed([*SETTINGS, f"deterministic={x}"], Path.cwd()) for x in ("false", "true"))
    made = [
        job.run_stage("pairs/test", build.context(replace(config, store=str(tmp_path / str(k)))))
        for k, config in enumerate((plain, strict))
    ]
    assert made[0].key == made[1].key and not made[0].manifest["deterministic"]
    for name in ("r", "w"):
        assert torch.equal(made[0].tensors("pairs")[name], made[1].tensors("pairs")[name])
    files = [{name: facts["sha256"] for name, facts in each.manifest["files"].items()} for each in made]
    assert files[0] == files[1]


class Refusing:
    """A task whose items cannot be made with deterministic operations."""

    def attempt(self, item: Any) -> Tensor:
        return refused()


def test_a_stage_and_a_worker_name_what_they_were_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_deterministic(True)
    ctx = make_context(tmp_path)

    @stage.stage("refusing", version=1)
    def refusing(ctx: Context, draft: Draft) -> None:
        refused()

    try:
        with pytest.raises(ValueError, match="operation put_"):
            job.run_stage("refusing", ctx)
    finally:
        del REGISTRY["refusing"]
    opening = pickle.dumps(Opening(_opened, "cpu", 1, 1))
    worker = Worker(opening)
    monkeypatch.setattr("lis.distributed.serving.unpacked", lambda data, ctx: Refusing() if data == b"task" else data)
    worker.begin(b"task", 1)
    with pytest.raises(ValueError, match="operation put_"):
        worker.attempt(b"item")


def _opened(device: str, threads: int) -> Any:
    return None
