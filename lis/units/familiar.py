"""How far an image lies from what the generator makes.

A linear link answers to anything; whether its answer means something is another question.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from sklearn.covariance import ledoit_wolf
from torch import Tensor


@dataclass(frozen=True)
class Familiar:
    """Class-conditional normal distributions of activations with a common covariance (Lee et al. 2018).

    The distance of r is min_c √((r − μ_c)ᵀ Σ⁻¹ (r − μ_c)). Units are divided by their standard deviation within the
    classes, units that do not vary are left out, and Σ is shrunk after Ledoit and Wolf (2004), so that it can be
    inverted with fewer samples than units.
    """

    used: Tensor
    """Units that vary within a class, `[units]` bool."""
    whitening: Tensor
    """L⁻ᵀ of Σ = L Lᵀ, after the division by the standard deviations: `[used, used]` float64."""
    centres: Tensor
    """μ_c, whitened: `[classes, used]` float64."""

    @classmethod
    def of(cls, r: Tensor, class_index: Tensor) -> Self:
        """Fitted to samples `r [n, units]` of the classes `class_index [n]`, 0 … classes − 1.

        Raises:
            ValueError: no unit varies within a class.
        """
        r = r.double()
        means = torch.stack([r[class_index == c].mean(0) for c in range(int(class_index.max()) + 1)])
        rest = r - means[class_index]
        std = rest.square().mean(0).sqrt()
        used = std > 1e-6 * std.max()
        if not used.any():
            raise ValueError("no unit varies within a class: expected more training pairs (pairs.train)")
        covariance = torch.from_numpy(ledoit_wolf((rest[:, used] / std[used]).numpy(), assume_centered=True)[0])
        root = torch.linalg.cholesky(covariance)
        whitening = torch.linalg.inv(root).T / std[used, None]
        return cls(used, whitening, means[:, used] @ whitening)

    def distances(self, r: Tensor) -> Tensor:
        """Distance of `r [n, units]` to each class: `[n, classes]` float32."""
        return torch.cdist(r[:, self.used].double() @ self.whitening, self.centres).float()


def share_below(values: Tensor, reference: Tensor) -> Tensor:
    """Share of the `reference [m]` that is not above each of the `values [n]`: 1 where all are below.

    Example:
        >>> share_below(torch.tensor([0.0, 2.0, 9.0]), torch.tensor([1.0, 2.0, 3.0, 4.0])).tolist()
        [0.0, 0.5, 1.0]
    """
    ordered = reference.sort().values
    return torch.searchsorted(ordered, values.contiguous(), right=True).float() / len(reference)
