"""The fast paths of StyleGAN-XL's layers against plain definitions: resampling, Winograd's convolutions, precision."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.stylegan_xl_fixtures import generator, recorded
from helpers.stylegan_xl_reference import downsample, upsample
from torch import Tensor, nn

from lis.generators.stylegan_xl import StyleGANXL, resampling, winograd
from lis.generators.stylegan_xl import resampling as resampling_module
from lis.generators.stylegan_xl.resampling import Resampling, resample
from lis.generators.stylegan_xl.synthesis import Layer

WITHIN = 1e-5
"""Largest difference from float64, relative to the largest value."""
BF16 = 12 * 2**-8
"""The same for images whose convolutions compute in bfloat16: its rounding, for each of a dozen layers."""
NAME = "t_super32_c10"


def apart(found: Tensor, expected: Tensor) -> float:
    """Largest difference, relative to the largest value."""
    assert found.shape == expected.shape
    return float((found.double() - expected.double()).abs().max() / expected.abs().max())


@dataclass(frozen=True)
class Case:
    """A layer's resampling and what it is applied to; the defaults are those of most layers."""

    up: int = 2
    down: int = 2
    up_taps: int = 12
    down_taps: int = 12
    padding: tuple[int, int] = (9, 8)
    radial: bool = False
    slope: float = 0.2
    clamp: float | None = 256.0
    size: int = 20
    channels: int = 3
    batch: int = 2

    @property
    def how(self) -> Resampling:
        """The layer."""
        return Resampling(self.up, self.down, self.padding, self.slope, 1.4, self.clamp)

    @property
    def result(self) -> int:
        """Pixels of the result."""
        fine = self.size * self.up + sum(self.padding) - self.up_taps + 1
        return (fine - self.down_taps) // self.down + 1

    def filters(self) -> tuple[Tensor, Tensor]:
        """Random ones, without symmetry."""
        down = (self.down_taps,) * (2 if self.radial else 1)
        return draw(1, self.up_taps) / self.up_taps, draw(2, *down) / self.down_taps

    def arguments(self) -> list[Tensor]:
        """x, scale, bias and after."""
        n, c = self.batch, self.channels
        return [draw(3, n, c, self.size, self.size), draw(4, n, c), draw(5, c), draw(6, n, c)]


def draw(seed: int, *shape: int) -> Tensor:
    """Standard normal draws."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def plainly(case: Case, x: Tensor, scale: Tensor, bias: Tensor, after: Tensor) -> Tensor:
    """after · down(clamp(gain · lrelu(up(scale · x + bias)))) by the plain functions, in the precision of x."""
    up_filter, down_filter = (f.to(x) for f in case.filters())
    y = x * scale[:, :, None, None] + bias[:, None, None]
    y = F.leaky_relu(upsample(y, up_filter, case.up, case.padding), case.slope) * case.how.gain
    y = y if case.clamp is None else y.clamp(-case.clamp, case.clamp)
    return downsample(y, down_filter, case.down) * after[:, :, None, None]


def quickly(case: Case, compiled: bool, x: Tensor, scale: Tensor, bias: Tensor, after: Tensor) -> Tensor:
    """The same by the code under test."""
    return resample(x, scale, bias, *case.filters(), case.how, compiled, after)


@pytest.fixture
def untouched(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What would be compiled runs as it is written."""
    caches = resampling._sums, winograd._compiled
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    for cache in caches:
        cache.cache_clear()
    yield
    for cache in caches:
        cache.cache_clear()


FACTORS = ((1, 1), (1, 2), (2, 1), (2, 2), (4, 2), (4, 1), (2, 4), (3, 2), (2, 3), (4, 4))
PADDINGS = ((9, 8), (-6, -9), (13, -4), (-5, 12), (0, 0))
CASES = [
    *(Case(up, down, 6 * up, 6 * down, padding, size=17) for (up, down), padding in product(FACTORS, PADDINGS)),
    *(Case(up, down, 5, 3, (2, 2), size=size) for (up, down), size in product(FACTORS, (4, 9))),
    *(Case(2, 2, 7, 5, (a, b), size=8) for a, b in product(range(-3, 9), (0, 3))),
    *(Case(up, down, 1, 1, (0, 0), size=5) for up, down in FACTORS),
    *(Case(radial=True, padding=padding, clamp=clamp) for padding, clamp in product(PADDINGS, (None, 0.5))),
    *(Case(4, 2, 24, radial=True, padding=(-2, -5), size=size) for size in (11, 36)),
    *(Case(slope=slope, clamp=clamp) for slope, clamp in product((0.2, 1.0), (None, 0.3, 256.0))),
    *(Case(channels=c, batch=n, size=9) for c, n in product((1, 2, 31, 32, 33, 64, 65, 70), (1, 3))),
    *(Case(4, 2, 24, 12, (-6, -9), size=size, channels=2) for size in (36, 52)),
    Case(1, 1, 1, 1, (0, 0), slope=1.0),
]
GRID = [case for case in CASES if case.result > 0]


