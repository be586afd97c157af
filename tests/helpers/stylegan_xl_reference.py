"""StyleGAN-XL written plainly from the definitions, slow: zero insertion, grouped convolution, weights per sample."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from lis.generators.stylegan_xl.geometry import GeneratorSpec, InputSpec, LayerSpec

Weights = Mapping[str, Tensor]


def map_to_ws(spec: GeneratorSpec, weights: Weights, z: Tensor, class_index: Tensor | None = None) -> Tensor:
    """ws `[n, num_ws, w_dim]`, not truncated."""
    x = normalize(z.float())
    if spec.mapping.c_dim:
        row = weights["mapping.embed.weight"][class_index]
        proj = "mapping.embed_proj"
        y = row @ (weights[f"{proj}.weight"] / math.sqrt(row.shape[1])).T + weights[f"{proj}.bias"]
        x = torch.cat([x, normalize(lrelu(y))], dim=1)
    for i in range(len(spec.mapping.layers)):
        weight = weights[f"mapping.fc{i}.weight"] * 0.01 / math.sqrt(x.shape[1])
        x = lrelu(x @ weight.T + weights[f"mapping.fc{i}.bias"] * 0.01)
    return x[:, None].repeat(1, spec.mapping.num_ws, 1)


def synthesize(spec: GeneratorSpec, weights: Weights, ws: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Image and each layer's map, margins included."""
    maps = dict(layers(spec, weights, ws))
    return maps[spec.synthesis.layers[-1].name] * spec.synthesis.output_scale, maps


def image(spec: GeneratorSpec, weights: Weights, ws: Tensor) -> Tensor:
    """The image alone; no map is kept longer than it is needed."""
    last = deque(layers(spec, weights, ws), maxlen=1)
    return last[0][1] * spec.synthesis.output_scale


def layers(spec: GeneratorSpec, weights: Weights, ws: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Each layer's name and map, the input's first."""
    x = fourier_features(spec.synthesis.input, weights, ws[:, 0])
    yield "input", x
    for i, layer in enumerate(spec.synthesis.layers):
        own = {name.split(".", 2)[2]: v for name, v in weights.items() if name.startswith(f"synthesis.{layer.name}.")}
        x = run_layer(layer, own, x, ws[:, i + 1])
        yield layer.name, x


def fourier_features(spec: InputSpec, weights: Weights, w: Tensor) -> Tensor:
    """The learned features, one sample and one pixel row at a time, in float64: angles may be hundreds of turns."""
    name = "synthesis.input."
    weights, dtype, w = (
        {key: value.double() for key, value in weights.items() if key.startswith(name)},
        w.dtype,
        w.double(),
    )
    affine = w @ (weights[f"{name}affine.weight"] / math.sqrt(w.shape[1])).T + weights[f"{name}affine.bias"]
    weight, phases, user = (weights[name + key] for key in ("weight", "phases", "transform"))
    images = []
    for t in affine:
        r_c, r_s, t_x, t_y = t / t[:2].norm()
        one, zero = torch.ones_like(t_x), torch.zeros_like(t_x)
        rotation = torch.stack([r_c, -r_s, zero, r_s, r_c, zero, zero, zero, one]).view(3, 3)
        shift = torch.stack([one, zero, -t_x, zero, one, -t_y, zero, zero, one]).view(3, 3)
        matrix = rotation @ shift @ user
        freqs = weights[f"{name}freqs"] @ matrix[:2, :2]
        phase = phases + weights[f"{name}freqs"] @ matrix[:2, 2]
        beyond = (freqs.norm(dim=1) - spec.bandwidth) / (spec.sampling_rate / 2 - spec.bandwidth)
        amplitude = (1 - beyond).clamp(0, 1)
        position = (torch.arange(spec.size).double() + 0.5 - spec.size / 2) / spec.sampling_rate
        rows = []
        for y in position:
            angle = position[:, None] * freqs[:, 0] + y * freqs[:, 1] + phase
            rows.append((torch.sin(2 * math.pi * angle) * amplitude) @ weight.T / math.sqrt(spec.channels))
        images.append(torch.stack(rows).permute(2, 0, 1))
    return torch.stack(images).to(dtype)


def run_layer(spec: LayerSpec, weights: Weights, x: Tensor, w: Tensor) -> Tensor:
    """One layer."""
    style = w @ (weights["affine.weight"] / math.sqrt(w.shape[1])).T + weights["affine.bias"]
    weight = weights["weight"]
    if spec.torgb:
        style = style / math.sqrt(spec.in_channels * spec.kernel**2)
    else:
        weight = weight / weight.square().mean((1, 2, 3), keepdim=True).sqrt()
        style = style / style.square().mean().sqrt()
    x = modulated_convolution(x, weight, style, demodulate=not spec.torgb, padding=spec.kernel - 1)
    x = x * weights["magnitude_ema"].rsqrt() + weights["bias"].view(1, -1, 1, 1)
    x = upsample(x, weights.get("up_filter"), spec.up, spec.padding)
    x = x if spec.torgb else lrelu(x)
    x = x if spec.clamp is None else x.clamp(-spec.clamp, spec.clamp)
    return downsample(x, weights.get("down_filter"), spec.down)


def modulated_convolution(x: Tensor, weight: Tensor, style: Tensor, demodulate: bool, padding: int) -> Tensor:
    """A convolution with weights `[out, in, k, k]` scaled per sample by style `[n, in]` (Karras et al. 2020)."""
    n, _, height, width = x.shape
    modulated = weight[None] * style[:, None, :, None, None]
    if demodulate:
        modulated = modulated * (modulated.square().sum((2, 3, 4), keepdim=True) + 1e-8).rsqrt()
    x = F.conv2d(x.reshape(1, -1, height, width), modulated.flatten(0, 1), padding=padding, groups=n)
    return x.view(n, len(weight), *x.shape[2:])


def upsample(x: Tensor, taps: Tensor | None, factor: int, padding: tuple[int, int]) -> Tensor:
    """Zeros between the pixels, padding (or cropping), convolution, times factor²."""
    n, channels, height, width = x.shape
    zeros = x.new_zeros(n, channels, height, factor, width, factor)
    zeros[:, :, :, 0, :, 0] = x
    x = F.pad(zeros.view(n, channels, height * factor, width * factor), padding * 2)
    return convolve(x, taps) * factor**2


def downsample(x: Tensor, taps: Tensor | None, factor: int) -> Tensor:
    """Convolution, then every factor-th pixel."""
    return convolve(x, taps)[:, :, ::factor, ::factor]


def convolve(x: Tensor, taps: Tensor | None) -> Tensor:
    """Each channel convolved (not correlated) with the filter, without padding."""
    if taps is None:
        return x
    groups = x.shape[1]
    if taps.dim() == 2:
        return F.conv2d(x, taps.flip(0, 1).expand(groups, 1, -1, -1), groups=groups)
    column = taps.flip(0).view(1, 1, -1, 1).expand(groups, 1, -1, -1)
    return F.conv2d(F.conv2d(x, column, groups=groups), column.transpose(2, 3), groups=groups)


def normalize(x: Tensor) -> Tensor:
    """x `[n, width]` divided by its rms."""
    return x / (x.square().mean(1, keepdim=True) + 1e-8).sqrt()


def lrelu(x: Tensor) -> Tensor:
    """Leaky ReLU of slope 0.2, times √2."""
    return F.leaky_relu(x, 0.2) * math.sqrt(2)
