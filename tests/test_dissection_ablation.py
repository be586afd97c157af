"""Ablation of units is that of the reference (fixture 05), where that is right, and of slow definitions.

The fixture is cut down: in place of the images it holds the maps behind the second ReLU, averaged to 2×2 cells as the
network's own pooling does. A unit that is constant over the map is so over the cells.
"""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import timm
import torch
import torchvision
from helpers.commandline import ROOT
from torch import Tensor, nn
from torch.nn import functional as F

from lis.classifiers.cut import CutClassifier
from lis.classifiers.partnet import PartNet
from lis.classifiers.preprocessing import Preprocessing
from lis.dissection.ablation import (
    ablation_values,
    activation_class_correlation,
    balanced_class_accuracy,
    importance_order,
    random_orders,
    removal_counts,
    shared_unit_classes,
    unit_class_importance,
    unit_removal_curve,
)
from lis.dissection.activations import edited, intervene, record_activations
from lis.dissection.interpretability import best_iou, importance_vs_interpretability, interpretability_table
from lis.dissection.tails import find_layer, layer_tail
from lis.report.tables import records, where

FIXTURE = Path(__file__).parent / "data" / "dissection" / "05_classifier_ablation_pooled.npz"
ZERO = torch.zeros(16)


@pytest.fixture(scope="module")
def reference() -> dict[str, Tensor]:
    with np.load(FIXTURE) as file:
        return {name: torch.from_numpy(file[name]) for name in file if file[name].dtype.kind in "fi"}


def tail_of(reference: dict[str, Tensor]) -> Any:
    return lambda x, _: F.linear(x.flatten(1), reference["w_fc.weight"], reference["w_fc.bias"])


def test_importance_is_that_of_the_reference(reference: dict[str, Tensor]) -> None:
    importance = unit_class_importance(tail_of(reference), reference["train_pooled"], reference["train_y"], ZERO)
    torch.testing.assert_close(importance, reference["class_importance"].double(), rtol=0, atol=2e-7)
    assert importance_order(importance).equal(reference["unit_order"])


def test_removal_curves_are_those_of_the_reference(reference: dict[str, Tensor]) -> None:
    inputs = tail_of(reference), reference["val_pooled"], reference["val_y"]
    order = reference["unit_order"]
    for name, orders in (("most", order), ("least", order.flip(1))):
        curves = [unit_removal_curve(*inputs, units, range(17), ZERO)[:, c] for c, units in enumerate(orders)]
        torch.testing.assert_close(torch.stack(curves), reference[f"val_ba_remove_{name}"].double(), rtol=0, atol=2e-7)
    orders = random_orders(16, 3, np.random.default_rng(0))
    random = torch.stack([unit_removal_curve(*inputs, units, [0, 16], ZERO) for units in orders])
    for draw in random:  # no unit and all units removed: whatever the order
        torch.testing.assert_close(draw[0], reference["val_ba"].double(), rtol=0, atol=2e-7)
        assert draw[1].equal(random[0, 1])


@pytest.mark.parametrize("batch", [7, 64, 480])
def test_correlation_is_the_true_one_for_any_batch(reference: dict[str, Tensor], batch: int) -> None:
    peaks, tail = reference["val_peak"][:, :, None, None], tail_of(reference)
    result = activation_class_correlation(lambda _, rows: tail(reference["val_pooled"][rows], rows), peaks, batch)
    expected, varies = reference["peak_softmax_corr_val_true"], reference["val_peak"].std(0) > 0
    torch.testing.assert_close(result[varies], expected[varies], rtol=0, atol=1e-6)
    assert result[~varies].isnan().all()


