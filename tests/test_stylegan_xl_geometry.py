"""Geometry: what checkpoints say against the reference's table, the published layouts, and what does not fit."""

from __future__ import annotations

import dataclasses
import json
import re
from dataclasses import asdict
from typing import Any

import pytest
import torch
from helpers.pickled import FORMS, NAMES, packed
from helpers.stylegan_xl_fixtures import UNTRANSFORMED, described, state

from lis.generators.stylegan_xl import GeneratorSpec, StyleGANXL, geometry, imagenet, imagenet256
from lis.generators.stylegan_xl.checkpoint import read_pickle, typed
from lis.generators.stylegan_xl.published import Stage, Widths, design, mapping_of, stack
from lis.generators.stylegan_xl.records import Node

HEAD = {"kernel": 3, "radial": False}
STAGES = {
    "t_stem16_c10": [Stage(16, 6, **HEAD)],
    "t_super32_c10": [Stage(16, 6, **HEAD), Stage(32, 5, **HEAD)],
    "mixed_super64_c10": [Stage(16, 6, kernel=1, radial=True), Stage(32, 5, **HEAD), Stage(64, 4, **HEAD)],
    "r_stem32_uncond": [Stage(32, 7, kernel=1, radial=True)],
}
SIZES_256 = [(0, 36, 8), (9, 36, 1), (10, 52, 5), (15, 84, 5), (20, 148, 5), (25, 276, 5), (30, 256, 2)]
"""First index, size and number of layers."""
CHANNELS_256 = [1024] * 20 + [861, 724, 609, 609, 512, 431, 362, 304, 256, 256, 3]


@pytest.fixture
def node(tmp_path):
    def read(name: str, form: str = "") -> Node:
        path = tmp_path / "network.pkl"
        path.write_bytes(packed(name + form))
        return read_pickle(path)

    return read


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", NAMES)
def test_a_checkpoint_states_the_geometry_of_the_reference(name: str, form: str, node: Any) -> None:
    assert geometry(node(name, form)) == described(name)


@pytest.mark.parametrize("name", UNTRANSFORMED)
def test_the_stage_rule_gives_every_number_of_the_reference(name: str) -> None:
    spec = described(name)
    base = Widths(160, 10) if "uncond" in name else Widths(128, 12)
    assert stack(STAGES[name], base, 32) == spec.synthesis
    assert mapping_of(16, spec.mapping.c_dim, 32, spec.mapping.num_ws, (10, 24)) == spec.mapping


@pytest.mark.parametrize("name", UNTRANSFORMED)
def test_filters_are_designed_as_they_are_stored(name: str) -> None:
    for layer in described(name).synthesis.layers[:-1]:
        rate = layer.in_sampling_rate * layer.up
        up = design(layer.up_taps, layer.in_cutoff, layer.in_half_width, rate, radial=False)
        down = design(layer.down_taps, layer.out_cutoff, layer.out_half_width, rate, radial=layer.down_radial)
        for taps, kind in ((up, "up_filter"), (down, "down_filter")):
            torch.testing.assert_close(taps, state(name)[f"synthesis.{layer.name}.{kind}"], rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("resolution", "num_ws", "millions"),
    [(16, 12, None), (32, 17, None), (64, 22, 134.41), (128, 27, 158.74), (256, 32, 166.27), (512, 37, 168.36)]
    + [(1024, 42, None)],
)
def test_the_published_sizes(resolution: int, num_ws: int, millions: float | None) -> None:
    generator = StyleGANXL(imagenet(resolution))
    assert (generator.num_ws, generator.resolution, generator.num_classes) == (num_ws, resolution, 1000)
    assert (generator.z_dim, generator.w_dim) == (64, 512)
    if millions:
        assert round(sum(p.numel() for p in generator.parameters()) / 1e6, 2) == millions


def test_the_layers_of_the_published_256_pixel_network() -> None:
    spec = imagenet256()
    places = [(first + i, size) for first, size, count in SIZES_256 for i in range(count)]
    names = [f"L{i}_{size}_{channels}" for (i, size), channels in zip(places, CHANNELS_256, strict=True)]
    assert [layer.name for layer in spec.synthesis.layers] == names
    assert [layer.kernel for layer in spec.synthesis.layers] == [1] * 8 + [3] * 22 + [1]
    assert [layer.down_radial for layer in spec.synthesis.layers] == [True] * 8 + [False] * 23
    sizes = [(layer.in_size + layer.kernel - 1, layer) for layer in spec.synthesis.layers]
    products = sum(size**2 * layer.in_channels * layer.out_channels * layer.kernel**2 for size, layer in sizes)
    assert round(products / 1e9) == 1495


def test_a_size_that_was_not_published_is_refused() -> None:
    with pytest.raises(ValueError, match="at 100 pixels: expected one of"):
        imagenet(100)


@pytest.mark.parametrize("spec", [described("mixed_super64_c10"), described("r_stem32_uncond"), imagenet256()])
def test_it_survives_json(spec: GeneratorSpec) -> None:
    assert typed(GeneratorSpec, json.loads(json.dumps(asdict(spec))), "geometry") == spec


