"""PUMP as a matcher: descriptors, matches, filter, dense field (the paper's choice, §3.2)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, Literal

import numpy as np
import torch
from scipy.interpolate import LinearNDInterpolator
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree, QhullError
from torch import Tensor
from torch.nn import functional as F

from lis.config import PumpConfig
from lis.matching.convmixer import ConvMixerDescriptor
from lis.matching.descriptors import Daisy, Descriptor, FeatureMaps, Patches, require_layers
from lis.matching.gray import gray_pair, reduced, untextured
from lis.matching.pyramid import Correlation, Rule, climb, correlate, descend, returned
from lis.types import Classifier, Correspondence, Matches, pixel_grid

VERSION = 2
STRIDE = 4
"""Pixels between two cells of the grid on image 1; also the side of the blocks of image 2 that choose one cell each."""
_LEAST = 3
"""Matches that a field needs."""
_LARGEST = 2**26
"""Windows × cells that are worked on at once; more pairs are split."""
_NEAREST = 3
"""Matches whose mean is the field outside of their hull."""
_LEAF = 16
"""Points in a leaf of the tree, which decides between points at equal distance: scipy's own choice for `cKDTree`."""


@dataclass(frozen=True)
class Pump:
    """PUMP (Revaud et al. 2022) on any descriptor.

    Args:
        descriptor: what pixels are compared by.
        enlarge: factor by which pictures are enlarged before matching, so that components can be large enough.
        power, border, min_shape, levels: see `lis.matching.pump.match`.
        locality, min_component: see `lis.matching.pump.filter_matches`.
    """

    descriptor: Descriptor
    enlarge: int = 2
    power: float = PumpConfig.power
    border: float = PumpConfig.border
    min_shape: int = PumpConfig.min_shape
    levels: int | None = PumpConfig.levels
    locality: float = PumpConfig.locality
    min_component: int = PumpConfig.min_component

    @property
    def fingerprint(self) -> str:
        """SHA-256 over settings, versions and the descriptor's weights."""
        pyramid = (self.enlarge, self.power, self.border, self.min_shape, self.levels)
        parts = ("pump", VERSION, self.descriptor.fingerprint, *pyramid, self.locality, self.min_component)
        return hashlib.sha256(" ".join(map(str, parts)).encode()).hexdigest()

    @property
    def layers(self) -> Literal[True] | Collection[str]:
        """Those that the descriptor reads."""
        return self.descriptor.generator_layers

    def view(self, image: Tensor, maps: dict[str, Tensor] | None = None) -> Tensor:
        """What the descriptor reads."""
        return self.descriptor.view(image, maps)

    @torch.no_grad()
    def __call__(self, view1: Tensor, view2: Tensor) -> list[Correspondence]:
        """Of n pairs `[n, 3 + c, H, W]`; on their device until the matches are filtered."""
        shape = (view1.shape[-2], view1.shape[-1])
        reasons = [self._unfit(*pair) for pair in zip(view1, view2, strict=True)]
        fit = [k for k, reason in enumerate(reasons) if not reason]
        result = dict(zip(fit, self._matches(view1[fit], view2[fit]), strict=True)) if fit else {}
        return [
            self._correspondence(result[k], shape) if k in result else Correspondence.failed(shape, reason)
            for k, reason in enumerate(reasons)
        ]

    def _unfit(self, view1: Tensor, view2: Tensor) -> str:
        """Why a pair cannot be matched; empty where it can."""
        if min(view1.shape[-2:]) * self.enlarge < 2 * STRIDE:
            return f"{view1.shape[-2]} × {view1.shape[-1]} pixels are too few for a grid"
        if not (view1.isfinite().all() and view2.isfinite().all()):
            return "an image is not finite"
        pair = gray_pair(view1[:3], view2[:3])
        return next((f"image {k} has no texture" for k, picture in enumerate(pair, 1) if untextured(picture)), "")

    def _matches(self, view1: Tensor, view2: Tensor) -> list[Matches]:
        """All that choose each other, in pixels of the enlarged pictures."""
        first, second = self.descriptor(*(self._enlarged(view) for view in (view1, view2)))
        grid = first[:, :, STRIDE // 2 :: STRIDE, STRIDE // 2 :: STRIDE]
        result = match(grid, second, power=self.power, border=self.border, min_shape=self.min_shape, levels=self.levels)
        return result if isinstance(result, list) else [result]

    def _correspondence(self, matches: Matches, shape: tuple[int, int]) -> Correspondence:
        retained = filter_matches(matches.to("cpu"), self.locality, self.min_component)
        if len(retained) < _LEAST:
            why = f"of {len(matches)} matches none hang together with more than {self.min_component}"
            return Correspondence.failed(shape, why)
        matches = reduced(retained, self.enlarge)
        return Correspondence(matches, densify(matches, shape))

    def _enlarged(self, view: Tensor) -> Tensor:
        if self.enlarge == 1:
            return view
        return F.interpolate(view, scale_factor=self.enlarge, mode="bicubic", align_corners=False)


def pump(
    descriptor: str = PumpConfig.descriptor,
    layers: Sequence[str] | None = PumpConfig.layers,
    channels: int = PumpConfig.channels,
    weights: str | None = PumpConfig.weights,
    classifier: Classifier | None = None,
    **settings: Any,
) -> Pump:
    """PUMP on the descriptor of that name; the arguments are those of `lis.config.PumpConfig`, and the classifier whose
    maps may be read.

    Raises:
        ValueError: there is no descriptor of that name, or what it needs is missing.
    """
    makers: dict[str, Callable[[], Descriptor]] = {
        "patches": lambda: Patches(channels=channels),
        "daisy": Daisy,
        "classifier": lambda: FeatureMaps(_readable(classifier, layers), layers, channels),
        "generator": lambda: FeatureMaps(None, layers, channels),
        "convmixer": lambda: ConvMixerDescriptor(weights),
    }
    if descriptor not in makers:
        raise ValueError(f"matcher.descriptor={descriptor}: expected one of {', '.join(makers)}")
    return Pump(makers[descriptor](), **settings)


def _readable(classifier: Classifier | None, layers: Sequence[str] | None) -> Classifier:
    if classifier is None or not classifier.layers:
        raise ValueError(
            "matcher.descriptor=classifier: expected a classifier with convolutions whose maps can be read; "
            "use matcher.descriptor=patches"
        )
    require_layers(layers, classifier.layers)
    return classifier


def match(
    descriptors1: Tensor,
    descriptors2: Tensor,
    *,
    stride: int = 4,
    power: float = 1.5,
    border: float = 0.9,
    min_shape: int = 5,
    levels: int | None = None,
) -> Matches | list[Matches]:
    """Matches of the cells of a grid on image 1 with pixels of image 2.

    Correlations max(⟨d₁, d₂⟩, 0)^power are averaged over larger and larger areas of image 1, each part of which may lie
    a little differently in image 2 (way up); what the areas find is added where their parts agree (way down). A match
    is a cell and a pixel that choose each other.

    Args:
        descriptors1: L2-normalised, `[channels, H1, W1]` at pixels 2, 6, 10, … of image 1; or `[n, channels, H1, W1]`.
        descriptors2: `[channels, H2, W2]` of every pixel of image 2; or `[n, channels, H2, W2]`.
        stride: pixels between two cells; 4.
        power: rectifies every level; 1 keeps values.
        border: how far what lies at the edge of image 2 is judged by the parts that can be seen there; 0 not, 1 fully.
        min_shape: the last level has a side of at most so many pixels.
        levels: at most so many levels above the correlations; None: all.

    Returns:
        Matches in the order of the cells, on the descriptors' device; with a batch dimension a list of them.

    Raises:
        ValueError: shapes that do not fit each other, or settings out of range.
    """
    _check(descriptors1, descriptors2, stride)
    rule = _rule(power, border, min_shape, levels)
    if descriptors1.ndim == 3:
        return _match(descriptors1[None].float(), descriptors2[None].float(), rule)[0]
    cells, (height, width) = descriptors1[0, 0].numel(), descriptors2.shape[-2:]
    at_once = max(4 * _LARGEST // (height * width * cells), 1)
    parts = zip(descriptors1.float().split(at_once), descriptors2.float().split(at_once), strict=True)
    return [result for part in parts for result in _match(*part, rule)]


def _check(descriptors1: Tensor, descriptors2: Tensor, stride: int) -> None:
    if stride != STRIDE:
        raise ValueError(f"stride={stride}: expected {STRIDE}, for which the pyramid's shifts hold; resize the images")
    shapes = tuple(descriptors1.shape), tuple(descriptors2.shape)
    if not len(shapes[0]) == len(shapes[1]) in (3, 4) or shapes[0][:-2] != shapes[1][:-2]:
        raise ValueError(
            f"descriptors of shapes {shapes[0]} and {shapes[1]}: expected [channels, h, w] or [n, channels, h, w] for "
            "both, with equal n and channels"
        )
    if min(shapes[0]) < 1 or min(shapes[1][-2:]) < 2:
        raise ValueError(f"descriptors of shapes {shapes[0]} and {shapes[1]}: expected a cell and 2 × 2 pixels or more")


def _rule(power: float, border: float, min_shape: int, levels: int | None) -> Rule:
    if not (power > 0 and 0 <= border <= 1 and min_shape >= 2 and (levels is None or levels >= 0)):
        raise ValueError(
            f"power={power}, border={border}, min_shape={min_shape}, levels={levels}: expected a power above 0, a "
            "border from 0 to 1, a min_shape of 2 or more, and levels of 0 or more"
        )
    return Rule(power, border, min_shape, 2**31 if levels is None else levels)


@torch.no_grad()
def _match(descriptors1: Tensor, descriptors2: Tensor, rule: Rule) -> list[Matches]:
    padded = F.pad(descriptors1, (0, 1, 0, 1))  # as many cells as corners, so that all levels have one grid
    cells = F.pad(torch.ones_like(descriptors1[0, 0]), (0, 1, 0, 1))
    correlation = correlate(padded.flatten(2), descriptors2, rule.power)
    if min(descriptors2.shape[-2:]) <= rule.min_shape:
        rule = replace(rule, levels=0)
    total = _votes(correlation.pooled.whole.unflatten(3, cells.shape), cells, rule).flatten(3)
    total += correlation.pooled.peak
    index, value = best_pixels(total, correlation)
    blocks = best_of_blocks(total, correlation)
    width = descriptors2.shape[-1]
    return [_reciprocal(*one, cells, width) for one in zip(index, value, blocks, strict=True)]


def _votes(below: Tensor, cells: Tensor, rule: Rule) -> Tensor:
    """What comes down to every window of every cell, `[n, h, w, G₁, G₂]`; 0 for the padding."""
    levels, pools = climb(below, cells, rule)
    if not levels:
        return torch.zeros_like(below)
    votes = returned(descend(levels, pools), 1)
    votes[..., -1, :], votes[..., -1] = 0, 0
    return votes


def _reciprocal(index: Tensor, value: Tensor, blocks: Tensor, cells: Tensor, width: int) -> Matches:
    """Cells whose best pixel lies in a block whose best cell they are; of equally good ones the first.

    Args:
        index, value: best pixel of every cell of the padded grid, `[cells]`.
        blocks: largest value of every block `[rows, columns]`.
        cells: 0 for padding, `[G₁, G₂]`.
        width: of image 2.
    """
    x, y = index % width, index // width
    block = y // STRIDE * blocks.shape[1] + x // STRIDE
    number = torch.arange(len(index), device=index.device)
    result = (cells.flatten() > 0) & (value > 0) & (value == blocks.flatten()[block])
    first = torch.full((blocks.numel(),), len(index), device=index.device)
    first.scatter_reduce_(0, block[result], number[result], "amin")
    retained = number[result & (first[block] == number)]
    row, column = retained // cells.shape[1], retained % cells.shape[1]
    xy1 = torch.stack([column, row], 1) * STRIDE + STRIDE // 2
    return Matches(xy1.float(), torch.stack([x, y], 1)[retained].float(), value[retained])


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


def _between(points: np.ndarray, values: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """Linear interpolation at `indices`, NaN outside of the points' hull; on a line they have none."""
    if len(points) > _NEAREST:
        try:
            return LinearNDInterpolator(points, values)(indices)
        except QhullError:
            pass
    return np.full((len(indices), 2), np.nan)


def best_pixels(total: Tensor, correlation: Correlation) -> tuple[Tensor, Tensor]:
    """The best pixel of every cell: its index y · w + x `[n, cells]` int64, and its value `[n, cells]`.

    A value that comes down is added where its window has its maximum. So no pixel beats the best of these, but for
    those of the last row and column, which no window covers.

    Args:
        total: maximum of every window plus what comes down to it, `[n, h', w', cells]`.
        correlation: of the same images.
    """
    height, width = correlation.best.shape[1:]
    value, window = _first_largest(total)
    index = correlation.pooled.index.flatten(1, 2).gather(1, window[:, None])[:, 0].long()
    row, x = correlation.last_row.max(1)
    column, y = correlation.last_column.max(1)
    for other, spot in ((row, x + (height - 1) * width), (column, y * width + width - 1)):
        better = other > value
        value, index = torch.where(better, other, value), torch.where(better, spot, index)
    return index, value


def best_of_blocks(total: Tensor, correlation: Correlation) -> Tensor:
    """The largest value over all cells, of every block of image 2: `[n, ⌈h / 4⌉, ⌈w / 4⌉]`."""
    best = F.max_pool2d(correlation.best[:, None], STRIDE, ceil_mode=True)[:, 0]
    index, width = correlation.pooled.index, correlation.best.shape[2]
    rows, columns = (2 * torch.arange(size, device=index.device, dtype=torch.int32) for size in total.shape[1:3])
    for odd_y, odd_x in product((0, 1), repeat=2):
        values, indices = total[:, odd_y::2, odd_x::2], index[:, odd_y::2, odd_x::2]
        start = rows[odd_y::2, None, None] * width
        above = None if odd_y else indices < start
        away = indices - start - columns[odd_x::2, None]
        before = None if odd_x else (away == -width - 1) | (away == -1) | (away == width - 1)
        for mask, (up, left) in _zones(above, before):
            _raise(best, (values if mask is None else torch.where(mask, values, 0)).amax(-1), up, left)
    return best


def _zones(above: Tensor | None, before: Tensor | None) -> list[tuple[Tensor | None, tuple[int, int]]]:
    """Which maxima lie in the block before along each side: windows around a block's first row reach back."""
    vertical = [(None, 0)] if above is None else [(above, 1), (~above, 0)]
    horizontal = [(None, 0)] if before is None else [(before, 1), (~before, 0)]
    return [
        (x if y is None else y if x is None else x & y, (up, left))
        for (y, up), (x, left) in product(vertical, horizontal)
    ]


def _raise(best: Tensor, maxima: Tensor, up: int, left: int) -> None:
    """Raise blocks `[n, rows, columns]` to the maxima of the windows that begin with them, or with the next ones."""
    rows, columns = maxima.shape[1:]
    target = best[:, : rows - up, : columns - left]
    raised = maxima[:, up:, left:][:, : target.shape[1], : target.shape[2]]
    torch.maximum(target, raised, out=target)


def _first_largest(values: Tensor) -> tuple[Tensor, Tensor]:
    """Largest over `[n, h, w, cells]` for every cell `[n, cells]`, and the first index y · w + x that has it."""
    largest = values.amax(2)
    y = largest.max(1).indices
    row = values.gather(1, y[:, None, None].expand(-1, 1, values.shape[2], -1))[:, 0]
    value, x = row.max(1)
    return value, y * values.shape[2] + x
