"""The reference's whole arrays of dissection, `../shared/fixtures/dissection`, where they are there."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.commandline import ROOT
from torch import Tensor, nn

from lis.dissection.ablation import activation_class_correlation, balanced_class_accuracy
from lis.dissection.activations import intervene, record_activations
from lis.dissection.quantiles import QuantileSketch, unit_quantiles

FOLDER = ROOT.parent / "shared" / "fixtures" / "dissection"
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"the fixtures are not in {FOLDER}")


def arrays(name: str) -> dict[str, Tensor]:
    with np.load(FOLDER / f"{name}.npz") as file:
        return {key: torch.from_numpy(file[key]) for key in file if file[key].dtype.kind in "fiu"}


def test_a_stream_has_the_exact_quantiles_and_a_sketch_of_a_smaller_rank_error() -> None:
    data = arrays("01_quantiles")
    values, levels = data["stream_acts"], data["q"].double()
    exact = unit_quantiles(values.double(), levels)
    torch.testing.assert_close(exact, data["stream_exact_hazen"], atol=1.2e-5, rtol=0)
    sketch = QuantileSketch(values.shape[1])
    for batch in values.split(int(data["stream_batch"])):
        sketch.add(batch)
    ordered = values.T.sort(1).values.contiguous()
    rank = torch.searchsorted(ordered, sketch.quantile(levels)) / len(values)
    assert float((rank - levels).abs().max()) <= float(data["stream_max_rank_error"].max())


@pytest.mark.parametrize("split", ["train", "val"])
def test_units_are_ablated_in_the_whole_network_as_by_the_reference(split: str) -> None:
    """From the images on: balanced accuracies of the network, of it without each unit, and importance.

    The reference's numbers are float32, whose neighbours at 0.9 are 6e-8 apart: they agree to 5.4e-8, and importance,
    a difference of two, to twice that.
    """
    data = arrays("05_classifier_ablation")
    first, second = nn.Conv2d(3, 12, 3, padding=1), nn.Conv2d(12, 16, 3, padding=1)
    units, last = nn.ReLU(inplace=True), nn.Linear(64, 6)
    network = nn.Sequential(
        first, nn.ReLU(), nn.MaxPool2d(2), second, units, nn.AdaptiveAvgPool2d(2), nn.Flatten(), last
    )
    for layer, name in ((first, "conv1"), (second, "conv2"), (last, "fc")):
        layer.load_state_dict({side: data[f"w_{name}.{side}"] for side in ("weight", "bias")})
    images, y = data[f"{split}_x"].float() / 255 - 0.5, data[f"{split}_y"]

    @torch.no_grad()
    def accuracy() -> Tensor:
        return balanced_class_accuracy(network(images), y)

    base = accuracy()
    torch.testing.assert_close(base, data[f"{split}_ba"].double(), rtol=0, atol=5.4e-8)
    if split == "val":
        maps = record_activations(network, {"units": units}, images)
        correlation = activation_class_correlation(lambda _, rows: network(images[rows]), maps["units"], 64)
        expected, varies = data["peak_softmax_corr_val_true"], maps["units"].amax((2, 3)).std(0) > 0
        torch.testing.assert_close(correlation[varies], expected[varies], rtol=0, atol=1e-6)
        return
    ablated = []
    for unit in range(16):
        with intervene(units, [unit], 0.0):
            ablated.append(accuracy())
    torch.testing.assert_close(torch.stack(ablated), data["train_single_unit_ba"].double(), rtol=0, atol=5.4e-8)
    torch.testing.assert_close(base - torch.stack(ablated), data["class_importance"].double(), rtol=0, atol=1.08e-7)
