"""The losses of the fully connected links (supplement S2, Eq. 1 and 2)."""

from __future__ import annotations

from torch import Tensor


def l1_loss(predicted: Tensor, w: Tensor) -> Tensor:
    """ℒ₁ = ‖w* − w‖², averaged over the batch (supplement Eq. 1). The name is the paper's: it is not an L1 norm.

    Args:
        predicted: w*, `[batch, w_dim]`.
        w: `[batch, w_dim]`.

    Example:
        >>> import torch
        >>> float(l1_loss(torch.zeros(2, 3), torch.ones(2, 3)))
        3.0
    """
    return (predicted - w).square().sum(1).mean()


def l2_loss(predicted: Tensor, w: Tensor, projected: Tensor, axes: Tensor, weight: float) -> Tensor:
    """ℒ₂ = ℒ₁ + λ‖(wᵀU)* − wᵀU‖², averaged over the batch (supplement Eq. 2), with (wᵀU)* = Uᵀ f(r_U).

    f is the link, and r_U are the classifier's features of the image of w_U = w̄ + UUᵀ(w − w̄): "each sample is then
    projected onto the first 10 PCs U and mapped through the GAN, classifier, and linking network" (supplement S2). As
    `projected` goes in what the link predicts from r_U; with `predicted` in its place the second term only weighs the
    first components of the first one more.

    What the supplement leaves open, and how it is read here:

    - (wᵀU)* is compared with wᵀU, which has ten numbers, while the link predicts all of w: its prediction is projected
      onto U. The whole of w_U could be compared too; what f(r_U) is outside U costs nothing here.
    - A projection wᵀU has to become a code before the generator takes it. PCA is about a mean, so the mean w̄ of the
      training codes fills what lies outside U; UUᵀw alone would be a code far from all that the generator is asked
      for. In the second term the mean cancels.
    - All ten components are kept at once, not one image for each; and every sample counts, whatever the classifier
      calls the image of w_U.
    - Eq. 2 alone, without the sentence quoted above, can be read as the error of `predicted` along U: that is
      `link.pc_target=prediction`.
    - λ is not given: it is `link.pc_weight`.

    Args:
        predicted: w* = f(r), `[batch, w_dim]`.
        w: `[batch, w_dim]`.
        projected: f(r_U), `[batch, w_dim]`.
        axes: U, the first principal axes of W as orthonormal columns, `[w_dim, components]`.
        weight: λ.

    Example:
        >>> import torch
        >>> w, axes = torch.ones(2, 3), torch.eye(3)[:, :1]
        >>> float(l2_loss(torch.zeros(2, 3), w, projected=torch.full((2, 3), 3.0), axes=axes, weight=10.0))
        43.0
    """
    return l1_loss(predicted, w) + weight * ((projected - w) @ axes).square().sum(1).mean()
