"""Signed-distance shapes on a posed pixel grid, each with the frame that its points move with.

Distances are in frame units (the frame is [-1, 1]², y downwards), negative inside. Shape arguments are tensors
`[n, 1, 1]` or numbers, so one call draws a whole batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lis.generators.partworld.frames import Frame, Limb, Number, Oval
from lis.generators.partworld.paint import Layer

_TINY = 1e-9


@dataclass(frozen=True)
class Shape:
    """Where a shape is, and which simple shapes it is made of.

    Attributes:
        distance: `[n, h, w]`, negative inside.
        made_of: distance and frame of each disc, ellipse and limb; a point inside belongs to the nearest one.
    """

    distance: Tensor
    made_of: tuple[tuple[Tensor, Frame], ...]

    def with_(self, *others: Shape) -> Shape:
        """This shape or any of the others."""
        distance = self.distance
        for other in others:
            distance = torch.minimum(distance, other.distance)
        return Shape(distance, sum((other.made_of for other in others), self.made_of))

    def within(self, distance: Tensor) -> Shape:
        """What of it lies where another distance is negative; its points move as before."""
        return Shape(torch.maximum(self.distance, distance), self.made_of)


class Canvas:
    """The pixel grid seen from a figure that was moved, scaled and rotated.

    Args:
        size: height and width in pixels.
        x, y: position of the figure's origin, `[n, 1, 1]`, frame units.
        scale: size of the figure, `[n, 1, 1]`.
        rotation: radians, `[n, 1, 1]`.
        points: other places than the pixels, in frame units: across and down, `[n, h, w]` each.
    """

    def __init__(
        self,
        size: int,
        x: Tensor,
        y: Tensor,
        scale: Tensor,
        rotation: Tensor,
        points: tuple[Tensor, Tensor] | None = None,
    ) -> None:
        ticks = (torch.arange(size, device=x.device, dtype=x.dtype) + 0.5) / size * 2 - 1
        self.frame_x, self.frame_y = points or (ticks[None, None, :], ticks[None, :, None])
        dx, dy = (self.frame_x - x) / scale, (self.frame_y - y) / scale
        self._cos, self._sin = torch.cos(rotation), torch.sin(rotation)
        self.x, self.y = dx * self._cos + dy * self._sin, dy * self._cos - dx * self._sin
        self._at, self._scale = (x, y), scale
        self._sharpness = scale * size * 1.5

    def in_frame(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Where points of the figure, in its own units, lie in the frame."""
        across, down = x * self._cos - y * self._sin, x * self._sin + y * self._cos
        return self._at[0] + self._scale * across, self._at[1] + self._scale * down

    def layer(self, label: str, shape: Shape, colour: Tensor, detail: str = "") -> Layer:
        """A shape in a colour; its edge is anti-aliased, about one pixel wide."""
        return Layer(label, torch.sigmoid(-shape.distance * self._sharpness), colour, detail, shape.made_of)

    def circle(self, x: Number, y: Number, radius: Number) -> Shape:
        """Disc of a radius around (x, y)."""
        distance = torch.sqrt((self.x - x) ** 2 + (self.y - y) ** 2 + _TINY) - radius
        return Shape(distance, ((distance, Oval(x, y, radius, radius)),))

    def ellipse(self, x: Number, y: Number, a: Tensor, b: Tensor, angle: Tensor | None = None) -> Shape:
        """Ellipse with half axes a (along `angle`) and b; the distance is exact at the edge to first order."""
        dx, dy = self.x - x, self.y - y
        if angle is not None:
            cos, sin = torch.cos(angle), torch.sin(angle)
            dx, dy = dx * cos + dy * sin, dy * cos - dx * sin
        distance = (torch.sqrt((dx / a) ** 2 + (dy / b) ** 2 + _TINY) - 1) * torch.minimum(a, b)
        return Shape(distance, ((distance, Oval(x, y, a, b, angle)),))

    def limb(self, start: tuple[Number, Number], end: tuple[Number, Number], r0: Number, r1: Number) -> Shape:
        """Capsule between two points whose radius runs from r0 to r1."""
        (x0, y0), (x1, y1) = start, end
        ax, ay = x1 - x0, y1 - y0
        t = (((self.x - x0) * ax + (self.y - y0) * ay) / (ax**2 + ay**2 + 1e-6)).clamp(0, 1)
        radius = r0 + (r1 - r0) * t
        distance = torch.sqrt((self.x - x0 - t * ax) ** 2 + (self.y - y0 - t * ay) ** 2 + _TINY) - radius
        return Shape(distance, ((distance, Limb(start, end, r0, r1)),))
