"""The five small networks in tests/data, and what the reference program says and makes of them."""

from __future__ import annotations

import json
import math
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from helpers.pickled import DATA, NAMES
from lis.generators.stylegan_xl import GeneratorSpec, StyleGANXL
from lis.generators.stylegan_xl.geometry import InputSpec, LayerSpec, LinearSpec, MappingSpec, SynthesisSpec

TOLERANCE = 2e-5
"""Largest difference from the reference."""
UNTRANSFORMED = tuple(name for name in NAMES if not name.endswith("xform"))


@lru_cache
def state(name: str) -> dict[str, Tensor]:
    """Weights and buffers under the reference's names."""
    return _arrays(f"{name}.state.npz")


@lru_cache
def recorded(name: str) -> dict[str, Tensor]:
    """Inputs and outputs of the reference."""
    return _arrays(f"{name}.io.npz")


def generator(name: str, compile: str = "off", **settings: Any) -> StyleGANXL:
    """The network, built from what the reference says of its layers."""
    result = StyleGANXL(described(name), compile=compile, **settings).load(state(name))
    if "transform" in recorded(name):
        result.transform(recorded(name)["transform"])
    return result


def classes(name: str) -> Tensor | None:
    """The classes of the recorded samples; None for the network without."""
    return None if "uncond" in name else recorded(name)["class_idx"]


def described(name: str) -> GeneratorSpec:
    """The geometry, from the reference's own table of it."""
    table = json.loads((DATA / f"{name}.json").read_text())
    tensors = state(name)
    z_dim, c_dim, w_dim = table["z_dim"], table["c_dim"], table["w_dim"]
    rows, width = tensors["mapping.embed.weight"].shape
    concatenated = tensors["mapping.fc0.weight"].shape[1]
    mapping = MappingSpec(
        z_dim,
        c_dim,
        w_dim,
        table["num_ws"],
        (rows, width),
        _linear(width, concatenated - z_dim, activation="lrelu") if c_dim else None,
        (_linear(concatenated, w_dim, 0.01, "lrelu"), _linear(w_dim, w_dim, 0.01, "lrelu")),
    )
    first, *rest = table["layers"]
    size, rate, band = first["size"][0], first["sampling_rate"], first["bandwidth"]
    source = InputSpec(first["channels"], size, rate, band, _linear(w_dim, 4))
    layers = tuple(_layer(values, w_dim) for values in rest)
    resolution, channels, scale = (table[key] for key in ("img_resolution", "img_channels", "output_scale"))
    return GeneratorSpec(mapping, SynthesisSpec(resolution, channels, scale, source, layers))


def _layer(values: dict[str, Any], w_dim: int) -> LayerSpec:
    renamed = {"kernel": "conv_kernel", "up": "up_factor", "down": "down_factor", "torgb": "is_torgb"}
    same = ("name", "in_channels", "out_channels", "in_sampling_rate", "out_sampling_rate", "up_taps", "down_taps")
    same += ("down_radial", "in_cutoff", "out_cutoff", "in_half_width", "out_half_width")
    taken = {key: values[renamed.get(key, key)] for key in (*same, *renamed)}
    return LayerSpec(
        **taken,
        in_size=values["in_size"][0],
        out_size=values["out_size"][0],
        padding=(values["padding"][0], values["padding"][1]),
        clamp=float(values["conv_clamp"]),
        affine=_linear(w_dim, values["in_channels"]),
    )


def _linear(in_features: int, out_features: int, rate: float = 1.0, activation: str = "linear") -> LinearSpec:
    return LinearSpec(in_features, out_features, rate / math.sqrt(in_features), rate, activation)


def _arrays(file: str) -> dict[str, Tensor]:
    with np.load(DATA / file) as arrays:
        return {key: torch.from_numpy(arrays[key]) for key in arrays.files}
