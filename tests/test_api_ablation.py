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


@pytest.fixture(scope="module")
def study(shared_store: Path) -> lis.Study:
    settings: dict[str, Any] = {"importance.samples": 6, "importance.draws": 3}
    return lis.study(size="smoke", device="cpu", store=shared_store, **settings)


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
        assert row["low"] <= row["control"] <= row["high"] <= 0
    assert result.flips["sample"].tolist() == (answers != samples.class_index).nonzero()[:, 0].tolist()
    assert "random" in repr(result) and "86 units (0, 3, 6" in repr(result)


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
        ({"units": [1], "value": "noise"}, "'noise': expected 'zero', 'mean' or 'quantile'"),
    ],
)
def test_what_cannot_be_ablated_is_refused(study: lis.Study, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        study.ablate(**arguments)
