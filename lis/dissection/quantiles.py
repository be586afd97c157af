"""Quantiles of the activations of units, which threshold their maps (Bau et al. 2020)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def unit_quantiles(activations: Tensor, q: float) -> Tensor:
    """Exact quantile of each unit over all images and positions, as numpy's method "hazen".

    Args:
        activations: `[n, units, …]` floating.
        q: level in [0, 1].

    Returns:
        `[units]`, of the dtype of the activations.

    Example:
        >>> unit_quantiles(torch.tensor([[0.0, 5.0], [1.0, 5.0]]), 0.5)
        tensor([0.5000, 5.0000])
    """
    rows = activations.movedim(1, 0).flatten(1).cpu().numpy()
    return torch.from_numpy(np.quantile(rows, q, axis=1, method="hazen")).to(activations)
