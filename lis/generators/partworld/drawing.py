"""What a set of figures is: factors with ranges, part labels, class means, and a drawing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

BACKGROUND = {"background_hue": (0.25, 0.70), "background_lightness": (0.45, 0.85)}
"""Hue as a share of the colour circle; lightness in [0, 1]."""
_SLOPE, _TINY = 1.3, 1e-9
Values = Mapping[str, Tensor]
Number = Tensor | float
Point = tuple[Number, Number]


def pose(smallest: float, largest: float) -> dict[str, tuple[float, float]]:
    """Ranges of the pose: position in frame units, a set's range of sizes, rotation in radians."""
    return {"x": (-0.12, 0.12), "y": (-0.09, 0.09), "scale": (smallest, largest), "rotation": (-0.20, 0.20)}


def ray(start: Point, length: Tensor, angle: Tensor) -> Point:
    """The point at a distance from another, at an angle from the right upwards (radians)."""
    return start[0] + length * torch.cos(angle), start[1] - length * torch.sin(angle)


@dataclass(frozen=True)
class FigureSet:
    """A family of figures whose every picture is a function of its factors.

    Attributes:
        name: `dogs`, `fungi` or `birds`.
        labels: part names, in the order of the mask channels.
        details: names under which the layers are reported one by one.
        ranges: factor name → (lowest, highest value), in the order of the factor vector.
        classes: class name → {factor: mean in latent units}; factors that are not named have mean 0.
        separation: scale of those means; with the spread it makes classes overlap by a few per cent.
        draw: the figure's layers, back to front, from named factor values `[n, 1, 1]` on a canvas.
    """

    name: str
    labels: tuple[str, ...]
    details: tuple[str, ...]
    ranges: Mapping[str, tuple[float, float]]
    classes: Mapping[str, Mapping[str, float]]
    separation: float
    draw: Callable[[Values, Canvas], list[Layer]]

    @property
    def factor_names(self) -> tuple[str, ...]:
        """Names of the factors, in order."""
        return tuple(self.ranges)

    def values(self, u: Tensor) -> dict[str, Tensor]:
        """Named factor values `[n, 1, 1]` of latent factors `u [n, factors]`: low + (high − low)·σ(1.3 u)."""
        if u.ndim != 2 or u.shape[1] != len(self.ranges):
            raise ValueError(f"factors must be [n, {len(self.ranges)}] for {self.name}, got {tuple(u.shape)}")
        limits = torch.tensor(list(self.ranges.values()), device=u.device, dtype=u.dtype)
        value = limits[:, 0] + (limits[:, 1] - limits[:, 0]) * torch.sigmoid(_SLOPE * u)
        return {name: value[:, i, None, None] for i, name in enumerate(self.ranges)}

    def render(self, u: Tensor, size: int = 64, by_detail: bool = False) -> tuple[Tensor, Tensor]:
        """Draw figures; differentiable with respect to `u`.

        Args:
            u: latent factors `[n, factors]`, any real numbers.
            size: height and width in pixels.
            by_detail: masks per detail instead of per label.

        Returns:
            image `[n, 3, size, size]` in [-1, 1] and masks `[n, labels, size, size]` in [0, 1]; masks add up to at
            most 1 in every pixel, the rest is background.
        """
        value, canvas, layers = self.layers(u, size)
        sky = backdrop(value["background_hue"], value["background_lightness"], canvas.frame_y)
        image = composite(sky, layers) * 2 - 1
        return image, visible(layers, self.details if by_detail else self.labels, by_detail)

    def layers(
        self, u: Tensor, size: int = 64, points: tuple[Tensor, Tensor] | None = None
    ) -> tuple[dict[str, Tensor], Canvas, list[Layer]]:
        """What figures are painted from: factor values, the posed grid, and the layers on it, back to front.

        Args:
            u: latent factors `[n, factors]`.
            size: height and width in pixels.
            points: other places than the pixels, in frame units: across and down, `[n, h, w]` each.
        """
        value = self.values(u)
        canvas = Canvas(size, value["x"], value["y"], value["scale"], value["rotation"], points)
        return value, canvas, self.draw(value, canvas)


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
            dx, dy = _turned(dx, dy, -angle)
        distance = (torch.sqrt((dx / a) ** 2 + (dy / b) ** 2 + _TINY) - 1) * torch.minimum(a, b)
        return Shape(distance, ((distance, Oval(x, y, a, b, angle)),))

    def limb(self, start: Point, end: Point, r0: Number, r1: Number) -> Shape:
        """Capsule between two points whose radius runs from r0 to r1."""
        (x0, y0), (x1, y1) = start, end
        ax, ay = x1 - x0, y1 - y0
        t = (((self.x - x0) * ax + (self.y - y0) * ay) / (ax**2 + ay**2 + 1e-6)).clamp(0, 1)
        radius = r0 + (r1 - r0) * t
        distance = torch.sqrt((self.x - x0 - t * ax) ** 2 + (self.y - y0 - t * ay) ** 2 + _TINY) - radius
        return Shape(distance, ((distance, Limb(start, end, r0, r1)),))


