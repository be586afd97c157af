"""What a StyleGAN-XL generator is built from: sizes, factors and gains of every layer, as its checkpoint states them.

The layers of a published network differ in kernel, filters, padding and clamp, and the arguments that the network was
made with are stale in places, so each layer is described by what is stored with it (Sauer et al. 2022; Karras et al.
2021).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from lis.generators.stylegan_xl.records import Node

ACTIVATIONS = ("linear", "lrelu")
MAX_SIZE, MAX_FACTOR, MAX_TAPS = 4096, 8, 256
"""Larger maps (pixels), resampling factors and filters are taken for damage."""
MAX_LAYERS, MAX_WIDTH, MAX_VALUE = 200, 10**6, 10**9
"""More layers, channels and larger gains, too."""
_SMALLEST = 1e-9
BOUNDS: dict[str, tuple[float, float]] = {
    **dict.fromkeys(("in_features", "out_features", "z_dim", "w_dim", "num_ws", "embedding"), (1, MAX_WIDTH)),
    **dict.fromkeys(("channels", "in_channels", "out_channels"), (1, MAX_WIDTH)),
    "c_dim": (0, MAX_WIDTH),
    **dict.fromkeys(("resolution", "size", "in_size", "out_size"), (1, MAX_SIZE)),
    **dict.fromkeys(("in_sampling_rate", "out_sampling_rate"), (1, MAX_SIZE)),
    "sampling_rate": (_SMALLEST, MAX_SIZE),
    "padding": (-MAX_SIZE, MAX_SIZE),
    **dict.fromkeys(("up", "down"), (1, MAX_FACTOR)),
    **dict.fromkeys(("up_taps", "down_taps", "kernel"), (1, MAX_TAPS)),
    "clamp": (_SMALLEST, MAX_VALUE),
    **dict.fromkeys(("weight_gain", "bias_gain", "output_scale", "bandwidth"), (-MAX_VALUE, MAX_VALUE)),
    **dict.fromkeys(("in_cutoff", "out_cutoff", "in_half_width", "out_half_width"), (-MAX_VALUE, MAX_VALUE)),
}
"""Smallest and largest value of every number, and of every number in a pair."""
_NAME = re.compile(r"L\d{1,4}_\d{1,4}_\d{1,6}")
"""Layers are called after their place, size and channels."""


@dataclass(frozen=True)
class LinearSpec:
    """y = act(x · (gain · weight)ᵀ + bias_gain · bias), where `lrelu` has slope 0.2 and is multiplied by √2."""

    in_features: int
    out_features: int
    weight_gain: float
    bias_gain: float
    activation: str = "linear"


@dataclass(frozen=True)
class MappingSpec:
    """From z and a class to w."""

    z_dim: int
    c_dim: int
    """Number of classes; 0 without."""
    w_dim: int
    num_ws: int
    """How many layers are given a w."""
    embedding: tuple[int, int] | None
    """Rows and width of the table of class embeddings; it may be there, unused, without classes."""
    projection: LinearSpec | None
    """From an embedding to what is put beside z; None without classes."""
    layers: tuple[LinearSpec, ...]


@dataclass(frozen=True)
class InputSpec:
    """The Fourier features that the first layer reads."""

    channels: int
    size: int
    """Height and width in pixels, margins included."""
    sampling_rate: float
    """Pixels per unit length: those of the map without its margins."""
    bandwidth: float
    """Highest frequency that is not dampened, in cycles per unit length."""
    affine: LinearSpec


@dataclass(frozen=True)
class LayerSpec:
    """A modulated convolution, a leaky ReLU between two resampling filters, or the layer that gives RGB."""

    name: str
    in_channels: int
    out_channels: int
    in_size: int
    """Height and width in pixels, margins included."""
    out_size: int
    in_sampling_rate: int
    """Pixels per unit length: those of the map without its margins."""
    out_sampling_rate: int
    kernel: int
    up: int
    """Factor by which the map is upsampled before the leaky ReLU."""
    up_taps: int
    """Length of the filter; 1: none is stored."""
    down: int
    down_taps: int
    down_radial: bool
    """The filter after the leaky ReLU is `[taps, taps]` and radially symmetric, not separable."""
    padding: tuple[int, int]
    """Pixels before and after the upsampled map, in both directions; negative ones are cut off."""
    clamp: float | None
    torgb: bool
    """1×1 without demodulation, leaky ReLU or filters."""
    affine: LinearSpec
    in_cutoff: float = 0.0
    """Band limits of the two filters, in cycles per unit length, with their half widths: for the filters' design."""
    out_cutoff: float = 0.0
    in_half_width: float = 0.0
    out_half_width: float = 0.0


