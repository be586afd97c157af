"""Where a path enters a class: looked for at even steps, then located by bisection (paper §4.5)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

TOLERANCE = 1e-3
"""Length of path within which a boundary is located, as a fraction of the path from the original to its end."""
STEPS = 10
"""Even steps at which a path is looked at first."""


def enter(inside: Callable[[Tensor, Tensor], Tensor], n: int, end: float = 1.0, steps: int = STEPS) -> Tensor:
    """The last point before and the first point after n paths first enter a class.

    A path is looked at in even steps from 0 to `end`. Between the last step outside and the first one inside, the
    distance is halved until it is at most `TOLERANCE · end`. A path that leaves and enters again between two steps is
    taken as one that stayed.

    Args:
        inside: places `[k]` of paths and positions `[k]` float64 on them → whether they are inside, `[k]` bool.
        n: paths.
        end: the last position.
        steps: the even ones.

    Returns:
        Positions before and after, `[n, 2]` float64; NaN where a path begins inside or is nowhere inside.

    Example:
        >>> before, after = enter(lambda path, t: t > 0.3, 1)[0].tolist()
        >>> before <= 0.3 < after, after - before < 1e-3
        (True, True)
    """
    grid, found = torch.linspace(0, end, steps + 1, dtype=torch.float64), torch.full((n, 2), torch.nan).double()
    paths = torch.arange(n).repeat_interleave(steps + 1)
    hits = inside(paths, grid.repeat(n)).unflatten(0, (n, steps + 1))
    first = hits.int().argmax(1)  # 0 where it begins inside, and where it is nowhere inside
    crossed = first.nonzero()[:, 0]
    found[crossed] = torch.stack([grid[first[crossed] - 1], grid[first[crossed]]], 1)
    while len(crossed) and float((found[crossed, 1] - found[crossed, 0]).max()) > TOLERANCE * end:
        middle = found[crossed].mean(1)
        found[crossed, inside(crossed, middle).long()] = middle
    return found
