"""Planted channels: what they answer to, and that dissection and ablation recover what is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from helpers.fakes import FakeGenerator
from torch import Tensor
from torch.nn import functional as F

import lis
from lis.classifiers import detectors as module
from lis.classifiers.detectors import KINDS, MAP, ChannelPlanting, Detectors, detectors
from lis.dissection.ablation import importance_order, unit_class_importance
from lis.dissection.activations import record_activations
from lis.dissection.agreement import concept_iou, label_units
from lis.dissection.concepts import concept_set
from lis.dissection.dissect import dissect
from lis.dissection.permutation import permutation_test
from lis.dissection.quantiles import unit_quantiles
from lis.generators.partworld import PartWorld, part_network
from lis.generators.partworld.world import SETS, world
from lis.images import to_uint8
from lis.labels.labelled import exact_masks
from lis.linking.pairs import pairs
from lis.statistics import SIGNIFICANT, q_values
from lis.streams import Stream

CLASSES = tuple(SETS["dogs"].classes)
LABELS = SETS["dogs"].labels
PER_CLASS = 16


@pytest.fixture(scope="module")
def generator() -> PartWorld:
    return PartWorld(CLASSES)


@pytest.fixture(scope="module")
def model(generator: PartWorld) -> Detectors:
    return detectors(generator, per_part=2, unplanted=20, noise=0.25)


@pytest.fixture(scope="module")
def w(generator: PartWorld) -> Tensor:
    """Of each class in turn."""
    samples = torch.arange(PER_CLASS)
    return torch.cat([generator.sample(c, samples, Stream("labels")) for c in range(len(CLASSES))])


@pytest.fixture(scope="module")
def image(generator: PartWorld, w: Tensor) -> Tensor:
    return generator.synthesize(w)


@pytest.fixture(scope="module")
def maps(model: Detectors, image: Tensor) -> Tensor:
    return record_activations(model.features, {"detect": model.layers["detect"]}, image)["detect"]


def test_every_part_and_class_has_its_channels_in_a_drawn_order() -> None:
    planting, other = (ChannelPlanting.of(world("dogs"), 3, 4, 0.1, seed) for seed in (0, 1))
    pairs_of = sorted(zip(planting.kind, planting.target, strict=True))
    assert pairs_of == sorted(zip(other.kind, other.target, strict=True)) and planting.target != other.target
    counts = {kind: len(planting.of_kind(kind)) for kind in KINDS}
    assert counts == {"part": 3 * len(LABELS), "critical": len(CLASSES), "unplanted": 4}
    assert [planting.target.count(label) for label in LABELS] == [3] * len(LABELS)
    assert [(planting.kind[k], planting.target[k]) for k in map(planting.critical, CLASSES)] == [
        ("critical", name) for name in CLASSES
    ]
    assert bool(((planting.gain >= 0.5) & (planting.gain <= 2)).all()) and len(planting.gain.unique()) > 30


def test_channels_are_what_was_planted_plus_noise_of_the_known_size(
    model: Detectors, image: Tensor, maps: Tensor
) -> None:
    network, planting = cast(Any, model.network), model.planting
    image, maps = image[::10], maps[::10]
    probability = F.avg_pool2d(network.parts(image).softmax(1), 64 // MAP)
    answer = network.classes(image)[:, [module.CLASSES.index(name) for name in CLASSES]].softmax(1)
    fields = network.fields(image)
    for k in (*planting.of_kind("part")[:3].tolist(), planting.critical("pug"), int(planting.of_kind("unplanted")[0])):
        kind, target = planting.kind[k], planting.target[k]
        expected = 0.25 * fields[:, k] if kind != "unplanted" else fields[:, k]
        if kind == "part":
            expected = expected + probability[:, 1 + LABELS.index(target)]
        if kind == "critical":
            expected = expected + (1 - probability[:, 0]) * answer[:, CLASSES.index(target), None, None]
        torch.testing.assert_close(maps[:, k], planting.gain[k] * expected, rtol=1e-4, atol=1e-5)


def test_units_are_the_means_of_channels_and_the_head_is_that_of_the_whole_network(
    model: Detectors, image: Tensor, maps: Tensor
) -> None:
    r = model.features(image[:10])
    torch.testing.assert_close(r, maps[:10].mean((2, 3)))
    torch.testing.assert_close(model.head(r), model(image[:10]), rtol=1e-5, atol=1e-4)
    assert (model.units, model.cam_layer) == (maps.shape[1], "detect")


def test_noise_depends_on_the_bytes_of_an_image_and_on_nothing_in_it(
    generator: PartWorld, model: Detectors, image: Tensor
) -> None:
    network = cast(Any, model.network)
    fields = network.fields(image[:40])
    assert torch.equal(network.fields(image[7:8]), fields[7:8])
    saved = to_uint8(image[:40]).float() / 127.5 - 1
    assert torch.equal(network.fields(saved), fields) and torch.equal(network.fields(saved + 1e-3), fields)
    touched = saved.clone()
    touched[:, 0, 0, 0] = -touched[:, 0, 0, 0].sign()
    other = detectors(generator, per_part=2, unplanted=20, noise=0.25, seed=1)
    for unlike in (network.fields(touched), cast(Any, other.network).fields(image[:40])):
        r = torch.corrcoef(torch.stack([unlike.flatten(), fields.flatten()]))[0, 1]
        assert abs(float(r)) < 0.01
    assert fields.var((0, 1)).sub(1).abs().max() < 0.2 and abs(float(fields.var()) - 1) < 0.03
    assert float(torch.corrcoef(torch.stack([fields[..., 1:].flatten(), fields[..., :-1].flatten()]))[0, 1]) > 0.9


def test_settings_are_in_the_fingerprint(generator: PartWorld, model: Detectors) -> None:
    others = [{"noise": 0.5}, {"seed": 1}, {"unplanted": 21}]
    prints = {
        detectors(generator, **{"per_part": 2, "unplanted": 20, "noise": 0.25} | each).fingerprint for each in others
    }
    assert len(prints | {model.fingerprint}) == 4
    assert detectors(generator, per_part=2, unplanted=20, noise=0.25).fingerprint == model.fingerprint


def test_planted_units_carry_the_classes_and_are_found_by_ablation(model: Detectors, maps: Tensor) -> None:
    y, r = torch.arange(len(CLASSES)).repeat_interleave(PER_CLASS), maps.mean((2, 3))
    assert model.class_names == CLASSES
    assert float((model.head(r).argmax(1) == y).double().mean()) > 0.8
    importance = unit_class_importance(lambda r, _: model.head(r), r, y, torch.zeros(model.units))
    planted = torch.tensor([model.planting.critical(name) for name in CLASSES])
    assert torch.equal(importance_order(importance)[:, 0], planted)
    rest = [k for k in range(model.units) if k not in planted.tolist()]
    assert bool((importance[planted].diagonal() > 3 * importance[rest].amax(0)).all())
    assert importance[rest].abs().max() > 0  # they do something


def test_parts_are_named_and_unplanted_channels_are_at_chance(
    generator: PartWorld, model: Detectors, w: Tensor, image: Tensor, maps: Tensor
) -> None:
    concepts = concept_set(LABELS)
    masks = concepts.masks(image, exact_masks(generator, w, LABELS, 64).long(), MAP)
    thresholds = unit_quantiles(maps, 0.99)
    labels = label_units(concept_iou(maps, masks, thresholds))
    names = np.array(concepts.names)[labels.best_concept.numpy()]
    part, unplanted = (model.planting.of_kind(kind) for kind in ("part", "unplanted"))
    assert (names[part.numpy()] == np.array(model.planting.target)[part.numpy()]).all()
    y = torch.arange(len(CLASSES)).repeat_interleave(PER_CLASS)
    test = permutation_test(maps, thresholds, masks, y, permutations=200)
    q = q_values(test.p_label[torch.arange(model.units), labels.best_concept])[0]
    assert bool((q[part] <= SIGNIFICANT).all())
    assert int((q[unplanted] <= SIGNIFICANT).sum()) <= 2
    assert not labels.detector[unplanted].any()


def test_only_part_world_has_parts_to_plant(monkeypatch: pytest.MonkeyPatch, generator: PartWorld) -> None:
    with pytest.raises(ValueError, match=r"classifier=detectors with FakeGenerator.*use gan=partworld"):
        detectors(cast(Any, FakeGenerator()))
    monkeypatch.setattr(part_network, "WEIGHTS", Path("nowhere"))
    with pytest.raises(ValueError, match="no network segments the parts of dogs"):
        detectors(generator)


@pytest.mark.full
@pytest.mark.parametrize("noise", [0.1, 0.5])
def test_dissection_recovers_planted_channels_through_the_stages(tmp_path: Path, noise: float) -> None:
    settings = ["analysis=dissect", "classes=dogs", "classifier=detectors", f"classifier.noise={noise}"]
    sizes = ["pairs.accept=any", "pairs.train=50", "pairs.test=50", "dissect.permuted=200", f"store={tmp_path}"]
    ctx = lis.study(*settings, *sizes).context
    classifier = cast(Detectors, ctx.classifier)
    kind, target = np.array(classifier.planting.kind), np.array(classifier.planting.target)
    units = dissect(ctx).table("units")
    agreement = dissect(ctx).table("agreement")
    of_parts = agreement[agreement["kind"] == "part"].pivot(index="unit", columns="concept", values="iou")
    part = kind == "part"
    named = (of_parts.idxmax(axis=1).to_numpy() == target)[part]
    label = units["q"].to_numpy()[kind == "unplanted"] <= SIGNIFICANT
    any_concept = units["above_chance"].to_numpy(bool)[kind == "unplanted"]
    assert named.mean() >= 0.98 and (~label).mean() >= 0.95
    assert np.count_nonzero(any_concept) <= 7  # of 64, of which 5 % are allowed on average: binomial, p = 0.01
    labelled = (units["concept"].to_numpy() == target)[part]
    others = np.random.default_rng(0).permutation(target[part])
    assert labelled.mean() > 3 * (units["concept"].to_numpy()[part] == others).mean()
    assert set(units["kind"][part][~labelled]) <= {"colour"}  # of the pixels of the part: experiments/bau_detectors
    train = pairs(ctx, "train").tensors("pairs")
    columns = [classifier.class_names.index(name) for name in ctx.class_names]
    importance = unit_class_importance(
        lambda r, _: classifier.head(r)[:, columns], train["r"], train["class_index"], torch.zeros(classifier.units)
    )
    expected = [classifier.planting.critical(name) for name in ctx.class_names]
    assert importance_order(importance)[:, 0].tolist() == expected