def test_the_grid_is_as_it_is_meant() -> None:
    """Many cases, none of them twice, down to a single pixel."""
    assert len(set(GRID)) == len(GRID) > 120
    assert min(case.result for case in GRID) == 1


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("piece", [resampling._PIECE, 1 << 9])
def test_resampling(compiled: bool, piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways, over the whole grid, with pieces of many rows and of few."""
    monkeypatch.setattr(resampling, "_PIECE", piece)
    monkeypatch.setattr(resampling, "_CHANNELS", {False: 8, True: 16} if piece < 1000 else resampling._CHANNELS)
    for case in GRID:
        arguments = case.arguments()
        found = quickly(case, compiled, *arguments)
        assert found.dtype == torch.float32 and found.shape[-1] == case.result
        assert apart(found, plainly(case, *(value.double() for value in arguments))) < WITHIN, case


@pytest.mark.slow
@torch.no_grad()
def test_resampling_through_the_compiler() -> None:
    """One program serves all sizes and channels."""
    if problem := resampling_module._problem("cpu"):
        pytest.skip(problem)
    for case in (Case(channels=70), Case(channels=5, size=29)):
        arguments = case.arguments()
        assert apart(quickly(case, True, *arguments), plainly(case, *(value.double() for value in arguments))) < WITHIN


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("case", [Case(size=11), Case(4, 2, 24, size=9), Case(radial=True, clamp=0.4), Case(1, 2, 1)])
def test_gradients_of_resampling(case: Case, compiled: bool) -> None:
    """By whatever goes in, with the values that are without a gradient."""
    arguments = [value.requires_grad_() for value in case.arguments()]
    found = quickly(case, compiled, *arguments)
    assert apart(found.detach(), quickly(case, False, *(value.detach() for value in arguments))) < WITHIN
    weight = draw(7, *found.shape)
    exact = [value.detach().double().requires_grad_() for value in arguments]
    expected = torch.autograd.grad((plainly(case, *exact) * weight.double()).sum(), exact)
    for gradient, wanted in zip(torch.autograd.grad((found * weight).sum(), arguments), expected, strict=True):
        assert apart(gradient, wanted) < WITHIN


@pytest.mark.parametrize("which", range(4))
def test_the_gradient_by_one_argument_alone(which: int) -> None:
    """None of them is lost."""
    arguments = Case().arguments()
    arguments[which].requires_grad_()
    (gradient,) = torch.autograd.grad(quickly(Case(), True, *arguments).sum(), arguments[which])
    assert gradient.any()


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("compiled", [False, True])
def test_what_goes_in_may_be_of_any_type_and_layout(compiled: bool) -> None:
    """The result is float32 with the channels innermost; left out, `after` is 1."""
    case = Case(channels=5)
    x, scale, bias, after = case.arguments()
    brief = x.bfloat16()
    expected = quickly(case, compiled, brief.float(), scale, bias, after)
    for same in (brief, brief.contiguous(memory_format=torch.channels_last)):
        found = quickly(case, compiled, same, scale, bias, after)
        assert torch.equal(found, expected)
        assert found.dtype == torch.float32 and found.permute(0, 2, 3, 1).is_contiguous()
    left_out = resample(x, scale, bias, *case.filters(), case.how, compiled)
    assert torch.equal(left_out, quickly(case, compiled, x, scale, bias, torch.ones_like(after)))


SIZES = ((1, 1), (1, 2), (2, 1), (2, 2), (3, 3), (4, 7), (7, 4), (8, 8), (13, 21), (36, 36))


def convolved(n: int, size: tuple[int, int], compiled: bool) -> float:
    """How far Winograd's convolution is from PyTorch's in float64."""
    x, weight = draw(1, n, 5, *size), draw(2, 7, 5, 3, 3)
    found = winograd.convolve(x, winograd.transformed(weight), compiled)
    assert found.dtype == torch.float32 and found.permute(0, 2, 3, 1).is_contiguous()
    return apart(found, F.conv2d(x.double(), weight.double(), padding=2))


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("tiles", [winograd._TILES, 9, 1])
def test_convolutions(tiles: int, compiled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of any size, with many tiles at a time and with few."""
    monkeypatch.setattr(winograd, "_TILES", tiles)
    for n, size in product((1, 2), SIZES):
        assert convolved(n, size, compiled) < WITHIN, size


@pytest.mark.full
@torch.no_grad()
def test_convolutions_through_the_compiler() -> None:
    """Of any size, however many of them a process meets."""
    if problem := resampling_module._problem("cpu"):
        pytest.skip(problem)
    for n, size in product((1, 2), SIZES):
        assert convolved(n, size, compiled=True) < WITHIN, size


def test_the_transform_of_a_kernel_is_g_w_gt() -> None:
    """Lavin & Gray 2016, for each pair of channels."""
    weight = draw(0, 2, 3, 3, 3).double()
    g = torch.tensor([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]]).double()
    for o, i in product(range(2), range(3)):
        assert torch.allclose(winograd.transformed(weight)[:, o, i, 0, 0].view(4, 4), g @ weight[o, i] @ g.T)


