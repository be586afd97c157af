"""Steps in pixels: they end where they should, and what is told of them is what a plain loop finds."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from lis.boundary.adversarial import AdversarialConfig, attack, difference
from lis.classifiers.partnet import PartNet
from lis.generators.partworld import PartWorld
from lis.streams import Stream

STEPS = AdversarialConfig(samples=None, step=0.01, max_steps=200)


def linear(image: torch.Tensor) -> torch.Tensor:
    """Two classes: the logit of the second is the sum of the red channel."""
    red = image[:, 0].sum((1, 2))
    return torch.stack([torch.zeros_like(red), red], 1)


def test_of_a_linear_model_only_what_it_reads_is_moved_and_just_far_enough() -> None:
    image = torch.zeros(2, 3, 4, 4)
    goal = torch.tensor([0.9, 0.6])
    found = attack(linear, image, torch.tensor([1, 1]), goal, STEPS)
    torch.testing.assert_close(found.probability, goal, atol=1e-4, rtol=0)
    needed = torch.logit(goal) / 16  # of every red pixel
    torch.testing.assert_close(found.image[:, 0], needed[:, None, None].expand(2, 4, 4), atol=1e-4, rtol=0)
    assert not found.image[:, 1:].any() and found.reached.all()
    # A step has a root mean square of 0.01 over all pixels: 0.01 √3 in the red ones.
    assert found.steps.tolist() == [int(-(-x // (0.01 * 3**0.5))) for x in needed.tolist()]


def test_what_is_there_already_stays_and_what_cannot_be_reached_is_told() -> None:
    image = torch.zeros(3, 3, 4, 4)
    goal = torch.tensor([0.4, 0.99999999, 0.7])
    found = attack(linear, image, torch.tensor([1, 1, 1]), goal, replace(STEPS, max_steps=3))
    assert found.reached.tolist() == [True, False, False] and found.steps.tolist() == [0, 3, 3]
    assert not found.image[0].any() and found.image[1].any()
    assert not image.any()


def test_images_stay_images() -> None:
    steps = replace(STEPS, step=0.1, max_steps=5)
    found = attack(linear, torch.full((1, 3, 2, 2), 0.95), torch.tensor([1]), torch.tensor([0.999]), steps)
    assert found.image.max() == 1 and not found.reached.any()


def test_small_changes_turn_a_network() -> None:
    model, world = PartNet(), PartWorld(["pug"])
    with torch.inference_mode():
        image = world.synthesize(world.sample(1, torch.arange(3), Stream("test pairs")))
    goal = torch.full((3,), 0.8)
    found = attack(lambda x: model.head(model.features(x)), image, torch.full((3,), 2), goal, STEPS)
    assert found.reached.all()
    torch.testing.assert_close(found.probability, goal, atol=0.01, rtol=0)
    alone = attack(lambda x: model.head(model.features(x)), image[1:2], torch.tensor([2]), goal[:1], STEPS)
    torch.testing.assert_close(alone.image[0], found.image[1], atol=1e-3, rtol=0)


def test_differences_against_loops() -> None:
    draw = torch.Generator().manual_seed(0)
    first, last = (torch.rand(2, 3, 8, 8, generator=draw) for _ in range(2))
    found = difference(first, last)
    for k in range(2):
        moved = [(float(b) - float(a)) for a, b in zip(first[k].flatten(), last[k].flatten(), strict=True)]
        assert float(found["mse"][k]) == pytest.approx(sum(x * x for x in moved) / len(moved), rel=1e-5)
        assert float(found["largest"][k]) == pytest.approx(max(map(abs, moved)), rel=1e-5)
        blocks = (last[k] - first[k]).unflatten(1, (2, 4)).unflatten(3, (2, 4)).mean((2, 4))
        assert float(found["coarse"][k]) == pytest.approx(
            float(blocks.square().mean()) / float(found["mse"][k]), rel=1e-4
        )
    assert difference(first, first)["coarse"].isnan().all()


def test_noise_is_fine_and_a_patch_is_coarse() -> None:
    image = torch.zeros(1, 3, 16, 16)
    noise = 0.1 * torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    patch = image.clone()
    patch[..., 4:12, 4:12] = 0.5
    assert float(difference(image, noise)["coarse"]) < 0.1
    assert float(difference(image, patch)["coarse"]) == pytest.approx(1)
