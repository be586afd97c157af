"""Concepts that units are compared with: parts, the figure, the background, quadrants and colours of an image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

COLOURS = {
    "black": (0, 0, 0), "white": (255, 255, 255), "grey": (128, 128, 128), "red": (200, 40, 40),
    "brown": (120, 75, 40), "tan": (210, 180, 140), "green": (60, 150, 60), "blue": (60, 100, 200),
}  # fmt: skip
"""Each colour by one of its kind in sRGB; a pixel has that which is nearest."""
QUADRANTS = ("upper left", "upper right", "lower left", "lower right")


@dataclass(frozen=True)
class ConceptSet:
    """Concepts by name."""

    names: tuple[str, ...]
    kinds: tuple[str, ...]
    """Of each: part, object, background, colour, quadrant or factor."""
    parts: tuple[str, ...]

    def masks(self, image: Tensor, parts: Tensor, size: int, factors: Tensor | None = None) -> Tensor:
        """Masks `[n, concepts, size, size]` bool.

        Args:
            image: `[n, 3, H, W]` in [-1, 1].
            parts: `[n, h, w]` integers, 0 background, k for `parts[k - 1]`.
            size: height and width of the masks in pixels.
            factors: `[n, factors]` bool, whether an image has each.
        """
        index = F.interpolate(parts[:, None].float(), (size, size), mode="nearest")[:, 0]
        labels = index[:, None] == torch.arange(1, 1 + len(self.parts), device=index.device)[:, None, None]
        background = (index == 0)[:, None]
        groups = [labels, *([~background, background] if self.parts else [])]
        groups += [_colour_masks(image, size), _quadrant_masks(size).to(index.device).expand(len(image), -1, -1, -1)]
        if factors is not None:
            groups.append(factors[..., None, None].expand(-1, -1, size, size))
        return torch.cat(groups, 1)


def concept_set(labels: Sequence[str], factor_names: Sequence[str] = ()) -> ConceptSet:
    """The concepts of a class set with parts of these labels.

    Example:
        >>> concept_set(["ear"]).names[:3]
        ('ear', 'figure', 'background')
    """
    whole = {"figure": "object", "background": "background"} if labels else {}
    kinds = dict.fromkeys(labels, "part") | whole | dict.fromkeys(COLOURS, "colour")
    kinds |= dict.fromkeys(QUADRANTS, "quadrant") | dict.fromkeys(factor_names, "factor")
    return ConceptSet(tuple(kinds), tuple(kinds.values()), tuple(labels))


def _colour_masks(image: Tensor, size: int) -> Tensor:
    small = (F.adaptive_avg_pool2d(image, size) + 1) * 127.5
    palette = torch.tensor([*COLOURS.values()], dtype=small.dtype, device=small.device)
    nearest = (small[:, None] - palette[:, :, None, None]).square().sum(2).argmin(1, keepdim=True)
    return nearest == torch.arange(len(COLOURS), device=small.device)[:, None, None]


def _quadrant_masks(size: int) -> Tensor:
    half = torch.arange(size) < size / 2
    rows, columns = (half, ~half), (half, ~half)
    return torch.stack([row[:, None] & column for row in rows for column in columns])
