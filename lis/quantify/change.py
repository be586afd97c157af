"""How much a measure changes along a perturbation (paper §3.3)."""

from __future__ import annotations

import torch
from torch import Tensor

from lis.quantify.ellipse import half_circle
from lis.quantify.measures import MEASURES


def change(first: Tensor, last: Tensor) -> Tensor:
    """Change of every measure, each in its own way.

    - area: log₂(last / first): 1 where it doubles, −1 where it halves. The paper's (last − first) / first, which
      `relative` gives, lets a single sample whose part was nearly absent lead a mean.
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
    _, luminance, entropy, eccentricity, angle = (last - first).unbind(-1)
    area = (last[..., 0] / first[..., 0]).log2()
    brightest = torch.maximum(first, last)[..., MEASURES.index("luminance")]
    luminance = torch.where((luminance == 0) & (brightest == 0), 0, luminance / brightest)
    return torch.stack([area, luminance, entropy, eccentricity, half_circle(angle)], -1)


def relative(ratio: Tensor) -> Tensor:
    """The paper's change of area, (last − first) / first, of log₂(last / first).

    Example:
        >>> relative(torch.tensor([1.0, 0.0, -1.0]))
        tensor([ 1.0000,  0.0000, -0.5000])
    """
    return ratio.exp2() - 1


def changes_along(measures: Tensor) -> Tensor:
    """Change of every measure since the first step, see `change`; of the angle `turned`.

    Args:
        measures: `[n, t, labels, 5]`, NaN where a label is absent.

    Returns:
        `[n, t, labels, 5]`; NaN where the measure is, and everywhere when the first is.
    """
    changes = change(measures[:, :1].expand_as(measures), measures)
    angle = MEASURES.index("angle")
    changes[..., angle] = turned(measures[..., angle])
    return changes


def turned(angle: Tensor) -> Tensor:
    """How far axes have turned since the first step, in degrees: step by step, so that it may be more than 90.

    Between two steps an axis turns the shorter way; a step at which it is not known is passed over.

    Args:
        angle: `[n, t, labels]` degrees, NaN where it is not known.

    Returns:
        `[n, t, labels]`; NaN where the angle is, and everywhere when the first is.

    Example:
        >>> turned(torch.tensor([[[0.0], [60.0], [torch.nan], [-60.0]]])).flatten().tolist()
        [0.0, 60.0, nan, 120.0]
    """
    total, last, turns = 0 * angle[:, 0], angle[:, 0], []  # NaN stays
    for now in angle.unbind(1):
        known = ~now.isnan()
        total = torch.where(known, total + half_circle(now - last), total)
        last = torch.where(known, now, last)
        turns.append(torch.where(known, total, torch.nan))
    return torch.stack(turns, 1)