def test_interpretability_is_that_of_the_reference(reference: dict[str, Tensor]) -> None:
    iou = reference["synthetic_best_iou"]
    result = importance_vs_interpretability(reference["class_importance"].double(), iou, reference["unit_order"], 4)
    torch.testing.assert_close(result.bucket_iou.float(), reference["bucket_mean_iou"])
    torch.testing.assert_close(result.bucket_importance.float(), reference["bucket_mean_importance"])
    for k in (2, 3, 4, 5):
        assert result.classes[k].equal(reference[f"n_classes_top{k}"])
    values, sizes, means, errors = result.by_classes[4]
    for value, size, mean, error in zip(values, sizes, means, errors, strict=True):
        group = [float(x) for x, n in zip(iou, reference["n_classes_top4"], strict=True) if n == value]
        assert len(group) == size and float(mean) == pytest.approx(np.mean(group))
        if len(group) > 1:
            assert float(error) == pytest.approx(np.std(group, ddof=1) / len(group) ** 0.5)
    uneven = importance_vs_interpretability(reference["class_importance"].double(), iou, buckets=5)
    first = reference["class_importance"].double().mean(1).argsort(descending=True, stable=True)[:4]
    assert len(uneven.bucket_iou) == 5 and float(uneven.bucket_iou[0]) == pytest.approx(float(iou[first].nanmean()))
    with pytest.raises(ValueError, match="17 buckets of 16 units: expected 1 to 16 buckets"):
        importance_vs_interpretability(reference["class_importance"], iou, buckets=17)


def test_interpretability_stands_beside_shuffled_units() -> None:
    """Units that serve two classes are given the largest IoU: beyond the shuffles. Without importance none serves."""
    importance = torch.zeros(64, 3, dtype=torch.float64)
    importance[:2, :2], importance[2:4, 2] = 0.5, 0.25
    iou = torch.rand(64, generator=torch.Generator().manual_seed(0), dtype=torch.float64) / 10
    iou[:2], iou[63] = 0.5, torch.nan
    table = interpretability_table(importance, iou, np.random.default_rng(0), 200)
    none, one, two = records(where(table, k=2))
    assert [(row["x"], row["units"]) for row in (none, one, two)] == [(0, 59), (1, 2), (2, 2)]
    assert two["iou"] == 0.5 > two["high"] and two["control"] == pytest.approx(float(iou.nanmean()), abs=0.03)
    assert one["low"] <= one["iou"] <= one["high"]
    buckets = records(where(table, k=0))
    means = [row["importance"] for row in buckets]
    assert len(buckets) == 16 and sum(row["units"] for row in buckets) == 63 and means == sorted(means, reverse=True)


def test_live_units_without_a_label_count_with_the_iou_that_they_have() -> None:
    units = pd.DataFrame({"unit": [0, 1, 2, 3], "iou": [0.3, np.nan, np.nan, np.nan], "dead": [False] * 3 + [True]})
    rows = [(0, "part", 0.3), (0, "background", 0.9), (1, "part", 0.02), (1, "colour", 0.01), (2, "part", np.nan)]
    agreement = pd.DataFrame([*rows, (3, "part", np.nan)], columns=pd.Index(["unit", "kind", "iou"]))
    iou = best_iou(units, agreement)
    assert iou[:3].tolist() == [0.3, 0.02, 0.0] and iou[3].isnan()
    table = interpretability_table(torch.eye(4, dtype=torch.float64), iou, np.random.default_rng(0), 19)
    assert sum(row["units"] for row in records(where(table, k=0))) == 3


def test_balanced_accuracy_of_a_class_that_is_not_there_is_unknown() -> None:
    logits, y = torch.randn(50, 3, generator=torch.Generator().manual_seed(0)), torch.arange(50) % 2
    result = balanced_class_accuracy(logits, y)
    answer = logits.argmax(1)
    for c in (0, 1):
        recall = np.mean([int(a) == c for a, t in zip(answer, y, strict=True) if t == c])
        negative = np.mean([int(a) != c for a, t in zip(answer, y, strict=True) if t != c])
        assert float(result[c]) == pytest.approx((recall + negative) / 2)
    assert result[2].isnan()


