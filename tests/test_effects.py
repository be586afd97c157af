"""Mean and median changes against plain loops over samples."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.perturbed import CLASSES, tuned

from lis.quantify.averages import Average, median_change
from lis.quantify.change import change
from lis.quantify.measures import MINIMUM_AREA
from lis.units.tuned import BLOCK, long_table


def test_changes_and_averages_equal_those_of_single_units() -> None:
    """In more than one block."""
    own = tuned(BLOCK + 3, absent=0.3)
    for unit in (0, BLOCK, BLOCK + 2):
        both = [own.measures[unit, s] for s in range(len(own.class_index))]
        changes = torch.stack([change(first, last) for first, last in both])
        for name, values in vars(Average.of(changes)).items():
            torch.testing.assert_close(getattr(own.average, name)[unit], values, equal_nan=True)
        for c in range(len(CLASSES)):
            mine = changes[own.class_index == c]
            torch.testing.assert_close(own.median_by_class[unit, c], median_change(mine), equal_nan=True)
            for name, values in vars(Average.of(mine)).items():
                torch.testing.assert_close(getattr(own.by_class, name)[unit, c], values, equal_nan=True)


def test_a_small_label_is_not_interpreted() -> None:
    """Absent is not zero: a label that few images have is judged by these."""
    own = tuned(absent=0.0)
    own.measures[..., 1, 0] = MINIMUM_AREA / 2
    own.measures[1:, :, :, 2, 0] = torch.nan
    own.measures[0, :, :, 2, 0] = 2 * MINIMUM_AREA
    assert replace(own).interpreted.tolist() == [True, False, True]
    assert own.interpreted_index == [0, 2] and own.interpreted_labels == ["ear", "tail"]
    assert own.mean_area[1].item() == pytest.approx(MINIMUM_AREA / 2)
    own.measures[..., 2, :] = torch.nan
    assert replace(own).interpreted.tolist() == [True, False, False]


def test_a_class_without_samples_has_no_mean() -> None:
    own = tuned()
    own.class_index.zero_()
    assert own.by_class.value[:, 1].isnan().all() and own.median_by_class[:, 1].isnan().all()


def test_no_perturbation_at_all() -> None:
    effects = tuned(0)
    assert effects.change.shape == (0, 8, 3, 5) and effects.average.value.shape == (0, 3, 5)


def test_long_tables() -> None:
    table = long_table({"a": ["x", "y"], "b": torch.tensor([5, 6, 7])}, {"c": np.arange(6).reshape(2, 3), "d": 1.5})
    assert table.to_dict("list") == {
        "a": ["x"] * 3 + ["y"] * 3,
        "b": [5, 6, 7] * 2,
        "c": [0, 1, 2, 3, 4, 5],
        "d": [1.5] * 6,
    }
    assert list(long_table({"a": [], "b": [1]}, {"c": torch.empty(0, 1)})) == ["a", "b", "c"]
