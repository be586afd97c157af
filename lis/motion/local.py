"""How strongly each part moves within a figure, once the movement of the whole is taken out (paper §3.2, S5.2)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Local:
    """Of one field; K labels."""

    figure: Tensor
    """Mean length over all parts, pixels; over the whole picture where no parts are known. A number, or NaN."""
    strength: Tensor
    """Mean length over the pixels of each part, `[K]` float32 pixels; NaN for a part that is nowhere known."""
    drift: Tensor
    """Mean displacement of each part, `[K, 2]` float32 pixels, to the right and down."""


def local_motion(field: Tensor, mask: Tensor, labels: int) -> Local:
    """What a field does to the parts of its first picture.

    Args:
        field: displacement `[H, W, 2]` in pixels, NaN where it is not known.
        mask: parts of the first picture, `[h, w]` integers: 0 background, then the labels; enlarged to the field.
        labels: how many there are.

    Example:
        >>> field = torch.tensor([[[3.0, 4.0], [0.0, 0.0], [0.0, 1.0]]])
        >>> found = local_motion(field, torch.tensor([[1, 0, 2]]), 3)
        >>> found.figure.item(), found.strength.tolist(), found.drift[0].tolist()
        (3.0, [5.0, 1.0, nan], [3.0, 4.0])
    """
    at = enlarged(mask, (field.shape[0], field.shape[1]))
    known, length = ~field.isnan().any(2), field.norm(dim=2)
    figure = length[known & (at > 0 if labels else torch.ones_like(known))].mean()
    own = [known & (at == label) for label in range(1, labels + 1)]
    strength = [length[part].mean() for part in own]
    drift = [field[part].mean(0) for part in own]
    return Local(figure, torch.stack(strength), torch.stack(drift)) if labels else Local(figure, *_none())


def enlarged(mask: Tensor, size: tuple[int, int]) -> Tensor:
    """A mask `[h, w]` of integers at another size, each pixel from the nearest one."""
    return F.interpolate(mask[None, None].float(), size=size, mode="nearest")[0, 0].to(mask.dtype)


def _none() -> tuple[Tensor, Tensor]:
    return torch.empty(0), torch.empty(0, 2)
