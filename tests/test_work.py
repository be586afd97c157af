"""What stages say that they will do, against what they then ask of the models and of what knows the truth."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from helpers.counted import Asked, Counts, count, loads, rows, told
from helpers.counted_models import Halves, Known, Layered, network
from helpers.fakes import NAMES, FakeClassifier, FakeGenerator, make_context, stand_in
from helpers.fakes_units import LABELS, FakeSegmenter, tuning_context, use_fake_segmenter
from helpers.tuned_findings import screen, tuned
from PIL import Image
from torch import Tensor

from lis.boundary import work as boundary_work
from lis.boundary.adversarial import AdversarialConfig
from lis.boundary.gan_counterfactuals import GanCounterfactualsConfig
from lis.boundary.work import POSTERIORS
from lis.classifiers import work as classifier_work
from lis.classifiers.partnet import CLASSES
from lis.classifiers.planted import planted
from lis.config import CounterfactualsConfig, FlowConfig, MLPConfig, ProbeConfig, PumpConfig, TrainingConfig
from lis.context import Context
from lis.dissection import dissect_gan as dissect_gan_module
from lis.dissection import gan_movies
from lis.dissection.bridge import BridgeConfig
from lis.dissection.dissect import DissectConfig
from lis.dissection.dissect_blocks import sketch_bytes
from lis.dissection.dissect_gan import DissectGanConfig
from lis.dissection.dissect_shards import Block, count_quantiles
from lis.dissection.importance import ImportanceConfig
from lis.dissection.restyling import GeneratedImages, images_behind
from lis.dissection.texture import TextureConfig
from lis.dissection.upsampling import EVEN
from lis.dissection.user_pictures import UserPicture
from lis.dissection.work import ABLATED, ANNOTATED, NAME_SHUFFLES, PICTURES
from lis.generators.partworld import PartWorld
from lis.motion.matchers import CANDIDATES
from lis.motion.matching import MatchingConfig
from lis.motion.motion import MotionConfig
from lis.motion.work import DISPLACEMENTS
from lis.planning.stored import stored_shards
from lis.segmentation import work as segmentation_work
from lis.stage import REGISTRY
from lis.store import Draft, Recipe
from lis.units import parts
from lis.units import planted as planted_module
from lis.units.controls import Controls
from lis.units.intervention import InterventionConfig
from lis.units.planted import PlantedUnitsConfig
from lis.units.work import CONTROLS, PHOTOS, TRUTHS
from lis.workload import GENERATOR, Expected

DOGS = ("pug", "weimaraner")
PARTS = ("leg", "eye", "ear", "snout", "tongue")
MOST_SHARED = 45
"""Images of units that classes share, at most."""


def use(patch: pytest.MonkeyPatch, segmenter: FakeSegmenter) -> None:
    """Put a segmenter in the place of the run's, trained and untrained."""
    use_fake_segmenter(patch)
    for module in (parts, planted_module):
        patch.setattr(module, "load_segmenter", lambda ctx, artifact: segmenter)
    patch.setattr(segmentation_work, "untrained", lambda ctx: segmenter)


def pictures(folder: Path, side: int, per_class: int) -> Path:
    """A folder of pictures of noise in two classes."""
    rng = np.random.default_rng(0)
    for name in DOGS:
        (folder / name).mkdir(parents=True)
        for k in range(per_class):
            Image.fromarray(rng.integers(0, 256, (side, side, 3), np.uint8)).save(folder / name / f"{k}.png")
    return folder


def prepared(ctx: Context, stage: str) -> None:
    """Do one of everything that a stage says, as a calibration does."""
    for operation in {load.operation for load in loads(ctx, stage)}:
        operation.prepare(ctx)(1)


def stored(ctx: Context, stage: str) -> list[tuple[int, int]]:
    """Of each kind of shards of a stage how many it says that there are, and how many of these are in the store."""
    work = REGISTRY[stage].work
    assert work is not None
    return [(blocks.count, stored_shards(ctx.store, blocks, frozenset())) for blocks in work(ctx, Expected()).shards]


def interrupted(*_: object) -> None:
    """In the place of some work: as Ctrl-C."""
    raise KeyboardInterrupt


def held(ctx: Context, patch: pytest.MonkeyPatch, stage: str, *noted: list[int]) -> tuple[Asked, Asked]:
    """What a stage says, and what it then asks for; `noted` as of `Counts.of`."""
    prepared(ctx, stage)
    return told(ctx, stage), Counts(ctx, patch).of(stage, ctx, *noted)


