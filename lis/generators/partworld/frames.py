"""The frame that the points of a simple shape move with, when its centre, ends or radii change.

A point keeps its coordinates in the frame of its shape: a share of the radius, or of the way along a limb. All values
are in the figure's units, y downwards; arguments are tensors `[n, 1, 1]` or numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

Number = Tensor | float
Point = tuple[Number, Number]


class Frame(Protocol):
    """Between the figure's coordinates and those of a shape; `placed` undoes `own`."""

    def own(self, x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        """Coordinates in the shape of points `[n, h, w]` of the figure."""
        ...

    def placed(self, *own: Tensor) -> tuple[Tensor, Tensor]:
        """Points of the figure, across and down, of coordinates in the shape."""
        ...


@dataclass(frozen=True)
class Oval:
    """A disc or ellipse around (x, y) with half axes a (along `angle`, radians) and b: the unit circle, stretched."""

    x: Number
    y: Number
    a: Number
    b: Number
    angle: Tensor | None = None

    def own(self, x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        """Shares of the half axes."""
        along, across = x - self.x, y - self.y
        if self.angle is not None:
            along, across = _turned(along, across, -self.angle)
        return along / self.a, across / self.b

    def placed(self, *own: Tensor) -> tuple[Tensor, Tensor]:
        """Points of the figure."""
        along, across = own[0] * self.a, own[1] * self.b
        if self.angle is not None:
            along, across = _turned(along, across, self.angle)
        return self.x + along, self.y + across


@dataclass(frozen=True)
class Limb:
    """A capsule from `start` to `end` whose radius runs from r0 to r1."""

    start: Point
    end: Point
    r0: Number
    r1: Number

    def own(self, x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        """The nearest place on the axis, from 0 to 1, and the way from there along and across, in radii."""
        ax, ay, length = self._axis()
        dx, dy = x - self.start[0], y - self.start[1]
        t = ((dx * ax + dy * ay) / length**2).clamp(0, 1)
        rx, ry = (dx - t * ax) / self._radius(t), (dy - t * ay) / self._radius(t)
        return t, (rx * ax + ry * ay) / length, (ry * ax - rx * ay) / length

    def placed(self, *own: Tensor) -> tuple[Tensor, Tensor]:
        """Points of the figure."""
        ax, ay, length = self._axis()
        t, along, across = own
        reach = self._radius(t) / length
        x = self.start[0] + t * ax + reach * (along * ax - across * ay)
        y = self.start[1] + t * ay + reach * (along * ay + across * ax)
        return x, y

    def _axis(self) -> tuple[Tensor, Tensor, Tensor]:
        """From start to end, and its length."""
        ax, ay = torch.as_tensor(self.end[0] - self.start[0]), torch.as_tensor(self.end[1] - self.start[1])
        return ax, ay, torch.sqrt(ax**2 + ay**2)

    def _radius(self, t: Tensor) -> Tensor:
        return self.r0 + (self.r1 - self.r0) * t


def _turned(x: Tensor, y: Tensor, angle: Tensor) -> tuple[Tensor, Tensor]:
    """Vectors turned by an angle from the first axis towards the second."""
    cos, sin = torch.cos(angle), torch.sin(angle)
    return x * cos - y * sin, x * sin + y * cos
