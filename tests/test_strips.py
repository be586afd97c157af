"""Strips of pictures: which steps are drawn, which is marked, what is veiled."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from lis.report.strips import LEAST, nearest_step, room, thinned, thinning, veiled
from lis.report.style import WIDE


def test_thinned_strips_keep_their_ends_and_what_is_marked() -> None:
    for steps in (2, 3, 9, 10, 21, 41):
        for marked in range(steps):
            few = thinned(steps, 7, marked)
            assert few[0] == 0 and few[-1] == steps - 1 and len(few) == len(set(few)) == min(7, steps)
            assert marked in few and few == sorted(few)


def test_thinned_strips_are_even() -> None:
    gaps = [b - a for a, b in pairwise(thinned(41, 7))]
    assert max(gaps) - min(gaps) <= 1
    assert thinned(21, 7, 10, 13) == [0, 3, 7, 10, 13, 17, 20]


def test_two_pictures_have_no_room_for_a_mark() -> None:
    assert thinned(9, 2, 4) == [0, 8]


def test_pictures_are_96_pixels_or_more() -> None:
    for width in (2.0, 5.1, WIDE):
        assert width / room(width) >= LEAST
        assert width / (room(width) + 1) < LEAST or room(width) == 2


def test_the_caption_says_what_is_left_out() -> None:
    assert thinning(9, 9) == "" and thinning(17, 7).startswith("Of 17 steps 7 are drawn")


def test_the_unperturbed_step_is_the_nearest() -> None:
    value = np.linspace(0, 4, 5)
    assert [nearest_step(value, x) for x in (-1.0, 1.4, 1.6, 9.0)] == [0, 1, 2, 4]
    assert nearest_step(value, float("nan")) is None


def test_what_is_veiled_has_no_colour_and_is_pale() -> None:
    image = np.random.default_rng(0).integers(0, 255, (2, 4, 4, 3), np.uint8)
    seen = veiled(image, np.array([False, True]))
    np.testing.assert_array_equal(seen[0], image[0])
    assert np.ptp(seen[1], axis=-1).max() == 0 and seen[1].min() >= 127 and seen.dtype == np.uint8
