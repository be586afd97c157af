"""Work in blocks: in their order, one artifact each, and none made twice."""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.fakes import make_context

from lis.context import Context
from lis.engine import Task
from lis.progress import Progress
from lis.shards import Shards, joined
from lis.store import Draft, Recipe

MODULES = {
    "lis.linking.pairs": "pairs-shard",
    "lis.linking.projection": "projection-shard",
    "lis.units.tuning": "tuning-shard",
    "lis.units.truth": "truth-shard",
    "lis.motion.motion": "motion-shard",
    "lis.motion.matching": "matching-shard",
    "lis.boundary.searches": "counterfactual-shard",
    "lis.boundary.gan_counterfactuals": "gan-counterfactuals-shard",
    "lis.boundary.adversarial": "adversarial-shard",
}
"""Those with shards, and the folders of the store."""


@dataclass(frozen=True)
class Job:
    """A run, with a note of every block that is made."""

    ctx: Context
    made: list[int]
    inputs: tuple[str, ...] = ("key",)


def config(job: Job, block: int) -> dict[str, Any]:
    return {"block": block, "seed": job.ctx.config.seed}


def build(job: Job, block: int, draft: Draft) -> None:
    job.made.append(block)
    draft.tensors("block", {"x": torch.full((block, 2), float(block)), "y": torch.arange(block)})


SQUARES = Shards("squares", 3, config, build)


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job(make_context(tmp_path), [])


def test_a_shard_depends_on_block_inputs_and_models(job: Job) -> None:
    models = {"generator": job.ctx.generator.fingerprint, "classifier": job.ctx.classifier.fingerprint}
    expected = Recipe("squares", 3, {"block": 4, "seed": 0}, ("key",), models)
    assert SQUARES.recipe(job, 4) == expected and SQUARES.shard(job, 4).key == expected.key
    alone = replace(SQUARES, weights=lambda job, block: {"matcher": f"of {block}"})
    assert alone.recipe(job, 4) == Recipe("squares", 3, {"block": 4, "seed": 0}, ("key",), {"matcher": "of 4"})


def test_shards_come_in_the_order_of_their_blocks_each_as_soon_as_it_is_made(job: Job) -> None:
    artifacts = SQUARES.artifacts(job, [3, 1, 2], "squares")
    assert job.made == []
    for count, (block, artifact) in enumerate(zip([3, 1, 2], artifacts, strict=True), 1):
        assert job.made == [3, 1, 2][:count] and artifact.tensors("block")["x"].shape == (block, 2)


def test_their_tensors_follow_each_other(job: Job) -> None:
    found = SQUARES.tensors(job, [3, 1, 2], "squares")
    assert found["x"][:, 0].tolist() == [3, 3, 3, 1, 2, 2] and found["y"].tolist() == [0, 1, 2, 0, 0, 1]
    assert SQUARES.tensors(job, [], "squares") == joined([]) == {}


def test_a_killed_run_goes_on_where_it_stopped(job: Job) -> None:
    def killed(own: Job, block: int, draft: Draft) -> None:
        if block == 2:
            raise KeyboardInterrupt
        build(own, block, draft)

    stopped = replace(SQUARES, build=killed)
    with pytest.raises(KeyboardInterrupt):
        stopped.tensors(job, [3, 1, 2, 5], "squares")
    assert job.made == [3, 1]
    SQUARES.tensors(job, [3, 1, 2, 5], "squares")
    assert job.made == [3, 1, 2, 5]


class Backwards:
    """An engine that works the last item off first, and is sent what can be pickled."""

    def map(self, task: Task[Any, Any], items: Sequence[Any]) -> Iterator[Any]:
        """In the order of the items."""
        sent = pickle.loads(pickle.dumps(list(items)))
        yield from [task.attempt(item) for item in reversed(sent)][::-1]


class Told(Progress):
    """Notes what is tracked."""

    def track(self, iterable: Iterable[Any], total: int | None = None, label: str = "") -> Iterator[Any]:
        """The items."""
        self.seen = (total, label)
        return iter(iterable)


def test_the_runs_engine_and_progress_are_asked(job: Job) -> None:
    told = Told()
    other = replace(job, ctx=replace(job.ctx, engine=Backwards(), progress=told))
    found = SQUARES.tensors(other, [3, 1, 2], "squares of blocks")
    assert job.made == [2, 1, 3] and told.seen == (3, "squares of blocks")
    assert found["x"][:, 0].tolist() == [3, 3, 3, 1, 2, 2]


@pytest.mark.parametrize(("module", "stage"), MODULES.items())
def test_what_makes_the_shards_of_every_stage_can_be_sent(module: str, stage: str) -> None:
    """To a process that has a job of its own; its folder of the store has not moved."""
    shards = import_module(module).SHARDS
    assert shards.stage == stage
    sent = pickle.loads(pickle.dumps(shards.shard)).__self__
    assert sent == shards and sent.build is shards.build


def test_blocks_can_be_sent() -> None:
    """With their tensors and perturbations."""
    from lis.units.perturbation import Perturbation
    from lis.units.tuning import Block

    along = Perturbation.along("pc:1", torch.ones(4) / 2, -1.0, 2.0)
    block = Block("ant", torch.arange(3), torch.rand(3, 4), (along,), 5)
    sent = pickle.loads(pickle.dumps(block))
    assert torch.equal(sent.r, block.r) and torch.equal(sent.sample_index, block.sample_index)
    assert sent.perturbations[0].name == "pc:1" and sent.perturbations[0].direction.tolist() == [0.5] * 4


def test_no_stage_maps_its_shards_itself() -> None:
    """Eight did."""
    root = Path(import_module("lis").__file__ or "").parent
    others = [file for file in root.rglob("*.py") if "engine.map(" in file.read_text() and file.name != "shards.py"]
    assert not others
