"""Where every pixel of a figure goes when its factors change: what a matcher of images should find.

A point belongs to the layer that is painted over it, and in that layer to the nearest of its simple shapes; it moves
with the frame of that shape (`Frame`) and with the pose of the figure. Paint is not asked: the stripes of a body,
the ribs of a cap and the bars of a wing have frames of their own and do not stretch when their part grows.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lis.generators.partworld.drawing import Canvas, FigureSet, Layer, shares

VISIBLE = 0.5
"""A layer is seen in a pixel of which it covers more than this share."""
KINDS = ("pose", "parts", "colours")
"""What a factor can change."""
NEAR = 4.0
"""Pixels within which a displacement counts as found."""
_POSE = ("x", "y", "scale", "rotation")
_PAINT = ("hue", "lightness", "saturation", "contrast", "marking", "texture", "bars")
"""In the names of factors that move nothing."""


def kind_of(factor: str) -> str:
    """What a factor changes: the `pose`, a shape (`parts`), or paint alone (`colours`).

    Example:
        >>> kind_of("x"), kind_of("ear_length"), kind_of("fur_texture")
        ('pose', 'parts', 'colours')
    """
    if factor in _POSE:
        return "pose"
    return "colours" if any(word in factor for word in _PAINT) else "parts"


@torch.no_grad()
def displacement(figures: FigureSet, first: Tensor, last: Tensor, size: int = 64) -> Tensor:
    """How far the point in every pixel moves from one setting of the factors to another.

    Args:
        figures: the set.
        first: latent factors `[n, factors]` of the pictures whose pixels are asked for.
        last: latent factors `[n, factors]` after the change.
        size: height and width in pixels.

    Returns:
        `[n, size, size, 2]` pixels, to the right and down; NaN in the background, and where the point is hidden in
        either picture or leaves the frame.
    """
    _, canvas, layers = figures.layers(first, size)
    _, moved, targets = figures.layers(last, size)
    share, seen = torch.stack(shares(layers), 1).max(1)
    x, y = _followed(layers, targets, canvas, moved, seen)
    _, _, there = figures.layers(last, size, (x, y))
    still = torch.stack(shares(there), 1).gather(1, seen[:, None])[:, 0]
    known = (share > VISIBLE) & (still > VISIBLE) & (x.abs() < 1) & (y.abs() < 1)
    field = torch.stack([x - canvas.frame_x, y - canvas.frame_y], 3) * size / 2
    return field.where(known[..., None], torch.nan)


def _followed(
    layers: list[Layer], targets: list[Layer], canvas: Canvas, moved: Canvas, seen: Tensor
) -> tuple[Tensor, Tensor]:
    """Where the points of the layer `seen [n, h, w]` in every pixel lie after the change, in frame units."""
    x, y = torch.zeros_like(canvas.x), torch.zeros_like(canvas.y)
    for index, (layer, target) in enumerate(zip(layers, targets, strict=True)):
        nearest = torch.stack([distance for distance, _ in layer.made_of]).argmin(0)
        for part, ((_, here), (_, there)) in enumerate(zip(layer.made_of, target.made_of, strict=True)):
            followed = (seen == index) & (nearest == part)
            to_x, to_y = moved.in_frame(*there.to_figure(*here.to_shape(canvas.x, canvas.y)))
            x, y = torch.where(followed, to_x, x), torch.where(followed, to_y, y)
    return x, y
