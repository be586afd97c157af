"""Runs of masks against loops over pixels."""

from __future__ import annotations

import numpy as np
import pytest

from lis.quantify.ellipse import POWERS
from lis.quantify.runs import Runs
from tests.shapes import blobs, drawn, scattered

MASKS = pytest.mark.parametrize(
    "masks",
    [
        drawn().numpy(),
        scattered(2).numpy(),
        blobs(2, 16).numpy(),
        np.ones((2, 1, 4), int),
        np.eye(5, dtype=int)[..., None],
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
def test_runs_are_the_longest_stretches_of_one_label(masks: np.ndarray) -> None:
    runs, seen = Runs.of(masks), np.full(masks.shape, -1)
    for (n, y, columns), label, picture in zip(places(runs), runs.label, runs.picture, strict=True):
        assert picture == n and (masks[n, y, columns] == label).all()
        assert columns[0] == 0 or masks[n, y, columns[0] - 1] != label
        seen[n, y, columns] = label
    assert (seen == masks).all()


@MASKS
def test_runs_touch_below_and_at_corners(masks: np.ndarray) -> None:
    runs = Runs.of(masks)
    where, found = places(runs), runs.touching().toarray()
    for a, b in np.ndindex(found.shape):
        (n, y, own), (m, z, other) = where[a], where[b]
        near = any(abs(s - t) <= 1 for s in own for t in other)
        assert found[a, b] == (n == m and z == y + 1 and near and runs.label[a] == runs.label[b])


@MASKS
def test_moments_are_sums_over_pixels(masks: np.ndarray) -> None:
    runs = Runs.of(masks)
    group = np.random.default_rng(0).integers(0, 4, len(runs.start))
    expected = np.zeros((5, 6))
    for (_, y, columns), k in zip(places(runs), group, strict=True):
        expected[k] += [sum(x**p * y**q for x in columns) for p, q in POWERS]
    np.testing.assert_array_equal(runs.moments(group, 5), expected)
