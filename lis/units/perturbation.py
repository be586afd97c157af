"""What a link makes of activations in which one unit is set to other values (paper §4.3)."""

from __future__ import annotations

from torch import Tensor

from lis.types import Link


def with_unit(link: Link, r: Tensor, unit: int, values: Tensor) -> Tensor:
    """w̃ of samples in which one unit takes each of a number of values, all other units left as they are.

    w̃ = f(r | r_u = v) for any link f. Where it is linear, f(r) + (v − r_u)·B_u with B_u its `direction(u)`, so that
    the other units are multiplied only once.

    Args:
        link: f; what has a `direction` is taken as linear.
        r: activations `[n, units]`.
        unit: u.
        values: v `[steps]`.

    Returns:
        `[n, steps, w_dim]`, in r's dtype.

    Example:
        >>> import torch
        >>> from lis.linking.linear import LinearLink
        >>> double = LinearLink.of(2 * torch.eye(2), torch.zeros(2))
        >>> with_unit(double, torch.tensor([[1.0, 5.0]]), 0, torch.tensor([0.0, 3.0])).tolist()
        [[[0.0, 10.0], [6.0, 10.0]]]
    """
    direction = getattr(link, "direction", None)
    if direction is not None:
        shift = values - r[:, unit, None]
        return link(r)[:, None] + (shift[..., None] * direction(unit)).to(r.dtype)
    moved = r[:, None].repeat(1, len(values), 1)
    moved[..., unit] = values.to(r.dtype)
    return link(moved.flatten(0, 1)).unflatten(0, (len(r), len(values)))
