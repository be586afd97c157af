"""PartNet: honest classifiers of part world, cut at their last layer."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch

from lis.classifiers.partnet import CLASSES, TASKS, WEIGHTS, PartNet, PartNetwork, read_network
from lis.classifiers.partnet_training import attribute_loss
from lis.classifiers.tasks import draw_figures
from lis.generators.partworld import SETS, PartWorld
from lis.streams import Stream
from lis.types import Classifier


@pytest.mark.parametrize("task", TASKS)
def test_contract(task):
    model = PartNet(task)
    assert isinstance(model, Classifier)
    image = torch.rand(3, 3, 64, 64) * 2 - 1
    r = model.features(image)
    assert r.shape == (3, model.units) and r.min() >= 0
    assert torch.allclose(model.head(r), model(image), atol=1e-5)
    assert model.class_names == CLASSES and len(set(CLASSES)) == 15


@pytest.mark.parametrize("task", TASKS)
def test_fingerprint_is_that_of_the_file(task):
    path = WEIGHTS / f"partnet_{task}.safetensors"
    assert PartNet(task).fingerprint == hashlib.sha256(path.read_bytes()).hexdigest()


def test_layers_are_all_convolutions_and_the_last_map_is_what_r_averages():
    model = PartNet()
    assert len(model.layers) == 12
    assert set(model.layers.values()) == {part for part in model.modules() if isinstance(part, torch.nn.Conv2d)}
    assert model.cam_layer == "body"
    image = torch.rand(2, 3, 64, 64) * 2 - 1
    torch.testing.assert_close(model.network.body(image).mean((2, 3)), model.features(image))


@pytest.mark.parametrize("task", TASKS)
def test_the_answers_are_those_of_the_trained_network(task):
    """Whose batch normalisations are layers of their own."""
    trained = PartNetwork()
    trained.load_state_dict(read_network(WEIGHTS / f"partnet_{task}.safetensors"))
    image = torch.rand(4, 3, 64, 64) * 2 - 1
    torch.testing.assert_close(PartNet(task)(image), trained.eval()(image), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("name", SETS)
def test_accuracy_on_generated_pictures(task, name):
    model, generator = PartNet(task), PartWorld(list(SETS[name].classes))
    right = []
    for c, label in enumerate(generator.class_names):
        image = generator.synthesize(generator.sample(c, torch.arange(100), Stream("test pairs")))
        right.append(model(image).argmax(1) == model.class_names.index(label))
    assert torch.cat(right).float().mean() >= 0.90


def test_unknown_task_and_size_are_refused():
    with pytest.raises(ValueError, match="classes, attributes, got 'poses'"):
        PartNet("poses")
    with pytest.raises(ValueError, match="64, 64"):
        PartNet().features(torch.zeros(1, 3, 32, 32))


def test_batches_hold_every_class():
    image, label, factors, sets = draw_figures(2, torch.Generator().manual_seed(0))
    assert image.shape == (30, 3, 64, 64)
    assert label.tolist() == [c for c in range(15) for _ in range(2)]
    for index, figures in enumerate(SETS.values()):
        assert factors[sets == index].isfinite().sum(1).unique().tolist() == [len(figures.factor_names)]


def test_attribute_loss_against_a_loop():
    rng = np.random.default_rng(0)
    logits, factors, sets = rng.standard_normal((4, 2, 3)), rng.standard_normal((4, 3)), np.array([0, 1, 1, 0])
    factors[1, 2] = np.nan
    terms = [
        np.log1p(np.exp(-(1 if factors[i, f] > 0 else -1) * logits[i, sets[i], f]))
        for i in range(4)
        for f in range(3)
        if np.isfinite(factors[i, f])
    ]
    loss = attribute_loss(*(torch.tensor(x) for x in (logits, factors, sets)))
    np.testing.assert_allclose(loss, np.mean(terms), rtol=1e-10)
