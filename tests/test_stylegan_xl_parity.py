"""StyleGAN-XL against the arrays that the reference program gave: every output within 2e-5."""

from __future__ import annotations

import pytest
import torch
from helpers.pickled import NAMES
from helpers.stylegan_xl_fixtures import TOLERANCE, UNTRANSFORMED, classes, generator, recorded

W = {"w_psi1": {}, "w_psi07": {"truncation": 0.7}, "w_psi07_cut4": {"truncation": 0.7, "cutoff": 4}}
IMAGES = {"img_psi1": "w_psi1", "img_psi07": "w_psi07", "img_wplus": "wplus"}


def near(found: torch.Tensor, expected: torch.Tensor) -> bool:
    return found.shape == expected.shape and float((found - expected).abs().max()) <= TOLERANCE


@pytest.mark.parametrize("variant", W)
@pytest.mark.parametrize("name", NAMES)
def test_mapping(name, variant):
    io = recorded(name)
    if variant not in io:
        pytest.skip("not recorded for this network")
    assert near(generator(name).mapping(io["z"], classes(name), **W[variant]), io[variant])


@pytest.mark.parametrize("variant", IMAGES)
@pytest.mark.parametrize("name", NAMES)
def test_images(name, variant):
    io = recorded(name)
    if variant not in io:
        pytest.skip("not recorded for this network")
    ws = io.get(IMAGES[variant])
    assert ws is not None and near(generator(name).synthesis(ws), io[variant])


@pytest.mark.parametrize("name", UNTRANSFORMED)
def test_the_output_of_every_layer(name):
    io = recorded(name)
    _, maps = generator(name).synthesis(io["w_psi1"], features=True)
    wanted = {key.removeprefix("layer:"): value for key, value in io.items() if key.startswith("layer:")}
    assert len(wanted) > 4
    for layer, expected in wanted.items():
        assert near(maps[layer][:1].reshape(expected.shape) if expected.ndim == 4 else maps[layer][0], expected), layer


@pytest.mark.parametrize("name", UNTRANSFORMED)
def test_some_layers_are_those_of_all(name):
    network, ws = generator(name), recorded(name)["w_psi1"]
    image, maps = network.synthesis(ws, features=True)
    chosen = list(maps)[1::2]
    again, some = network.synthesis(ws, features=chosen)
    assert list(some) == chosen and near(again, image)
    assert all(near(some[layer], maps[layer]) for layer in chosen)


@pytest.mark.parametrize("name", UNTRANSFORMED)
def test_seeds(name):
    io, network = recorded(name), generator(name)
    if "seed_w_psi07" not in io:
        pytest.skip("not recorded for this network")
    chosen = 3 if network.num_classes else None
    assert near(network.reference_samples(11, 2, chosen, 0.7), io["seed_w_psi07"])
    if network.num_classes:
        assert near(network.reference_samples(11, 2, None, 0.7), io["seed_w_psi07_randcls"])
    centroids = io.get("centroids")
    assert near(network.reference_samples(11, 2, chosen, 0.7, centroids), io["seed_w_psi07_centroids"])


def test_gradients_reach_w():
    network = generator("t_stem16_c10")
    ws = recorded("t_stem16_c10")["w_psi1"].clone().requires_grad_(True)
    network.synthesis(ws).square().mean().backward()
    assert ws.grad is not None and bool((ws.grad.abs().sum((0, 2)) > 0).all())