@dataclass(frozen=True)
class SynthesisSpec:
    """From ws to an image."""

    resolution: int
    channels: int
    output_scale: float
    input: InputSpec
    layers: tuple[LayerSpec, ...]


@dataclass(frozen=True)
class GeneratorSpec:
    """Everything that a network is built from but its weights.

    Raises:
        ValueError: the parts do not fit together.
    """

    mapping: MappingSpec
    synthesis: SynthesisSpec

    def __post_init__(self) -> None:
        for problem in _problems(self):
            raise ValueError(f"geometry: {problem}")


def geometry(node: Node) -> GeneratorSpec:
    """The geometry of a pickled network, read off its layers' values and the shapes of their tensors.

    Raises:
        ValueError: something is missing, of another type or size than a network can have, or does not fit.
    """
    return GeneratorSpec(_mapping(_child(node, "mapping")), _synthesis(_child(node, "synthesis")))


def _mapping(node: Node) -> MappingSpec:
    table = node.children.get("embed")
    c_dim = _integer(node, "c_dim", 0, 10**6)
    return MappingSpec(
        z_dim=_integer(node, "z_dim"),
        c_dim=c_dim,
        w_dim=_integer(node, "w_dim"),
        num_ws=_integer(node, "num_ws"),
        embedding=None if table is None else _two(_shape(table, "weight", 2)),
        projection=_linear(_child(node, "embed_proj")) if c_dim else None,
        layers=tuple(_linear(_child(node, f"fc{i}")) for i in range(_integer(node, "num_layers", 1, 100))),
    )


def _synthesis(node: Node) -> SynthesisSpec:
    names = node.attributes.get("layer_names")
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names[: MAX_LAYERS + 1]):
        raise ValueError(f"{node.class_name}.layer_names is {names!r:.80}, expected the names of the layers in order")
    if len(names) > MAX_LAYERS:
        raise ValueError(f"{node.class_name}.layer_names are {len(names)}, expected at most {MAX_LAYERS}")
    source = _child(node, "input")
    return SynthesisSpec(
        resolution=_integer(node, "img_resolution", 1, MAX_SIZE),
        channels=_integer(node, "img_channels"),
        output_scale=_number(node, "output_scale"),
        input=InputSpec(
            channels=_integer(source, "channels"),
            size=_size(source, "size"),
            sampling_rate=_number(source, "sampling_rate"),
            bandwidth=_number(source, "bandwidth"),
            affine=_linear(_child(source, "affine")),
        ),
        layers=tuple(_layer(name, _child(node, name)) for name in names),
    )


