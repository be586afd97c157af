"""Local entropy against scikit-image's rank filter and the definition, pixel by pixel."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage.filters.rank import entropy
from torch import Tensor

from lis.quantify import entropy as module
from lis.quantify.entropy import local_entropy
from tests.shapes import blobs


def pictures(shape: tuple[int, int] = (24, 31), n: int = 3) -> Tensor:
    """Noise, a slope, and patches."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(n, *shape, generator=generator)
    slope = torch.linspace(0, 1, shape[1]).expand(1, *shape)
    patches = blobs(1, max(shape), 5)[:, : shape[0], : shape[1]].float() / 5
    return torch.cat([noise, slope, patches])


def levels(luma: Tensor) -> np.ndarray:
    return np.minimum(np.floor(luma.numpy() * 16), 15).astype(np.uint8)


@pytest.mark.parametrize("shape", [(24, 31), (64, 64), (9, 9), (5, 12), (1, 1)])
def test_equal_to_scikit_image(shape: tuple[int, int]) -> None:
    luma = pictures(shape)
    expected = [entropy(picture, np.ones((9, 9), np.uint8)) for picture in levels(luma)]
    found = local_entropy(luma)
    assert found.shape == luma.shape and found.dtype == torch.float32
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_equal_to_the_definition() -> None:
    luma = pictures((13, 10), 1)
    found = local_entropy(luma)
    for n, y, x in np.ndindex(*luma.shape):
        window = levels(luma[n])[max(y - 4, 0) : y + 5, max(x - 4, 0) : x + 5]
        shares = [np.mean(window == level) for level in np.unique(window)]
        assert found[n, y, x] == pytest.approx(-sum(p * np.log2(p) for p in shares), abs=1e-5)


def test_both_ways_of_summing_agree() -> None:
    """The one for any device, and the one for processors."""
    level = torch.from_numpy(levels(pictures())).long()
    torch.testing.assert_close(module._sums(level), module._sums_on_processor(level), rtol=1e-5, atol=1e-4)


def test_extremes() -> None:
    flat = torch.stack([torch.full((12, 12), value) for value in (0.0, 0.3, 1.0)])
    assert local_entropy(flat).max() < 1e-5 and local_entropy(flat).min() >= 0
    assert local_entropy(torch.rand(1, 20, 20)).max() <= 4
    halves = torch.tensor([[0.0] * 10, [1.0] * 10] * 5)[None]
    assert local_entropy(halves)[0, 5, 5] == pytest.approx(-(5 / 9 * np.log2(5 / 9) + 4 / 9 * np.log2(4 / 9)), abs=1e-5)
    beyond = torch.tensor([[[-0.01, 0.0, 1.0, 1.2]]])
    torch.testing.assert_close(local_entropy(beyond), local_entropy(beyond.clamp(0, 1)))


def test_images_do_not_touch() -> None:
    luma = pictures()
    alone = torch.cat([local_entropy(picture[None]) for picture in luma])
    assert torch.equal(local_entropy(luma), alone)