def test_ablation_writes_into_a_copy() -> None:
    x = torch.randn(5, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    before = x.clone()
    units = torch.tensor([1, 3])
    result = edited(x, units, ablation_values(x, "mean")[units])
    assert x.equal(before) and result[:, [0, 2]].equal(x[:, [0, 2]])
    torch.testing.assert_close(result[:, 3], x[:, 3].mean().expand(5, 3, 3))
    low = ablation_values(x, "quantile", 0.2)
    assert float(low[2]) == pytest.approx(np.quantile(x[:, 2].flatten().numpy(), 0.2, method="hazen"), rel=1e-6)
    with pytest.raises(ValueError, match="'noise': expected 'zero', 'mean' or 'quantile'"):
        ablation_values(x, "noise")  # pyright: ignore[reportArgumentType]


def test_counts_end_with_all_units() -> None:
    assert removal_counts(512) == [0, 1, 2, 3, 4, 5, 20, 64, 128, 256, 512] and removal_counts(3) == [0, 1, 2, 3]
    with pytest.raises(ValueError, match=r"counts has \[3\]: expected numbers of removed units in \[0, 2\]"):
        unit_removal_curve(lambda x, _: x, torch.zeros(2, 2), torch.zeros(2), torch.arange(2), [3], torch.zeros(2))


def test_shared_units_are_those_of_every_triple_tried() -> None:
    importance = torch.randn(12, 7, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    top = [{u for u in importance[:, c].topk(4).indices.tolist() if importance[u, c] > 0} for c in range(7)]
    expected = [
        (a, b, c)
        for a, b, c in combinations(range(7), 3)
        if top[a] & top[b] and top[a] & top[c] and top[b] & top[c] and not top[a] & top[b] & top[c]
    ]
    result = shared_unit_classes(importance)
    assert expected and sorted(each.classes for each in result) == expected
    least = [
        min(
            float(importance[u, list(xy)].min())
            for u, xy in zip(each.units, combinations(each.classes, 2), strict=True)
        )
        for each in result
    ]
    assert least == sorted(least, reverse=True)
    for each in result:
        a, b, c = each.classes
        assert all(u in top[x] & top[y] for u, (x, y) in zip(each.units, ((a, b), (a, c), (b, c)), strict=True))


@pytest.mark.parametrize(
    ("layer", "method"),
    [(None, "modules behind the layer"), ("body.3", "modules behind the layer"), ("body.3.second", "whole pass")],
)
def test_tail_of_partnet_equals_the_whole_pass(layer: str | None, method: str) -> None:
    """Ablation through the tail is that by a hook; behind a shortcut no chain is right, and a whole pass is taken."""
    classifier, image = PartNet(), torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    module = find_layer(classifier, layer)
    tail = layer_tail(classifier, module, image)
    assert tail.method == method
    activations = record_activations(classifier.features, {"map": module}, image)["map"]
    torch.testing.assert_close(tail.logits(activations.clone(), image), classifier(image))
    with intervene(module, [2], 0.0):
        expected = classifier(image)
    ablated = edited(activations, torch.tensor([2]), torch.zeros(1))
    torch.testing.assert_close(tail.logits(ablated, image), expected)


def test_tail_runs_the_children_of_a_cut_network() -> None:
    parts = [nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 8)]
    network = nn.Sequential(*parts, nn.ReLU(), nn.Linear(8, 2))
    classifier = CutClassifier(network, Preprocessing.as_drawn(8), ("a", "b"), name="small", weights="random")
    image = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    module = find_layer(classifier, "0")
    tail = layer_tail(classifier, module, image)
    assert tail.method == "modules behind the layer"
    maps = record_activations(classifier.features, {"map": module}, image)["map"]
    torch.testing.assert_close(tail.logits(maps, image), classifier(image))


class Rectified(nn.Module):
    """A map, rectified and averaged by functions that no module shows, as in DenseNet."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
        self.classifier = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Logits `[n, 2]`."""
        return self.classifier(self.features(x).relu().mean((2, 3)))


def test_tail_rectifies_where_a_function_does() -> None:
    classifier = CutClassifier(
        Rectified(), Preprocessing.as_drawn(8), ("a", "b"), name="small", weights="random"
    ).eval()
    image = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    module = find_layer(classifier, None)
    tail = layer_tail(classifier, module, image)
    assert tail.method == "modules behind the layer"
    with intervene(module, [1], -1.0):
        expected = classifier(image)
    maps = record_activations(classifier.features, {"map": module}, image)["map"]
    ablated = edited(maps, torch.tensor([1]), torch.tensor([-1.0]))
    torch.testing.assert_close(tail.logits(ablated, image), expected)


def test_a_layer_inside_a_block_is_told_the_block(caplog: pytest.LogCaptureFixture) -> None:
    classifier = PartNet()
    layer_tail(classifier, find_layer(classifier, "body.3.second"), torch.rand(2, 3, 64, 64))
    assert "behind network.body.3.second gives the logits of the whole pass" in caplog.text
    assert "behind network.body.3, the block around it, the modules are enough" in caplog.text


@pytest.mark.full
@pytest.mark.parametrize(
    ("library", "name", "layer"),
    [
        ("torchvision", "alexnet", None),
        ("torchvision", "alexnet", "features.10"),
        ("torchvision", "resnet50", None),
        ("torchvision", "densenet201", None),
        ("torchvision", "densenet201", "features.denseblock3"),
        ("torchvision", "vgg16", None),
        ("timm", "efficientnet_lite0", None),
        ("timm", "efficientnet_lite0", "blocks.5"),
    ],
)
def test_usual_networks_need_no_whole_pass(library: str, name: str, layer: str | None) -> None:
    make = getattr(torchvision.models, name) if library == "torchvision" else partial(timm.create_model, name)
    names = [f"{k}" for k in range(1000)]
    classifier = CutClassifier(make(), Preprocessing.as_drawn(224), names, name=name, weights="random").eval()
    image = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(0)) * 2 - 1
    assert layer_tail(classifier, find_layer(classifier, layer), image).method == "modules behind the layer"


