"""Masks of parts: exact ones, where the generator knows its parts, and smaller ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.nn import functional as F


@runtime_checkable
class TrueParts(Protocol):
    """A generator that knows where the parts of its images are."""

    labels: tuple[str, ...]

    def render(self, w: Tensor) -> tuple[Tensor, Tensor]:
        """The true picture `[n, 3, H, W]` of `w [n, w_dim]`, and its part masks `[n, labels, H, W]` in [0, 1]."""
        ...


def exact_masks(generator: object, w: Tensor, labels: Sequence[str], size: int) -> Tensor:
    """Masks `[n, size, size]` uint8 of `w [n, w_dim]`: the label, or background, with the largest share of a pixel.

    Raises:
        ValueError: the generator does not know its parts, or not all of the labels.
    """
    if not isinstance(generator, TrueParts):
        raise ValueError("this generator does not know its parts: expected one with `labels` and `render`")
    if unknown := [name for name in labels if name not in generator.labels]:
        raise ValueError(f"the generator has no part {unknown[0]!r}, expected some of {', '.join(generator.labels)}")
    shares = generator.render(w)[1][:, [generator.labels.index(name) for name in labels]]
    whole = torch.cat([1 - shares.sum(1, keepdim=True), shares], 1)
    return F.adaptive_avg_pool2d(whole, size).argmax(1).to(torch.uint8)


def reduced_masks(masks: Tensor, labels: int, size: int) -> Tensor:
    """Masks `[n, size, size]` uint8 of larger ones `[n, h, w]`: the value with the largest share of a pixel.

    Example:
        >>> reduced_masks(torch.tensor([[[1, 1], [0, 2]]], dtype=torch.uint8), 2, 1).tolist()
        [[[1]]]
    """
    if masks.shape[-1] == size:
        return masks
    shares = [F.one_hot(mask.long(), 1 + labels).permute(2, 0, 1).float() for mask in masks]
    return torch.stack([F.adaptive_avg_pool2d(share, size).argmax(0) for share in shares]).to(torch.uint8)
