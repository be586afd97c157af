"""Links between a few units and a small W, random and the same every time."""

from __future__ import annotations

import torch
from torch import Tensor

from lis.linking.linear import LinearLink
from lis.linking.mlp import MLPLink

UNITS, W_DIM = 5, 3


def random(*shape: int, seed: int = 0) -> Tensor:
    """Normal draws."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def linear() -> LinearLink:
    """A linear link."""
    return LinearLink.of(random(UNITS, W_DIM, seed=1).double(), random(W_DIM, seed=2).double())


def mlp() -> MLPLink:
    """One that bends."""
    torch.manual_seed(0)
    return MLPLink(UNITS, W_DIM, hidden=7).requires_grad_(False)
