"""From layers to an image and its exact part masks, in painter's order."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lis.generators.partworld.frames import Frame


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
    free, found = torch.ones_like(layers[0].alpha), []
    for layer in reversed(layers):
        found.append(free * layer.alpha)
        free = free * (1 - layer.alpha)
    return found[::-1]