def _layer(name: str, node: Node) -> LayerSpec:
    out_channels, in_channels, kernel, _ = _shape(node, "weight", 4)
    clamp = node.attributes.get("conv_clamp")
    return LayerSpec(
        name=name,
        in_channels=in_channels,
        out_channels=out_channels,
        in_size=_size(node, "in_size"),
        out_size=_size(node, "out_size"),
        in_sampling_rate=_integer(node, "in_sampling_rate", 1, MAX_SIZE),
        out_sampling_rate=_integer(node, "out_sampling_rate", 1, MAX_SIZE),
        kernel=kernel,
        up=_integer(node, "up_factor", 1, MAX_FACTOR),
        up_taps=_taps(node, "up_filter", 1),
        down=_integer(node, "down_factor", 1, MAX_FACTOR),
        down_taps=_taps(node, "down_filter", 2),
        down_radial="down_filter" in node.buffers and node.buffers["down_filter"].dim() == 2,
        padding=_padding(node),
        clamp=None if clamp is None else _number(node, "conv_clamp"),
        torgb=bool(_integer(node, "is_torgb", 0, 1)),
        affine=_linear(_child(node, "affine")),
        **{name: _number(node, name) for name in ("in_cutoff", "out_cutoff", "in_half_width", "out_half_width")},
    )


def _linear(node: Node) -> LinearSpec:
    out_features, in_features = _shape(node, "weight", 2)
    activation = node.attributes.get("activation")
    gains = _number(node, "weight_gain"), _number(node, "bias_gain")
    return LinearSpec(in_features, out_features, *gains, activation=str(activation))


def _child(node: Node, name: str) -> Node:
    if name not in node.children:
        have = ", ".join(list(node.children)[:8])
        raise ValueError(f"{node.class_name} has no part {name!r} but {have or 'none'}: expected a StyleGAN-XL network")
    return node.children[name]


def _number(node: Node, name: str) -> float:
    value = node.attributes.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{node.class_name}.{name} is {value!r:.80}, expected a number")
    return float(value)


def _integer(node: Node, name: str, low: int = 1, high: int = 10**6) -> int:
    value = node.attributes.get(name)
    if not isinstance(value, int | float) or not low <= value <= high or value != int(value):
        raise ValueError(f"{node.class_name}.{name} is {value!r:.80}, expected a whole number from {low} to {high}")
    return int(value)


def _size(node: Node, name: str) -> int:
    """Height and width of a square map."""
    value: Any = node.attributes.get(name)
    if not _whole(value, 2, 1, MAX_SIZE) or value[0] != value[1]:
        raise ValueError(f"{node.class_name}.{name} is {value!r:.80}, expected a square of 1 to {MAX_SIZE} pixels")
    return int(value[0])


def _padding(node: Node) -> tuple[int, int]:
    value: Any = node.attributes.get("padding")
    if not _whole(value, 4, -MAX_SIZE, MAX_SIZE) or value[:2] != value[2:]:
        raise ValueError(
            f"{node.class_name}.padding is {value!r:.80}, expected [before, after, before, after], the same in both "
            "directions"
        )
    return int(value[0]), int(value[1])


def _whole(value: Any, length: int, low: int, high: int) -> bool:
    return (
        isinstance(value, list | tuple)
        and len(value) == length
        and all(isinstance(v, int | float) and low <= v <= high and v == int(v) for v in value)
    )


def _taps(node: Node, name: str, dimensions: int) -> int:
    """Length of a filter, which may have one dimension or up to that many; 1 where none is stored."""
    if name not in node.buffers:
        return 1
    shape = tuple(node.buffers[name].shape)
    if not 1 <= len(shape) <= dimensions or len(set(shape)) != 1 or not 1 <= shape[0] <= MAX_TAPS:
        raise ValueError(f"{node.class_name}.{name} has shape {list(shape)}, expected [taps], at most {MAX_TAPS}")
    return shape[0]


def _shape(node: Node, name: str, dimensions: int) -> tuple[int, ...]:
    tensor = node.parameters.get(name)
    if tensor is None or tensor.dim() != dimensions or 0 in tensor.shape:
        have = None if tensor is None else list(tensor.shape)
        raise ValueError(f"{node.class_name}.{name} has shape {have}, expected {dimensions} dimensions")
    return tuple(tensor.shape)


def _two(values: tuple[int, ...]) -> tuple[int, int]:
    return values[0], values[1]


