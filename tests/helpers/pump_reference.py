"""PUMP step by step on the whole four-dimensional volume, as the method is described; slow and plain."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

TINY = 1e-8


def plain_match(descriptors1: Tensor, descriptors2: Tensor, power: float = 1.5, border: float = 0.9) -> Tensor:
    """Matches `[n, 5]` (x1, y1, x2, y2, score) of two descriptor maps `[channels, h, w]`, in the order of the cells."""
    return reciprocal(final_volume(descriptors1, descriptors2, power, border))


def final_volume(descriptors1: Tensor, descriptors2: Tensor, power: float = 1.5, border: float = 0.9) -> Tensor:
    """Level 0 after the way up and down, `[h1, w1, h2, w2]`."""
    pyramid = forward(descriptors1, descriptors2, power, border)
    for level in range(len(pyramid) - 1, 0, -1):
        lower = pyramid[level - 1]
        pyramid[level - 1] = lower + scattered(lower, children_votes(pyramid[level], level, lower.shape[:2]))
    return pyramid[0]


def forward(descriptors1: Tensor, descriptors2: Tensor, power: float = 1.5, border: float = 0.9) -> list[Tensor]:
    """All levels on the way up."""
    volume = torch.einsum("cij,ckl->ijkl", descriptors1, descriptors2).clamp(min=0) ** power
    pyramid, weight = [volume], torch.ones(volume.shape[:2], dtype=volume.dtype)
    while min(pyramid[-1].shape[2:]) > 5:
        value, weight = parents(pyramid[-1], weight, len(pyramid), border)
        if weight.sum() == 0:
            break
        pyramid.append(value.clamp(min=0) ** power)
    return pyramid


def parents(lower: Tensor, weight: Tensor, level: int, border: float) -> tuple[Tensor, Tensor]:
    """Weighted mean of the shifted children of every parent, and what the parents weigh."""
    children = F.max_pool2d(lower, 3, 2, 1) * weight[:, :, None, None]
    weights = weight[:, :, None, None].expand_as(children)
    rows, columns = (size + 1 if level == 1 else size for size in weight.shape)
    shape = (rows, columns, *children.shape[2:])
    value, norm = children.new_zeros(shape), children.new_full(shape, TINY)
    centre = children.new_zeros(rows, columns)
    for a, b in ((-1, -1), (-1, 1), (1, -1), (1, 1)):
        value += moved(children, shift(a, level), shift(b, level), a, b, shape)
        norm += moved(weights, shift(a, level), shift(b, level), a, b, shape)
        centre += moved(weight[:, :, None, None], shift(a, level), shift(b, level), 0, 0, (rows, columns, 1, 1))[
            ..., 0, 0
        ]
    return value / ((centre + TINY)[:, :, None, None] ** (1 - border) * norm**border), centre


def children_votes(upper: Tensor, level: int, cells: torch.Size) -> Tensor:
    """For every child the largest of its parents, shifted back."""
    shape = (*cells, *upper.shape[2:])
    votes = upper.new_zeros(shape)
    for a, b in ((-1, -1), (-1, 1), (1, -1), (1, 1)):
        votes = torch.maximum(votes, moved(upper, -shift(a, level), -shift(b, level), -a, -b, shape))
    return votes


def scattered(lower: Tensor, votes: Tensor) -> Tensor:
    """Every vote at the place of its window's maximum, the largest where several meet."""
    inside = lower[:, :, :-1, :-1]
    place = F.max_pool2d(inside, 3, 2, 1, ceil_mode=True, return_indices=True)[1]
    given = torch.zeros_like(inside).flatten(2)
    given.scatter_reduce_(2, place.flatten(2), votes.flatten(2), "amax")
    return F.pad(given.view(inside.shape), (0, 1, 0, 1))


def reciprocal(volume: Tensor) -> Tensor:
    """Cells and pixels that choose each other."""
    _, w1, _, w2 = volume.shape
    found = []
    for cell, values in enumerate(volume.flatten(0, 1)):
        pixel = int(values.argmax())
        y, x = divmod(pixel, w2)
        block = volume[:, :, y // 4 * 4 : y // 4 * 4 + 4, x // 4 * 4 : x // 4 * 4 + 4]
        if int(block.flatten(2).amax(-1).argmax()) == cell and float(block.max()) == float(values[y, x]):
            r, c = divmod(cell, w1)
            found.append([4.0 * c + 2, 4.0 * r + 2, x, y, float(values[y, x])])
    return torch.tensor(found).reshape(-1, 5)


def moved(volume: Tensor, rows: int, columns: int, down: int, right: int, shape: tuple[int, ...]) -> Tensor:
    """out[r, c, y, x] = volume[r + rows, c + columns, y + down, x + right] for a `shape`, 0 outside."""
    for side, by in enumerate((rows, columns, down, right)):
        at = torch.arange(shape[side]) + by
        inside = (at >= 0) & (at < volume.shape[side])
        there = volume.index_select(side, at.clamp(0, volume.shape[side] - 1))
        volume = there * inside.reshape([-1 if k == side else 1 for k in range(4)])
    return volume


def shift(direction: int, level: int) -> int:
    """From a parent to its child along a side of image 1's grid: the cells around a corner, or corners at a gap."""
    if level == 1:
        return min(direction, 0)
    return direction * 2 ** (level - 2)