SIMPLE: dict[str, dict[str, Any]] = {
    "direction": {"direction": "pc:1", "view__samples": 2, "view__steps": 4},
    "intervention": {"intervention": InterventionConfig(samples=2)},
    "projection": {"link": MLPConfig(hidden=8, max_epochs=2, pc_weight=1.0, components=2)},
    "probe": {"probe": ProbeConfig(train=20, test=10, folds=2)},
}


@pytest.mark.parametrize("stage", SIMPLE)
def test_a_stage_asks_for_what_it_says(stage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, FakeSegmenter())
    said, asked = held(tuning_context(tmp_path, Known(spread=0.1), **SIMPLE[stage]), monkeypatch, stage)
    assert said == asked and said.made


def test_a_picture_of_a_folder_is_read_and_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether a file is a picture is known when it is read: it is counted all the same, as the plan says."""
    use(monkeypatch, FakeSegmenter())
    folder = pictures(tmp_path / "pictures", 8, 3)
    ctx = tuning_context(tmp_path, images=str(folder))
    said, asked = held(ctx, monkeypatch, "images")
    assert said == asked == Asked(6, 12, 0) and count(ctx, "images", PHOTOS) == 6
    (folder / "notes.txt").write_text("hello")
    assert told(ctx, "images") == Asked(7, 14, 0)


def random_pictures(w: Tensor) -> tuple[Tensor, Tensor]:
    """In place of part world's exact pictures, which take longer: random ones, and random shares of its nine parts."""
    image = torch.rand(len(w), 3 + 9, 64, 64, generator=torch.Generator().manual_seed(0))
    return image[:, :3], image[:, 3:] / 9


def dogs(root: Path, read: str) -> Context:
    """Planted units of part world, segmented by brightness."""
    generator = PartWorld(DOGS[:1])
    ctx = tuning_context(
        root,
        generator,
        planted(generator, read, per_kind=1),
        class_names=DOGS[:1],
        classes__labels=list(Halves.labels),
        planted=PlantedUnitsConfig(samples=1, images=3),
        tuning__units=None,
        tuning__seeds=1,
        tuning__control_directions=0,
        pairs__train=12,
        pairs__test=3,
        pairs__accept="any",
    )
    return ctx


@pytest.mark.parametrize("read", ["w", "image"])
def test_planted_units_are_scored_on_as_many_images_and_exact_pictures(
    read: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, Halves())
    monkeypatch.setattr(planted_module, "NEW", 3)
    ctx = dogs(tmp_path, read)
    monkeypatch.setattr(ctx.generator, "render", random_pictures)
    drawn = rows(monkeypatch, ctx.generator, "render", len)
    said, asked = held(ctx, monkeypatch, "planted", drawn)
    assert said == asked and said.made
    assert sum(drawn) == count(ctx, "planted", TRUTHS) > 0


