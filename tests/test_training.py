"""Training a classifier on part world: the task, the fit, what it is measured on, and the stage that keeps it."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from helpers.fakes import FakeClassifier, FakeGenerator, make_context
from torch import nn

from lis.classifiers.classifier import Curve, default_rate, find_precision, measure, ready, settle, train
from lis.classifiers.cut import CutClassifier
from lis.classifiers.partnet import CLASSES
from lis.classifiers.preprocessing import Preprocessing
from lis.classifiers.tasks import Task, bayes_class, draw_figures
from lis.config import TrainingConfig
from lis.generators.partworld import SETS, PartWorld
from lis.generators.partworld.world import world
from lis.lightning import Endless
from lis.progress import Progress
from lis.streams import Stream

CPU = torch.device("cpu")
SHORT = TrainingConfig(images=3000, batch_size=50, learning_rate=1e-2, precision="float32", held_out=60)


def small(names: tuple[str, ...] = CLASSES, attribute: str | None = None) -> CutClassifier:
    """An untrained network that sees 4×4 patches of mean colour and edges."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = [nn.Conv2d(3, 24, 8, 4, 2), nn.BatchNorm2d(24), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten()]
        network = nn.Sequential(*layers, nn.Linear(384, len(names)))
    how = {"name": "small", "weights": "partworld", "trained": False, "attribute": attribute}
    return CutClassifier(network.eval(), Preprocessing.as_drawn(64), names, **how)


def test_a_task_names_its_answers():
    assert Task().outputs == CLASSES and Task().class_names == CLASSES
    binary = Task("birds/beak_length")
    assert binary.outputs == ("beak_length_low", "beak_length_high")
    assert binary.class_names == tuple(SETS["birds"].classes)


@pytest.mark.parametrize(
    ("attribute", "offered"), [("cats/ear", "dogs"), ("dogs/beak", "dogs/ear_angle"), ("ear", "dogs")]
)
def test_an_unknown_attribute_is_answered_with_the_known_ones(attribute, offered):
    with pytest.raises(ValueError, match=rf"classifier\.attribute={attribute}: expected <set>/<factor>.*{offered}"):
        Task(attribute)


def test_answers_to_an_attribute_follow_the_factor():
    """Erect and hanging ears differ in the picture, and nothing else decides the label."""
    image, label, best = Task("dogs/fur_lightness").draw(40, torch.Generator().manual_seed(0))
    assert image.shape == (200, 3, 64, 64) and bool((best == label).all())
    inside = image[:, :, 36:44, 28:36].mean((1, 2, 3))
    assert inside[label == 1].mean() > inside[label == 0].mean() + 0.2
    assert 0.2 < label.float().mean() < 0.8


def test_bayes_class_against_a_loop():
    _, label, factors, sets = draw_figures(3, torch.Generator().manual_seed(0))
    found = bayes_class(factors, sets)
    for row in range(len(label)):
        here = world(list(SETS)[int(sets[row])])
        scores = []
        for mean, spread in zip(here.means, here.scales, strict=True):
            covariance = (spread @ spread.T).double().numpy()
            gap = (factors[row, : len(mean)] - mean).double().numpy()
            scores.append(-gap @ np.linalg.solve(covariance, gap) / 2 - np.linalg.slogdet(covariance)[1] / 2)
        assert CLASSES[int(found[row])] == here.class_names[int(np.argmax(scores))]
    assert (found == label).float().mean() > 0.85


def test_batches_repeat_with_their_seed_only():
    first, again, other = (next(iter(Endless(partial(Task().draw, 1), seed)))[0] for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)


@pytest.fixture(scope="module")
def trained():
    """A small network that was trained for a few seconds, and what the training left."""
    classifier = small()
    return classifier, train(classifier, SHORT, 0, CPU, Progress())


@pytest.mark.slow
def test_a_training_learns_and_says_how_much(trained):
    classifier, left = trained
    accuracy = left.accuracy.set_index("class")
    assert list(accuracy.index) == [*CLASSES, "all"]
    assert accuracy.loc["all", "accuracy"] > 0.35 > 3 / 15
    assert accuracy.loc["all", "bayes"] > 0.95
    assert accuracy.loc["all", "n"] == 15 * 60
    assert (accuracy["low"] <= accuracy["accuracy"]).all() and (accuracy["accuracy"] <= accuracy["high"]).all()
    assert left.curve["loss"].iloc[-10:].mean() < left.curve["loss"].iloc[:10].mean() - 0.3
    assert left.facts["images"] == 3000 // 45 * 45 and left.facts["accuracy"] == accuracy.loc["all", "accuracy"]
    assert not classifier.network.training and not any(p.requires_grad for p in classifier.parameters())


