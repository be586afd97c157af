"""Sparsity of a vector of changes: does a perturbation touch one label, or many? (paper Eq. 2)."""

from __future__ import annotations

import torch
from torch import Tensor


def hoyer(x: Tensor, dim: int = -1) -> Tensor:
    """Hoyer's sparsity s(x) = (√k − ‖x‖₁ / ‖x‖₂) / (√k − 1), paper Eq. 2: 1 for a single entry, 0 for equal ones.

    Args:
        x: floating point; NaN entries are dropped, and k is the number of those that remain.
        dim: dimension of the k entries.

    Returns:
        In [0, 1], without dimension `dim`, in x's dtype; NaN where fewer than two entries remain or all are 0.

    Example:
        >>> hoyer(torch.tensor([[0.0, -3.0, 0.0], [1.0, -1.0, 1.0], [1.0, torch.nan, 0.0]]))
        tensor([1., 0., 1.])
    """
    known = ~x.isnan()
    size = torch.where(known, x.abs(), 0).double()
    k = known.sum(dim)
    root = k.double().sqrt()
    sparsity = (root - size.sum(dim) / size.square().sum(dim).sqrt()) / (root - 1)
    return torch.where(k > 1, sparsity.clamp(0, 1), torch.nan).to(x.dtype)


def largest(change: Tensor) -> Tensor:
    """Largest |change| `[measures]` over all of `[..., labels, measures]`; NaN is dropped, 0 where nothing is left."""
    size = torch.where(change.isnan(), 0, change.abs()).flatten(0, -2)
    return torch.cat([size.new_zeros(1, size.shape[1]), size]).amax(0)


def scaled(change: Tensor, scale: Tensor | None = None) -> Tensor:
    """Changes of different measures made comparable: each divided by its largest |change|.

    Args:
        change: `[..., labels, measures]`.
        scale: what to divide by, `[measures]`; None: `largest(change)`, which brings every measure into [-1, 1].

    Returns:
        `[..., labels, measures]`; a measure with a scale of 0 stays 0, NaN stays NaN.

    Example:
        >>> scaled(torch.tensor([[0.1, -20.0], [0.2, 10.0]]))
        tensor([[ 0.5000, -1.0000],
                [ 1.0000,  0.5000]])
    """
    scale = largest(change) if scale is None else scale
    return change / torch.where(scale == 0, 1, scale)


def label_sparsity(change: Tensor, scale: Tensor | None = None) -> Tensor:
    """Sparsity over the labels for each measure alone, and over all of them together (paper §3.2).

    Args:
        change: `[..., labels, measures]`, such as the median over samples of a unit's change.
        scale: as in `scaled`, which only the last column depends on: to set other changes (random directions) beside
            these, give both the same.

    Returns:
        `[..., measures + 1]`: `hoyer` over k = labels for every measure, then over the k = labels × measures scaled
        changes.

    Example:
        >>> label_sparsity(torch.tensor([[1.0, 0.0], [0.0, 0.0]]))
        tensor([1., nan, 1.])
    """
    single = hoyer(change, dim=-2)
    return torch.cat([single, hoyer(scaled(change, scale).flatten(-2))[..., None]], -1)
