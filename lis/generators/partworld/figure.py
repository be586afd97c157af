"""What a set of figures is: factors with ranges, part labels, class means, and a drawing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from lis.generators.partworld.paint import Layer, backdrop, composite, visible
from lis.generators.partworld.shapes import Canvas


def pose(smallest: float, largest: float) -> dict[str, tuple[float, float]]:
    """Ranges of the pose: position in frame units, a set's range of sizes, rotation in radians."""
    return {"x": (-0.12, 0.12), "y": (-0.09, 0.09), "scale": (smallest, largest), "rotation": (-0.20, 0.20)}


BACKGROUND = {"background_hue": (0.25, 0.70), "background_lightness": (0.45, 0.85)}
"""Hue as a share of the colour circle; lightness in [0, 1]."""
_SLOPE = 1.3

Values = Mapping[str, Tensor]


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
