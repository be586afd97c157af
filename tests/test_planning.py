"""Plans: what stages say that they will do, against what they then ask of the models."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from helpers.counted import told
from helpers.fakes import FakeClassifier, FakeGenerator
from helpers.fakes_units import tuning_context, use_fake_segmenter
from torch import Tensor
from torch._dynamo.callback import CallbackTrigger, callback_handler

from lis.boundary import work as boundary_work
from lis.boundary.gan_counterfactuals import GanCounterfactualsConfig
from lis.callbacks import PLAN, failure, versions
from lis.classifiers.networks import network
from lis.config import (
    AnalysisConfig,
    CounterfactualsConfig,
    NetworkConfig,
    StyleGANXLConfig,
    TrainingConfig,
)
from lis.context import Context
from lis.planning import Plan, announce, calibration, models, require_room, run, whole_plan
from lis.planning.calibration import SECONDS, Calibration, Timing
from lis.planning.models import readied
from lis.planning.plan import Planned, counted
from lis.planning.stored import Room
from lis.planning.text import lines, sum_of_jobs
from lis.stage import REGISTRY
from lis.units.traversal import TraversalConfig
from lis.units.unit_statistics import UnitStatisticsConfig
from lis.workload import Expected, Load, Operation, Workload


@dataclass
class Counts:
    """Images that were asked for."""

    made: int = 0
    read: int = 0


class CountedGenerator(FakeGenerator):
    """Counts the images that it makes."""

    def __init__(self, counts: Counts, **settings: Any) -> None:
        super().__init__(**settings)
        self.counts = counts

    def synthesize(self, w: Tensor, features: bool | Collection[str] = False) -> Any:
        """Images `[n, 3, H, W]`."""
        self.counts.made += len(w)
        return super().synthesize(w, features)


class CountedClassifier(FakeClassifier):
    """Counts the images that it reads."""

    def __init__(self, counts: Counts, generator: FakeGenerator) -> None:
        super().__init__(generator)
        self.counts = counts

    def features(self, image: Tensor) -> Tensor:
        """`r [n, units]`."""
        self.counts.read += len(image)
        return super().features(image)


def counted_context(root: Path, spread: float = 0.1, **overrides: Any) -> tuple[Context, Counts]:
    """A context on fakes that count, what memory an image takes being known already."""
    counts = Counts()
    generator = CountedGenerator(counts, spread=spread)
    ctx = tuning_context(root, generator, CountedClassifier(counts, generator), **overrides)
    for gradient in (False, True):
        ctx.batches(gradient=gradient)
    ctx.images({"only"})
    return ctx, counts


def asked(ctx: Context, counts: Counts, stage: str) -> tuple[int, int]:
    """Images that a stage makes and reads, its inputs being there."""
    for each in REGISTRY[stage].inputs:
        each(ctx)
    counts.made = counts.read = 0
    REGISTRY[stage].artifact(ctx)
    return counts.made, counts.read


STAGES = (
    *("pairs/train", "pairs/test", "pairs/tuning", "link", "evaluation", "similarity", "directions", "tuning"),
    *("unit_statistics", "traversal", "unit", "gan_counterfactuals"),
)
SIZES: dict[str, Any] = {
    "unit": 0,
    "traversal": TraversalConfig(units=2, samples=3, examples=1, steps=3),
    "view__samples": 2,
    "view__steps": 4,
    "gan_counterfactuals": GanCounterfactualsConfig(samples=2, steps=3, examples=1, units=1),
    "unit_statistics": UnitStatisticsConfig(top=3, clusters=2, perplexity=2.0),
}


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_asks_for_as_many_images_as_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    use_fake_segmenter(monkeypatch)
    ctx, counts = counted_context(tmp_path, **SIZES)
    one_dead_unit = 1 / ctx.classifier.units  # which nobody knows before the link
    assert asked(ctx, counts, stage) == pytest.approx(told(ctx, stage)[:2], rel=one_dead_unit)


def test_penalties_that_are_tried_are_counted(tmp_path: Path) -> None:
    ctx, counts = counted_context(tmp_path, tuning__along="faithful")
    made = asked(ctx, counts, "directions")
    assert told(ctx, "directions")[:2] == pytest.approx(made, rel=0.1)  # one unit of 16 is not live
    assert made[0] > 1000


def test_searches_are_counted_by_the_steps_that_they_take(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """How many steps they take, and the share that succeeds, is known afterwards: the plan states an assumption."""
    settings = CounterfactualsConfig(samples=3, trajectories=2, steps=9, max_steps=200, lambda2=0.1)
    ctx, counts = counted_context(tmp_path, spread=0.5, counterfactuals=settings)
    made = asked(ctx, counts, "counterfactuals")
    table: Any = REGISTRY["counterfactuals"].artifact(ctx).table("counterfactuals")
    assert table["success"].mean() > 0.9
    monkeypatch.setattr(boundary_work, "TAKEN", (table["steps"].mean() + 1) / settings.max_steps)
    assert told(ctx, "counterfactuals")[:2] == pytest.approx(made, rel=0.15)


def of_stages(ctx: Context, *stages: str) -> Context:
    """The run with other stages."""
    return replace(ctx, config=replace(ctx.config, analysis=AnalysisConfig(name="planned", stages=[*stages])))


def test_what_is_in_the_store_is_left_out(tmp_path: Path) -> None:
    ctx = of_stages(counted_context(tmp_path)[0], "pairs/train", "link")
    before = {each.name: each for each in counted(ctx, Expected()).stages}
    assert (before["pairs/train"].there, before["pairs/train"].shards, before["pairs/train"].stored) == (0, 9, False)
    REGISTRY["pairs/train"].artifact(ctx)
    after = {each.name: each for each in counted(ctx, Expected()).stages}
    assert after["pairs/train"].stored and after["pairs/train"].count("passes") == 0 and not after["link"].stored


def test_shards_that_are_there_are_counted_and_not_made_again(tmp_path: Path) -> None:
    """Of more pairs, those of a smaller run are some of the shards."""
    ctx = of_stages(counted_context(tmp_path)[0], "pairs/train")
    REGISTRY["pairs/train"].artifact(ctx)
    more = replace(ctx, config=replace(ctx.config, pairs=replace(ctx.config.pairs, train=80)))
    (planned, _) = counted(more, Expected()).stages
    assert (planned.there, planned.shards, planned.stored) == (9, 15, False)
    assert planned.count("passes") == 6 * ctx.config.shard_size


def test_shards_that_follow_from_artifacts_of_the_run_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_fake_segmenter(monkeypatch)
    ctx = of_stages(counted_context(tmp_path, classes__labels=[])[0], "tuning")
    REGISTRY["tuning"].artifact(ctx)
    shards = [each for each in counted(ctx, Expected()).stages if each.name == "tuning"]
    assert shards[0].stored
    other = replace(ctx, config=replace(ctx.config, tuning=replace(ctx.config.tuning, steps=3)))
    (tuning,) = [each for each in counted(other, Expected()).stages if each.name == "tuning"]
    assert not tuning.stored and 0 < tuning.there <= tuning.shards


def test_a_stage_that_declares_nothing_is_unknown_and_not_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ctx = of_stages(counted_context(tmp_path)[0], "similarity")
    monkeypatch.setitem(REGISTRY, "similarity", replace(REGISTRY["similarity"], work=None))
    plan = counted(ctx, Expected())
    assert plan.unknown == ("similarity",)
    text = "\n".join(lines(plan))
    assert "similarity is not counted: this stage does not say what it does" in text
    assert "the time of similarity is not known, and is not in the sums" in text and "all, more" in text


def test_an_operation_that_fails_leaves_its_stage_unknown(tmp_path: Path) -> None:
    def broken(ctx: Context) -> Any:
        raise RuntimeError("no picture today")

    timer = Calibration(counted_context(tmp_path)[0])
    assert timer.seconds([Load(Operation("pictures", broken), 3)]) is None
    assert list(timer.failed.values()) == ["no picture today"]


class Clock:
    """Advances by what is done: `each` seconds for one, and `start` for a call."""

    def __init__(self, each: float, start: float = 0.0) -> None:
        self.now, self.each, self.start = 0.0, each, start

    def __call__(self) -> float:
        return self.now

    def prepared(self, ctx: Context) -> Any:
        """What takes the time."""
        return self.run

    def run(self, count: int) -> None:
        """Do some."""
        self.now += self.start + self.each * count


@pytest.mark.parametrize(("each", "start"), [(0.001, 0.0), (0.001, 0.2), (0.5, 0.3), (20.0, 0.0)])
def test_time_of_a_call_is_told_from_that_of_each(tmp_path: Path, each: float, start: float) -> None:
    clock = Clock(each, start)
    timer = Calibration(counted_context(tmp_path)[0], clock)
    operation = Operation("things", clock.prepared, constant=start > 0)
    timing = timer.timing(operation)
    assert timing and (timing.each, timing.constant) == pytest.approx((each, start))
    assert timing.of(Load(operation, 100, calls=3, scale=2.0)) == pytest.approx(2 * (100 * each + 3 * start))


def test_a_calibration_ends_and_assumes_what_takes_long(tmp_path: Path) -> None:
    """Sixty operations of a second each: all but the first ones are done once, and one of 30 s not at all."""
    clock = Clock(1.0)
    timer = Calibration(counted_context(tmp_path)[0], clock)
    timings = [timer.timing(Operation(f"thing {k}", clock.prepared)) for k in range(60)]
    assert all(timing and timing.each == 1.0 for timing in timings)
    assert timer.spent <= SECONDS + 1
    slow = Clock(30.0)
    image = Operation("images", Clock(10.0).prepared)
    gradient = Operation("gradients", slow.prepared, instead=((image, 3.0),))
    of_images = Calibration(counted_context(tmp_path / "other")[0], clock)
    of_images._timings[image] = Timing(10.0)
    timing = of_images.timing(gradient)
    assert timing and timing.each == 30.0 and timing.assumed and slow.now == 0
    assert of_images.assumptions == ["gradients: assumed to take 3 × the time of images"]


def test_a_plan_of_a_long_run_makes_no_image_again_that_told_that_it_is_long(tmp_path: Path) -> None:
    clock = Clock(30.0)
    timer = Calibration(counted_context(tmp_path)[0], clock)
    image = Operation("images", clock.prepared, passes=1)
    assert [timer.glance(image) for _ in range(2)] == [30.0, 30.0] and clock.now == 60.0
    assert timer.timing(image) == Timing(30.0) and clock.now == 60.0


def test_of_an_image_that_is_dear_one_tells_what_each_takes_and_what_was_compiled(tmp_path: Path) -> None:
    clock = Clock(30.0)
    timer = Calibration(counted_context(tmp_path)[0], clock)

    def compiled(count: int) -> None:
        with callback_handler.install_callbacks(CallbackTrigger.DYNAMO, "0/0"):
            clock.now += 40.0
        clock.run(count)

    image = Operation("images", lambda ctx: compiled, passes=1)
    assert timer.timing(image) == Timing(30.0) and timer.startup == 40.0 and clock.now == 70.0
    assert not callback_handler.start_callbacks and not callback_handler.end_callbacks
    assert timer.glance(image) == 30.0
    late = Calibration(timer.ctx, clock)
    late.spent = SECONDS
    assert late.timing(Operation("fits", lambda ctx: compiled)) == Timing(30.0)


@pytest.mark.parametrize(("dear", "made"), [(0.0, 1), (1e9, 2)])
def test_of_an_image_that_is_dear_one_tells_whether_a_run_is_long(
    dear: float, made: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "_POSSIBLE", 0.0)
    monkeypatch.setattr(calibration, "DEAR", dear)
    ctx, counts = counted_context(tmp_path)
    plan, counts.made = counted(of_stages(ctx, "pairs/train"), Expected()), 0
    assert run._may_be_long(plan, Calibration(ctx)) and counts.made == made


def test_more_devices_share_the_shards_and_nothing_else() -> None:
    stage = Planned("tuning", shards=6, there=1, work=Workload(), serial=10.0, shared=100.0)
    assert [stage.seconds(devices) for devices in (1, 2, 4, 8)] == [110.0, 70.0, 50.0, 30.0]
    assert Planned("link", work=Workload(), serial=None).seconds(4) is None


def plan_of(ctx: Context, size: int = 0, inodes: int = 0) -> Plan:
    """A plan that writes so much."""
    return Plan((Planned("pairs/train", size=size, inodes=inodes),), Expected(), "cpu", "InProcess", ctx.config.store)


def test_a_run_without_room_is_refused_before_it_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ctx = of_stages(counted_context(tmp_path)[0], "pairs/train")
    require_room(plan_of(ctx, size=2_000), Room(2_000, None))
    with pytest.raises(ValueError, match=r"store=.*: this run needs 3 GB there, and its disk has 2 GB left; expected"):
        require_room(plan_of(ctx, size=3 * 10**9), Room(2 * 10**9, None))
    with pytest.raises(ValueError, match="needs 30 files and folders there, and its file system has 20 left"):
        require_room(plan_of(ctx, inodes=30), Room(10**9, 20))
    monkeypatch.setattr(Room, "of", lambda folder: Room(100, None))
    with pytest.raises(ValueError, match=r"needs 0\.0.* MB there, and its disk has 0\.0001 MB left"):
        announce(ctx)
    assert not (ctx.store.root / "pairs-train").exists()


def test_a_short_run_says_nothing_and_hardly_makes_an_image(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ctx, counts = counted_context(tmp_path)
    caplog.set_level("INFO")
    counts.made = 0
    announce(of_stages(ctx, "evaluation", "similarity"))
    assert not caplog.text and counts.made <= 1


def test_a_long_run_prints_its_plan(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    ctx = of_stages(counted_context(tmp_path)[0], "pairs/train")
    caplog.set_level("INFO")
    monkeypatch.setattr(run, "TOLD", 0.0)
    monkeypatch.setattr(run, "_POSSIBLE", 0.0)
    monkeypatch.setattr(calibration, "SECONDS", 0.0)
    announce(ctx)
    assert "this run will take about" in caplog.text and "pairs/train  0 of 9 shards" in caplog.text


def test_a_run_that_cannot_be_planned_is_no_reason_not_to_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("no such device")

    monkeypatch.setattr(run, "_POSSIBLE", 0.0)
    monkeypatch.setattr(run, "_whole", fail)
    announce(of_stages(counted_context(tmp_path)[0], "pairs/train"))
    assert "how long this run takes is not known: no such device" in caplog.text


def test_nothing_is_left_of_a_plan_in_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "SECONDS", 0.0)
    ctx = of_stages(counted_context(tmp_path)[0], "link")
    plan = whole_plan(ctx)
    assert not {path.name for path in ctx.store.root.rglob("*")} - {"drafts", "locks"}
    assert plan.seconds() > 0 and plan.count("passes") == 144 and plan.stages[0].peak
    assert any("of the samples are accepted as pairs" in note for note in plan.notes)


def test_disk_that_is_planned_is_that_which_is_there(tmp_path: Path) -> None:
    ctx = of_stages(counted_context(tmp_path)[0], "pairs/train", "pairs/test", "link", "evaluation")
    plan = counted(ctx, Expected())
    for stage in plan.stages[:-1]:
        REGISTRY[stage.name].artifact(ctx)
    there = [path for path in ctx.store.root.rglob("*") if not {"locks", "drafts"} & {*path.parts}]
    written = sum(path.stat().st_size for path in there if path.is_file())
    assert written / 2 < plan.size < 2 * written and len(there) / 2 < plan.inodes < 2 * len(there)


def test_the_sum_over_the_jobs_of_a_sweep() -> None:
    job = {"passes": 1000, "reads": 0, "backwards": 0, "seconds": 100.0, "bytes": 2 * 10**9, "inodes": 5}
    assert "2 plans together: 2,000 generator passes, 3.3 min, 4 GB" in sum_of_jobs([job, job])


def chosen(config: Any, notes: list[str]) -> str:
    """The weights that a planned run takes for a classifier."""
    planned: Any = models._classifier(config, FakeGenerator(), "classifier", notes)
    return planned.weights


def test_weights_that_are_not_here_are_random_ones_and_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is fetched; a file that is here is used."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    notes: list[str] = []
    url = "https://example.org/network.pkl"
    gan = StyleGANXLConfig(weights="published", url=url, cache=str(tmp_path))
    network: Any = NetworkConfig(library="torchvision", model="resnet18", weights="pretrained")
    assert models._generator(gan, notes).weights == "random"
    assert chosen(network, notes) == "random"
    assert notes == [
        "the weights network.pkl of the generator are not on this machine: timed with random ones",
        "the weights resnet18-f37072fd.pth of the classifier are not on this machine: timed with random ones",
    ]
    (tmp_path / "network.pkl").touch()
    assert models._generator(gan, notes) is gan
    assert chosen(replace(network, weights="partworld"), notes) == "partworld"
    assert len(notes) == 2


def test_a_probe_that_is_not_fitted_yet_is_planned_before_all_others(tmp_path: Path) -> None:
    ctx = of_stages(counted_context(tmp_path, classifier__probe=True)[0], "link")
    usable, before = readied(ctx)
    assert [stage.name for stage in before] == ["probe"] and usable.classifier.class_names == ctx.class_names
    assert not usable.classifier.head(torch.ones(2, ctx.classifier.units)).any()
    assert [stage.name for stage in counted(usable, Expected(), before).stages[:2]] == ["probe", "pairs/train"]


def test_a_training_that_is_in_the_store_is_left_to_the_run(tmp_path: Path) -> None:
    """A plan reads its weights into a copy: the run itself has to come by the artifact, which its page shows."""
    waiting = network("partnet", "partnet", "partworld")
    ctx = of_stages(counted_context(tmp_path)[0], "pairs/train")
    ctx = replace(ctx, classifier=waiting, config=replace(ctx.config, training=TrainingConfig(images=60, held_out=1)))
    recipe = REGISTRY["classifier"].recipe(ctx, [])
    assert [stage.name for stage in readied(ctx)[1]] == ["classifier"]
    ctx.store.make(recipe, lambda draft: draft.tensors("state", waiting.network.state_dict()))
    usable, before = readied(ctx)
    assert not before and cast(Any, usable.classifier).trained and not waiting.trained


def test_a_job_of_a_sweep_that_is_only_planned_has_not_failed(tmp_path: Path) -> None:
    assert failure(tmp_path, {}) == "it ended without a result"
    (tmp_path / PLAN).write_text("{}")
    assert failure(tmp_path, {}) is None
    assert failure(tmp_path, versions(tmp_path.parent)) == "it ended without a result"
