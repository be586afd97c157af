"""The RGB part network: its shapes, its independence of the batch, and how its parts are scored."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from lis.generators.partworld import part_network
from lis.generators.partworld.part_network import PartUNet, load_part_network, part_index, part_iou
from lis.generators.partworld.world import world

LABELS = world("dogs").figures.labels


@pytest.fixture
def network() -> PartUNet:
    torch.manual_seed(0)
    return PartUNet(LABELS).eval()


def _images(count: int) -> torch.Tensor:
    return torch.rand(count, 3, 64, 64, generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_logits_are_those_of_every_pixel_and_label(network):
    image = _images(2)
    logits = network(image)
    assert logits.shape == (2, 1 + len(LABELS), 64, 64)
    torch.testing.assert_close(network.segment(image), logits.argmax(1), rtol=0, atol=0)


@torch.no_grad()
def test_bits_of_an_image_depend_on_no_batch(network):
    image = _images(7)
    alone = torch.cat([network(one[None]) for one in image])
    torch.testing.assert_close(network(image), alone, rtol=0, atol=0)


def test_other_sizes_are_refused(network):
    with pytest.raises(ValueError, match=r"\(1, 3, 32, 32\); resize them to 64 px"):
        network(torch.zeros(1, 3, 32, 32))


def test_weights_in_half_precision_are_loaded(network, tmp_path, monkeypatch):
    monkeypatch.setattr(part_network, "WEIGHTS", tmp_path)
    state = {k: v.half() if v.is_floating_point() else v for k, v in network.state_dict().items()}
    save_file(state, tmp_path / "parts_dogs.safetensors")
    assert (tmp_path / "parts_dogs.safetensors").stat().st_size < 250_000
    loaded = load_part_network("dogs")
    assert not loaded.training and loaded.labels == LABELS
    for name, value in loaded.state_dict().items():
        torch.testing.assert_close(value, state[name].to(value.dtype), rtol=0, atol=0)


def test_missing_weights_name_the_command_that_trains_them(tmp_path, monkeypatch):
    monkeypatch.setattr(part_network, "WEIGHTS", tmp_path)
    with pytest.raises(ValueError, match=r"parts of birds.*train_parts\.py birds"):
        load_part_network("birds")


def test_part_index_is_the_largest_share_with_the_rest_as_background():
    shares = torch.tensor([[0.2, 0.7, 0.4], [0.1, 0.2, 0.5]]).view(1, 2, 1, 3)
    assert part_index(shares).flatten().tolist() == [0, 1, 2]


def test_iou_equals_counting_set_by_set():
    rng = torch.Generator().manual_seed(2)
    predicted, true = (torch.randint(0, 3, (4, 8, 8), generator=rng) for _ in range(2))
    iou = part_iou(predicted, true, labels=3)
    for k in range(3):
        a, b = predicted == k, true == k
        assert iou[k].item() == pytest.approx((a & b).sum().item() / (a | b).sum().item())
    assert iou[3].isnan()
