"""Frames of three moving pictures: removal of more and more units, insertion at a moving cell, painting."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lis.dissection.gan_units import Edited
from lis.dissection.painting import UnitEdit, cell_masks, paint
from lis.images import to_uint8

STEPS = 24
"""Positions of a cell on its way around the image."""
RADIUS = 0.32
"""Of that way, as a share of the image."""
IMAGES = 4
"""Images at most, of different classes."""


@dataclass(frozen=True)
class Movie:
    """T frames of k images."""

    image: Tensor
    """`[T, k, 3, H, W]` uint8."""
    parts: Tensor
    """Labels `[T, k, H, W]` uint8, as the segmenter of pixels sees them."""
    mask: Tensor
    """Where units are set, `[T, h, w]` float32 at the size of the layer's maps."""
    refused: Tensor
    """`[T, k]` bool, as of `Painted`; False where nothing is painted."""
    gained: Tensor
    """What the painted label gains of the mask, `[T, k]` float32; 0 where nothing is painted."""

    def tensors(self) -> dict[str, Tensor]:
        """By name, as a stage holds them."""
        return dict(vars(self))


def circle(height: int, width: int) -> Tensor:
    """Cells of a circle about the centre of a map, counted row by row: `[STEPS]` int64."""
    angle = torch.arange(STEPS) * (2 * math.pi / STEPS)
    row = ((0.5 - RADIUS * angle.cos()) * height).long()
    return row * width + ((0.5 + RADIUS * angle.sin()) * width).long()


def removal_movie(edited: Edited, rows: Tensor, edit: UnitEdit, counts: Sequence[int], size: tuple[int, int]) -> Movie:
    """The first n units of an edit set everywhere, for every n of the counts.

    Args:
        edited: the codes.
        rows: of those in the movie, `[k]` int64.
        edit: units in the order in which they are removed, and the value of each.
        counts: the n.
        size: height and width of the layer's maps.
    """
    units, values = torch.as_tensor(edit.units), torch.as_tensor(edit.value)
    frames = [UnitEdit(edit.layer, units[:n], values[:n]) for n in counts]
    image = torch.stack([edited.map(rows, frame, to_uint8) for frame in frames])
    parts = torch.stack([edited.map(rows, frame, edited.segmenter.segment) for frame in frames])
    nothing = torch.zeros(len(frames), len(rows))
    return Movie(image, parts.to(torch.uint8), torch.ones(len(frames), *size), nothing.bool(), nothing)


def painted_movie(edited: Edited, rows: Tensor, edit: UnitEdit, masks: Tensor, label: int) -> Movie:
    """Units of an edit set under each of T masks `[T, h, w]`, to bring a label."""
    codes = edited.w[rows].to(edited.device)
    frames = [paint(edited.generator, codes, edit, mask, edited.segmenter, label) for mask in masks]
    image = torch.stack([to_uint8(frame.after).cpu() for frame in frames])
    parts = torch.stack([frame.parts_after.to(torch.uint8).cpu() for frame in frames])
    refused = torch.stack([frame.refused.cpu() for frame in frames])
    gained = torch.stack([frame.inside[:, label].float().cpu() for frame in frames])
    return Movie(image, parts, masks, refused, gained)


def moving_cell(size: tuple[int, int]) -> Tensor:
    """A mask of one cell on its way around the image: `[STEPS, h, w]`."""
    return cell_masks(circle(*size), *size)


def growing_stroke(size: tuple[int, int]) -> Tensor:
    """The cells of that way up to each step: `[STEPS, h, w]`."""
    return moving_cell(size).cumsum(0).clamp(max=1)
