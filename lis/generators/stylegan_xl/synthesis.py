"""From style codes to an image: Fourier features, modulated convolutions, filtered leaky ReLUs (Karras et al. 2021)."""

from __future__ import annotations

import math
from collections.abc import Collection
from functools import lru_cache
from types import MappingProxyType
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lis.costs import Cost, Meter
from lis.fingerprint import version
from lis.generators.layers import edited_map, requested_layers
from lis.generators.stylegan_xl import winograd
from lis.generators.stylegan_xl.geometry import InputSpec, LayerSpec, SynthesisSpec
from lis.generators.stylegan_xl.mapping import GAIN, SLOPE, Linear
from lis.generators.stylegan_xl.resampling import MODES, Resampling, resample, usable
from lis.memory import Batches, budget
from lis.precision import TF32, tf32
from lis.types import Edits, Images, Layers

DTYPES = {"float32": torch.float32, TF32: torch.float32, "bf16": torch.bfloat16}
"""What the convolutions may compute in, and the type of their numbers."""
_EPSILON = 1e-8
"""Keeps demodulation finite."""


class Input(nn.Module):
    """Fourier features that the first w rotates and shifts, and `transform` after it."""

    transform: Tensor
    freqs: Tensor
    phases: Tensor

    def __init__(self, spec: InputSpec) -> None:
        super().__init__()
        self.spec = spec
        self.weight = nn.Parameter(torch.empty(spec.channels, spec.channels))
        self.affine = Linear(spec.affine)
        for name, shape in {"transform": (3, 3), "freqs": (spec.channels, 2), "phases": (spec.channels,)}.items():
            self.register_buffer(name, torch.empty(shape))

    def forward(self, w: Tensor) -> Tensor:
        """Maps `[n, channels, size, size]` of w `[n, w_dim]`."""
        matrix = self._matrices(w)
        freqs = self.freqs.double() @ matrix[:, :2, :2]
        turns = self.phases.double() + (self.freqs.double() @ matrix[:, :2, 2:]).squeeze(2)
        room = self.spec.sampling_rate / 2 - self.spec.bandwidth
        amplitude = (1 - (freqs.norm(dim=2) - self.spec.bandwidth) / room).clamp(0, 1)
        x = self._waves(freqs.to(w), turns.frac().to(w)) * amplitude.to(w)[:, None, None]
        return (x @ (self.weight.T / math.sqrt(self.spec.channels))).permute(0, 3, 1, 2)

    def _matrices(self, w: Tensor) -> Tensor:
        """Rotation · translation · user transform `[n, 3, 3]`, in float64: shifts may be hundreds of units."""
        affine = self.affine(w.double())
        r_c, r_s, t_x, t_y = (affine / affine[:, :2].norm(dim=1, keepdim=True)).T
        one, zero = torch.ones_like(r_c), torch.zeros_like(r_c)
        rotation = torch.stack([r_c, -r_s, zero, r_s, r_c, zero, zero, zero, one], dim=1).view(-1, 3, 3)
        shift = torch.stack([one, zero, -t_x, zero, one, -t_y, zero, zero, one], dim=1).view(-1, 3, 3)
        return rotation @ shift @ self.transform.double()

    def _waves(self, freqs: Tensor, turns: Tensor) -> Tensor:
        """sin 2π(position · frequency + phase), `[n, size, size, channels]`."""
        size = self.spec.size
        position = (torch.arange(size, device=freqs.device) + (0.5 - size / 2)) / self.spec.sampling_rate
        x, y = (position[:, None] * freqs[:, None, :, i] for i in (0, 1))
        return torch.sin(2 * math.pi * (x[:, None] + y[:, :, None] + turns[:, None, None]))


