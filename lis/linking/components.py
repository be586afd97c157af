"""Principal components of W, and how far the cycle moves along them (Fig. S1B)."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor


@dataclass(frozen=True)
class Components:
    """The first principal components of a set of style codes."""

    mean: Tensor
    """`[w_dim]` float64."""
    axes: Tensor
    """Orthonormal columns `[w_dim, k]` float64, the largest entry of each positive."""
    std: Tensor
    """Standard deviation `[k]` of the set along each."""
    explained: Tensor
    """Share `[k]` of the set's variance."""

    def project(self, w: Tensor) -> Tensor:
        """Coordinates `[n, k]` (float64) of `w [n, w_dim]`."""
        return (w.double() - self.mean) @ self.axes

    def reconstruct(self, w: Tensor) -> Tensor:
        """w̄ + UUᵀ(w − w̄), `[n, w_dim]` in the dtype of `w [n, w_dim]`: the codes with only these components left."""
        return (self.mean + self.project(w) @ self.axes.T).to(w.dtype)


def principal_components(w: Tensor, k: int = 10) -> Components:
    """PCA of `w [n, w_dim]`: at most `k` components, as many as there are dimensions.

    Example:
        >>> pca = principal_components(torch.tensor([[0.0, 1.0], [4.0, 1.0], [8.0, 1.0]]), k=1)
        >>> pca.axes.flatten().tolist(), pca.std.tolist(), pca.explained.tolist()
        ([1.0, 0.0], [4.0], [1.0])
    """
    mean = w.double().mean(0)
    values, vectors = torch.linalg.eigh(torch.cov((w.double() - mean).T))
    variance, axes = values.flip(0).clamp(min=0), vectors.flip(1)[:, :k]
    signs = axes.gather(0, axes.abs().argmax(0, keepdim=True)).sign()
    return Components(mean, axes * signs, variance[:k].sqrt(), variance[:k] / variance.sum())


def offsets_table(components: Components, original: Tensor, cycled: Tensor) -> pd.DataFrame:
    """Mean and standard deviation of cycled − original along each component, in the component's standard deviations.

    Args:
        original: coordinates `[n, k]`.
        cycled: coordinates `[n, k]` after the cycle.

    Returns:
        A row per component (from 1): component, offset, spread (standard deviation), explained (share of variance).
    """
    moved = (cycled - original) / components.std
    columns = {"component": range(1, moved.shape[1] + 1), "offset": moved.mean(0), "spread": moved.std(0)}
    return pd.DataFrame(columns | {"explained": components.explained})


def factor_table(names: tuple[str, ...], true: Tensor, cycled: Tensor, class_index: Tensor) -> pd.DataFrame:
    """How much of each true factor survives the cycle: factor, r2, r2_within.

    R² = 1 − Σ(û − u)² / Σ(u − ū)², where ū is the mean over all samples, or (within) over the sample's class. NaN
    where a factor does not vary.

    Args:
        names: the factors.
        true: `u [n, factors]`.
        cycled: `û [n, factors]`, the factors of w̃.
        class_index: `[n]` int64.
    """
    true, cycled = true.double(), cycled.double()
    error = (cycled - true).square().sum(0)
    total = (true - true.mean(0)).square().sum(0)
    within = torch.zeros_like(total)
    for c in class_index.unique():
        members = true[class_index == c]
        within += (members - members.mean(0)).square().sum(0)
    r2, r2_within = (torch.where(variation > 0, 1 - error / variation, torch.nan) for variation in (total, within))
    return pd.DataFrame({"factor": list(names), "r2": r2, "r2_within": r2_within})