def test_matchers_are_held_against_as_many_pairs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of them sees the images as the classifier does."""
    monkeypatch.setitem(CANDIDATES, "pump_classifier", PumpConfig(descriptor="classifier", enlarge=1))
    ctx = make_context(
        tmp_path,
        PartWorld(["pug"]),
        network(("pug",), 64),
        class_names=("pug",),
        matching=MatchingConfig(samples=1, matchers=["flow", "pump_classifier"]),
        motion=MotionConfig(units=1, seeds=1, steps=3),
        matcher=FlowConfig(),
    )
    moved = rows(monkeypatch, ctx.generator, "displacement", lambda w, _: len(w))
    said, asked = held(ctx, monkeypatch, "matching", moved)
    assert said == asked == Asked(3 * 3 * 2 + 3, 3 * 2, 0)
    assert sum(moved) == count(ctx, "matching", DISPLACEMENTS) > 0


def dissected(units: int) -> pd.DataFrame:
    """Every unit agrees with one label."""
    rows = [
        {"layer": "last", "unit": unit, "concept": name, "kind": "part", "iou": 0.1 + 0.4 * (k == unit % len(PARTS))}
        for unit in range(units)
        for k, name in enumerate(PARTS)
    ]
    return pd.DataFrame(rows).assign(p=0.01, images_met=9)


def test_names_by_activation_and_by_cause_take_no_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"tuning__units": None, "tuning__control_directions": 24, "bridge": BridgeConfig(shuffles=99)}
    ctx = tuning_context(tmp_path, classes__labels=list(PARTS), **settings)
    units = ctx.classifier.units
    tuning = screen(tmp_path, tuned(units), tuned(24, null=True))

    def dissection(draft: Draft) -> None:
        draft.table("agreement", dissected(units))
        draft.table("units", pd.DataFrame({"layer": "last", "unit": range(units), "concept": ""}))
        draft.json("facts", {"layers": {"last": [units, 8, 8]}})

    stand_in(monkeypatch, "dissect", lambda ctx: ctx.store.make(Recipe("dissect", 1, {}), dissection))
    stand_in(monkeypatch, "tuning", lambda _: tuning)
    beside = rows(monkeypatch, Controls, "_beside", lambda *_: 1)
    assert held(ctx, monkeypatch, "bridge", beside) == (Asked(0, 0, 0), Asked(0, 0, 0))
    assert sum(beside) == count(ctx, "bridge", CONTROLS)
    assert count(ctx, "bridge", NAME_SHUFFLES) == 99


def edits(**more: int) -> DissectGanConfig:
    sizes: dict[str, Any] = {"samples": 6, "permutations": 19, "edited": 2, "most": 8, "inserted": 4} | more
    return DissectGanConfig(concepts="brightness", layer="units", quantile=0.8, **sizes)


def test_edits_of_units_of_the_generator_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gan_movies, "STEPS", 3)
    config = edits(draws=19, insertions=9, min_count=2)
    said, asked = held(make_context(tmp_path, Layered(), dissect_gan=config), monkeypatch, "dissect_gan")
    assert asked.made <= said.made <= 1.01 * asked.made  # images in which several units are most active are made once
    assert said[1:] == asked[1:] == (0, 0)


def test_edits_that_are_in_the_store_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gan_movies, "STEPS", 3)
    config = edits(draws=30, insertions=70)
    ctx = make_context(tmp_path, Layered(), dissect_gan=config)
    assert stored(ctx, "dissect_gan") == [(1, 0), (10, 0), (6, 0)]
    monkeypatch.setattr(dissect_gan_module, "insert", interrupted)
    with pytest.raises(KeyboardInterrupt):
        REGISTRY["dissect_gan"].artifact(ctx)
    assert stored(ctx, "dissect_gan") == [(1, 1), (10, 10), (6, 0)]
    monkeypatch.undo()
    monkeypatch.setattr(gan_movies, "STEPS", 3)
    REGISTRY["dissect_gan"].artifact(ctx)
    assert stored(ctx, "dissect_gan") == [(1, 1), (10, 10), (6, 6)]
    for other in (replace(config, value="mean"), replace(config, quantile=0.7)):
        assert [there for _, there in stored(make_context(tmp_path, Layered(), dissect_gan=other), "dissect_gan")] == [
            0
        ] * 3


def importance(root: Path, layer: str) -> Context:
    """A run on the units of a layer."""
    config = ImportanceConfig(layer=layer, samples=40, draws=2)
    return make_context(root, None, network(NAMES, 8), importance=config, pairs__test=40, pairs__accept="any")


@pytest.mark.parametrize("layer", ["last", "second", "penultimate"])
def test_ablations_are_counted(layer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind "second" each is a whole pass; the images on which that is found out are not counted as read.

    Orders of units are all different, as hardly those of a network that names one class alone.
    """
    ctx = importance(tmp_path, layer)
    distinct = partial(torch.randperm, generator=torch.Generator().manual_seed(0))
    orders = "lis.dissection.importance.removal_orders"
    monkeypatch.setattr(orders, lambda x: torch.stack([distinct(len(x)) for _ in range(2 * x.shape[1])]))
    answers = rows(monkeypatch, ctx.classifier, "head", len)
    said, asked = held(ctx, monkeypatch, "importance", answers)
    ablated = count(ctx, "importance", ABLATED if layer != "second" else GENERATOR)
    assert sum(answers) == pytest.approx(ablated, rel=0.05)
    assert asked.made <= said.made <= asked.made + MOST_SHARED and said.read == pytest.approx(asked.read, rel=0.15)
    assert bool(said.read) == (layer != "penultimate")


DISSECTED = DissectConfig(layers=["last"], samples=20, quantile=0.9, permutations=19, permuted=30)