def broken_json(values: dict[str, Any], *path: Any) -> dict[str, Any]:
    """The values with the one at a path replaced by the path's last item, or left out where that is `...`."""
    values = json.loads(json.dumps(values))
    *way, key, new = path
    place = values
    for step in way:
        place = place[step]
    place[key] = new
    if new is ...:
        del place[key]
    return values


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (("mapping", 3), "geometry.mapping is 3, expected the keys z_dim"),
        (("mapping", "z_dim", "16"), "geometry.mapping.z_dim is '16', expected int"),
        (("mapping", "z_dim", True), "expected int"),
        (("mapping", "z_dim", ...), "expected the keys z_dim"),
        (("mapping", "more", 1), "expected the keys z_dim"),
        (("mapping", "embedding", [1, 2, 3]), "expected a list of 2"),
        (("mapping", "layers", {}), "expected a list"),
        (("mapping", "num_ws", 7), "7 ws for an input and 7 layers"),
        (("mapping", "z_dim", 17), "given 33 numbers"),
        (("mapping", "w_dim", 33), "expected w_dim = 33"),
        (("mapping", "embedding", None), "no embedding"),
        (("mapping", "embedding", [9, 24]), r"embeddings \[9, 24\] for 10 classes"),
        (("mapping", "layers", 0, "activation", "exp"), "activations may be linear, lrelu"),
        (("synthesis", "output_scale", float("nan")), "output_scale is nan, expected float"),
        (("synthesis", "resolution", 17), "the last layer gives 3 channels of 16 pixels"),
        (("synthesis", "input", "bandwidth", 8.0), "bandwidth 8.0"),
        (("synthesis", "input", "size", 35), "L0_36_12 reads 12 channels of 36 pixels and is given 12 of 35"),
        (("synthesis", "input", "affine", "out_features", 5), "expected 32 → 4"),
        (("synthesis", "layers", 0, "name", "forward"), "expected names such as L0_36_1024"),
        (("synthesis", "layers", 1, "name", "L0_36_12"), "expected names such as"),
        (("synthesis", "layers", 0, "padding", [9, 10]), "L0_36_12 gives 37 pixels"),
        (("synthesis", "layers", 0, "up", 10**9), "L0_36_12.up is 1000000000, expected 1 to 8"),
        (("synthesis", "layers", 0, "down", 0), "expected 1 to 8"),
        (("synthesis", "layers", 0, "affine", "out_features", 11), "expected 32 → 12"),
    ],
)
def test_geometry_that_does_not_fit_is_refused(path: tuple[Any, ...], message: str) -> None:
    values = asdict(described("t_stem16_c10"))
    with pytest.raises(ValueError, match=message):
        typed(GeneratorSpec, broken_json(values, *path), "geometry")


def changed(node: Node, path: str, **attributes: Any) -> Node:
    """A network with other attributes of one part."""
    if not path:
        return dataclasses.replace(node, attributes=node.attributes | attributes)
    name, _, rest = path.partition(".")
    return dataclasses.replace(node, children=node.children | {name: changed(node.children[name], rest, **attributes)})


@pytest.mark.parametrize(
    ("path", "attributes", "message"),
    [
        ("mapping", {"z_dim": "16"}, "z_dim is '16', expected a whole number"),
        ("mapping", {"num_layers": 3}, "no part 'fc2'"),
        ("mapping", {"c_dim": -1}, "c_dim is -1"),
        ("mapping.fc0", {"weight_gain": None}, "weight_gain is None, expected a number"),
        ("mapping.fc0", {"activation": [1]}, "activations may be"),
        ("synthesis", {"layer_names": "L0"}, "layer_names is 'L0', expected the names"),
        ("synthesis", {"layer_names": ["L0_36_12", "L77_1_1"]}, "no part 'L77_1_1'"),
        ("synthesis", {"img_resolution": 1e9}, "img_resolution is 1000000000.0"),
        ("synthesis", {"output_scale": float("inf")}, "output_scale is inf"),
        ("synthesis.input", {"size": [36, 35]}, r"size is \[36, 35\], expected a square"),
        ("synthesis.input", {"size": 36}, "size is 36, expected a square"),
        ("synthesis.L0_36_12", {"padding": [9, 8, 8, 9]}, "the same in both directions"),
        ("synthesis.L0_36_12", {"padding": [9, 8]}, "padding is"),
        ("synthesis.L0_36_12", {"conv_clamp": "a"}, "conv_clamp is 'a'"),
        ("synthesis.L0_36_12", {"up_factor": 2.5}, "up_factor is 2.5"),
        ("synthesis.L0_36_12", {"is_torgb": None}, "is_torgb is None"),
    ],
)
def test_a_network_that_says_nonsense_is_refused(
    path: str, attributes: dict[str, Any], message: str, node: Any
) -> None:
    with pytest.raises(ValueError, match=message):
        geometry(changed(node("t_stem16_c10"), path, **attributes))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("weight", None, r"weight has shape None, expected 4 dimensions"),
        ("weight", torch.zeros(3, 4), r"weight has shape \[3, 4\]"),
        ("weight", torch.zeros(12, 0, 3, 3), r"weight has shape \[12, 0, 3, 3\]"),
    ],
)
def test_a_network_with_odd_tensors_is_refused(key: str, value: Any, message: str, node: Any) -> None:
    network = node("t_stem16_c10")
    layer = network.children["synthesis"].children["L0_36_12"]
    layer.parameters.pop(key)
    if value is not None:
        layer.parameters[key] = value
    with pytest.raises(ValueError, match=message):
        geometry(network)


@pytest.mark.parametrize("shape", [(12, 11), (2, 2, 2), (300,), (0,)])
def test_odd_filters_are_refused(shape: tuple[int, ...], node: Any) -> None:
    network = node("t_stem16_c10")
    network.children["synthesis"].children["L0_36_12"].buffers["down_filter"] = torch.zeros(shape)
    with pytest.raises(ValueError, match=re.escape(f"down_filter has shape {list(shape)}")):
        geometry(network)


def test_no_clamp_and_another_kernel_are_read(node: Any) -> None:
    network = changed(node("t_stem16_c10"), "synthesis.L0_36_12", conv_clamp=None)
    assert geometry(network).synthesis.layers[0].clamp is None
    assert geometry(node("mixed_super64_c10")).synthesis.layers[0].kernel == 1