def layer_of(network: StyleGANXL) -> Layer:
    """A layer with 3×3 kernels."""
    return next(layer for layer in network.synthesis.layers if layer.spec.kernel == 3)


def turned(weight: Tensor) -> Tensor:
    """Other kernels of the same size."""
    return weight.detach().flip(2).clone(memory_format=torch.preserve_format)


def written(network: StyleGANXL) -> StyleGANXL:
    """Into the same memory."""
    layer_of(network).weight.copy_(turned(layer_of(network).weight))
    return network


def exchanged(network: StyleGANXL) -> StyleGANXL:
    """For another parameter."""
    layer_of(network).weight = nn.Parameter(turned(layer_of(network).weight), requires_grad=False)
    return network


def loaded(network: StyleGANXL) -> StyleGANXL:
    """From a checkpoint."""
    key = f"synthesis.{layer_of(network).spec.name}.weight"
    return network.load({name: turned(v) if name == key else v for name, v in network.state_dict().items()})


def copied(network: StyleGANXL) -> StyleGANXL:
    """In a copy."""
    return written(copy.deepcopy(network))


def reused(network: StyleGANXL) -> StyleGANXL:
    """For another parameter, in memory that was given back."""
    layer = layer_of(network)
    memory = np.empty(tuple(layer.weight.shape), np.float32)
    for values in (layer.weight.numpy(), turned(layer.weight).numpy()):
        memory[:] = values
        layer.weight = nn.Parameter(torch.from_numpy(memory), requires_grad=False)
        network.synthesis(recorded(NAME)["w_psi1"])
    return network


@pytest.mark.parametrize("change", [written, exchanged, loaded, copied, reused])
@torch.no_grad()
def test_kernels_are_transformed_anew_when_the_weight_changes(change: Callable[[StyleGANXL], StyleGANXL]) -> None:
    """The image is that of a network that never had other weights."""
    network, ws = generator(NAME), recorded(NAME)["w_psi1"]
    before = network.synthesis(ws)
    network = change(network)
    fresh = generator(NAME).load(network.state_dict())
    after = network.synthesis(ws)
    assert apart(after, fresh.synthesis(ws)) < WITHIN
    assert apart(after, before) > 0.01


@torch.no_grad()
def test_kernels_are_transformed_once() -> None:
    """Not for every image."""
    network, ws = generator(NAME), recorded(NAME)["w_psi1"]
    kernels = []
    for _ in range(2):
        network.synthesis(ws)
        kernels.append(layer_of(network)._kernels)
    assert kernels[0] is kernels[1] is not None


@pytest.mark.parametrize("name", ["t_stem16_c10", "r_stem32_uncond", NAME, "mixed_super64_c10"])
@torch.no_grad()
def test_convolutions_in_bf16(name: str) -> None:
    """Near the images in float32, and not the same."""
    ws = recorded(name)["w_psi1"]
    assert 1e-4 < apart(generator(name, dtype="bf16").synthesis(ws), generator(name).synthesis(ws)) < BF16


@pytest.mark.parametrize("dtype", ["float32", "bf16"])
def test_a_gradient_passes_in_either_precision(dtype: str) -> None:
    """Through PyTorch's convolutions: the images with it and without it agree."""
    network, ws = generator(NAME, dtype=dtype), recorded(NAME)["w_psi1"]
    image = network.synthesis(ws.clone().requires_grad_())
    image.sum().backward()
    assert apart(image.detach(), network.synthesis(ws)) < (WITHIN if dtype == "float32" else BF16)


@pytest.mark.parametrize("settings", [{}, {"dtype": "bf16"}])
@pytest.mark.parametrize("name", [NAME, "r_stem32_uncond"])
@torch.no_grad()
def test_images_of_a_batch_are_those_one_at_a_time(name: str, settings: dict[str, Any]) -> None:
    """To the bit, with their maps."""
    network = generator(name, **settings)
    ws = recorded(name)["w_psi1"]
    ws = torch.cat([ws, ws.flip(0) * 0.9])
    image, maps = network.synthesis(ws, features=True)
    for i in range(len(ws)):
        one, own = network.synthesis(ws[i : i + 1], features=True)
        assert torch.equal(one, image[i : i + 1])
        assert all(torch.equal(own[key], maps[key][i : i + 1]) for key in maps)


def test_images_of_a_batch_with_a_gradient_are_those_one_at_a_time() -> None:
    """There the batch goes through the layers as a whole."""
    network, ws = generator(NAME), recorded(NAME)["w_psi1"].clone().requires_grad_()
    image = network.synthesis(ws)
    for i in range(len(ws)):
        assert apart(image[i : i + 1].detach(), network.synthesis(ws[i : i + 1]).detach()) < WITHIN
    (gradient,) = torch.autograd.grad(image[:1].sum(), ws)
    assert gradient[0].any() and not gradient[1:].any()