def test_an_unknown_layer_is_named_with_the_nearest() -> None:
    with pytest.raises(
        ValueError, match=r"importance.layer='boddy': expected a layer of the classifier.*did you mean .*body"
    ):
        find_layer(PartNet(), "boddy")


@pytest.mark.full
def test_the_stage_ranks_units_on_train_pairs_and_draws_its_section(tmp_path: Path) -> None:
    """End to end through the command line; r has only the head behind it."""
    run = tmp_path / "run"
    settings = ["pairs.train=8", "pairs.test=8", "importance.layer=penultimate", "importance.draws=2"]
    arguments = ["analysis=importance", "size=smoke", "threads=1", *settings]
    command = [sys.executable, "-m", "lis.run", *arguments, f"store={tmp_path / 'store'}", f"hydra.run.dir={run}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    table, curves = (pd.read_parquet(run / "tables" / "importance" / f"{x}.parquet") for x in ("importance", "curves"))
    assert len(table) == 256 * table["class"].nunique()
    ordered = table.sort_values(["class", "rank"]).groupby("class")["importance"]
    assert all(values.is_monotonic_decreasing for _, values in ordered)
    whole = curves[curves["n"] == 0]
    assert np.all(whole["balanced_accuracy"] == 1)  # accepted because they are right
    assert np.allclose(curves[curves["n"] == 256]["balanced_accuracy"], 0.5)  # one answer for every sample
    band = curves[curves["order"] == "random"]
    assert np.all(band["low"] <= band["balanced_accuracy"] + 1e-9)
    assert np.all(band["balanced_accuracy"] <= band["high"] + 1e-9)
    assert "removal-curves" in (run / "report.html").read_text()