@dataclass(frozen=True)
class Layer:
    """One painted shape.

    Attributes:
        label: the part that it belongs to.
        alpha: opacity `[n, h, w]` in [0, 1].
        colour: `[n, 3, 1, 1]` or `[n, 3, h, w]`, RGB; clamped to [0, 1] when painted.
        detail: a name for what is reported apart from its part (`spot` on a cap); default: the label.
        made_of: distance `[n, h, w]` and frame of each simple shape in it; a point belongs to the nearest one.
    """

    label: str
    alpha: Tensor
    colour: Tensor
    detail: str = ""
    made_of: tuple[tuple[Tensor, Frame], ...] = ()


def hsl(hue: Tensor, saturation: Tensor | float, lightness: Tensor) -> Tensor:
    """RGB `[n, 3, 1, 1]` in [0, 1] of hue (a turn is 1), saturation and lightness, each `[n, 1, 1]` in [0, 1]."""
    offsets = torch.tensor([0.0, 8.0, 4.0], device=hue.device, dtype=hue.dtype).view(1, 3, 1, 1)
    k = (offsets + hue[:, None] * 12) % 12
    chroma = saturation * torch.minimum(lightness, 1 - lightness)
    return lightness[:, None] - chroma[:, None] * torch.minimum(k - 3, 9 - k).clamp(-1, 1)


def backdrop(hue: Tensor, lightness: Tensor, frame_y: Tensor) -> Tensor:
    """Sky above darker ground `[n, 3, h, 1]`; the soft horizon lies a third of the way up."""
    sky = hsl(hue, 0.35, lightness)
    ground = torch.sigmoid((frame_y - 0.35) / 0.03)[:, None]
    return sky * (1 - 0.28 * ground)


def composite(background: Tensor, layers: list[Layer]) -> Tensor:
    """Paint layers, first to last, over a background: `[n, 3, h, w]` in [0, 1]."""
    image = background
    for layer in layers:
        alpha = layer.alpha[:, None]
        image = image * (1 - alpha) + layer.colour.clamp(0, 1) * alpha
    return image


def visible(layers: list[Layer], names: tuple[str, ...], by_detail: bool = False) -> Tensor:
    """Share of every pixel that each name covers, after later layers hid what lies under them.

    Args:
        names: labels (or details) in the order of the channels.
        by_detail: read the layers' `detail` where they have one.

    Returns:
        `[n, len(names), h, w]` in [0, 1]; what is missing to 1 is background.
    """
    masks: dict[str, Tensor] = {name: torch.zeros_like(layers[0].alpha) for name in names}
    for layer, share in zip(reversed(layers), reversed(shares(layers)), strict=True):
        name = layer.detail if by_detail and layer.detail else layer.label
        masks[name] = masks[name] + share
    return torch.stack([masks[name] for name in names], 1)


def shares(layers: list[Layer]) -> list[Tensor]:
    """Share of every pixel that each layer covers after later layers hid what lies under them: `[n, h, w]` each."""
    free, result = torch.ones_like(layers[0].alpha), []
    for layer in reversed(layers):
        result.append(free * layer.alpha)
        free = free * (1 - layer.alpha)
    return result[::-1]


@dataclass(frozen=True)
class Oval:
    """A disc or ellipse around (x, y) with half axes a (along `angle`, radians) and b: the unit circle, stretched."""

    x: Number
    y: Number
    a: Number
    b: Number
    angle: Tensor | None = None

    def to_shape(self, x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        """Shares of the half axes."""
        along, across = x - self.x, y - self.y
        if self.angle is not None:
            along, across = _turned(along, across, -self.angle)
        return along / self.a, across / self.b

    def to_figure(self, *coordinates: Tensor) -> tuple[Tensor, Tensor]:
        """Points of the figure."""
        along, across = coordinates[0] * self.a, coordinates[1] * self.b
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

    def to_shape(self, x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        """The nearest place on the axis, from 0 to 1, and the way from there along and across, in radii."""
        ax, ay, length = self._axis()
        dx, dy = x - self.start[0], y - self.start[1]
        t = ((dx * ax + dy * ay) / length**2).clamp(0, 1)
        rx, ry = (dx - t * ax) / self._radius(t), (dy - t * ay) / self._radius(t)
        return t, (rx * ax + ry * ay) / length, (ry * ax - rx * ay) / length

    def to_figure(self, *coordinates: Tensor) -> tuple[Tensor, Tensor]:
        """Points of the figure."""
        ax, ay, length = self._axis()
        t, along, across = coordinates
        width = self._radius(t) / length
        x = self.start[0] + t * ax + width * (along * ax - across * ay)
        y = self.start[1] + t * ay + width * (along * ay + across * ax)
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


Frame = Oval | Limb
"""Between the figure's coordinates and those of a shape: `to_figure` undoes `to_shape`."""
