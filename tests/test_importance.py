"""The stage "importance": what carries a class is ranked first, memory is bounded, pages tell what a rank is worth."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from helpers.counted_models import network
from helpers.fakes import NAMES, FakeGenerator, make_context

from lis.classifiers.detectors import Detectors, detectors
from lis.context import Context
from lis.dissection import ablation_shards
from lis.dissection.ablation import ablated_logits, balanced_class_accuracy
from lis.dissection.ablation_shards import UNITS_PER_SHARD
from lis.dissection.activations import intervene
from lis.dissection.importance import ImportanceConfig, importance
from lis.dissection.layer_data import layer_data
from lis.dissection.tails import find_layer
from lis.generators.partworld import PartWorld
from lis.linking.pairs import pairs
from lis.report.importance import class_importance
from lis.report.interpretability import outside_bands
from lis.report.section import Section
from lis.report.tables import records, where
from lis.store import Artifact

CLASSES = ["border_collie", "pug", "chihuahua", "schnauzer", "weimaraner"]
SAMPLES = 8


def context(root: Path) -> Context:
    world = PartWorld(CLASSES)
    ctx = make_context(root, generator=world, classifier=detectors(world, per_part=1, unplanted=6))
    config = replace(ctx.config, classes=replace(ctx.config.classes, names=CLASSES, labels=["head", "eye"]))
    config.importance = ImportanceConfig(samples=SAMPLES, draws=3)  # pyright: ignore[reportAttributeAccessIssue]
    config.pairs.train = config.pairs.test = SAMPLES
    config.pairs.accept = "any"
    return replace(ctx, config=config)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Context, Artifact]:
    ctx = context(tmp_path_factory.mktemp("importance"))
    return ctx, importance(ctx)


def test_the_planted_unit_of_a_class_is_its_most_important(run: tuple[Context, Artifact]) -> None:
    ctx, artifact = run
    classifier = ctx.classifier
    assert isinstance(classifier, Detectors)
    for name in CLASSES:
        (first,) = records(where(artifact.table("importance"), **{"class": name, "rank": 1}))
        assert first["unit"] == classifier.planting.critical(name)
        assert first["importance"] > 0 and first["test_importance"] > 0 and first["correlation"] > 0
    facts = artifact.json("facts")
    assert facts["per_class"] == SAMPLES and facts["tail"] == "modules behind the layer"
    assert facts["top_positive_low"] <= facts["top_positive"] <= facts["top_positive_high"]
    known = np.isfinite(artifact.table("importance")["correlation"])
    assert facts["top_positive_of"] + facts["positive_of"] == np.count_nonzero(known)


def test_a_killed_run_goes_on_with_the_same_result(
    run: tuple[Context, Artifact], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed twice, while units are ablated and while curves are made, of which nothing is made again."""
    ctx, whole = context(tmp_path), run[1]
    without = shutil.ignore_patterns("importance", "unit-ablation-shard", "removal-curve-shard")
    shutil.copytree(run[0].config.store, ctx.config.store, ignore=without, dirs_exist_ok=True)
    asked, kills = list[str](), [3, 7]

    def counted(name: str) -> Callable[..., torch.Tensor]:
        function = getattr(ablation_shards, name)

        def call(*arguments: Any) -> torch.Tensor:
            asked.append(name)
            if len(asked) in kills:
                raise KeyboardInterrupt
            return function(*arguments)

        return call

    for name in ("unit_accuracies", "unit_removal_curve"):
        monkeypatch.setattr(ablation_shards, name, counted(name))
    for expected in ("unit_accuracies", "unit_removal_curve"):
        with pytest.raises(KeyboardInterrupt):
            importance(ctx)
        assert asked[-1] == expected
    again = importance(ctx)
    blocks, curves = 2 * -(-ctx.classifier.units // UNITS_PER_SHARD), 2 * len(CLASSES) + 3
    assert (asked.count("unit_accuracies"), asked.count("unit_removal_curve")) == (blocks + 1, curves + 1)
    assert again.key == whole.key and again.json("facts") == whole.json("facts")
    for name in ("importance", "curves", "shared"):
        pd.testing.assert_frame_equal(again.table(name), whole.table(name), check_exact=True)
    assert all(x.equal(again.tensors("shared_units")[name]) for name, x in whole.tensors("shared_units").items())


def test_pictures_are_those_of_the_shared_units(run: tuple[Context, Artifact], monkeypatch: pytest.MonkeyPatch) -> None:
    """Units 1, 2 and 4 are made those of a triple: their top images are those of the largest maxima."""
    ctx, _ = run
    shared = SimpleNamespace(classes=(0, 1, 2), units=(4, 2, 1))
    monkeypatch.setattr("lis.dissection.importance.shared_unit_classes", lambda _: [shared])
    settings: dict[str, Any] = {"importance": ImportanceConfig(samples=SAMPLES, draws=2)}
    with_triple = replace(ctx, config=replace(ctx.config, **settings))
    top = importance(with_triple).tensors("shared_units")
    w = pairs(with_triple, "test").tensors("pairs")["w"]
    image = ctx.generator.synthesize(w)
    maps = ctx.classifier.network.detect  # pyright: ignore[reportAttributeAccessIssue]
    recorded: list[torch.Tensor] = []
    handle = maps.register_forward_hook(lambda *each: recorded.append(each[2]))
    ctx.classifier.features(image)
    handle.remove()
    peaks = recorded[0][:, [1, 2, 4]].amax((2, 3))
    assert top["unit"].tolist() == [1, 2, 4] and top["image"].shape == (3, 5, 3, 64, 64)
    for unit in range(3):
        first = image[int(peaks[:, unit].argmax())]
        expected = ((first + 1) * 127.5).round()
        assert float((top["image"][unit, 0] - expected).abs().max()) <= 1
        assert top["mask"][unit, 0].any() and not top["mask"][unit, 0].all()


def test_whole_passes_are_made_in_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind "second" no chain of modules is right, so that each ablation generates its images anew."""
    settings = {"importance": ImportanceConfig(layer="second", samples=20), "batch_size": 6, "pairs__accept": "any"}
    ctx = make_context(tmp_path, None, network(NAMES, 8), **settings)
    drawn = pairs(ctx, "test").tensors("pairs")
    data = layer_data(ctx, ctx.config.importance, drawn)  # pyright: ignore[reportAttributeAccessIssue]
    made, synthesize = list[int](), FakeGenerator.synthesize

    def counted(generator: FakeGenerator, w: torch.Tensor) -> torch.Tensor:
        made.append(len(w))
        return synthesize(generator, w)

    monkeypatch.setattr(FakeGenerator, "synthesize", counted)
    logits = ablated_logits(data.tail, data.activations, torch.tensor([1]), torch.zeros(data.activations.shape[1]))
    assert data.method == "whole pass" and made == [6] * 10
    with intervene(find_layer(ctx.classifier, "second"), [1], 0.0):
        expected = ctx.classifier.head(ctx.classifier.features(ctx.generator.synthesize(data.w)))
    torch.testing.assert_close(logits, expected)


def test_maps_that_find_no_room_are_refused_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lis.memory.budget", lambda _: 10**6)
    with pytest.raises(
        ValueError, match=r"importance.samples=8: the maps of 40 images take 0.0\d+ GiB, .*importance.samples=1 fits"
    ):
        importance(context(tmp_path))
    assert not [*tmp_path.rglob("*.safetensors")]


def test_a_quantile_of_too_few_activations_is_refused_before_the_work(tmp_path: Path) -> None:
    """Of r, which has no map, 40 samples leave 2.5 below the quantile of 1/16; the smallest of them is no estimate."""
    name = "importance.quantile=0.9375"
    for quantile, refused in ((0.0625, f"1 − {name}"), (0.9375, name), (0.125, ""), (0, "")):
        ctx = context(tmp_path)
        settings = ImportanceConfig("penultimate", SAMPLES, value="quantile", quantile=quantile)
        ctx.config.importance = settings  # pyright: ignore[reportAttributeAccessIssue]
        if refused:
            expected = f"^{refused} of 40 maps of 1×1: .* 80 images in all; raise importance"
            with pytest.raises(ValueError, match=expected):
                importance(ctx)
            assert not [*tmp_path.rglob("*.safetensors")]
        else:
            importance.require(ctx)


Write = Callable[..., Section]


@pytest.fixture
def written(run: tuple[Context, Artifact]) -> Write:
    """The section of the run, with other tables in place of its own."""
    _, artifact = run

    def write(**tables: Any) -> Section:
        arrays = {name: x.numpy() for name, x in artifact.tensors("shared_units").items()}
        source = SimpleNamespace(
            has=lambda stage, *_: stage == "importance" or "units" in tables,
            table=lambda _, name: tables[name] if name in tables else artifact.table(name),
            json=lambda _, name: artifact.json(name) | tables.get("more", {}),
            arrays=lambda *_: tables.get("arrays", arrays),
            facts=SimpleNamespace(partless=False, settings={"seed": 0, "pairs.accept": "any"}),
        )
        made = class_importance(source)
        assert made is not None
        return made

    return write


def test_a_page_tells_what_ranks_of_equal_importance_are_worth(written: Write, run: tuple[Context, Artifact]) -> None:
    table = run[1].table("importance")
    assert "exactly 0" not in written(importance=table.assign(importance=0.25)).lead
    lead = written(importance=table.assign(importance=0.0)).lead
    assert "100 % of the importances are exactly 0" in lead and "cannot be seen" not in lead
    truth = torch.arange(len(CLASSES)).repeat_interleave(SAMPLES)
    logits = torch.eye(len(CLASSES))[truth]
    logits[0, :2] = torch.tensor([0.0, 2.0])  # a single answer turns: the first class is called the second
    cost = 1 - balanced_class_accuracy(logits, truth)
    assert cost[2:].eq(0).all() and cost[:2].tolist() == pytest.approx([0.5 / 8, 0.5 / 32])
    assert "costs its class up to 0.062 and the class that is called instead up to 0.016" in lead


def test_units_stand_beside_concepts_and_shuffled_ones_where_the_layer_was_dissected(
    written: Write, run: tuple[Context, Artifact]
) -> None:
    count = run[0].classifier.units
    units = pd.DataFrame({"layer": "detect", "unit": range(count), "dead": False})
    tables = {"agreement": units.assign(kind="part", iou=np.linspace(0, 0.5, count))}
    assert "importance-iou" in [figure.name for figure in written(units=units, **tables).figures]
    for others in (units.assign(layer="other"), units.assign(dead=True)):
        assert "importance-iou" not in [figure.name for figure in written(units=others, **tables).figures]
    assert "importance-iou" not in [figure.name for figure in written().figures]


def test_dots_outside_their_bands_stand_beside_as_many_as_chance_puts_there(
    written: Write, run: tuple[Context, Artifact]
) -> None:
    dots = pd.DataFrame({"iou": [0.1, 0.5, 0.3, 0.3], "low": [0.2, 0.2, 0.2, 0.3], "high": [0.4, 0.4, 0.4, 0.3]})
    dots.loc[3, "iou"] += 1e-16  # all units, whose mean no shuffle changes
    text = outside_bands(pd.concat([dots] * 10))
    assert text.startswith("The bands are of one dot each: of 40 dots, 10 lie above and 10 below, where")
    assert "with each other 2.0 would lie outside on average" in text
    count = run[0].classifier.units
    units = pd.DataFrame({"layer": "detect", "unit": range(count), "dead": False})
    agreement = units.assign(kind="part", iou=np.linspace(0, 0.5, count))
    figures = written(units=units, agreement=agreement).figures
    (caption,) = [figure.caption for figure in figures if figure.name == "importance-iou"]
    assert "go together" not in caption and "would lie outside on average" in caption


def test_classes_that_share_units_are_pictured_with_them(written: Write) -> None:
    rows = pd.DataFrame([("pug", "chihuahua", "weimaraner", 7, 3, 5)])
    rows.columns = ["class_a", "class_b", "class_c", "unit_ab", "unit_ac", "unit_bc"]
    arrays = {
        "unit": np.array([3, 5, 7]),
        "image": np.zeros((3, 5, 8, 8, 3), np.uint8),
        "mask": np.ones((3, 5, 8, 8), bool),
    }
    (figure,) = [each for each in written(shared=rows, arrays=arrays).figures if each.name == "shared-units"]
    told = [text.get_text() for axis in figure.figure.axes for text in axis.texts]
    assert told == [
        *("pug, chihuahua", "unit 7"),
        *("pug, weimaraner", "unit 3"),
        *("chihuahua, weimaraner", "unit 5"),
    ]
    assert not [each for each in written(shared=rows.head(0)).figures if each.name == "shared-units"]