@pytest.mark.parametrize("labels", [[], list(LABELS)], ids=["no parts", "parts that a segmenter finds"])
def test_halves_of_the_images_are_counted(labels: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, FakeSegmenter())
    settings: dict[str, Any] = {"dissect": DISSECTED, "pairs__accept": "any", "classes__labels": labels}
    ctx = make_context(tmp_path, None, network(NAMES, 8), **settings)
    said, asked = held(ctx, monkeypatch, "dissect")
    assert said.read == pytest.approx(asked.read, rel=0.05) and asked.made <= said.made <= 1.3 * asked.made
    work, (pack,) = REGISTRY["dissect"].work, (ctx.store.root / "dissect-agreement-shard").rglob("*.zip")
    assert work is not None and work(ctx, Expected()).shards[1].size == pytest.approx(pack.stat().st_size, rel=0.15)


@pytest.mark.parametrize("rectified", [False, True])
def test_a_sketch_takes_at_most_what_is_said_and_not_much_less(rectified: bool) -> None:
    maps = torch.randn(64, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    maps = maps.relu() if rectified else maps
    job: Any = SimpleNamespace(shapes={"last": (4, 16, 16)}, size=32, upsamplings={"last": EVEN})
    job.scenes = SimpleNamespace(fit=None)
    job.batches = lambda _, rows: [SimpleNamespace(maps={"last": maps[rows]})]
    for images in (1, 16, 64):
        sketch = count_quantiles(job, Block("fit", 0, images, {}))["last"]
        taken = sum(x.numel() * x.element_size() for x in sketch.tensors().values())
        assert taken <= sketch_bytes(job, images) <= 1.3 * taken, images


def test_halves_of_the_pictures_of_a_folder_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = pictures(tmp_path / "pictures", 64, 6)
    for path in folder.glob("*/*.png"):
        mask = np.random.default_rng(1).integers(0, 3, (64, 64)).astype(np.uint8)
        (tmp_path / "masks" / path.parent.name).mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask).save(tmp_path / "masks" / path.parent.name / f"{path.stem}.mask.png")
    settings = {"classes__labels": ["ear", "eye"], "labels__folder": str(tmp_path / "masks"), "shard_size": 4}
    ctx = make_context(tmp_path, None, network(NAMES, 64), dissect=DISSECTED, images=str(folder), **settings)
    read = rows(monkeypatch, UserPicture, "read", lambda *_: 1)
    assert stored(ctx, "dissect") == [(2, 0), (2, 0)]
    said, asked = held(ctx, monkeypatch, "dissect", read)
    assert said.made == asked.made == 0 and said.read == pytest.approx(asked.read, rel=0.1)
    assert sum(read) == pytest.approx(12 + count(ctx, "dissect", ANNOTATED), rel=0.2)
    assert stored(ctx, "dissect") == [(2, 2), (2, 2)]
    other = replace(ctx, config=replace(ctx.config, dissect=replace(DISSECTED, samples=9)))
    assert [there for _, there in stored(other, "dissect")] == [0, 0]


def test_images_and_their_twins_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texture = TextureConfig("last", 40, shuffles=19)
    sizes: dict[str, Any] = {"pairs__test": 40, "pairs__accept": "any", "texture": texture}
    said, asked = held(make_context(tmp_path, None, network(NAMES, 8), **sizes), monkeypatch, "texture")
    assert said.read == asked.read == 120 * 3 + 1 and asked.made <= said.made <= 1.2 * asked.made


def test_a_twin_takes_one_image_or_two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ctx = make_context(tmp_path, PartWorld(DOGS), object())
    counts, index = Counts(ctx, monkeypatch), torch.arange(2)
    source = GeneratedImages(ctx.generator, ctx.generator.mean_w, ctx.device)
    for made, name in enumerate(source.restylings):
        source.restyled(name, index, 1 - index, index)
        assert counts.made == 2 * sum(map(images_behind, source.restylings[: made + 1]))


def test_pictures_and_their_twins_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, texture = pictures(tmp_path / "pictures", 64, 5), TextureConfig("last", 5, shuffles=19)
    ctx = make_context(tmp_path, None, network(NAMES, 64), texture=texture, images=str(folder))
    read = rows(monkeypatch, UserPicture, "read", lambda *_: 1)
    said, asked = held(ctx, monkeypatch, "texture", read)
    assert said == asked == Asked(0, 10 * 3 + 1, 0)
    assert sum(read) <= count(ctx, "texture", PICTURES) <= 1.6 * sum(read)


