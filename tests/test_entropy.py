"""Entropy of a part against the definition, pixel by pixel, and scikit-image's rank filter with a mask."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from helpers.shapes import blobs, drawn, scattered
from scipy.ndimage import convolve
from skimage.filters.rank import entropy
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from lis.quantify import entropy as module
from lis.quantify.entropy import part_entropy, window
from lis.quantify.measures import measure


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def levels(luma: Tensor) -> np.ndarray:
    return np.minimum(np.floor(luma.clamp(0, 1).numpy() * 16), 15).astype(np.uint8)


def slow(luma: Tensor, mask: Tensor, label: int) -> float:
    """Mean over the part's pixels whose window is at least half of its own."""
    level, half = levels(luma), window(*mask.shape) // 2
    found = []
    for y, x in np.argwhere(mask.numpy() == label):
        near = (slice(max(y - half, 0), y + half + 1), slice(max(x - half, 0), x + half + 1))
        own = level[near][mask.numpy()[near] == label]
        if len(own) >= window(*mask.shape) ** 2 / 2:
            shares = np.bincount(own)[np.unique(own)] / len(own)
            found.append(-(shares * np.log2(shares)).sum())
    return float(np.mean(found)) if found else float("nan")


@pytest.mark.parametrize("masks", [drawn(), scattered(), blobs(), blobs(2, 64, 5), blobs(2, 96, 3)])
def test_equal_to_the_definition(masks: Tensor) -> None:
    luma = noise(*masks.shape)
    found = part_entropy(luma, masks, 5)
    assert found.shape == (len(masks), 5) and found.dtype == torch.float32
    for n, k in np.ndindex(len(masks), 5):
        assert found[n, k].item() == pytest.approx(slow(luma[n], masks[n], k + 1), abs=1e-4, nan_ok=True)


def test_a_part_that_fills_the_frame_equals_scikit_image() -> None:
    luma = noise(2, 64, 64)
    pixels = convolve(np.ones((64, 64)), np.ones((5, 5)), mode="constant")  # fewer at the frame's edge
    expected = [entropy(picture, np.ones((5, 5), np.uint8))[pixels >= 12.5].mean() for picture in levels(luma)]
    found = part_entropy(luma, torch.ones(2, 64, 64, dtype=torch.int64), 1)
    np.testing.assert_allclose(found[:, 0], expected, atol=1e-4)


@pytest.mark.parametrize("size", [28, 64, 128, 256, 300])
def test_both_ways_agree(size: int) -> None:
    """The one for any device, and the one for processors."""
    masks, level = blobs(3, size, 4), torch.from_numpy(levels(noise(3, size, size)))
    ways = [way(level, masks, 5, window(size, size)) for way in (module._on_any_device, module._on_processor)]
    torch.testing.assert_close(*ways, rtol=1e-5, atol=1e-5, equal_nan=True)


@pytest.mark.parametrize("at_once", [1, 300])
def test_blocks_of_rows_do_not_matter(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor those without a pixel of any part: the rows below a box, or between a part's regions."""
    masks, luma = blobs(3, 64, 4), noise(3, 64, 64)
    masks[0] = 0
    masks[0, :5, :5], masks[0, -5:, :5] = 1, 1
    whole = part_entropy(luma, masks, 5)
    monkeypatch.setattr(module, "_AT_ONCE", at_once)
    torch.testing.assert_close(part_entropy(luma, masks, 5), whole, equal_nan=True)


class Launches(TorchDispatchMode):
    """Counts what a GPU would be told to do."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """One operation."""
        self.count += 1
        return func(*args, **(kwargs or {}))


def test_a_gpu_is_told_all_levels_at_once_simulated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Level by level it was told 1,496 things per batch; parts of a batch give the same to the bit."""
    masks, level = blobs(6, 32, 4), torch.from_numpy(levels(noise(6, 32, 32)))
    with Launches() as launches:
        whole = module._on_any_device(level, masks, 9, 3)
    assert launches.count < 300
    monkeypatch.setattr(module, "_ON_DEVICE", 4 * 16 * 32 * 32)
    parts = module._on_any_device(level, masks, 9, 3)
    assert torch.equal(parts.nan_to_num(-1), whole.nan_to_num(-1)) and whole[:, :4].isfinite().any()


def test_a_window_of_more_than_255_pixels() -> None:
    """Whose counts do not fit into a byte: masks of 256 pixels have one of 17 × 17."""
    masks, luma = blobs(1, 256, 2), noise(1, 256, 256)
    assert window(256, 256) == 17
    level = torch.from_numpy(levels(luma))
    torch.testing.assert_close(part_entropy(luma, masks, 2), module._on_any_device(level, masks, 2, 17), equal_nan=True)


def test_the_window_scales_with_the_mask() -> None:
    """So that the same picture, twice as large, has nearly the same entropy; with 9 pixels at any size it had not."""
    rough, masks = noise(1, 64, 64), blobs(1, 64, 3)
    large = rough.repeat_interleave(2, 1).repeat_interleave(2, 2)
    twice = masks.repeat_interleave(2, 1).repeat_interleave(2, 2)
    small, big = part_entropy(rough, masks, 3), part_entropy(large, twice, 3)
    assert (small - big).abs().nan_to_num(0).max() < 0.4
    assert [window(h, w) for h, w in ((64, 64), (128, 128), (64, 128), (8, 8))] == [5, 9, 5, 3]


def test_what_lies_beside_a_part_does_not_count() -> None:
    """A flat part on noise, beside a rough part: its entropy is 0, whatever is around."""
    masks = torch.zeros(1, 64, 64, dtype=torch.int64)
    masks[:, 20:40, 20:40], masks[:, 20:40, 40:44] = 1, 2
    luma = noise(1, 64, 64)
    luma[masks == 1] = 0.5
    found = part_entropy(luma, masks, 2)
    assert found[0, 0] == 0 and found[0, 1] > 1


def test_a_part_too_thin_for_its_window_has_no_entropy() -> None:
    masks = torch.zeros(2, 64, 64, dtype=torch.int64)
    masks[0, 30:32], masks[1, 30:33] = 1, 1  # 10 and 15 of 25 pixels
    found = part_entropy(noise(2, 64, 64), masks, 1)
    assert found[0].isnan().all() and found[1].isfinite().all()
    measured = measure(masks, 2 * noise(2, 3, 64, 64) - 1, 1)
    assert measured[0, 0].isnan().tolist() == [False, False, True, False, False]


def test_extremes() -> None:
    whole = torch.ones(1, 12, 12, dtype=torch.int64)
    for value in (-0.01, 0.0, 0.3, 1.0, 1.2):
        assert part_entropy(torch.full((1, 12, 12), value), whole, 1).item() == pytest.approx(0, abs=1e-6)
    assert part_entropy(noise(1, 64, 64), torch.ones(1, 64, 64, dtype=torch.int64), 1) <= 4
    assert part_entropy(noise(1, 12, 12), 0 * whole, 3).isnan().all()


def test_images_do_not_touch() -> None:
    masks, luma = blobs(6, 64, 4), noise(6, 64, 64)
    alone = torch.cat([part_entropy(luma[k : k + 1], masks[k : k + 1], 4) for k in range(6)])
    torch.testing.assert_close(part_entropy(luma, masks, 4), alone, equal_nan=True, rtol=0, atol=1e-6)
