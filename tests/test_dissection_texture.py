"""Responses to an image and to its restyled twin (fixture 06, cut down to the units 1, 2 and 4)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from lis.dissection.texture import paired_response_iou

FIXTURE = Path(__file__).parent / "data" / "dissection" / "06_stylised_iou_units.npz"


def test_set_iou_is_that_of_the_reference() -> None:
    with np.load(FIXTURE) as file:
        original, restyled, expected, same = (
            torch.from_numpy(file[name])
            for name in ("acts_original", "acts_stylised", "set_iou_native_threshold", "degenerate_acts_identical")
        )
    torch.testing.assert_close(paired_response_iou(original, restyled), expected, rtol=0, atol=1e-12)
    assert paired_response_iou(same, same).tolist() == [1.0]  # the published score is 0 here


def test_a_dead_unit_has_no_score_and_other_shapes_are_refused() -> None:
    dead = torch.zeros(3, 2, 4, 4)
    assert paired_response_iou(dead, dead).isnan().all()
    with pytest.raises(ValueError, match=r"\(3, 2, 4, 4\) and \(2, 2, 4, 4\): expected pairs of the same layer"):
        paired_response_iou(dead, dead[:2])
