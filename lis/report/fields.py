"""Fields of displacements drawn: arrows over images, paths of points, and the circle of directions (Fig. 4C, S14)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import LinearSegmentedColormap, Normalize, hsv_to_rgb
from matplotlib.figure import Figure

from lis.report.marks import axes_at, picture, write
from lis.report.style import INK, LINK_RED, MUTED, PARTS, SERIES, WIDE
from lis.report.wording import number

STOPS = (PARTS[1], SERIES[0], PARTS[6], SERIES[1], LINK_RED)
ACTIVATION = LinearSegmentedColormap.from_list("activation", STOPS)
"""From the smallest to the largest activation."""
PERCENTILE = 40.0
"""Share of the moving points, in percent, whose arrows are left out because they are shorter."""
_ARROWS = 20
"""Points to a side that may have an arrow."""
_STILL = 0.5
"""Pixels (of 64) below which a point counts as still."""
_LONGEST = 2.4
"""Spacings of the points that the 98th percentile of the arrows is drawn as, where it is shorter than that."""
_DETOUR = 1.5
"""A path is left out that leads further away than so many times where it ends."""
_NAME, _TOP, _GAP = 1.0, 0.34, 0.07
"""Inches left of a row, above the first, and between images."""
_FADED = 0.45
"""How far images under arrows are faded to white."""


@dataclass(frozen=True)
class _Row:
    """One sample along the range of one unit; images `[H, W, 3]` uint8, fields `[H, W, 2]` pixels, right and down."""

    name: str
    """Left of the images."""
    detail: str
    """Below the name, smaller."""
    figure: np.ndarray
    """Where the first image shows the figure, `[H, W]` bool: arrows and paths begin nowhere else."""
    first: np.ndarray
    last: np.ndarray


@dataclass(frozen=True)
class FieldRow(_Row):
    """The smallest and the largest activation."""

    aligned: np.ndarray
    """The last image in the coordinates of the first."""
    whole: np.ndarray
    """From the first image to the last, NaN where unknown."""
    local: np.ndarray
    """From the first image to the aligned one, NaN where unknown."""


@dataclass(frozen=True)
class PathRow(_Row):
    """All T steps."""

    local: np.ndarray
    """From the first image to each aligned one, `[T, H, W, 2]` pixels."""
    value: np.ndarray
    """Activation of the unit at each step, `[T]`."""


def fields(rows: Sequence[FieldRow]) -> Figure:
    """A line per row: first and last image, all that moves, the last image aligned, and what then still moves.

    Hue is direction (see the wheel); only the longest arrows are drawn, on one scale per image, which is told with the
    longest.
    """
    titles = ("smallest activation", "largest activation", "what moves", "aligned", "what moves locally")
    figure, axes_of = _grid(len(rows), len(titles))
    for at, row in enumerate(rows):
        axes = axes_of(at, 0, row, () if at else titles)
        for axis, image in zip(axes[:2] + axes[3:4], (row.first, row.last, row.aligned), strict=True):
            picture(axis, image)
        arrows(axes[2], row.first, row.whole, row.figure)
        arrows(axes[4], row.first, row.local, row.figure)
    wheel(figure)
    return figure


def paths(rows: Sequence[PathRow]) -> Figure:
    """A line per two rows: first and last image, and where points go in between, coloured by the activation.

    Alignment has taken the movement of the whole out; points that move less than half a pixel have no path, nor have
    those that were lost on the way.
    """
    titles = ("smallest activation", "largest activation", "paths")
    blocks = 2 if len(rows) > 1 else 1
    figure, axes_of = _grid(-(-len(rows) // blocks), len(titles), blocks)
    for at, row in enumerate(rows):
        line, block = divmod(at, blocks)
        axes = axes_of(line, block, row, () if line else titles)
        picture(axes[0], row.first)
        picture(axes[1], row.last)
        trails(axes[2], row)
    _bar(figure)
    return figure


def arrows(axis: Axes, image: np.ndarray, field: np.ndarray, figure: np.ndarray) -> None:
    """Arrows of a field over a faded image; the longest displacement is written below.

    Args:
        axis: where.
        image: `[H, W, 3]` uint8.
        field: `[H, W, 2]` pixels, NaN where unknown.
        figure: where arrows may begin, `[H, W]` bool.
    """
    _faded(axis, image)
    xy, uv = _longest(axis, field, figure)
    if not len(uv):
        return
    length, side = np.linalg.norm(uv, axis=1), axis.images[0].get_size()[0]
    scale = max(1.0, _LONGEST * len(image) / _ARROWS / np.percentile(length, 98))
    start, way = (xy + 0.5) / len(image) * side - 0.5, scale * side / len(image) * uv
    style: dict[str, Any] = {"angles": "xy", "scale_units": "xy", "scale": 1, "headwidth": 3.6, "headlength": 4}
    for width, colours in ((0.016, "white"), (0.010, hues(uv))):
        axis.quiver(*start.T, *way.T, color=colours, width=width, **style)
    times = f", drawn {number(scale, 2)} times as long" if scale > 1.05 else ""
    _below(axis, f"up to {number(float(length.max()), 2)} px{times}")


def trails(axis: Axes, row: PathRow) -> None:
    """Paths of the points that move most, coloured by the activation, over the faded first image."""
    _faded(axis, row.first)
    length = np.linalg.norm(row.local, axis=3)
    steady = (np.nan_to_num(length, nan=np.inf) <= _DETOUR * length[-1] + 1).all(0)
    xy, last = _longest(axis, row.local[-1], row.figure & steady)
    if not len(last):
        return
    side = axis.images[0].get_size()[0]
    way = xy[None] + row.local[:, xy[:, 1], xy[:, 0]]
    way = (way + 0.5) / len(row.first) * side - 0.5
    share = (row.value - row.value[0]) / ((row.value[-1] - row.value[0]) or 1)
    for step in range(len(way) - 1):
        colour = ACTIVATION((share[step] + share[step + 1]) / 2)
        pieces = list(np.stack([way[step], way[step + 1]], 1))
        axis.add_collection(LineCollection(pieces, colors=[colour], linewidths=1.4, capstyle="round"), autolim=False)
    axis.plot(*way[-1].T, "o", color=ACTIVATION(1.0), markersize=2, markeredgewidth=0)
    axis.set(xlim=(-0.5, side - 0.5), ylim=(side - 0.5, -0.5))
    _below(axis, f"up to {number(float(np.linalg.norm(last, axis=1).max()), 2)} px")


def hues(uv: np.ndarray) -> np.ndarray:
    """Colours `[n, 3]` of the directions of vectors `[n, 2]`, to the right and down: once round the circle of hues."""
    angle = np.arctan2(-uv[:, 1], uv[:, 0]) / (2 * np.pi) % 1
    return hsv_to_rgb(np.stack([angle, np.full(len(uv), 0.85), np.full(len(uv), 0.85)], 1))


def wheel(figure: Figure) -> Axes:
    """The circle of directions with its colours, in the upper left corner of a figure."""
    w, h = figure.get_size_inches()
    side = 0.62
    axis = figure.add_axes((0.08 / w, 1 - (_TOP + 0.05 + side) / h, side / w, side / h), projection="polar")
    angle = np.linspace(0, 2 * np.pi, 73)
    colours = hues(np.stack([np.cos(angle), -np.sin(angle)], 1))
    axis.bar(angle, 0.45, width=2 * np.pi / 72, bottom=0.55, color=colours, linewidth=0)
    axis.set_axis_off()
    return axis


def _grid(lines: int, columns: int, blocks: int = 1) -> tuple[Figure, Callable[..., list[Axes]]]:
    """An empty figure, and what gives the axes of a row, in a line and a block, with its name and their titles."""
    cell = min((WIDE / blocks - _NAME - columns * _GAP) / columns, 1.75)
    figure = Figure(figsize=(WIDE, _TOP + lines * (cell + 0.26) + 0.22))

    def axes_of(line: int, block: int, row: _Row, titles: Sequence[str]) -> list[Axes]:
        left, top = block * WIDE / blocks + _NAME, _TOP + line * (cell + 0.26)
        axes = [axes_at(figure, left + at * (cell + _GAP), top, cell, cell) for at in range(columns)]
        write(axes[0], -0.07, 0.5, row.name, ha="right", va="bottom", size=9)
        write(axes[0], -0.07, 0.47, row.detail, ha="right", va="top", size=7.5, color=MUTED)
        for axis, title in zip(axes, titles, strict=False):
            write(axis, 0, 1.04, title, size=8.5, weight="bold", color=INK)
        return axes

    return figure, axes_of


def _longest(axis: Axes, field: np.ndarray, figure: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places `[n, 2]` on a coarse lattice of the figure with the longest displacements, and these `[n, 2]`.

    Where there are none, the axes say why.
    """
    stride = max(1, len(field) // _ARROWS)
    y, x = np.mgrid[stride // 2 : field.shape[0] : stride, stride // 2 : field.shape[1] : stride]
    uv = field[y, x].reshape(-1, 2)
    there = np.isfinite(uv).all(1) & figure[y, x].ravel()
    xy, uv = np.stack([x.ravel(), y.ravel()], 1)[there], uv[there]
    length = np.linalg.norm(uv, axis=1)
    moving = length > _STILL * len(field) / 64
    if not moving.any():
        _below(axis, "nothing moves" if len(uv) else "not known")
        return xy[:0], uv[:0]
    far = moving & (length >= np.percentile(length[moving], PERCENTILE))
    return xy[far], uv[far]


def _faded(axis: Axes, image: np.ndarray) -> None:
    picture(axis, (image + (255 - image) * _FADED).round().astype(np.uint8))


def _below(axis: Axes, text: str) -> None:
    write(axis, 0.5, -0.03, text, ha="center", va="top", size=7, color=MUTED)


def _bar(figure: Figure) -> None:
    """The colours of the activation, below the last line."""
    w, h = figure.get_size_inches()
    axis = figure.add_axes((0.5 - 0.9 / w, 0.06 / h, 1.8 / w, 0.09 / h))
    colours = figure.colorbar(ScalarMappable(Normalize(0, 1), ACTIVATION), cax=axis, orientation="horizontal", ticks=[])
    colours.outline.set_visible(False)
    for x, text, side in ((-0.03, "smallest activation", "right"), (1.03, "largest", "left")):
        axis.text(x, 0.5, text, transform=axis.transAxes, size=8, color=MUTED, ha=side, va="center")
