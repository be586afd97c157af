"""Matchers and measures on a simulated GPU: what they give is the same as on the processor, and nothing is mixed."""

from __future__ import annotations

import pytest
import torch
from helpers.moving import map_of, moved, textured
from helpers.simulated import GPU, OnGpu, simulated_gpu
from torch import Tensor
from torch.nn import functional as F

from lis import build
from lis.config import FlowConfig, MatcherConfig, PumpConfig
from lis.matching.align import align
from lis.quantify.measures import measure


def frames() -> tuple[Tensor, dict[str, Tensor]]:
    """Three pictures that turn, and maps that turn with them."""
    image = torch.cat([moved(textured(), map_of(degrees)) for degrees in (0, 3, 6)])
    return image, {"b32": F.avg_pool2d(image, 2), "b64": image.flip(1)}


@pytest.mark.parametrize(
    "config",
    [
        FlowConfig(),
        PumpConfig(enlarge=1, min_component=20),
        PumpConfig(descriptor="daisy", enlarge=1, min_component=20),
        PumpConfig(descriptor="generator", enlarge=1, min_component=20),
    ],
)
def test_matchers_on_a_simulated_gpu(config: MatcherConfig) -> None:
    matcher, (image, maps) = build.matcher(config, 64), frames()
    expected = align(matcher, matcher.view(image, maps))
    with simulated_gpu():
        view = matcher.view(image.to(GPU), {name: x.to(GPU) for name, x in maps.items()})
        assert view.device == GPU
        found = align(matcher, view)
    assert found.reason == expected.reason == ("",) * 3
    for name in ("step", "total", "aligned", "valid", "local"):
        values = getattr(found, name)
        assert not isinstance(values, OnGpu) and torch.equal(values.nan_to_num(), getattr(expected, name).nan_to_num())


def test_measures_on_a_simulated_gpu() -> None:
    masks, image = (textured(32).mean(1) * 2).round().long() % 3, textured(64)
    with simulated_gpu() as gpu:
        found = measure(masks.to(GPU), image.to(GPU), 3)
        assert found.device == GPU and sorted(gpu.moved) == [(1, 3), (1, 32, 32), (1, 32, 32)]
    torch.testing.assert_close(found.as_subclass(Tensor), measure(masks, image, 3), equal_nan=True)
