"""From a latent draw z and a class to style codes w, one per layer of the synthesis (Sauer et al. 2022, Sec. 3.1)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lis.generators.stylegan_xl.geometry import LinearSpec, MappingSpec

SLOPE, GAIN = 0.2, math.sqrt(2)
"""Of every leaky ReLU: the slope for negative values, and the factor that keeps the variance."""


class Linear(nn.Module):
    """A linear layer whose stored weights are multiplied by a gain when they are used (Karras et al. 2018)."""

    def __init__(self, spec: LinearSpec) -> None:
        super().__init__()
        self.spec = spec
        self.weight = nn.Parameter(torch.empty(spec.out_features, spec.in_features))
        self.bias = nn.Parameter(torch.empty(spec.out_features))

    def forward(self, x: Tensor) -> Tensor:
        """`[n, out_features]` of x `[n, in_features]`, in the precision of x."""
        y = F.linear(x, self.weight.to(x) * self.spec.weight_gain, self.bias.to(x) * self.spec.bias_gain)
        return F.leaky_relu(y, SLOPE) * GAIN if self.spec.activation == "lrelu" else y


class Mapping(nn.Module):
    """z and class → ws, with truncation."""

    w_avg: Tensor

    def __init__(self, spec: MappingSpec) -> None:
        super().__init__()
        self.spec = spec
        self.register_buffer("w_avg", torch.empty(*([spec.c_dim] if spec.c_dim else []), spec.w_dim))
        if spec.embedding:
            self.embed = nn.Embedding(*spec.embedding)
        if spec.projection:
            self.embed_proj = Linear(spec.projection)
        for i, layer in enumerate(spec.layers):
            self.add_module(f"fc{i}", Linear(layer))

    def forward(
        self,
        z: Tensor,
        class_index: Tensor | None,
        truncation: float = 1.0,
        cutoff: int | None = None,
        centroids: Tensor | None = None,
    ) -> Tensor:
        """ws `[n, num_ws, w_dim]`; the first `cutoff` of each sample are w̄ + ψ (w − w̄).

        Args:
            z: latent draws `[n, z_dim]`; any float type, any scale.
            class_index: `[n]` (int64); None exactly for a network without classes.
            truncation: ψ; 1 keeps w, 0 gives w̄.
            cutoff: how many ws are truncated; None for all.
            centroids: `[k, w_dim]`: w̄ is the nearest of them (Euclidean) instead of the mean of the class (multimodal
                truncation, Mokady et al. 2022).

        Raises:
            ValueError: shapes that do not fit, a class that does not exist, or a class of a network without.
        """
        self._check(z, class_index, cutoff, centroids)
        w = self.single(z, class_index)
        mean = self._mean(class_index) if centroids is None else centroids[torch.cdist(w, centroids).argmin(1)]
        ws = w[:, None].repeat(1, self.spec.num_ws, 1)
        ws[:, :cutoff] = torch.lerp(mean[:, None].expand_as(ws), ws, truncation)[:, :cutoff]
        return ws

    def single(self, z: Tensor, class_index: Tensor | None) -> Tensor:
        """w `[n, w_dim]`, not truncated, of z `[n, z_dim]` and classes `[n]`."""
        x = _normalized(z.to(self.w_avg))
        if class_index is not None:
            x = torch.cat([x, _normalized(self.embed_proj(self.embed(class_index)))], dim=1)
        for i in range(len(self.spec.layers)):
            x = self.get_submodule(f"fc{i}")(x)
        return x

    def _mean(self, class_index: Tensor | None) -> Tensor:
        return self.w_avg[None] if class_index is None else self.w_avg[class_index]

    def _check(self, z: Tensor, class_index: Tensor | None, cutoff: int | None, centroids: Tensor | None) -> None:
        spec = self.spec
        if z.dim() != 2 or z.shape[1] != spec.z_dim:
            raise ValueError(f"z has shape {list(z.shape)}, expected [n, {spec.z_dim}]")
        if (class_index is None) != (spec.c_dim == 0):
            have = "no class_index" if class_index is None else "a class_index"
            raise ValueError(f"{have} for a network of {spec.c_dim} classes: give one exactly where there are classes")
        if class_index is not None:
            if class_index.shape != z.shape[:1]:
                raise ValueError(f"class_index has shape {list(class_index.shape)}, expected {list(z.shape[:1])}")
            if not bool(((class_index >= 0) & (class_index < spec.c_dim)).all()):
                raise ValueError(f"class_index {class_index.tolist()}: expected 0 to {spec.c_dim - 1}")
        if cutoff is not None and not 0 <= cutoff <= spec.num_ws:
            raise ValueError(f"cutoff {cutoff}: expected 0 to {spec.num_ws}, the number of ws")
        if centroids is not None and (centroids.dim() != 2 or centroids.shape[1] != spec.w_dim or not len(centroids)):
            raise ValueError(f"centroids have shape {list(centroids.shape)}, expected [k, {spec.w_dim}]")


def _normalized(x: Tensor) -> Tensor:
    """x `[n, width]` divided by its rms."""
    return x * (x.square().mean(1, keepdim=True) + 1e-8).rsqrt()