class Layer(nn.Module):
    """A modulated convolution and a filtered leaky ReLU."""

    magnitude_ema: Tensor

    def __init__(self, spec: LayerSpec) -> None:
        super().__init__()
        self.spec = spec
        self.weight = nn.Parameter(torch.empty(spec.out_channels, spec.in_channels, spec.kernel, spec.kernel))
        self.bias = nn.Parameter(torch.empty(spec.out_channels))
        self.affine = Linear(spec.affine)
        self.register_buffer("magnitude_ema", torch.empty(()))
        radial = 2 if spec.down_radial else 1
        for name, taps, dimensions in (("up_filter", spec.up_taps, 1), ("down_filter", spec.down_taps, radial)):
            if taps > 1:
                self.register_buffer(name, torch.empty([taps] * dimensions))
        slope, gain = (1.0, 1.0) if spec.torgb else (SLOPE, GAIN)
        self._kernels: tuple[nn.Parameter, object, Tensor] | None = None
        self.resampling = Resampling(spec.up, spec.down, spec.padding, slope, gain, spec.clamp)

    def forward(self, x: Tensor, scale: Tensor, after: Tensor | None, dtype: str, compiled: bool) -> Tensor:
        """Maps `[n, out_channels, out_size, out_size]` (float32).

        One convolution serves all samples: scaling per sample what goes in and what comes out of it is the same as
        scaling its weights.

        Args:
            x: maps that are multiplied by the styles already.
            scale: what comes out of the convolution is multiplied by, `[n, out_channels]`.
            after: what the result is multiplied by, the styles of the next layer `[n, out_channels]`; None: 1.
            dtype: what the convolution computes in, one of `DTYPES`.
            compiled: whether loops are compiled.
        """
        gradient = torch.is_grad_enabled() and (x.requires_grad or self.weight.requires_grad)
        if self.spec.kernel == 3 and x.device.type == "cpu" and not gradient:
            y = winograd.convolve(x, self._transformed(DTYPES[dtype]), compiled)
        else:
            with tf32(dtype == TF32):
                y = F.conv2d(x.to(DTYPES[dtype]), self.weight.to(DTYPES[dtype]), padding=self.spec.kernel - 1)
        one = self.bias.new_ones(1)
        filters = getattr(self, "up_filter", one), getattr(self, "down_filter", one)
        return resample(y, scale, self.bias, *filters, self.resampling, compiled, after)

    def _transformed(self, dtype: torch.dtype) -> Tensor:
        """The weights in Winograd's form, made anew when they have changed."""
        key = self.weight.data_ptr(), version(self.weight), dtype
        if self._kernels is None or self._kernels[0] is not self.weight or self._kernels[1] != key:
            self._kernels = self.weight, key, winograd.transformed(self.weight.detach()).to(dtype)
        return self._kernels[2]

    def scales(self, w: Tensor) -> tuple[Tensor, Tensor]:
        """What goes into the convolution is multiplied by, `[n, in_channels]`, and what comes out, `[n, out_channels]`.

        A style's size cancels in the demodulation, so each is divided by its own rms, and a sample does not depend on
        its batch.
        """
        style, gain = self.affine(w), self.magnitude_ema.rsqrt()
        if self.spec.torgb:
            fan_in = self.spec.in_channels * self.spec.kernel**2
            return style / math.sqrt(fan_in), gain.expand(len(w), self.spec.out_channels)
        style = style * style.square().mean(1, keepdim=True).rsqrt()
        power = self.weight.permute(0, 2, 3, 1).flatten(1, 2).square().sum(1)
        rms = power.sum(1).div(self.weight[0].numel()).sqrt()
        demodulation = (style.square() @ (power / rms.square()[:, None]).T + _EPSILON).rsqrt()
        return style, demodulation / rms * gain


