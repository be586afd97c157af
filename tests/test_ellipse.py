"""Ellipses of labels against scikit-image, eigenvectors, and shapes whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.shapes import apart, blobs, drawn, ellipse_of, scattered
from torch import Tensor

from lis.quantify.ellipse import POWERS, Ellipse, half_circle, label_moments, to_angle


def moments(points: Tensor) -> Tensor:
    return torch.stack([(points[:, 0] ** p * points[:, 1] ** q).sum() for p, q in POWERS])


def pixels(*rows: str) -> Tensor:
    return torch.tensor([[[int(c == "#") for c in row] for row in rows]])


@pytest.mark.parametrize(
    "masks", [drawn(), scattered(), blobs(), blobs(size=70)], ids=["drawn", "random", "b32", "b70"]
)
def test_equal_to_scikit_image(masks: Tensor) -> None:
    found = label_moments(masks, 3)
    assert found.shape == (len(masks), 3, 2) and found.dtype == torch.float32
    for image, k in np.ndindex(len(masks), 3):
        eccentricity, angle = found[image, k].tolist()
        mask = (masks[image] == k + 1).numpy()
        if not mask.any():
            assert np.isnan([eccentricity, angle]).all()
            continue
        _, expected, direction = ellipse_of(mask)
        assert eccentricity**2 == pytest.approx(expected**2, abs=1e-4)
        if expected > 0.1:
            assert apart(angle, direction) < 0.1


def test_equal_to_eigenvectors() -> None:
    """The ellipse of a cloud of points, with x to the right and y down."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        mixing = torch.randn(2, 2, generator=generator, dtype=torch.float64)
        points = torch.randn(30, 2, generator=generator, dtype=torch.float64) @ mixing + 5
        ellipse = Ellipse.of(moments(points))
        values, vectors = np.linalg.eigh(np.cov(points.numpy().T, bias=True))
        x, y = vectors[:, 1]
        assert ellipse.eccentricity.item() == pytest.approx(np.sqrt(1 - values[0] / values[1]))
        assert apart(to_angle(ellipse.direction).item(), np.rad2deg(np.arctan2(-y, x))) < 1e-6
        assert ellipse.direction.norm().item() == pytest.approx(1)


@pytest.mark.parametrize(
    ("mask", "eccentricity", "angle"),
    [
        (pixels("####"), 1, 0),
        (pixels("#", "#", "#"), 1, 90),
        (pixels("..#", ".#.", "#.."), 1, 45),
        (pixels("#..", ".#.", "..#"), 1, -45),
        (pixels("..##", "##.."), None, 22.5),
        (pixels("#.#"), 1, 0),
    ],
)
def test_lines_lean_counter_clockwise(mask: Tensor, eccentricity: float | None, angle: float) -> None:
    found = label_moments(mask, 1)[0, 0].tolist()
    assert found[1] == pytest.approx(angle, abs=1e-4)
    assert eccentricity is None or found[0] == eccentricity


@pytest.mark.parametrize(
    "mask",
    [pixels(".#."), pixels("##", "##"), pixels(".#.", "###", ".#."), torch.ones(1, 90, 90, dtype=torch.int64)],
    ids=["pixel", "square", "plus", "large"],
)
def test_round_shapes_point_nowhere(mask: Tensor) -> None:
    eccentricity, angle = label_moments(mask, 1)[0, 0].tolist()
    assert eccentricity == 0 and np.isnan(angle)


def test_the_place_does_not_matter() -> None:
    shape = pixels("..##", ".##.", "#...")[0]
    masks = torch.zeros(2, 300, 300, dtype=torch.int64)
    masks[0, :3, :4] = masks[1, -3:, -4:] = shape
    found = label_moments(masks, 1)
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], label_moments(shape[None], 1)[0])


def test_masks_of_any_integers() -> None:
    masks = drawn()
    for dtype in (torch.uint8, torch.int32):
        found = label_moments(masks.to(dtype), 3)
        torch.testing.assert_close(found, label_moments(masks, 3), rtol=0, atol=0, equal_nan=True)


def test_half_circle_by_steps() -> None:
    """Add or take half a turn until it fits."""
    degrees = torch.cat([torch.linspace(-179.7, 179.9, 1000), torch.tensor([-90.0, 90, 0, -180, 180, 90.00001])])
    for value, found in zip(degrees.tolist(), half_circle(degrees).tolist(), strict=True):
        while value <= -90:
            value += 180
        while value > 90:
            value -= 180
        assert -90 < found <= 90 and apart(value, found) < 1e-4
        assert found == pytest.approx(value, abs=1e-4) or abs(value) > 89.999
