"""What a counterfactual minimises: the target's logit up, the original's down, the picture the same (paper Eq. 3–4)."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def identity(original: Tensor, moved: Tensor) -> Tensor:
    """L_ID = f(r)·f(r + Δr) / (‖f(r)‖₂ ‖f(r + Δr)‖₂), paper Eq. 4: how far the picture is still the same.

    Args:
        original: f(r) `[n, w_dim]`.
        moved: f(r + Δr) `[n, w_dim]`.

    Returns:
        Cosines `[n]` in [-1, 1]; 0 where either is 0.

    Example:
        >>> import torch
        >>> identity(torch.tensor([[1.0, 0.0]]), torch.tensor([[2.0, 2.0]]))
        tensor([0.7071])
    """
    return F.cosine_similarity(original, moved, dim=1)


def counterfactual_loss(
    logits: Tensor, origin: Tensor, target: Tensor, identity: Tensor, lambda1: float = 0.6, lambda2: float = 10.0
) -> Tensor:
    """L = −o_target(r + Δr) + λ₁ o_orig(r + Δr) − λ₂ L_ID, paper Eq. 3.

    Args:
        logits: o(r + Δr) `[n, classes]`.
        origin: class c_orig `[n]` int64.
        target: class c_target `[n]` int64.
        identity: L_ID `[n]`.
        lambda1: λ₁.
        lambda2: λ₂.

    Returns:
        `[n]`, one loss per counterfactual: their gradients do not mix.

    Example:
        >>> import torch
        >>> logits = torch.tensor([[3.0, 1.0, 0.0]])
        >>> counterfactual_loss(logits, torch.tensor([0]), torch.tensor([1]), torch.tensor([0.5]))
        tensor([-4.2000])
    """
    of_target, of_origin = (logits.gather(1, which[:, None])[:, 0] for which in (target, origin))
    return -of_target + lambda1 * of_origin - lambda2 * identity
