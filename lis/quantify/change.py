"""How much a measure changes from the first step of a perturbation to the last (paper §3.3)."""

from __future__ import annotations

import torch
from torch import Tensor

from lis.quantify.ellipse import half_circle
from lis.quantify.measures import MEASURES


def change(first: Tensor, last: Tensor) -> Tensor:
    """Change of every measure, each in its own way.

    - area: (last − first) / first
    - luminance: (last − first) / max(first, last), in [−1, 1]; 0 where both are black
    - entropy, eccentricity: last − first, in bits and in [−1, 1]
    - angle: last − first on the half circle, degrees in (−90, 90]

    Args:
        first: measures `[..., labels, 5]` in the order of `MEASURES`.
        last: the same of the last step.

    Returns:
        `[..., labels, 5]`; NaN where either is NaN.

    Raises:
        ValueError: shapes differ, or there are not five measures.

    Example:
        >>> first = torch.tensor([[0.1, 0.5, 2.0, 0.5, 80.0]])
        >>> change(first, torch.tensor([[0.2, 0.4, 2.5, 0.25, -80.0]]))
        tensor([[ 1.0000, -0.2000,  0.5000, -0.2500, 20.0000]])
    """
    if first.shape != last.shape or first.shape[-1:] != (len(MEASURES),):
        raise ValueError(
            f"measures of shapes {list(first.shape)} and {list(last.shape)}: "
            f"expected twice the same, ending in {len(MEASURES)}; give both steps as `measure` returns them"
        )
    difference = last - first
    area, luminance, entropy, eccentricity, angle = difference.unbind(-1)
    brightest = torch.maximum(first, last)[..., MEASURES.index("luminance")]
    relative = torch.where((luminance == 0) & (brightest == 0), 0, luminance / brightest)
    return torch.stack([area / first[..., 0], relative, entropy, eccentricity, half_circle(angle)], -1)
