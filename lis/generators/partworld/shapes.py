"""Signed-distance shapes on a posed pixel grid.

Distances are in frame units (the frame is [-1, 1]², y downwards), negative inside. Shape arguments are tensors
`[n, 1, 1]` or numbers, so one call draws a whole batch.
"""

from __future__ import annotations

import torch
from torch import Tensor

Number = Tensor | float
_TINY = 1e-9


class Canvas:
    """The pixel grid seen from a figure that was moved, scaled and rotated.

    Args:
        size: height and width in pixels.
        x, y: position of the figure's origin, `[n, 1, 1]`, frame units.
        scale: size of the figure, `[n, 1, 1]`.
        rotation: radians, `[n, 1, 1]`.
    """

    def __init__(self, size: int, x: Tensor, y: Tensor, scale: Tensor, rotation: Tensor) -> None:
        ticks = (torch.arange(size, device=x.device, dtype=x.dtype) + 0.5) / size * 2 - 1
        self.frame_x, self.frame_y = ticks[None, None, :], ticks[None, :, None]
        dx, dy = (self.frame_x - x) / scale, (self.frame_y - y) / scale
        cos, sin = torch.cos(rotation), torch.sin(rotation)
        self.x, self.y = dx * cos + dy * sin, dy * cos - dx * sin
        self._sharpness = scale * size * 1.5

    def coverage(self, distance: Tensor) -> Tensor:
        """Anti-aliased opacity `[n, size, size]` in [0, 1] of a shape: its edge is about one pixel wide."""
        return torch.sigmoid(-distance * self._sharpness)

    def circle(self, x: Number, y: Number, radius: Number) -> Tensor:
        """Disc of a radius around (x, y)."""
        return torch.sqrt((self.x - x) ** 2 + (self.y - y) ** 2 + _TINY) - radius

    def ellipse(self, x: Number, y: Number, a: Tensor, b: Tensor, angle: Tensor | None = None) -> Tensor:
        """Ellipse with half axes a (along `angle`) and b; the distance is exact at the edge to first order."""
        dx, dy = self.x - x, self.y - y
        if angle is not None:
            cos, sin = torch.cos(angle), torch.sin(angle)
            dx, dy = dx * cos + dy * sin, dy * cos - dx * sin
        return (torch.sqrt((dx / a) ** 2 + (dy / b) ** 2 + _TINY) - 1) * torch.minimum(a, b)

    def limb(self, start: tuple[Number, Number], end: tuple[Number, Number], r0: Number, r1: Number) -> Tensor:
        """Capsule between two points whose radius runs from r0 to r1."""
        (x0, y0), (x1, y1) = start, end
        ax, ay = x1 - x0, y1 - y0
        t = (((self.x - x0) * ax + (self.y - y0) * ay) / (ax**2 + ay**2 + 1e-6)).clamp(0, 1)
        return torch.sqrt((self.x - x0 - t * ax) ** 2 + (self.y - y0 - t * ay) ** 2 + _TINY) - (r0 + (r1 - r0) * t)
