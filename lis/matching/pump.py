"""PUMP (Revaud et al. 2022): matches that their neighbours agree with and that choose each other."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from lis.matches import Matches
from lis.matching.correlation import correlate
from lis.matching.neighbours import densify, filter_matches
from lis.matching.pyramid import Rule, climb, descend, returned
from lis.matching.reciprocal import BLOCK, best_of_blocks, best_pixels

__all__ = ["densify", "filter_matches", "match"]

_LARGEST = 2**26
"""Windows × cells that are worked on at once; more pairs are split."""


def match(
    descriptors1: Tensor,
    descriptors2: Tensor,
    *,
    stride: int = 4,
    power: float = 1.5,
    border: float = 0.9,
    min_shape: int = 5,
    levels: int | None = None,
) -> Matches | list[Matches]:
    """Matches of the cells of a grid on image 1 with pixels of image 2.

    Correlations max(⟨d₁, d₂⟩, 0)^power are averaged over larger and larger areas of image 1, each part of which may lie
    a little differently in image 2 (way up); what the areas find is added where their parts agree (way down). A match
    is a cell and a pixel that choose each other.

    Args:
        descriptors1: L2-normalised, `[channels, H1, W1]` at pixels 2, 6, 10, … of image 1; or `[n, channels, H1, W1]`.
        descriptors2: `[channels, H2, W2]` of every pixel of image 2; or `[n, channels, H2, W2]`.
        stride: pixels between two cells; 4.
        power: rectifies every level; 1 keeps values.
        border: how far what lies at the edge of image 2 is judged by the parts that can be seen there; 0 not, 1 fully.
        min_shape: the last level has a side of at most so many pixels.
        levels: at most so many levels above the correlations; None: all.

    Returns:
        Matches in the order of the cells, on the descriptors' device; with a batch dimension a list of them.

    Raises:
        ValueError: shapes that do not fit each other, or settings out of range.
    """
    _check(descriptors1, descriptors2, stride)
    rule = _rule(power, border, min_shape, levels)
    if descriptors1.ndim == 3:
        return _match(descriptors1[None].float(), descriptors2[None].float(), rule)[0]
    cells, (height, width) = descriptors1[0, 0].numel(), descriptors2.shape[-2:]
    at_once = max(4 * _LARGEST // (height * width * cells), 1)
    parts = zip(descriptors1.float().split(at_once), descriptors2.float().split(at_once), strict=True)
    return [found for part in parts for found in _match(*part, rule)]


def _check(descriptors1: Tensor, descriptors2: Tensor, stride: int) -> None:
    if stride != BLOCK:
        raise ValueError(f"stride={stride}: expected {BLOCK}, for which the pyramid's shifts hold; resize the images")
    shapes = tuple(descriptors1.shape), tuple(descriptors2.shape)
    if not len(shapes[0]) == len(shapes[1]) in (3, 4) or shapes[0][:-2] != shapes[1][:-2]:
        raise ValueError(
            f"descriptors of shapes {shapes[0]} and {shapes[1]}: expected [channels, h, w] or [n, channels, h, w] for "
            "both, with equal n and channels"
        )
    if min(shapes[0]) < 1 or min(shapes[1][-2:]) < 2:
        raise ValueError(f"descriptors of shapes {shapes[0]} and {shapes[1]}: expected a cell and 2 × 2 pixels or more")


def _rule(power: float, border: float, min_shape: int, levels: int | None) -> Rule:
    if not (power > 0 and 0 <= border <= 1 and min_shape >= 2 and (levels is None or levels >= 0)):
        raise ValueError(
            f"power={power}, border={border}, min_shape={min_shape}, levels={levels}: expected a power above 0, a "
            "border from 0 to 1, a min_shape of 2 or more, and levels of 0 or more"
        )
    return Rule(power, border, min_shape, 2**31 if levels is None else levels)


@torch.no_grad()
def _match(descriptors1: Tensor, descriptors2: Tensor, rule: Rule) -> list[Matches]:
    padded = F.pad(descriptors1, (0, 1, 0, 1))  # as many cells as corners, so that all levels have one grid
    cells = F.pad(torch.ones_like(descriptors1[0, 0]), (0, 1, 0, 1))
    correlation = correlate(padded.flatten(2), descriptors2, rule.power)
    if min(descriptors2.shape[-2:]) <= rule.min_shape:
        rule = replace(rule, levels=0)
    total = _votes(correlation.pooled.whole.unflatten(3, cells.shape), cells, rule).flatten(3)
    total += correlation.pooled.peak
    place, value = best_pixels(total, correlation)
    blocks = best_of_blocks(total, correlation)
    width = descriptors2.shape[-1]
    return [_reciprocal(*one, cells, width) for one in zip(place, value, blocks, strict=True)]


def _votes(below: Tensor, cells: Tensor, rule: Rule) -> Tensor:
    """What comes down to every window of every cell, `[n, h, w, G₁, G₂]`; 0 for the padding."""
    levels, pools = climb(below, cells, rule)
    if not levels:
        return torch.zeros_like(below)
    votes = returned(descend(levels, pools), 1)
    votes[..., -1, :], votes[..., -1] = 0, 0
    return votes


def _reciprocal(place: Tensor, value: Tensor, blocks: Tensor, cells: Tensor, width: int) -> Matches:
    """Cells whose best pixel lies in a block whose best cell they are; of equally good ones the first.

    Args:
        place, value: best pixel of every cell of the padded grid, `[cells]`.
        blocks: largest value of every block `[rows, columns]`.
        cells: 0 for padding, `[G₁, G₂]`.
        width: of image 2.
    """
    x, y = place % width, place // width
    block = y // BLOCK * blocks.shape[1] + x // BLOCK
    number = torch.arange(len(place), device=place.device)
    found = (cells.flatten() > 0) & (value > 0) & (value == blocks.flatten()[block])
    first = torch.full((blocks.numel(),), len(place), device=place.device)
    first.scatter_reduce_(0, block[found], number[found], "amin")
    kept = number[found & (first[block] == number)]
    row, column = kept // cells.shape[1], kept % cells.shape[1]
    xy1 = torch.stack([column, row], 1) * BLOCK + BLOCK // 2
    return Matches(xy1.float(), torch.stack([x, y], 1)[kept].float(), value[kept])
