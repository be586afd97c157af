"""Pictures with texture everywhere, and the same after a known affine map."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from lis.matching.affine import about_centre, apply, invert
from lis.types import pixel_grid


def textured(size: int = 64, seed: int = 0) -> Tensor:
    """`[1, 3, size, size]` in [-1, 1]: blobs of three sizes in colour."""
    rng = torch.Generator().manual_seed(seed)
    layers = [
        F.interpolate(torch.randn(1, 3, cells, cells, generator=rng), (size, size), mode="bicubic", align_corners=False)
        for cells in (size // 3, size // 6, size // 12)
    ]
    return torch.tanh(torch.stack(layers).sum(0) / 2)


def map_of(degrees: float = 0.0, scale: float = 1.0, shift: tuple[float, float] = (0.0, 0.0), size: int = 64) -> Tensor:
    """Turns counter-clockwise as seen about the centre, scales and shifts: `[2, 3]` float64."""
    angle = -math.radians(degrees)
    turn = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]], dtype=torch.float64)
    return about_centre(scale * turn, torch.tensor(shift, dtype=torch.float64), (size, size))


def moved(picture: Tensor, matrix: Tensor) -> Tensor:
    """The picture whose pixel M p shows what pixel p showed, bilinearly, with its edges drawn out."""
    height, width = picture.shape[-2:]
    source = apply(invert(matrix), pixel_grid(height, width).double())
    place = source * 2 / (torch.tensor([width, height]).double() - 1) - 1
    return F.grid_sample(
        picture.double(), place.expand(len(picture), -1, -1, -1), "bilinear", "border", align_corners=True
    ).float()


def true_field(matrix: Tensor, size: int = 64) -> Tensor:
    """`[size, size, 2]`."""
    grid = pixel_grid(size, size).double()
    return (apply(matrix, grid) - grid).float()


def inner_error(field: Tensor, matrix: Tensor, margin: int = 12) -> Tensor:
    """End-point errors of a field `[size, size, 2]` away from the edges, pixels."""
    inside = slice(margin, -margin)
    return (field - true_field(matrix, len(field))).norm(dim=-1)[inside, inside]
