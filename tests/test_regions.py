"""Connected regions against scikit-image, one mask and one region at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.shapes import apart, blobs, drawn, ellipse_of, regions_of, scattered, split
from torch import Tensor

from lis.quantify.ellipse import label_moments
from lis.quantify.measures import Regions, Runs, region_moments

MASKS = pytest.mark.parametrize(
    "masks", [drawn(), scattered(), blobs(), blobs(size=70, smooth=2)], ids=["drawn", "random", "b32", "b70"]
)


def expected(mask: np.ndarray) -> tuple[float, float]:
    """Area-weighted eccentricity, and mean angle on the doubled angle; round regions have no say in the angle."""
    area, eccentricity, angle = np.array(regions_of(mask)).T
    leaning = eccentricity > 1e-6
    doubled = np.exp(2j * np.deg2rad(angle[leaning])) @ area[leaning]
    mean = np.rad2deg(np.angle(doubled)) / 2 if abs(doubled) > 1e-6 else np.nan
    return (area @ eccentricity) / area.sum(), mean


@MASKS
def test_every_region_is_found(masks: Tensor) -> None:
    """Once, with its exact area, and in no other image or label."""
    regions = Regions.of(Runs.of(masks), 3)
    for image, k in np.ndindex(len(masks), 3):
        own = regions.moments[regions.owner == image * 3 + k, 0].tolist()
        assert sorted(own) == sorted(area for area, _, _ in regions_of((masks[image] == k + 1).numpy()))


@MASKS
def test_equal_to_scikit_image(masks: Tensor) -> None:
    found = region_moments(masks, 3)
    assert found.shape == (len(masks), 3, 2) and found.dtype == torch.float32
    for image, k in np.ndindex(len(masks), 3):
        mask = (masks[image] == k + 1).numpy()
        eccentricity, angle = found[image, k].tolist()
        if not mask.any():
            assert np.isnan([eccentricity, angle]).all()
            continue
        form, direction = expected(mask)
        assert eccentricity == pytest.approx(form, abs=1e-5)
        assert np.isnan(angle) == np.isnan(direction)
        assert np.isnan(angle) or apart(angle, direction) < 0.1


@MASKS
def test_single_regions_as_scikit_image_sees_them(masks: Tensor) -> None:
    """Area exact, eccentricity² to 1e-4, the angle to 0.1° above an eccentricity of 0.1."""
    alone = np.stack([region for mask in masks.numpy() for region in split(mask == 1)])
    area = Regions.of(Runs.of(torch.from_numpy(alone)), 1).moments[:, 0]
    found = region_moments(torch.from_numpy(alone).long(), 1)[:, 0]
    for k, mask in enumerate(alone):
        expected_area, form, direction = ellipse_of(mask)
        assert area[k] == expected_area and found[k, 0].item() ** 2 == pytest.approx(form**2, abs=1e-4)
        assert form <= 0.1 or apart(found[k, 1].item(), direction) < 0.1


def test_neighbouring_images_stay_apart() -> None:
    """A label that fills every frame is one region per image."""
    regions = Regions.of(Runs.of(torch.ones(3, 4, 5, dtype=torch.uint8)), 2)
    assert regions.owner.tolist() == [0, 2, 4] and regions.moments[:, 0].tolist() == [20] * 3


def test_a_batch_equals_its_images() -> None:
    masks = torch.cat([blobs(), scattered(size=(32, 32))])
    alone = torch.cat([region_moments(mask[None], 3) for mask in masks])
    torch.testing.assert_close(region_moments(masks, 3), alone, rtol=0, atol=0, equal_nan=True)


def test_two_ears_are_two_ellipses() -> None:
    """Both stand upright; together they lie."""
    mask = torch.zeros(1, 8, 20, dtype=torch.int64)
    mask[0, 2:6, 2] = mask[0, 2:6, 17] = 1
    assert region_moments(mask, 1)[0, 0].tolist() == [1, 90]
    assert abs(label_moments(mask, 1)[0, 0, 1]) < 1e-4


def test_angles_on_both_sides_of_upright() -> None:
    """80° and −80° average to 90°, not to 0°."""
    mask = torch.zeros(1, 12, 12, dtype=torch.int64)
    mask[0, :6, 2] = mask[0, 6:, 1] = 1
    mask[0, :6, 8] = mask[0, 6:, 9] = 1
    assert region_moments(mask, 1)[0, 0, 1] == pytest.approx(90)


def test_weights_are_areas() -> None:
    """A row of six and a column of two: (6 · 1 + 2 · 1) / 8, and the row's direction wins."""
    mask = torch.tensor([[[1, 1, 1, 1, 1, 1], [0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 1], [0, 0, 0, 0, 0, 1]]])
    assert region_moments(mask, 1)[0, 0].tolist() == [1, 0]


def test_round_regions_count_for_the_eccentricity_alone() -> None:
    mask = torch.tensor([[[1, 1, 1, 0, 2, 0, 2], [0, 0, 0, 0, 0, 0, 0], [1, 0, 1, 0, 2, 2, 0], [0, 0, 0, 0, 2, 2, 0]]])
    found = region_moments(mask, 2)[0]
    assert found[0].tolist() == pytest.approx([3 / 5, 0])
    assert found[1, 0] == 0 and found[1, 1].isnan()


def test_directions_that_cancel_out_leave_no_angle() -> None:
    """A cross of two bars apart; the eccentricity stays."""
    mask = torch.tensor([[[1, 1, 1, 0, 0], [0, 0, 0, 0, 1], [0, 0, 0, 0, 1], [0, 0, 0, 0, 1]]])
    mask[0, 0, 3:] = 0
    eccentricity, angle = region_moments(mask, 1)[0, 0].tolist()
    assert eccentricity == 1 and np.isnan(angle)


def test_no_label_at_all() -> None:
    assert region_moments(torch.zeros(2, 4, 4, dtype=torch.int64), 3).isnan().all()
