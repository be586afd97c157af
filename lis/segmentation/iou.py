"""How well masks agree: intersection over union, from counts of pixels."""

from __future__ import annotations

import torch
from torch import Tensor


def confusions(true: Tensor, predicted: Tensor, labels: int) -> Tensor:
    """Pixels of every image by true and predicted value: `[n, 1 + labels, 1 + labels]` int64.

    Args:
        true: masks `[n, h, w]` of integers from 0 (background) to `labels`.
        predicted: masks of the same shape.
        labels: number of parts.

    Raises:
        ValueError: masks of different shapes, or a value that is no label.

    Example:
        >>> confusions(torch.tensor([[[0, 1]]]), torch.tensor([[[1, 1]]]), 1).tolist()
        [[[0, 1], [0, 1]]]
    """
    if true.shape != predicted.shape:
        raise ValueError(f"masks of shape {list(true.shape)} and {list(predicted.shape)}: expected the same")
    values, n = 1 + labels, len(true)
    both = torch.stack([true.flatten(1).long(), predicted.flatten(1).long()])
    if both.numel() and not 0 <= int(both.min()) <= int(both.max()) <= labels:
        raise ValueError(f"a mask has values from {int(both.min())} to {int(both.max())}: expected 0 to {labels}")
    cells = torch.arange(n, device=true.device)[:, None] * values**2 + both[0] * values + both[1]
    return torch.bincount(cells.flatten(), minlength=n * values**2).view(n, values, values)


def iou(confusion: Tensor) -> Tensor:
    """|A ∩ B| / |A ∪ B| of every label: `[..., labels]` float64 of counts `[..., 1 + labels, 1 + labels]`.

    NaN where a label is in neither mask. Sum the counts of many images for the IoU over all of their pixels.

    Example:
        >>> iou(torch.tensor([[5, 1, 0], [1, 2, 0], [0, 0, 0]])).tolist()
        [0.5, nan]
    """
    both = confusion.diagonal(dim1=-2, dim2=-1).double()
    either = confusion.sum(-1) + confusion.sum(-2) - both
    return (both / either)[..., 1:]