def test_the_steps_of_a_training_and_its_test_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch has as many figures of each of the fifteen classes."""
    training = TrainingConfig(images=150, batch_size=50, learning_rate=1e-2, precision="float32", held_out=2)
    classifier = network(CLASSES, 64, weights="partworld", trained=False)
    ctx = make_context(tmp_path, None, classifier, training=training)
    assert (
        told(ctx, "classifier")
        == Counts(ctx, monkeypatch).of("classifier", ctx)
        == Asked(0, 3 * 45 + 10 * 45 + 2 * 15, 3 * 45)
    )


def test_a_training_that_is_timed_has_the_steps_that_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = TrainingConfig(images=150, batch_size=29, learning_rate=1e-2, precision="float32", held_out=2)
    witness = network(CLASSES, 64, weights="partworld", trained=False)
    ctx = replace(make_context(tmp_path, PartWorld(DOGS), object(), training=training), witness=witness)
    steps = rows(monkeypatch, torch.optim.AdamW, "step", lambda *_: 1)
    classifier_work.steps_of(15).prepare(ctx)(3)
    assert sum(steps) == 3 and count(ctx, "classifier", classifier_work.steps_of(15)) == 10


def test_both_ends_of_a_way_are_made_again_for_a_witness(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, FakeSegmenter())
    config = GanCounterfactualsConfig(samples=2, steps=3, examples=1, units=1)
    alone, beside = (tuning_context(tmp_path / k, view__steps=2, gan_counterfactuals=config) for k in ("one", "two"))
    beside = replace(beside, witness=FakeClassifier(FakeGenerator(), units=8))
    without, seen = (held(ctx, monkeypatch, "gan_counterfactuals") for ctx in (alone, beside))
    for said_or_asked in zip(seen, without, strict=True):
        assert [a - b for a, b in zip(*said_or_asked, strict=True)] == [24, 24, 0]


Searched = tuple[Context, Counts]


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Searched]:
    """A run whose searches succeed, with a witness."""
    searches = {"samples": 3, "trajectories": 2, "steps": 9, "max_steps": 200, "lambda2": 0.1}
    searches |= {"initialisations": 3, "diversity_samples": 2, "l1_samples": 2, "l1_sweep": [0.1, 0.0]}
    settings = {"counterfactuals": CounterfactualsConfig(**searches, l1_max_steps=100)}
    settings |= {"adversarial": AdversarialConfig(samples=2, step=0.01, max_steps=300)}
    with pytest.MonkeyPatch.context() as patch:
        ctx = make_context(tmp_path_factory.mktemp("searched"), Known(), **settings)
        ctx = replace(ctx, witness=FakeClassifier(Known(), units=8))
        yield ctx, Counts(ctx, patch)


STEPS = {  # stage: table with a row per search, its most steps
    "initialisations": ("sparsity", 200),
    "sparse_counterfactuals": ("sweep", 100),
    "adversarial": ("adversarial", 300),
}


@pytest.mark.parametrize("stage", STEPS)
def test_searches_are_counted_by_the_steps_that_they_take(
    stage: str, searched: Searched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How many steps they take is known afterwards: the plan states an assumption."""
    ctx, counts = searched
    asked, (name, most) = counts.of(stage, ctx), STEPS[stage]
    steps = REGISTRY[stage].artifact(ctx).table(name)["steps"]
    last = stage != "adversarial"  # a search looks once more than it steps
    monkeypatch.setattr(boundary_work, "TAKEN", (steps.mean() + last) / most)
    assert tuple(told(ctx, stage)) == pytest.approx(tuple(asked), rel=0.03)


def test_along_counterfactuals_bayes_rule_is_asked_and_no_image_made(
    searched: Searched, monkeypatch: pytest.MonkeyPatch
) -> None:
    ctx, counts = searched
    said = told(ctx, "boundary_truth")
    prepared(ctx, "boundary_truth")
    REGISTRY["trajectories"].artifact(ctx)
    answers = rows(monkeypatch, ctx.generator, "log_posterior", len)
    assert said == counts.of("boundary_truth", ctx) == Asked(0, 0, 0)
    points = count(ctx, "boundary_truth", POSTERIORS)
    assert 0.8 * points <= sum(answers) <= points
