"""Where GradCAM says the classifier looks, beside the parts that change at the boundary (Fig. 7B)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from lis.report.figures.marks import axes_at, bare, enlarged, names_down, picture, write
from lis.report.figures.reconstructions import mosaic
from lis.report.style import INK, MUTED, RULE, WIDE, plain, styled

_NAME, _BARS, _LABELS = 1.0, 2.5, 1.45
"""Inches of the names at the left, of the bars, and of what stands left of them."""
_GAP, _HEAD, _FOOT = 0.1, 0.3, 0.32
_STRENGTH = 0.62
"""How much of a picture its heat covers where it is largest."""


@dataclass(frozen=True)
class Bar:
    """A measure of a part at the boundary."""

    name: str
    jump: float
    """|Change| over the step that crosses, as a share of the span on the path: in [0, 1]."""
    elsewhere: float
    """Mean |change| of the other steps, in the same unit."""
    colour: str


@dataclass(frozen=True)
class Look:
    """One trajectory; m images."""

    name: str
    image: np.ndarray
    """`[m, h, w, 3]` uint8."""
    heat: np.ndarray
    """`[m, H, W]`, ≥ 0."""
    bars: Sequence[Bar]


@styled
def looks(rows: Sequence[Look], heads: Sequence[str]) -> Figure:
    """A row per trajectory: GradCAM over the images, then the parts that change most at the boundary, if any do.

    Args:
        rows: trajectories, with as many images in each.
        heads: what the images are, `[m]`.
    """
    count, most = len(heads), max(len(row.bars) for row in rows)
    cell = min(1.35, (WIDE - _NAME - _LABELS - _BARS - _GAP) / count)
    each = max(cell, 0.235 * most) + 0.22
    height = _HEAD + each * len(rows) + _FOOT * bool(most)
    figure = Figure(figsize=(WIDE if most else _NAME + count * cell, height))
    for at, row in enumerate(rows):
        top = _HEAD + at * each
        left = axes_at(figure, _NAME, top, count * cell, cell)
        heated = [_heated(*pair, row.heat.max()) for pair in zip(row.image, row.heat, strict=True)]
        picture(left, mosaic([np.stack(heated)]))
        write(left, -0.1 / (count * cell), 0.5, plain(row.name), size=9, ha="right", va="center")
        for place, text in enumerate(heads if at == 0 else ()):
            write(left, (place + 0.5) / count, 1 + 0.05 / cell, text, size=8.5, color=MUTED, ha="center")
        if most:
            start = _NAME + count * cell + _LABELS
            right = axes_at(figure, start + _GAP, top, WIDE - start - 0.25, each - 0.22)
            _bars(right, row.bars, at == len(rows) - 1)
    return figure


def _heated(image: np.ndarray, heat: np.ndarray, most: float) -> np.ndarray:
    """A picture in grey under its heat, `[h, w, 3]` uint8; the colours end at `most`."""
    large = enlarged(image).astype(float)
    grey = np.repeat(large.mean(2, keepdims=True), 3, axis=2)
    share = heat / most if most > 0 else np.zeros_like(heat)
    smooth = Image.fromarray(share.astype(np.float32)).resize(large.shape[1::-1], Image.Resampling.BILINEAR)
    share = np.asarray(smooth)
    ink = 255 * colormaps["inferno"](share)[..., :3]
    cover = _STRENGTH * share[..., None]
    return ((1 - cover) * grey + cover * ink).round().astype(np.uint8)


def _bars(axis: Axes, bars: Sequence[Bar], last: bool) -> None:
    """The change over the step that crosses the boundary; a line where the other steps lie on average."""
    if not bars:
        bare(axis)
        write(axis, 0.5, 0.5, "no part is interpreted", size=9, ha="center", color=MUTED)
        return
    for at, bar in enumerate(bars):
        axis.barh(at, bar.jump, height=0.62, color=bar.colour)
        axis.plot([bar.elsewhere] * 2, [at - 0.38, at + 0.38], color=INK, linewidth=1.4)
    names_down(axis, [bar.name for bar in bars])
    axis.tick_params(axis="y", labelsize=8.5)
    axis.set(ylim=(len(bars) - 0.4, -0.6), xlim=(0, None))
    axis.axvline(0, color=RULE, linewidth=0.9)
    if last:
        axis.set_xlabel("change across the boundary (share of the span)", x=1.0, ha="right")
