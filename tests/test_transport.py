"""What is sent to another process: a job without its models, which that process has already."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.commandline import SMALL
from helpers.fakes import make_context
from torch import Tensor, nn

import lis
from lis.compose import composed
from lis.context import Context
from lis.distributed.transport import packed, unpacked
from lis.job import prepared, requested, run_stage
from lis.shards import Making


class Network(nn.Module):
    """A model with modules in it.

    Args:
        fingerprint: of its weights.
    """

    def __init__(self, fingerprint: str = "network") -> None:
        super().__init__()
        self.fingerprint = fingerprint
        self.body = nn.Sequential(nn.Linear(2, 2), nn.ReLU())


class Wrapped:
    """A model that is no module and has one."""

    def __init__(self, fingerprint: str = "wrapped") -> None:
        self.fingerprint, self.network = fingerprint, Network("inner")


def context(root: Path, classifier: Any = None, witness: Any = None) -> Context:
    """A run; one on the same folder stands for the same run in another process."""
    return replace(make_context(root, classifier=classifier or Network()), witness=witness)


def crossed(value: Any, here: Context, there: Context) -> Any:
    """What arrives."""
    return unpacked(packed(value, here), there)


def test_models_and_their_modules_arrive_as_those_of_the_other_process(tmp_path: Path) -> None:
    here, there = (context(tmp_path, Network(), Wrapped()) for _ in range(2))
    sent = [here.generator, here.classifier, here.witness, here.classifier.body[0], here.witness.network.body]  # pyright: ignore
    expected = [
        there.generator, there.classifier, there.witness, there.classifier.body[0], there.witness.network.body,  # pyright: ignore
    ]  # fmt: skip
    arrived = crossed(sent, here, there)
    assert all(one is other for one, other in zip(arrived, expected, strict=True))


def test_nothing_of_a_model_is_sent(tmp_path: Path) -> None:
    here = context(tmp_path, Network())
    here.classifier.body.large = nn.Linear(1000, 1000)  # pyright: ignore[reportAttributeAccessIssue]
    value = {"ctx": here, "models": (here.generator, here.classifier), "modules": list(here.classifier.body)}  # pyright: ignore
    assert len(packed(value, here)) < 20_000


def test_a_context_arrives_with_the_store_engine_and_device_of_the_other_process_and_its_own_settings(
    tmp_path: Path,
) -> None:
    here, there = context(tmp_path), context(tmp_path)
    here = replace(here, config=replace(here.config, seed=7))
    arrived = crossed(here, here, there)
    assert arrived.config == here.config and there.config.seed == 0
    assert arrived.store is there.store and arrived.engine is there.engine and arrived.progress is there.progress
    assert arrived.generator is there.generator and arrived.device is there.device


def test_the_context_of_the_witness_arrives_as_one(tmp_path: Path) -> None:
    here, there = (context(tmp_path, witness=Wrapped()) for _ in range(2))
    arrived = crossed(here.of_witness, here, there)
    assert arrived.classifier is there.witness and arrived.witness is None


def test_tensors_and_the_device_arrive_by_value(tmp_path: Path) -> None:
    here, there = context(tmp_path), replace(context(tmp_path), device=torch.device("meta"))
    values = torch.arange(6.0).reshape(2, 3)
    arrived, device, other = crossed((values, here.device, torch.device("cuda", 3)), here, there)
    assert torch.equal(arrived, values) and arrived is not values
    assert device == torch.device("meta") and other == torch.device("cuda", 3)


def test_a_tensor_on_the_device_of_the_run_arrives_on_that_of_the_other(tmp_path: Path) -> None:
    """With `meta` for a device that is none of a processor."""
    here, there = replace(context(tmp_path), device=torch.device("meta")), context(tmp_path)

    class Held(Tensor):
        """One that says it lies there, and whose values can be read."""

        device = torch.device("meta")  # pyright: ignore[reportAssignmentType]

        def cpu(self, *arguments: Any) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
            """Its values."""
            return self.as_subclass(Tensor)

        def detach(self) -> Held:  # pyright: ignore[reportIncompatibleMethodOverride]
            """Itself."""
            return self

    arrived = crossed(torch.arange(3.0).as_subclass(Held), here, there)
    assert type(arrived) is Tensor and arrived.device.type == "cpu" and arrived.tolist() == [0.0, 1.0, 2.0]


def test_a_model_that_differs_is_refused_by_name(tmp_path: Path) -> None:
    here, there = context(tmp_path, Network("of the run")), context(tmp_path, Network("of the worker"))
    for value in (here, here.classifier, here.classifier.body[0]):  # pyright: ignore[reportAttributeAccessIssue]
        with pytest.raises(ValueError, match=r"this worker has no model of the run.*same weights on every machine"):
            crossed(value, here, there)


@pytest.mark.parametrize("kind", ["function inside of another", "generator", "lock"])
def test_what_cannot_be_sent_is_refused_with_the_remedy(kind: str, tmp_path: Path) -> None:
    values = {
        "function inside of another": lambda: None,
        "generator": (number for number in range(3)),
        "lock": threading.Lock(),
    }
    with pytest.raises(ValueError, match=r"^dict cannot be sent to another process \(.*use engine=inprocess$"):
        packed({"value": values[kind]}, context(tmp_path))


@dataclass
class Elsewhere:
    """An engine whose items are made by the same run in another process, as far as one process can be two."""

    here: Context
    there: Context
    kinds: set[str]

    def map(self, task: Making[Any, Any], items: Sequence[Any]) -> Iterator[Any]:
        """All items."""
        self.kinds.add(task.shards.stage)
        arrived = crossed(task, task.ctx, self.there)
        assert arrived.ctx.generator is self.there.generator and arrived.ctx.store is self.there.store
        for item in items:
            block = crossed(item, task.ctx, self.there)
            assert arrived.shards.recipe(arrived.job, block) == task.shards.recipe(task.job, item)
            assert arrived.attempt(block) is not None
            yield task.find(item)

    def close(self) -> None:
        """There is nothing to end."""


def kinds(root: Path, *overrides: str) -> set[str]:
    """The kinds of shards that a run has made elsewhere."""
    ctx = prepared(composed([*SMALL, "threads=1", f"store={root / 'store'}", *overrides], root))
    assert ctx.opener is not None
    engine = Elsewhere(ctx, ctx.opener("cpu", 1), set())
    for name in requested(ctx := replace(ctx, engine=engine)):
        run_stage(name, ctx)
    return engine.kinds


@pytest.mark.slow
def test_jobs_of_pairs_tuning_dissection_edits_and_counterfactuals_are_made_elsewhere(tmp_path: Path) -> None:
    small = ("classes.names=[pug,chihuahua]", "pairs.train=20", "pairs.test=10", "shard_size=40", "tuning.units=2",
             "tuning.seeds=1",
             "importance.samples=2", "importance.draws=2",
             "counterfactuals.samples=1", "counterfactuals.max_steps=5", "dissect_gan.insertions=1")  # fmt: skip
    stages = "analysis.stages=[tuning,dissect,dissect_gan,importance,counterfactuals]"
    assert kinds(tmp_path, "classes=custom", stages, *small) == {
        "pairs-shard",
        "tuning-shard",
        "dissect-quantiles-shard",
        "dissect-agreement-shard",
        "removal-shard",
        "insertion-shard",
        "unit-ablation-shard",
        "removal-curve-shard",
        "counterfactual-shard",
    }


def every_kind() -> set[str]:
    """Of the project, from its sources; levels of units are made inside of other shards."""
    texts = [file.read_text() for file in Path(lis.__file__).parent.rglob("*.py")]
    lines = [line for text in texts for line in text.splitlines() if " = Shards(" in line]
    return {line.split('"')[1] for line in lines} - {"unit-levels-shard"}


@pytest.mark.full
def test_every_kind_of_shard_is_made_elsewhere(tmp_path: Path) -> None:
    stages = "tuning,dissect,dissect_gan,importance,texture,truth,motion,matching"
    searches = "counterfactuals,adversarial,gan_counterfactuals"
    assert kinds(tmp_path, f"analysis.stages=[{stages},{searches}]", "link=fc_l2") == every_kind()
