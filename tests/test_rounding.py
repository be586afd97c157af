"""The same bits for a row, whatever else is in its batch."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from lis.boundary.optimizers import data_metric
from lis.classifiers.partnet import PartNet
from lis.generators.partworld.generator import PartWorld
from lis.linking.mlp import MLPLink
from lis.rounding import Conv2d, convolve, linear
from lis.segmentation.networks import FewShotSegmenter
from lis.streams import Stream
from lis.units.perturbation import Perturbation

ROWS = 33
LAYERS = ("b4.1", "b8.1", "b16.1", "b32.1", "b64.1")


@cache
def world() -> PartWorld:
    return PartWorld(["pug", "border_collie"])


@cache
def w() -> Tensor:
    return world().sample(0, torch.arange(ROWS), Stream("tuning"))


@cache
def image() -> Tensor:
    return world().synthesize(w())


@cache
def classifier() -> PartNet:
    return PartNet()


@cache
def segmenter() -> FewShotSegmenter:
    torch.manual_seed(0)
    widths = [x.shape[1] for x in world().synthesize(w()[:1], features=LAYERS)[1].values()]
    return FewShotSegmenter(["ear", "tail"], 32, LAYERS, widths, channels=20).eval()


@cache
def mlp() -> MLPLink:
    torch.manual_seed(0)
    return MLPLink(256, 64, 512).eval()


def maps(w: Tensor) -> Tensor:
    return torch.cat([x.flatten(1) for x in world().synthesize(w, features=True)[1].values()], 1)


def logits(w: Tensor) -> Tensor:
    return segmenter()(world().synthesize(w, features=LAYERS)[1])


CASES: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[], Tensor]]] = {
    "samples": (lambda i: world().sample(0, i, Stream("tuning")), lambda: torch.arange(ROWS)),
    "factors": (lambda w: world().true_factors(w), w),
    "images": (world().synthesize, w),
    "maps": (maps, w),
    "parts": (logits, w),
    "activations": (lambda x: classifier().features(x), image),
    "answers": (lambda r: classifier().head(r), lambda: classifier().features(image())),
    "style codes": (lambda r: mlp()(r), lambda: classifier().features(image())),
    "projections": (Perturbation.along("d", torch.arange(256.0), 0, 1).project, lambda: classifier().features(image())),
}


@pytest.mark.parametrize("name", CASES)
@torch.inference_mode()
def test_a_row_has_the_same_bits_in_any_batch(name: str) -> None:
    function, rows = CASES[name][0], CASES[name][1]()
    whole = function(rows)
    for size in (1, 2, 7, 16):
        parts = torch.cat([function(part) for part in rows.split(size)])
        assert torch.equal(parts, whole), f"batches of {size}: {(parts - whole).abs().max():.1e}"


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "dilation"), [(1, 1, 0, 1), (1, 2, 0, 1), (3, 1, 1, 1), (3, 2, 1, 1), (3, 1, 2, 2)]
)
def test_convolutions_and_their_gradients_are_those_of_pytorch(
    n: int, kernel: int, stride: int, padding: int, dilation: int
) -> None:
    torch.manual_seed(0)
    x, weight, bias = torch.randn(n, 5, 8, 8), torch.randn(6, 5, kernel, kernel), torch.randn(6)
    found, expected = [], []
    for function, into in ((convolve, found), (F.conv2d, expected)):
        inputs = [v.clone().requires_grad_() for v in (x, weight, bias)]
        y = function(*inputs, stride=stride, padding=padding, dilation=dilation)
        into += [y.detach(), *torch.autograd.grad(y.square().sum(), inputs)]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_a_module_convolves_as_its_parent() -> None:
    torch.manual_seed(0)
    module, x = Conv2d(4, 6, 3, stride=2, padding=2, dilation=2), torch.randn(1, 4, 9, 9)
    expected = F.conv2d(x, module.weight, module.bias, 2, 2, 2)
    torch.testing.assert_close(module(x), expected)


def test_products_are_rounded_once() -> None:
    x, weight = torch.tensor([[1e8, 1.0, -1e8]]), torch.ones(1, 3)
    assert linear(x, weight).tolist() == [[1.0]] and linear(x, weight).dtype == torch.float32


def test_the_metric_of_searches_has_the_same_bits_on_any_number_of_threads() -> None:
    r = torch.randn(100, 256, generator=torch.Generator().manual_seed(0)).relu()
    before, metrics = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            metrics.append(data_metric(r))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*metrics)
