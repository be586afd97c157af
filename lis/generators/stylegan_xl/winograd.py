"""3×3 convolutions by Winograd's minimal filtering F(2×2, 3×3): 16 products for 4 pixels instead of 36.

Y = Aᵀ [(G w Gᵀ) ⊙ (Bᵀ d B)] A for a tile d of 4×4 pixels, of which the next begins 2 further (Lavin & Gray 2016). The
product ⊙, summed over channels, is a 1×1 convolution of all tiles for each of their 16 places, which is what
processors do best. In float32 the rounding is no worse than that of the direct sum.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

_TILES = 2048
"""Tiles at a time: enough to read the kernels seldom, few enough for memory."""
_G = ((1.0, 0.0, 0.0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0.0, 0.0, 1.0))


def transformed(weight: Tensor) -> Tensor:
    """G w Gᵀ of kernels `[out, in, 3, 3]`, one 1×1 kernel per place in a tile: `[16, out, in, 1, 1]`."""
    g = weight.new_tensor(_G)
    return torch.einsum("ai,bj,ocij->aboc", g, g, weight).flatten(0, 1)[..., None, None].contiguous()


def convolve(x: Tensor, kernels: Tensor, compiled: bool) -> Tensor:
    """The convolution of x with padding 2.

    Args:
        x: maps `[n, in, h, w]` (float32), channels innermost in memory.
        kernels: what `transformed` gives; their type is that of the products.
        compiled: sums of tiles under `torch.compile`.

    Returns:
        Maps `[n, out, h + 2, w + 2]` (float32), channels innermost in memory.
    """
    n, _, height, width = x.shape
    down, across = (height + 3) // 2, (width + 3) // 2
    x = F.pad(x.permute(0, 2, 3, 1), (0, 0, 2, 2 * across - width, 2, 2 * down - height))
    y = x.new_empty(n, height + 2, width + 2, kernels.shape[1])
    rows = max(1, _TILES // (n * across))
    cut = _compiled(_cut) if compiled else _cut
    joined = _compiled(_joined) if compiled else _joined
    for first in range(0, down, rows):
        tiles = cut(x[:, 2 * first : 2 * min(first + rows, down) + 2], kernels.dtype)
        products = [F.conv2d(tile.permute(0, 3, 1, 2), kernel) for tile, kernel in zip(tiles, kernels, strict=True)]
        part = joined([product.permute(0, 2, 3, 1) for product in products])
        y[:, 2 * first : 2 * (first + rows)] = part[:, : height + 2 - 2 * first, : width + 2]
    return y.permute(0, 3, 1, 2)


@lru_cache
def _compiled(step: Callable[..., Any]) -> Callable[..., Any]:
    return torch.compile(step, dynamic=True, fullgraph=True)


def _cut(x: Tensor, dtype: torch.dtype) -> list[Tensor]:
    """Bᵀ d B of all tiles d of x `[n, h, w, c]`: per place in a tile `[n, tiles down, tiles across, c]`."""
    return [tile.to(dtype) for rows in _differences(x, 1) for tile in _differences(rows, 2)]


def _joined(products: Sequence[Tensor]) -> Tensor:
    """Aᵀ m A of what `_cut`'s tiles became, joined: `[n, 2 · tiles down, 2 · tiles across, c]`."""
    products = [product.float() for product in products]
    pairs = [_sums(products[4 * a : 4 * a + 4]) for a in range(4)]
    left, right = (_sums([pair[side] for pair in pairs]) for side in (0, 1))
    rows = [torch.stack([left[p], right[p]], 3).flatten(2, 3) for p in (0, 1)]
    return torch.stack(rows, 2).flatten(1, 2)


def _differences(x: Tensor, axis: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Bᵀ along an axis."""
    length = x.shape[axis] - 3
    every_second = (slice(None),) * axis + (slice(None, None, 2),)
    a, b, c, d = (x.narrow(axis, i, length)[every_second] for i in range(4))
    return a - c, b + c, c - b, b - d


def _sums(products: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Aᵀ along an axis."""
    a, b, c, d = products
    return a + (b + c), (b - c) - d
