"""The losses of the fully connected links (supplement S2, Eq. 1 and 2)."""

from __future__ import annotations

import torch
from torch import Tensor


def l1_loss(predicted: Tensor, w: Tensor) -> Tensor:
    """ℒ₁ = ‖w* − w‖², averaged over the batch (supplement Eq. 1). The name is the paper's: it is not an L1 norm.

    Args:
        predicted: w*, `[batch, w_dim]`.
        w: `[batch, w_dim]`.

    Example:
        >>> float(l1_loss(torch.zeros(2, 3), torch.ones(2, 3)))
        3.0
    """
    return (predicted - w).square().sum(1).mean()


def l2_loss(predicted: Tensor, w: Tensor, axes: Tensor, weight: float) -> Tensor:
    """ℒ₂ = ℒ₁ + λ‖Uᵀw* − Uᵀw‖², averaged over the batch (supplement Eq. 2).

    Args:
        predicted: w*, `[batch, w_dim]`.
        w: `[batch, w_dim]`.
        axes: U, the first principal axes of W as orthonormal columns, `[w_dim, components]`.
        weight: λ.

    Example:
        >>> float(l2_loss(torch.zeros(2, 3), torch.ones(2, 3), torch.eye(3)[:, :1], weight=10.0))
        13.0
    """
    return l1_loss(predicted, w) + weight * ((predicted - w) @ axes).square().sum(1).mean()


def principal_axes(w: Tensor, components: int) -> Tensor:
    """First principal axes of `w [n, w_dim]`: orthonormal columns `[w_dim, components]`, by falling variance.

    Raises:
        ValueError: fewer than one component, or more than w has dimensions.
    """
    if not 1 <= components <= w.shape[1]:
        raise ValueError(f"components={components}: expected 1 to {w.shape[1]}, the width of w; set link.components")
    axes = torch.linalg.eigh(torch.cov(w.double().T, correction=0)).eigenvectors
    return axes.flip(1)[:, :components].to(w.dtype)
