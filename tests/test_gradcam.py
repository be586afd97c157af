"""GradCAM against its formula, and what is read off it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.fakes import FakeClassifier, FakeGenerator
from torch import nn
from torch.nn import functional as F

from lis.boundary.gradcam import IMAGES, around_table, cam, heat_table, validate_cam
from lis.classifiers.cut import CutClassifier
from lis.classifiers.partnet import PartNet
from lis.classifiers.preprocessing import Preprocessing
from lis.generators.partworld import PartWorld
from lis.report.tables import records, where
from lis.streams import Stream
from lis.types import Classifier


def small() -> CutClassifier:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    names = ("a", "b", "c")
    model = CutClassifier(network, Preprocessing.as_drawn(16), names, name="small", weights="random")
    return model.eval().requires_grad_(False)


def slow_cam(model: Classifier, module: nn.Module, image: torch.Tensor, c: int) -> torch.Tensor:
    """One image, by the paper's equations 1 and 2 of Selvaraju et al."""
    kept = []
    handle = module.register_forward_hook(lambda _, __, output: kept.append(output))
    logits = model.head(model.features(image[None].clone().requires_grad_()))
    handle.remove()
    (gradient,) = torch.autograd.grad(logits[0, c], kept[0])
    total = sum(gradient[0, k].mean() * kept[0][0, k] for k in range(gradient.shape[1]))
    heat = F.relu(torch.as_tensor(total))[None, None]
    return F.interpolate(heat, image.shape[1:], mode="bilinear", align_corners=False)[0, 0].detach()


def test_against_the_formula() -> None:
    model = small()
    image = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1
    classes = torch.tensor([2, 0, 1])
    found = cam(model, image, classes)
    for k, c in enumerate(classes.tolist()):
        torch.testing.assert_close(found[k], slow_cam(model, model.network.get_submodule("0"), image[k], c))
    assert found.min() >= 0 and found.max() > 0


def test_on_part_world_the_last_map_is_weighed() -> None:
    model, world = PartNet(), PartWorld(["pug"])
    with torch.inference_mode():
        image = world.synthesize(world.sample(1, torch.arange(2), Stream("test pairs")))
        found = cam(model, image, torch.tensor([6, 5]))
    own = slow_cam(model, model.network.body, image[1].clone(), 5)
    assert found.shape == (2, 64, 64)
    torch.testing.assert_close(found[1], own)


def test_without_a_layer_it_is_refused() -> None:
    with pytest.raises(ValueError, match="FakeClassifier has cam_layer=None: GradCAM needs the module"):
        validate_cam(FakeClassifier(FakeGenerator()))
    model = small()
    model.cam_layer = "elsewhere"
    with pytest.raises(ValueError, match="cam_layer='elsewhere'"):
        validate_cam(model)


def test_heat_is_shared_among_the_parts() -> None:
    heat = torch.zeros(1, 4, 2, 4, 4)
    heat[0, :, 0, :2, :2], heat[0, 3, 1, :, 3] = 1.0, 2.0
    mask = torch.zeros(1, 4, 2, 2, dtype=torch.uint8)
    mask[:, :, 0, 0], mask[:, :, 1, 1] = 1, 2
    table = heat_table(heat, mask, ("ear", "eye"))
    assert len(table) == 4 * 2 * 3 and set(table["image"]) == set(IMAGES)
    own = where(table, image="original", of="origin")
    assert own["share"].tolist() == [0.0, 1.0, 0.0] and own["area"].tolist() == [0.5, 0.25, 0.25]
    last = where(table, image="counterfactual", of="target")
    assert last["label"].tolist() == ["background", "ear", "eye"] and last["share"].tolist() == [0.5, 0.0, 0.5]
    assert np.isnan(where(table, image="before", of="target")["share"]).all()


def test_the_two_images_beside_the_boundary_are_compared() -> None:
    heat = torch.zeros(1, 4, 2, 2, 2)
    heat[0, 1, 0], heat[0, 2, 0] = torch.tensor([[1.0, 3.0], [0.0, 0.0]]), torch.tensor([[2.0, 2.0], [0.0, 4.0]])
    origin, target = records(around_table(heat))
    assert (origin["before"], origin["after"]) == (3, 4)
    assert origin["moved"] == pytest.approx(0.5) and target["after"] == 0
    assert origin["correlation"] == pytest.approx(np.corrcoef([1, 3, 0, 0], [2, 2, 0, 4])[0, 1])
    assert np.isnan(target["moved"]) and np.isnan(target["correlation"])