class Synthesis(nn.Module):
    """ws → image.

    Args:
        spec: the geometry.
        dtype: `float32`, or `tf32` (on a GPU) or `bf16` for the convolutions alone.
        compile: `on`, `off`, or `auto`: resampling is compiled where there is a compiler.

    Raises:
        ValueError: an unknown `dtype` or `compile`.
    """

    def __init__(self, spec: SynthesisSpec, dtype: str = "float32", compile: str = "auto") -> None:
        super().__init__()
        if dtype not in DTYPES or compile not in MODES:
            raise ValueError(
                f"gan.dtype={dtype} gan.compile={compile}: expected one of {', '.join(DTYPES)} and {', '.join(MODES)}"
            )
        self.spec, self.dtype, self.compile_mode = spec, dtype, compile
        self.input = Input(spec.input)
        for layer in spec.layers:
            self.add_module(layer.name, Layer(layer))

    def forward(self, ws: Tensor, features: Layers = False, edits: Edits | None = None) -> Images:
        """Images `[n, 3, H, W]` of ws `[n, num_ws, w_dim]`, about [-1, 1] and not clamped.

        With `features` also the layers' maps by name, the input's first, margins included: all, or those named. An edit
        is given a map without its margin, as `crop` gives it, so that a mask falls on what the image shows; the margin
        stays as it was. With edits all n images are made at once.

        Raises:
            ValueError: ws of another shape, an unknown layer, an edit that gives another shape; `compile` is `on` and
                there is no compiler.
        """
        expected = (1 + len(self.spec.layers), self.spec.input.affine.in_features)
        if ws.dim() != 3 or ws.shape[1:] != expected:
            raise ValueError(
                f"ws has shape {list(ws.shape)}, expected [n, num_ws, w_dim] = [n, {expected[0]}, {expected[1]}]"
            )
        compiled = usable(self.compile_mode, ws.device.type)
        requested, edits = requested_layers(features, self.layer_names), edits or {}
        requested_layers(edits.keys(), self.layer_names)
        differentiated = torch.is_grad_enabled() and ws.requires_grad  # which keeps all images; edits see all at once
        if len(ws) > 1 and not edits and not differentiated:
            parts = list(self._at_once(ws.device, requested).map(lambda some: self._run(some, requested, compiled), ws))
            image = torch.cat([part[0] for part in parts])
            maps = {name: torch.cat([part[1][name] for part in parts]) for name in parts[0][1]}
        else:
            image, maps = self._run(ws, requested, compiled, edits)
        return image if features is False else (image, maps)

    @property
    def layer_names(self) -> tuple[str, ...]:
        """Of the maps, the input's first."""
        return ("input", *(layer.name for layer in self.spec.layers))

    def cost(self, layers: Layers = False) -> Cost:
        """What an image with the maps of these layers takes where resampling is not compiled: see `lis.costs.Priced`.

        Raises:
            ValueError: an unknown layer.
        """
        return _cost(self.spec, self.dtype, requested_layers(layers, self.layer_names))

    def _at_once(self, device: torch.device, requested: tuple[str, ...]) -> Batches:
        """On a CPU one after the other, which is as fast; on a GPU as many as there is room for."""
        return Batches(1 if device.type == "cpu" else max(1, budget(device) // self.cost(requested).peak))

    def _run(
        self, ws: Tensor, requested: Collection[str], compiled: bool, edits: Edits = MappingProxyType({})
    ) -> tuple[Tensor, dict[str, Tensor]]:
        pairs = [layer.scales(w) for layer, w in zip(self.layers, ws[:, 1:].unbind(1), strict=True)]
        styles, scales = zip(*pairs, strict=True)
        x = self._edited("input", self.input(ws[:, 0]), edits)
        maps = {"input": x} if "input" in requested else {}
        x = x * styles[0][:, :, None, None]
        for layer, scale, after in zip(self.layers, scales, (*styles[1:], None), strict=True):
            name = layer.spec.name
            as_it_is = name in requested or name in edits  # others are multiplied by the next styles before
            x = layer(x, scale, None if as_it_is else after, self.dtype, compiled)
            if as_it_is:
                x = self._edited(name, x, edits)
                maps |= {name: x} if name in requested else {}
                x = x if after is None else x * after[:, :, None, None]
        return x * self.spec.output_scale, maps

    def _edited(self, name: str, x: Tensor, edits: Edits) -> Tensor:
        """A map with what the image shows of it edited, and its margin as it was."""
        if name not in edits:
            return x
        size = self.crop({name: x})[name].shape[-1]
        result = x.clone()
        _centre(result, size).copy_(edited_map(name, _centre(x, size), edits))
        return result

    @property
    def layers(self) -> list[Layer]:
        """The layers in their order, without the input."""
        return [cast(Layer, self.get_submodule(layer.name)) for layer in self.spec.layers]

    def crop(self, maps: dict[str, Tensor]) -> dict[str, Tensor]:
        """The maps of `forward` without their margins, so that they show what the image shows."""
        rates = {"input": round(self.spec.input.sampling_rate)}
        rates |= {layer.name: layer.out_sampling_rate for layer in self.spec.layers}
        return {name: _centre(x, min(rates[name], x.shape[-1])) for name, x in maps.items()}


@lru_cache
@torch.inference_mode()
def _cost(spec: SynthesisSpec, dtype: str, requested: tuple[str, ...]) -> Cost:
    """Measured on a network and an image without content, which take neither memory nor time."""
    with torch.device("meta"):
        network = Synthesis(spec, dtype, "off")
        ws = torch.empty(1, 1 + len(spec.layers), spec.input.affine.in_features)
    with Meter() as meter:
        _, maps = network._run(ws, requested, compiled=False)
    return Cost(meter.peak, {name: tuple(x.shape[1:]) for name, x in network.crop(maps).items()})


def laid_out(value: Tensor) -> Tensor:
    """float32; kernels with the channels innermost, as convolutions read them fastest. Copied only where needed."""
    value = value.float()
    return value.contiguous(memory_format=torch.channels_last) if value.dim() == 4 else value.contiguous()


def _centre(x: Tensor, size: int) -> Tensor:
    first = (x.shape[-1] - size) // 2
    return x[..., first : first + size, first : first + size]
