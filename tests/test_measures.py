"""The five measures against a loop over images, labels and pixels that follows their definitions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.shapes import blobs, drawn, scattered
from torch import Tensor

from lis.quantify.entropy import part_entropy
from lis.quantify.measures import MEASURES, MINIMUM_AREA, interpreted, luma, mean_area, measure, region_moments


def images(n: int, height: int, width: int, seed: int = 0) -> Tensor:
    return 2 * torch.rand(n, 3, height, width, generator=torch.Generator().manual_seed(seed)) - 1


def reference(masks: Tensor, image: Tensor, labels: int) -> np.ndarray:
    """Area and luminance in the mask enlarged to the image, one label after another."""
    factors = [image.shape[2 + d] // masks.shape[1 + d] for d in range(2)]
    large = np.kron(masks.numpy(), np.ones((1, *factors), int))
    red, green, blue = (image.double().numpy().transpose(1, 0, 2, 3) + 1) / 2
    brightness = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    found = np.full((len(masks), labels, 2), np.nan)
    for n, k in np.ndindex(len(masks), labels):
        inside = large[n] == k + 1
        if inside.any():
            found[n, k] = inside.mean(), brightness[n][inside].mean()
    return found


@pytest.mark.parametrize(
    ("masks", "size"), [(drawn(), (32, 64)), (scattered(), (11, 17)), (blobs(), (64, 64)), (blobs(), (32, 96))]
)
def test_equal_to_loops(masks: Tensor, size: tuple[int, int]) -> None:
    image = images(len(masks), *size)
    found = measure(masks, image, 4)
    assert found.shape == (len(masks), 4, len(MEASURES)) and found.dtype == torch.float32
    np.testing.assert_allclose(found[..., :2], reference(masks, image, 4), rtol=1e-4, atol=1e-5)
    block = [image.shape[2 + d] // masks.shape[1 + d] for d in range(2)]
    grey = luma(image).unflatten(2, (-1, block[1])).mean(3).unflatten(1, (-1, block[0])).mean(2)
    torch.testing.assert_close(found[..., 2], part_entropy(grey, masks, 4), equal_nan=True)
    assert torch.equal(found[..., 3:].nan_to_num(7), region_moments(masks, 4).nan_to_num(7))


def test_area_is_exact() -> None:
    masks = blobs()
    counts = torch.stack([(masks == k).sum((1, 2)) for k in (1, 2, 3)], 1)
    assert torch.equal(measure(masks, images(6, 32, 32), 3)[..., 0] * 1024, counts.float())


def test_an_absent_label_is_never_zero() -> None:
    """And the background is no label."""
    masks = torch.zeros(2, 8, 8, dtype=torch.int64)
    masks[1, 2, 3:6] = 2
    found = measure(masks, images(2, 16, 16), 2)
    assert found[0].isnan().all() and found[1, 0].isnan().all()
    assert found[1, 1].isnan().tolist() == [False, False, True, False, False]  # too thin for an entropy


def test_luminance_of_plain_colours() -> None:
    """Rec. 709: green is brightest; black is 0, white is 1."""
    colours = torch.tensor([[1.0, -1, -1], [-1, 1, -1], [-1, -1, 1], [1, 1, 1], [-1, -1, -1]])
    found = luma(colours[:, :, None, None].expand(5, 3, 4, 4))
    expected = torch.tensor([0.2126, 0.7152, 0.0722, 1, 0])[:, None, None].expand(5, 4, 4)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


def test_a_batch_equals_its_images() -> None:
    masks, image = blobs(), images(6, 64, 64)
    alone = torch.cat([measure(masks[k : k + 1], image[k : k + 1], 3) for k in range(6)])
    torch.testing.assert_close(measure(masks, image, 3), alone, equal_nan=True, rtol=1e-5, atol=1e-6)


def test_any_integers_and_precisions() -> None:
    masks, image = blobs(), images(6, 64, 64)
    expected = measure(masks, image, 3)
    assert torch.equal(measure(masks.to(torch.uint8), image, 3), expected)
    half = measure(masks, image.to(torch.bfloat16), 3)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half[..., 1], expected[..., 1], atol=1e-2, rtol=0)


def test_no_gradient_is_kept() -> None:
    assert not measure(blobs(), images(6, 64, 64).requires_grad_(), 3).requires_grad


def test_absent_is_not_zero_where_a_label_is_interpreted() -> None:
    """One meaning for tuning, views and paths: the mean over the images that have the label."""
    measures = torch.full((4, 3, 2, 5), torch.nan)
    measures[0, 0, 0] = 2 * MINIMUM_AREA
    measures[..., 1, :] = MINIMUM_AREA / 2
    assert mean_area(measures).tolist() == pytest.approx([2 * MINIMUM_AREA, MINIMUM_AREA / 2])
    assert interpreted(measures).tolist() == [True, False]
    assert not interpreted(torch.full((4, 1, 5), torch.nan)).any()


def test_the_smallest_interpreted_area() -> None:
    """20 of 128 × 128 pixels (supplement S5.1)."""
    assert pytest.approx(20 / 128**2, rel=0.02) == MINIMUM_AREA


@pytest.mark.parametrize(
    ("masks", "image", "message"),
    [
        (torch.zeros(2, 8, 8).long(), images(3, 8, 8), r"masks \[2, 8, 8\] and image \[3, 3, 8, 8\].*one mask"),
        (torch.zeros(2, 8, 8).long(), images(2, 8, 8)[:, :1], r"expected \[n, h, w\] and \[n, 3, H, W\]"),
        (torch.zeros(0, 8, 8).long(), torch.zeros(0, 3, 8, 8), r"n ≥ 1"),
        (torch.zeros(2, 8, 8).long(), images(2, 20, 16), r"\[8, 8\] pixels for images of \[20, 16\].*resize"),
        (torch.zeros(2, 16, 16).long(), images(2, 8, 8), r"\[16, 16\] pixels for images of \[8, 8\]"),
        (torch.zeros(2, 8, 8), images(2, 8, 8), r"float32: expected integers; take the argmax"),
        (torch.full((2, 8, 8), 4), images(2, 8, 8), r"values from 4 to 4: expected 0 \(background\) to 3"),
        (torch.full((2, 8, 8), -1), images(2, 8, 8), r"values from -1 to -1"),
    ],
)
def test_what_cannot_be_measured_is_refused(masks: Tensor, image: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        measure(masks, image, 3)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_measures_the_same() -> None:
    masks, image = blobs(), images(6, 64, 64)
    found = measure(masks.cuda(), image.cuda(), 3)
    assert found.is_cuda
    torch.testing.assert_close(found.cpu(), measure(masks, image, 3), atol=1e-3, rtol=1e-3, equal_nan=True)
