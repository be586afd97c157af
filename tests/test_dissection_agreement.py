"""Enlarged maps and the agreement of units with concepts, against arrays of the reference program."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from lis.dissection.activations import intervene, record_activations, upsample_activations
from lis.dissection.agreement import concept_iou, label_units

FOLDER = Path(__file__).parent / "data" / "dissection"
DEAD = 10
"""The unit of the fixture that is never active."""
AT_THRESHOLD = 6
"""The unit of which one enlarged value equals the threshold but for rounding: one pixel more or less."""


@pytest.mark.parametrize("case", range(6))
def test_maps_are_enlarged_as_by_the_reference(case: int) -> None:
    arrays = np.load(FOLDER / "02_upsample.npz")
    expected = torch.from_numpy(arrays[f"out{case}"])
    result = upsample_activations(torch.from_numpy(arrays[f"in{case}"]), (expected.shape[2], expected.shape[3]))
    torch.testing.assert_close(result, expected, rtol=0, atol=2e-5)


def test_iou_is_that_of_the_reference() -> None:
    arrays = np.load(FOLDER / "03_iou.npz")
    maps, segmentation = torch.from_numpy(arrays["acts"]), torch.from_numpy(arrays["seg"])
    concepts = torch.stack([(segmentation == c).any(1) for c in range(12)], 1)
    iou = concept_iou(maps, concepts, torch.from_numpy(arrays["level_exact"]))
    expected = torch.from_numpy(arrays["iou_concept_by_unit_exact"]).T
    difference = (iou.float() - expected)[:, 1:].abs().nan_to_num(0)
    assert difference[[unit for unit in range(12) if unit not in (DEAD, AT_THRESHOLD)]].max() <= 1e-7
    active = upsample_activations(maps, 32)[:, AT_THRESHOLD] - float(arrays["level_exact"][AT_THRESHOLD])
    assert active.abs().min() <= 2e-5 and difference[AT_THRESHOLD].max() <= 1 / float(concepts[:, 1].sum()) * 2
    labels = label_units(iou, ignore=(0,))
    assert labels.best_concept[DEAD] == -1 and labels.best_iou[DEAD].isnan() and not labels.detector[DEAD]


def test_a_record_is_not_changed_by_what_follows_in_place() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(inplace=True))
    image = torch.randn(2, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    recorded = record_activations(network, {"0": network[0]}, image)["0"]
    assert (recorded < 0).any() and torch.equal(recorded.relu(), network(image))
    with intervene(network[0], [1], 7.0):
        edited = network(image)
    assert (edited[:, 1] == 7).all() and torch.equal(edited[:, [0, 2, 3]], recorded.relu()[:, [0, 2, 3]])
