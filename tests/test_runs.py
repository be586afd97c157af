"""Runs of masks against loops over pixels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.shapes import blobs, drawn, scattered
from torch import Tensor

from lis.quantify.ellipse import POWERS
from lis.quantify.measures import Runs

MASKS = pytest.mark.parametrize(
    "masks",
    [
        drawn(),
        scattered(2),
        blobs(2, 16),
        torch.ones(2, 1, 4, dtype=torch.int64),
        torch.eye(5, dtype=torch.int64)[..., None],
    ],
    ids=["drawn", "random", "blobs", "one row", "one column"],
)


def places(runs: Runs) -> list[tuple[int, int, range]]:
    """Mask, row and columns of every run."""
    _, height, width = runs.shape
    rows = (runs.start // width).tolist()
    lengths = (runs.stop - runs.start).tolist()
    columns = [range(s, s + n) for s, n in zip((runs.start % width).tolist(), lengths, strict=True)]
    return [(row // height, row % height, own) for row, own in zip(rows, columns, strict=True)]


@MASKS
def test_runs_are_the_longest_stretches_of_one_label(masks: Tensor) -> None:
    runs, seen = Runs.of(masks), np.full(masks.shape, -1)
    for (n, y, columns), label, picture in zip(places(runs), runs.label, runs.picture, strict=True):
        assert picture == n and (masks[n, y, list(columns)] == label).all()
        assert columns[0] == 0 or masks[n, y, columns[0] - 1] != label
        seen[n, y, columns] = label
    assert (seen == masks.numpy()).all()


@MASKS
def test_runs_touch_below_and_at_corners(masks: Tensor) -> None:
    runs = Runs.of(masks)
    where, found = places(runs), runs.touching().toarray()
    for a, b in np.ndindex(found.shape):
        (n, y, own), (m, z, other) = where[a], where[b]
        near = any(abs(s - t) <= 1 for s in own for t in other)
        assert found[a, b] == (n == m and z == y + 1 and near and 0 < runs.label[a] == runs.label[b])


@MASKS
def test_sums_over_the_pixels_of_each_label(masks: Tensor) -> None:
    """Of ones: the areas."""
    runs, values = Runs.of(masks), np.random.default_rng(0).random(masks.shape)
    inside = masks.numpy()[:, None] == np.arange(1, 6)[:, None, None]
    np.testing.assert_allclose(runs.sums(values, 5), (inside * values[:, None]).sum((2, 3)))
    np.testing.assert_array_equal(runs.areas(5), inside.sum((2, 3)))


@MASKS
def test_moments_are_sums_over_pixels(masks: Tensor) -> None:
    runs = Runs.of(masks)
    group = np.random.default_rng(0).integers(0, 4, len(runs.start))
    expected = np.zeros((5, 6))
    for (_, y, columns), k in zip(places(runs), group, strict=True):
        expected[k] += [sum(x**p * y**q for x in columns) for p, q in POWERS]
    np.testing.assert_array_equal(runs.moments(group, 5), expected)
