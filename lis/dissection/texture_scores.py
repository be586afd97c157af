"""How alike a unit responds to images and to others: restyled twins, or other images of the same class."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lis.dissection.ablation import ablation_values, unit_blocks
from lis.dissection.restyling import derangement
from lis.statistics import RANGE, benjamini_hochberg

CUT = 0.1
"""Score below which a unit is on the side of texture (Bau et al. 2020)."""
LEVEL = 0.99
"""Quantile of a unit's own activations above which it responds."""
_AT_ONCE = 2**22
"""Overlaps of pairs of images that are summed at once, over units and draws of the control."""
EXTREMES = 4
"""Units of either end that are pictured."""


def paired_response_iou(original: Tensor, restyled: Tensor, q: float = LEVEL) -> Tensor:
    """Set IoU of where a unit responds in images and in their restyled twins: I / (A + B − I), at native resolution.

    Each set has its own threshold, the quantile of the unit over all its images and positions; a response lies strictly
    above it. The published score holds thresholds of upsampled maps against native ones and takes both areas to be
    1 %: it is not computed here.

    Args:
        original: maps `[n, U, h, w]`.
        restyled: of the same images in the same order, `[n, U, h, w]`.
        q: the quantile, in [0, 1].

    Returns:
        `[U]` float64 in [0, 1]; NaN for a unit that responds in neither set.

    Raises:
        ValueError: the shapes differ.

    Example:
        >>> maps = torch.arange(8.0).reshape(2, 1, 2, 2)
        >>> paired_response_iou(maps, maps.flip(0), q=0.75).tolist()
        [0.0]
    """
    if original.shape != restyled.shape:
        raise ValueError(
            f"maps {tuple(original.shape)} and {tuple(restyled.shape)}: expected pairs of the same layer and images"
        )
    blocks = zip(unit_blocks(original), unit_blocks(restyled), strict=True)
    return torch.cat([_iou(*_areas(responses(a, q), responses(b, q))) for a, b in blocks])


def responses(maps: Tensor, q: float = LEVEL) -> Tensor:
    """Where units lie strictly above their own quantile: bool, of the shape of `maps [n, U, h, w]`."""
    return maps > ablation_values(maps, "quantile", q)[:, None, None].to(maps)


def _areas(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Positions `[U]` of the intersection and of the union of responses `[n, U, h, w]`."""
    return (a & b).sum((0, 2, 3)), (a | b).sum((0, 2, 3))


def _iou(intersection: Tensor, union: Tensor) -> Tensor:
    """Their ratio, float64; NaN where there is no response."""
    return torch.where(union > 0, intersection.double() / union, torch.nan)


def same_class_iou(maps: Tensor, class_index: Tensor, shuffles: int, rng: np.random.Generator) -> Tensor:
    """The control: the score between each image and another one of its class, `[shuffles, U]`.

    Args:
        maps: of the images as they are, `[n, U, h, w]`.
        class_index: `[n]`, two samples or more of every class.
        shuffles: draws of the others.
        rng: draws.
    """
    others = torch.from_numpy(np.stack([derangement(class_index.numpy(), rng) for _ in range(shuffles)]))
    return torch.cat([_shuffled_iou(responses(block), class_index, others) for block in unit_blocks(maps)], 1)


def _shuffled_iou(active: Tensor, class_index: Tensor, others: Tensor) -> Tensor:
    """IoU of responses `[n, U, h, w]` with those of other images of the class, `others [shuffles, n]`: `[shuffles, U]`.

    Every pair of images of a class is intersected once, whatever the number of draws.
    """
    flat, intersection = active.transpose(0, 1).flatten(2).float(), torch.zeros(active.shape[1], len(others)).double()
    for c in class_index.unique():
        rows = (class_index == c).nonzero()[:, 0]
        overlap = flat[:, rows] @ flat[:, rows].mT
        some = max(1, _AT_ONCE // (len(flat) * len(rows)))
        for sums, draws in zip(intersection.split(some, 1), others[:, rows].split(some), strict=True):
            other = torch.searchsorted(rows, draws.contiguous())
            sums += overlap[:, torch.arange(len(rows)), other].double().sum(2)
    area = active.sum((0, 2, 3))  # of either side: each image is another's exactly once
    return _iou(intersection.T, 2 * area - intersection.T)


def units_table(layer: str, restyling: str, iou: Tensor, control: Tensor) -> pd.DataFrame:
    """Rows of the table "units", of scores `[units]` and of the control `[shuffles, units]`.

    A unit without a control, which never varies on the originals, is dead, whatever it does on their twins.
    """
    iou = iou.where(~control.isnan().any(0), torch.nan)
    low, high = control.quantile(torch.tensor(RANGE, dtype=control.dtype), dim=0)
    sides = np.where(iou < CUT, "texture", "shape")
    p = ((1 + (control >= iou).sum(0)).double() / (1 + len(control))).where(~iou.isnan(), torch.nan).numpy()
    columns = {
        "layer": layer,
        "restyling": restyling,
        "unit": np.arange(len(iou)),
        "iou": iou.numpy(),
        "control": control.mean(0).numpy(),
        "low": low.numpy(),
        "high": high.numpy(),
        "p": p,
        "q": benjamini_hochberg(p),
        "side": np.where(iou.isnan(), "", sides),
        "dead": iou.isnan().numpy(),
    }
    return pd.DataFrame(columns)


def extreme_units(units: pd.DataFrame) -> pd.DataFrame:
    """The units of the lowest scores on the side of texture, and of the highest on that of shape.

    Of rows of the table "units"; those of the same score are in the order of their numbers.
    """
    columns = ["restyling", "side", "rank", "unit", "iou"]
    result = []
    for side, sign in (("texture", 1), ("shape", -1)):
        subset = pd.DataFrame(units[units["side"] == side])
        order = np.argsort(sign * subset["iou"].to_numpy(), kind="stable")[:EXTREMES]
        result.append(subset.iloc[order].assign(rank=range(1, len(order) + 1))[columns])
    return pd.concat(result, ignore_index=True)
