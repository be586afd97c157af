"""`s.ablate`: accuracies without some units, as a hook gives them, beside random ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import lis
from lis.dissection.activations import intervene
from lis.dissection.tails import find_layer
from lis.report.tables import records
from lis.streams import Stream


@pytest.fixture(scope="module")
def study(shared_store: Path) -> lis.Study:
    return study_of(shared_store)


def study_of(store: Path, quantile: float = 0.25) -> lis.Study:
    settings: dict[str, Any] = {"importance.samples": 6, "importance.draws": 3, "importance.quantile": quantile}
    return lis.study(size="smoke", device="cpu", store=store, **settings)


def test_accuracies_are_those_of_a_network_without_the_units(study: lis.Study) -> None:
    units = list(range(0, 256, 3))
    result = study.ablate(units)
    samples = study.pairs("test").first(6)
    columns = [study.classifier.class_names.index(name) for name in study.class_names]
    with torch.no_grad(), intervene(find_layer(study.classifier, None), units, 0.0):
        image = study.generator.synthesize(samples.w)
        answers = study.classifier.head(study.classifier.features(image))[:, columns].argmax(1)
    assert result.after.equal(answers) and result.before.equal(samples.class_index)  # accepted because they are right
    for c, row in enumerate(records(result.table)):
        truth = samples.class_index == c
        expected = (float((answers[truth] == c).float().mean()) + float((answers[~truth] != c).float().mean())) / 2
        assert row["samples"] == 6 and row["balanced_accuracy"] == 1
        assert row["ablated"] == pytest.approx(expected) and row["change"] == pytest.approx(expected - 1)
    assert result.flips["sample"].tolist() == (answers != samples.class_index).nonzero()[:, 0].tolist()
    assert "random" in repr(result) and "86 units (0, 3, 6" in repr(result)


def test_the_control_is_the_loss_without_as_many_random_units(study: lis.Study) -> None:
    """Along the same draws, with a hook in the whole network."""
    table = study.ablate(range(40)).table
    samples, rng = study.pairs("test").first(6), Stream("importance", 0).rng(index=2)
    changes = []
    for _ in range(3):
        units = rng.choice(256, 40, replace=False).tolist()
        with torch.no_grad(), intervene(find_layer(study.classifier, None), units, 0.0):
            features = study.classifier.features(study.generator.synthesize(samples.w))
        changes.append(accuracies(study, features, samples.class_index) - 1)  # all are right with all units
    assert np.abs(changes).max() > 0
    for name, expected in (
        ("control", np.mean(changes, 0)),
        ("low", np.quantile(changes, 0.025, axis=0)),
        ("high", np.quantile(changes, 0.975, axis=0)),
    ):
        np.testing.assert_allclose(table[name], expected, atol=1e-12)


def accuracies(study: lis.Study, r: torch.Tensor, truth: torch.Tensor) -> np.ndarray:
    """Balanced accuracy of each class of the study, of penultimate activations `[n, 256]` of samples."""
    columns = [study.classifier.class_names.index(name) for name in study.class_names]
    answers = study.classifier.head(r)[:, columns].argmax(1)
    recall = [float((answers[truth == c] == c).double().mean()) for c in range(len(columns))]
    negative = [float((answers[truth != c] != c).double().mean()) for c in range(len(columns))]
    return (np.array(recall) + np.array(negative)) / 2


@pytest.mark.parametrize("value", ["mean", "quantile"])
def test_constants_are_those_of_the_train_pairs(study: lis.Study, value: str) -> None:
    """So many units that the answers differ from those with the constants of the test pairs."""
    units = list(range(8, 256))
    result = study.ablate(units, layer="penultimate", value=value)
    train, test = (study.pairs(split).first(6) for split in ("train", "test"))
    after = {}
    for name, pairs in (("train", train), ("test", test)):
        r, constants = test.r.clone(), pairs.r.double()
        constants = constants.mean(0).numpy() if value == "mean" else np.quantile(constants, 0.25, 0, method="hazen")
        r[:, units] = torch.from_numpy(constants).float()[units]
        after[name] = accuracies(study, r, test.class_index)
    np.testing.assert_allclose(result.table["ablated"], after["train"], atol=1e-12)
    assert not np.allclose(after["train"], after["test"])


def test_r_and_other_values_can_be_ablated(study: lis.Study) -> None:
    alone = study.ablate(torch.tensor([12]), layer="penultimate", value="mean")
    assert (alone.units, alone.layer, alone.value) == ((12,), "penultimate", "mean")
    every = study.ablate(range(256), layer="penultimate")
    assert np.allclose(every.table["ablated"], 0.5) and every.after.unique().numel() == 1  # one answer for all


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"units": []}, r"units=\[\]: expected one or more different units of the layer, 0 to 255"),
        ({"units": [3, 3]}, r"units=\[3, 3\]: expected one or more different units"),
        ({"units": 256}, r"units=\[256\]: .*0 to 255"),
        ({"units": ["ear"]}, "units='ear': expected a whole number"),
        ({"units": [1], "layer": "boddy"}, "importance.layer='boddy': expected a layer"),
    ],
)
def test_what_cannot_be_ablated_is_refused(study: lis.Study, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        study.ablate(**arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"units": 256, "value": "mean"}, r"units=\[256\]: .*0 to 255"),
        ({"units": 1, "value": "noise"}, "value 'noise': expected 'zero', 'mean' or 'quantile'"),
        ({"units": 1, "value": 0}, "value 0: expected 'zero', 'mean' or 'quantile'"),
        ({"units": 1, "value": ""}, "value '': expected 'zero'"),
    ],
)
def test_units_and_values_are_checked_before_any_work(
    study: lis.Study, monkeypatch: pytest.MonkeyPatch, arguments: dict[str, Any], message: str
) -> None:
    monkeypatch.setattr("lis.api.ablation.layer_data", lambda *_: pytest.fail("maps are made"))
    with pytest.raises(ValueError, match=message):
        study.ablate(**arguments)


def test_a_quantile_of_too_few_samples_is_refused_before_any_work(
    shared_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lis.api.ablation.layer_data", lambda *_: pytest.fail("maps are made"))
    with pytest.raises(ValueError, match=r"importance\.quantile=0\.99 of \d+ maps of 1×1: expected 5.* 500 images"):
        study_of(shared_store, 0.01).ablate(1, layer="penultimate", value="quantile")