@pytest.mark.slow
def test_accuracy_against_a_loop(trained):
    classifier, _ = trained
    table = measure(classifier, 12, 5, CPU).set_index("class")
    rng = torch.Generator().manual_seed(Stream("classifier test", 5).torch_seed)
    hits: dict[str, list[bool]] = {name: [] for name in CLASSES}
    for size in (10, 2):
        image, label, _ = Task().draw(size, rng)
        for x, y in zip(image, label, strict=True):
            hits[CLASSES[int(y)]].append(int(classifier(x[None]).argmax()) == int(y))
    for name, right in hits.items():
        assert table.loc[name, "accuracy"] == pytest.approx(sum(right) / 12)
    assert table.loc["all", "accuracy"] == pytest.approx(sum(map(sum, hits.values())) / 180)


def test_the_rate_follows_the_normalisation():
    assert default_rate(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))) == 2e-3
    assert default_rate(nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2))) == 5e-4


def test_settled_statistics_are_those_of_the_batches():
    classifier = small()
    batches = [(torch.rand(6, 3, 64, 64), torch.zeros(6)) for _ in range(3)]
    settle(classifier.train(), batches)
    layers: Any = classifier.network
    maps = [layers[0](image) for image, _ in batches]
    mean = torch.stack([x.mean((0, 2, 3)) for x in maps]).mean(0)
    assert torch.allclose(layers[1].running_mean, mean, atol=1e-5)
    assert layers[1].momentum == 0.1


def test_precision():
    assert find_precision("float32", CPU) == "32-true" and find_precision("bf16", CPU) == "bf16-mixed"
    assert find_precision("auto", CPU) in ("32-true", "bf16-mixed")


def test_a_diverging_training_is_stopped():
    class Module:
        rate = 0.5

    class Trainer:
        global_step = 1

    curve: Any = Curve(1, 60, Progress(), "x")
    with pytest.raises(ValueError, match=r"diverged at step 1 .*lower training\.learning_rate \(it was 0\.5\)"):
        curve.on_train_batch_end(Trainer(), Module(), {"loss": torch.tensor(float("nan"))})


def context(root: Path, classifier: Any) -> Any:
    """A run on part world's dogs with this classifier."""
    generator = PartWorld(["pug"])
    fast = replace(SHORT, images=150, held_out=2)
    return make_context(root, generator, classifier, classes__names=["pug"], training=fast)


def test_a_training_is_kept_and_found_again(tmp_path):
    ctx, made = ready(context(tmp_path, small()))
    again, found = ready(context(tmp_path, small()))
    assert found["classifier"].path == made["classifier"].path
    assert found["classifier"].manifest["created"] == made["classifier"].manifest["created"]
    image = torch.rand(2, 3, 64, 64) * 2 - 1
    assert isinstance(ctx.classifier, CutClassifier) and ctx.classifier.trained
    assert torch.equal(ctx.classifier.features(image), again.classifier.features(image))
    assert ctx.classifier.fingerprint == again.classifier.fingerprint != small().fingerprint
    assert isinstance(made["classifier"].table("curve"), pd.DataFrame)


@pytest.mark.parametrize("change", [{"seed": 1}, {"training__images": 200}])
def test_another_training_is_another_artifact(tmp_path, change):
    _, first = ready(context(tmp_path, small()))
    ctx = context(tmp_path, small())
    for name, value in change.items():
        *groups, key = name.split("__")
        setattr(getattr(ctx.config, groups[0]) if groups else ctx.config, key, value)
    assert ready(ctx)[1]["classifier"].key != first["classifier"].key


def test_an_attribute_is_trained_and_told(tmp_path):
    names = ("hanging", "erect")
    ctx, made = ready(context(tmp_path, small(names, "dogs/ear_angle")))
    assert made["classifier"].table("accuracy")["class"].tolist() == [*names, "all"]
    assert ctx.classifier.class_names == names


def test_a_classifier_that_is_ready_is_left_alone(tmp_path):
    generator = FakeGenerator()
    ctx = make_context(tmp_path, generator, FakeClassifier(generator))
    after, made = ready(ctx)
    assert after is ctx and not made
