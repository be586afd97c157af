"""Matches that move as their neighbours do, and a field from them (Revaud et al. 2022)."""

from __future__ import annotations

import numpy as np
import torch
from scipy.interpolate import LinearNDInterpolator
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree, QhullError
from torch import Tensor

from lis.matches import Matches, pixel_grid

STRIDE = 4
"""Pixels between two cells of the grid."""
_NEAREST = 3
_LEAF = 16
"""Points in a leaf of the tree, which decides between points at equal distance: scipy's own choice for `cKDTree`."""


def filter_matches(matches: Matches, locality: float = 2, min_component: int = 50) -> Matches:
    """Those that hang together with many others; their score grows by log₂ of how many.

    With a and b the way between two matches in image 1 and in image 2, they are linked when ‖a‖ and ‖b‖ are at most
    locality · 4 pixels and a·b > 0.

    Args:
        matches: of one pair.
        locality: in cells of the grid.
        min_component: matches that are linked with more than so many, themselves counted, are kept.
    """
    if len(matches) == 0:
        return matches
    xy1, xy2 = (xy.double().cpu().numpy() for xy in (matches.xy1, matches.xy2))
    pairs = KDTree(xy1).query_pairs(locality * STRIDE, output_type="ndarray")
    a, b = (xy[pairs[:, 1]] - xy[pairs[:, 0]] for xy in (xy1, xy2))
    linked = pairs[(np.linalg.norm(b, axis=1) <= locality * STRIDE) & ((a * b).sum(1) > 0)]
    graph = coo_array((np.ones(len(linked), bool), linked.T), shape=(len(matches), len(matches)))
    _, component = connected_components(graph, directed=False)
    size = torch.from_numpy(np.bincount(component)[component]).to(matches.score)
    grown = Matches(matches.xy1, matches.xy2, matches.score + size.log2())
    return grown[size > min_component]


def densify(matches: Matches, shape: tuple[int, int]) -> Tensor:
    """Displacement of every pixel of image 1, on the CPU.

    Linear between the matches; outside of their hull the mean of the three nearest.

    Args:
        matches: of one pair, with different `xy1`.
        shape: height and width of image 1.

    Returns:
        `[H, W, 2]` float32; NaN where there is no match at all.
    """
    if len(matches) == 0:
        return torch.full((*shape, 2), torch.nan)
    points, moved = matches.xy1.double().cpu().numpy(), matches.displacement.double().cpu().numpy()
    grid = pixel_grid(*shape).double().numpy().reshape(-1, 2)
    field = _between(points, moved, grid)
    outside = np.isnan(field[:, 0])
    if outside.any():
        near = KDTree(points, leafsize=_LEAF).query(grid[outside], k=min(_NEAREST, len(points)))[1]
        field[outside] = moved[near.reshape(outside.sum(), -1)].mean(1)
    return torch.from_numpy(field.reshape(*shape, 2)).float()


def _between(points: np.ndarray, values: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Linear interpolation at `places`, NaN outside of the points' hull; on a line they have none."""
    if len(points) > _NEAREST:
        try:
            return LinearNDInterpolator(points, values)(places)
        except QhullError:
            pass
    return np.full((len(places), 2), np.nan)
