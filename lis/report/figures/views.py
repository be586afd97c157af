"""Pictures of one unit, one direction, or own images: parts outlined, curves beside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from lis.report.figures.marks import bare, picture
from lis.report.figures.overlay import overlay
from lis.report.figures.reconstructions import mosaic
from lis.report.labels import number
from lis.report.style import INK, MUTED, RULE, WIDE, light_grid, plain, sheet, styled

_COLUMNS = 5
"""Images per line of a sheet."""
_NAME = 0.95
"""Inches left of the images."""
_CELL = 1.35
"""Largest side of an image in inches."""
_TALLEST = 11.0
"""Inches of all images of a figure."""


@dataclass(frozen=True)
class Strip:
    """One sample in t steps."""

    name: str
    """Left of the images."""
    detail: str
    """Below the name."""
    image: np.ndarray
    """`[t, h, w, 3]` uint8."""
    mask: np.ndarray | None
    """`[t, h', w']` uint8: 0 background, then the labels; None: no part is known."""


@dataclass(frozen=True)
class Curve:
    """A quantity over the steps."""

    name: str
    """In the legend."""
    colour: str
    samples: np.ndarray
    """`[n, t]`, NaN where the part is absent."""


@dataclass(frozen=True)
class Panel:
    """Curves on common axes."""

    title: str
    axis: str
    """What the vertical axis shows."""
    curves: Sequence[Curve]
    limits: tuple[float, float] | None = None
    """Of the vertical axis; None: those of the curves."""
    mean: bool = True
    """Whether the mean over the samples is drawn: turns to opposite sides have none."""


@styled
def filmstrips(strips: Sequence[Strip], value: np.ndarray, symbol: str, colours: Mapping[str, str]) -> Figure:
    """Two lines per sample, the images and the same with their parts outlined; the values of r stand above.

    Args:
        strips: samples, each in as many steps.
        value: of the unit or the projection, `[t]`.
        symbol: what the value is called.
        colours: label to colour, in the order of the masks' values; those that are drawn.
    """
    lines = [line for strip in strips for line in _lines(strip, colours)]
    steps = len(value)
    cell = min(_CELL, (WIDE - _NAME) / steps, _TALLEST / len(lines))
    head, foot = 0.28, 0.34 * bool(colours)
    width, height = _NAME + steps * cell, head + len(lines) * cell + foot
    figure = Figure(figsize=(width, height))
    axis = figure.add_axes((_NAME / width, foot / height, steps * cell / width, len(lines) * cell / height))
    picture(axis, mosaic(lines))
    each = len(lines) // len(strips)
    for place, strip in enumerate(strips):
        y = 1 - (place * each + 0.5) / len(lines)
        style: dict[str, Any] = {"transform": axis.transAxes, "ha": "right", "va": "center"}
        axis.text(-0.1 / (steps * cell), y, strip.name, size=9, **style)
        below = y - 0.2 / (len(lines) * cell)
        axis.text(-0.1 / (steps * cell), below, strip.detail, size=8.5, color=MUTED, **style)
    for step, at in enumerate(value):
        text = f"{symbol} = {number(float(at), 2)}" if step == 0 else number(float(at), 2)
        x = (step + 0.5) / steps
        axis.text(x, 1 + 0.06 / (len(lines) * cell), text, transform=axis.transAxes, ha="center", color=MUTED, size=8.5)
    if colours:
        _legend(figure, colours)
    return figure


@styled
def courses(panels: Sequence[Panel], value: np.ndarray, own: np.ndarray, what: str) -> Figure:
    """A panel per quantity: its mean over the samples over r, each sample as a thin line.

    Args:
        panels: what is drawn.
        value: r at each step, `[t]`.
        own: the samples' own r, `[n]`: marks on the horizontal axis.
        what: the horizontal axis.
    """
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    figure, axes = sheet(WIDE, 0.4 + 2.3 * rows, rows, columns)
    figure.set_layout_engine("constrained", w_pad=0.1, h_pad=0.08)
    for axis, panel in zip(axes.flat, panels, strict=False):
        _course(axis, panel, value)
        axis.plot(
            own, np.zeros(len(own)), "|", color=INK, markersize=9, transform=axis.get_xaxis_transform(), clip_on=False
        )
        axis.set_xlabel(what)
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    return figure


def _lines(strip: Strip, colours: Mapping[str, str]) -> list[np.ndarray]:
    """The images of a sample, and, where its parts are known, the same with outlines."""
    if strip.mask is None or not colours:
        return [strip.image]
    drawn = [overlay(*pair, list(colours.values()), 0.25) for pair in zip(strip.image, strip.mask, strict=True)]
    return [strip.image, np.stack(drawn)]


def _course(axis: Axes, panel: Panel, value: np.ndarray) -> None:
    axis.axhline(0, color=RULE, linewidth=0.9)
    for curve in panel.curves:
        for place, sample in enumerate(curve.samples):
            name = curve.name if not panel.mean and place == 0 else None
            axis.plot(value, sample, color=curve.colour, linewidth=0.6 if panel.mean else 1.1, alpha=0.45, label=name)
        if panel.mean:
            known = ~np.isnan(curve.samples).all(0)
            mean = np.full(len(value), np.nan)
            mean[known] = np.nanmean(curve.samples[:, known], axis=0)
            axis.plot(value, mean, "o-", color=curve.colour, linewidth=1.8, markersize=3.5, label=curve.name)
    axis.set_title(panel.title)
    axis.set(ylabel=panel.axis, ylim=panel.limits)
    light_grid(axis, "y")
    if panel.curves:
        axis.legend(fontsize=8, loc="best")


def _legend(figure: Figure, colours: Mapping[str, str]) -> None:
    handles = [Patch(color=colour, label=plain(label)) for label, colour in colours.items()]
    figure.legend(handles=handles, loc="lower center", ncols=min(len(handles), 10), fontsize=8.5)


@styled
def overlays(images: Mapping[str, np.ndarray], colours: Mapping[str, str]) -> Figure:
    """A sheet of images with their names, and what the colours stand for.

    Args:
        images: name to picture `[h, w, 3]` uint8 with its parts drawn.
        colours: label to colour.
    """
    lines = -(-len(images) // _COLUMNS)
    cell = WIDE / _COLUMNS
    figure = Figure(figsize=(WIDE, lines * (cell + 0.1) + 0.4))
    foot = 0.4 / figure.get_figheight()
    height = (1 - foot) / lines
    _legend(figure, colours)
    for place, (name, image) in enumerate(images.items()):
        line, column = divmod(place, _COLUMNS)
        box = ((column + 0.02) / _COLUMNS, 1 - (line + 1) * height, 0.96 / _COLUMNS, height * 0.9)
        axis = figure.add_axes(box)
        axis.imshow(image, interpolation="antialiased")
        axis.set_title(plain(name).removesuffix(".png"), size=8.5, weight="normal", pad=2)
        bare(axis)
    return figure