def _out_of_bounds(spec: Any, where: str) -> Iterator[str]:
    """Every number outside of `BOUNDS` in a part, and every unknown activation."""
    for field in fields(spec):
        value, name = getattr(spec, field.name), f"{where}.{field.name}"
        low, high = BOUNDS.get(field.name, (-math.inf, math.inf))
        for item in value if isinstance(value, tuple) else (value,):
            if is_dataclass(item):
                yield from _out_of_bounds(item, getattr(item, "name", name))
            elif isinstance(item, int | float) and not low <= item <= high:
                yield f"{name} is {value!r:.80}, expected {low:g} to {high:g}"
    if isinstance(spec, LinearSpec) and spec.activation not in ACTIVATIONS:
        yield f"{where}.activation is {spec.activation!r:.80}; activations may be {', '.join(ACTIVATIONS)}"


def _problems(spec: GeneratorSpec) -> Iterator[str]:
    if max(len(spec.mapping.layers), len(spec.synthesis.layers)) > MAX_LAYERS:
        yield f"more than {MAX_LAYERS} layers"
    yield from _out_of_bounds(spec.mapping, "mapping")
    yield from _out_of_bounds(spec.synthesis, "synthesis")
    yield from _problems_of_mapping(spec.mapping)
    source, layers = spec.synthesis.input, spec.synthesis.layers
    if spec.mapping.num_ws != len(layers) + 1:
        yield f"{spec.mapping.num_ws} ws for an input and {len(layers)} layers"
    if len({layer.name for layer in layers}) != len(layers) or any(not _NAME.fullmatch(layer.name) for layer in layers):
        yield f"the layers are called {[layer.name for layer in layers]!r:.200}, expected names such as L0_36_1024"
    size, channels, rate = source.size, source.channels, source.sampling_rate
    if rate / 2 == source.bandwidth:
        yield f"the input has {size} pixels at {rate} per unit with bandwidth {source.bandwidth}"
    if (source.affine.in_features, source.affine.out_features) != (spec.mapping.w_dim, 4):
        yield f"the input's transform is made by {source.affine}, expected {spec.mapping.w_dim} → 4"
    for layer in layers:
        if (layer.in_size, layer.in_channels) != (size, channels):
            yield (
                f"{layer.name} reads {layer.in_channels} channels of {layer.in_size} pixels and is given {channels} of "
                f"{size}"
            )
        yield from _problems_of_layer(layer, spec.mapping.w_dim)
        size, channels = layer.out_size, layer.out_channels
    if (size, channels) != (spec.synthesis.resolution, spec.synthesis.channels):
        yield f"the last layer gives {channels} channels of {size} pixels, expected an image"


def _problems_of_mapping(spec: MappingSpec) -> Iterator[str]:
    width = spec.z_dim
    if spec.c_dim:
        if spec.projection is None or spec.embedding is None:
            yield f"{spec.c_dim} classes and no embedding of them"
            return
        if spec.embedding != (spec.c_dim, spec.projection.in_features):
            yield f"embeddings {list(spec.embedding)} for {spec.c_dim} classes, projected by {spec.projection}"
        width += spec.projection.out_features
    for layer in spec.layers:
        if layer.in_features != width:
            yield f"{layer} is given {width} numbers"
        width = layer.out_features
    if width != spec.w_dim:
        yield f"the last layer of the mapping gives {width} numbers, expected w_dim = {spec.w_dim}"


def _problems_of_layer(spec: LayerSpec, w_dim: int) -> Iterator[str]:
    if (spec.affine.in_features, spec.affine.out_features) != (w_dim, spec.in_channels):
        yield f"the styles of {spec.name} are made by {spec.affine}, expected {w_dim} → {spec.in_channels}"
    between = (spec.in_size + spec.kernel - 1) * spec.up + sum(spec.padding) - spec.up_taps + 1
    gives = (between - spec.down_taps) // spec.down + 1
    if gives != spec.out_size:
        yield f"{spec.name} gives {gives} pixels with its padding {list(spec.padding)}, expected {spec.out_size}"
