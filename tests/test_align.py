"""Sequences of pictures whose motion is known, brought onto their first."""

from __future__ import annotations

import pytest
import torch
from helpers.moving import map_of, moved, textured
from torch import Tensor

from lis.matching.affine import decompose, identity
from lis.matching.align import align, warp
from lis.matching.flow import Flow
from lis.types import Correspondence, Matcher, Matches, pixel_grid


class Told:
    """A matcher that knows the map of every step, and finds nothing where it is None."""

    fingerprint = "told"

    def __init__(self, steps: list[Tensor | None]) -> None:
        self.steps, self.calls = steps, 0

    layers = ()

    def view(self, image: Tensor, maps: dict[str, Tensor] | None = None) -> Tensor:
        return image

    def __call__(self, view1: Tensor, view2: Tensor) -> list[Correspondence]:
        """The steps first; a field of ones on aligned pairs."""
        self.calls += 1
        if self.calls > 1:
            return [Correspondence(Matches.none(), torch.ones(*view1.shape[-2:], 2)) for _ in view1]
        return [self._step(step, view1) for step in self.steps]

    def _step(self, matrix: Tensor | None, view: Tensor) -> Correspondence:
        xy = pixel_grid(view.shape[-2], view.shape[-1])[::6, ::6].reshape(-1, 2)
        if matrix is None:
            return Correspondence.failed((view.shape[-2], view.shape[-1]), "it went dark")
        there = xy @ matrix[:, :2].T.float() + matrix[:, 2].float()
        return Correspondence(Matches(xy, there, torch.ones(len(xy))), torch.zeros(*view.shape[-2:], 2))


def sequence(steps: list[Tensor]) -> Tensor:
    """A picture, and what the maps make of it one after the other (each from the first)."""
    first = textured()
    return torch.cat([first, *(moved(first, matrix) for matrix in steps)])


def test_a_trajectory_is_aligned() -> None:
    """Turning and moving on: the maps are found, and the aligned pictures show the first where they show anything."""
    truth = [map_of(3 * k, 1 + 0.01 * k, (1.0 * k, -0.5 * k)) for k in range(1, 5)]
    frames = sequence(truth)
    found = align(Flow(), frames)
    assert found.reason == ("",) * 5 and isinstance(Flow(), Matcher)
    motion, expected = decompose(found.total, (64, 64)), decompose(torch.stack([identity(), *truth]), (64, 64))
    torch.testing.assert_close(motion.rotation, expected.rotation, rtol=0, atol=0.4)
    for name in ("dx", "dy"):
        torch.testing.assert_close(getattr(motion, name), getattr(expected, name), rtol=0, atol=0.2)
    torch.testing.assert_close(motion.scale, expected.scale, rtol=0, atol=0.01)
    inside = found.valid[:, None, 8:-8, 8:-8]
    left = ((found.aligned - frames[:1]).abs()[:, :, 8:-8, 8:-8] * inside).sum((1, 2, 3)) / inside.sum((1, 2, 3)) / 3
    before = (frames - frames[:1]).abs().mean((1, 2, 3))
    assert (left[1:] < 0.25 * before[1:]).all()
    assert found.local[1:, 16:-16, 16:-16].norm(dim=-1).nanmean() < 0.3


def test_steps_are_joined_in_order() -> None:
    steps: list[Tensor | None] = [map_of(20, 1.2), map_of(0, 1, (5.0, 0.0)), map_of(-10)]
    found = align(Told(steps), torch.rand(4, 3, 40, 40))
    xy = torch.tensor([10.0, 20.0, 1.0], dtype=torch.float64)
    for k, matrix in enumerate(steps, 1):
        assert matrix is not None
        xy = torch.cat([matrix @ xy, torch.ones(1).double()])
        torch.testing.assert_close(found.total[k] @ torch.tensor([10.0, 20, 1]).double(), xy[:2], rtol=0, atol=1e-3)


def test_what_comes_after_a_failed_step_is_unknown() -> None:
    found = align(Told([map_of(2), None, map_of(2)]), torch.rand(4, 3, 40, 40))
    assert found.reason == ("", "", "step 1 to 2: it went dark", "step 1 to 2: it went dark")
    assert found.total[:2].isfinite().all() and found.total[2:].isnan().all()
    assert not found.valid[2:].any() and found.local[2:].isnan().all() and found.local[0].eq(0).all()
    assert found.aligned.isfinite().all()


def test_local_fields_are_unknown_where_the_picture_shows_nothing() -> None:
    found = align(Told([map_of(0, 1, (10.0, 0.0))]), torch.rand(2, 3, 40, 40))
    assert found.valid[1, :, :30].all() and not found.valid[1, :, 30:].any()
    assert found.local[1, :, :30].eq(1).all() and found.local[1, :, 30:].isnan().all()
    gone = align(Told([map_of(0, 1, (100.0, 0.0))]), torch.rand(2, 3, 40, 40))
    assert gone.reason[1] == "nothing of the picture is left in the frame"


def test_only_the_wanted_fields_are_matched() -> None:
    found = align(Told([map_of(2)] * 3), torch.rand(4, 3, 40, 40), fields=[3])
    assert found.reason == ("",) * 4
    assert found.local[1:3].isnan().all() and found.local[3].isfinite().any()


def test_one_picture_is_aligned_already() -> None:
    found = align(Flow(), textured())
    assert found.reason == ("",) and found.step.shape == (0, 2, 3) and found.valid.all()
    torch.testing.assert_close(found.aligned, textured(), rtol=0, atol=1e-5)


def test_pictures_without_texture_have_a_reason() -> None:
    found = align(Flow(), torch.zeros(3, 3, 32, 32))
    assert found.reason == ("",) + ("step 0 to 1: image 1 has no texture",) * 2
    assert found.total[1:].isnan().all() and found.local[1:].isnan().all()


def test_the_same_picture_again_stays() -> None:
    found = align(Flow(), textured().expand(3, -1, -1, -1))
    assert found.reason == ("",) * 3
    torch.testing.assert_close(found.total, identity().expand(3, -1, -1), rtol=0, atol=1e-3)
    assert found.local.norm(dim=-1).nan_to_num().max() < 0.1


def test_warp_by_whole_pixels_is_exact_and_fills_what_lies_outside() -> None:
    view, fill = torch.rand(1, 2, 6, 8), torch.full((1, 2, 6, 8), 9.0)
    shown, valid = warp(view, map_of(0, 1, (2.0, 1.0), 8)[None], fill)
    torch.testing.assert_close(shown[:, :, :5, :6], view[:, :, 1:, 2:])
    assert valid[0, :5, :6].all() and valid.sum() == 30
    assert shown[:, :, 5].eq(9).all() and shown[:, :, :, 6:].eq(9).all()


@pytest.mark.parametrize("fill", [None, torch.ones(1, 3, 5, 5)])
def test_warp_by_nothing_known_shows_the_filling(fill: Tensor | None) -> None:
    shown, valid = warp(torch.rand(1, 3, 5, 5), torch.full((1, 2, 3), torch.nan), fill)
    assert not valid.any() and shown.eq(0 if fill is None else 1).all()
