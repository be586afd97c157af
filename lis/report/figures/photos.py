"""A user's own pictures, what comes back from the cycle, and how far off they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lis.report.figures.marks import axes_at, bare, density, enlarged
from lis.report.figures.overlay import overlay
from lis.report.labels import share, wrapped
from lis.report.style import INK, LINK_RED, PAIRING, RULE, WIDE, plain, styled

_NAME, _CELL, _HEAD, _GAP = 1.3, 1.2, 0.35, 0.12
"""Inches: room for names, side of an image, height of the headings, between rows."""
_CLASSES, _FAR, _TEXT = 1.15, 1.75, 0.19
"""Inches: room for the names of classes, width of the distances, height of what is written above them."""
_TINT = 0.25
"""How strongly parts are tinted."""
_MOST = 5
"""Classes whose probability is shown."""


@dataclass(frozen=True)
class Row:
    """One picture."""

    name: str
    image: np.ndarray
    """`[h, w, 3]` uint8."""
    cycled: np.ndarray
    """`[h, w, 3]` uint8."""
    mask: np.ndarray
    """Of the cycled image, `[h', w']` uint8."""
    probability: Mapping[str, tuple[float, float]]
    """Class to its probability given the picture and the cycled image; NaN where that is not known."""
    distance: Mapping[str, float]
    """`R` and `W` to the distance from what the generator makes."""
    share: Mapping[str, float]
    """`R` and `W` to the share of test pairs that are not farther."""


@styled
def photos(rows: Sequence[Row], reference: Mapping[str, np.ndarray], colours: Mapping[str, str], off: float) -> Figure:
    """A row per picture: the picture, the cycled image, its parts, the classifier's answers, the distances.

    Args:
        rows: the pictures.
        reference: `R` and `W` to the distances of the test pairs.
        colours: label to colour, in the order of the masks' values; without any, no parts are shown.
        off: a larger share is marked.
    """
    columns = 3 if colours else 2
    step = _CELL + _GAP
    figure = Figure(figsize=(WIDE, _HEAD + len(rows) * step))
    bars, far = _NAME + columns * step + _CLASSES, WIDE - _FAR - 0.1
    _headings(figure, columns, bars, far)
    for place, row in enumerate(rows):
        top = _HEAD + place * step
        middle = _y(figure, top + _CELL / 2)
        figure.text((_NAME - 0.1) / WIDE, middle, wrapped(row.name, 16), ha="right", va="center", size=9)
        for column, image in enumerate(_pictures(row, colours)):
            axis = axes_at(figure, _NAME + column * step, top, _CELL, _CELL)
            axis.imshow(enlarged(image), interpolation="antialiased")
            bare(axis)
        _answers(axes_at(figure, bars, top, far - bars - 0.4, _CELL - 0.1), row.probability)
        for half, space in enumerate(row.distance):
            axis = axes_at(figure, far, top + half * _CELL / 2 + _TEXT, _FAR, _CELL / 2 - _TEXT - 0.05)
            _distance(axis, row.distance[space], reference[space], row.share[space] > off)
            axis.set_title(f"in {space}: farther than {share(row.share[space])}", size=8.5, weight="normal", pad=2)
    return figure


def _pictures(row: Row, colours: Mapping[str, str]) -> list[np.ndarray]:
    parts = [overlay(row.cycled, row.mask, list(colours.values()), _TINT)] if colours else []
    return [row.image, row.cycled, *parts]


def _headings(figure: Figure, columns: int, bars: float, far: float) -> None:
    names = ("picture", "cycled", "its parts")[:columns]
    places = [(_NAME + place * (_CELL + _GAP), name) for place, name in enumerate(names)]
    for left, name in [*places, (bars, "answers"), (far, "distance")]:
        figure.text(left / WIDE, _y(figure, _HEAD - 0.1), name, size=9.5, weight="bold", va="bottom")


def _answers(axis: Axes, probability: Mapping[str, tuple[float, float]]) -> None:
    """A bar per class for the picture, and a dot for the cycled image; the most probable classes."""
    most = sorted(probability, key=lambda name: -np.nanmax(probability[name]))[:_MOST]
    names = [name for name in probability if name in most]
    for place, name in enumerate(names):
        before, after = probability[name]
        axis.barh(place, before, height=0.6, color=PAIRING["within-class"])
        axis.plot(after, place, "o", color=PAIRING["cycle"], markersize=5, clip_on=False)
    axis.set_yticks(range(len(names)), [plain(name) for name in names])
    axis.set(xlim=(0, 1), ylim=(len(names) - 0.4, -0.6))
    axis.set_xticks([0, 1], ["0", "1"])
    axis.tick_params(axis="both", length=0, labelsize=8, pad=5)
    axis.tick_params(axis="y", labelcolor=INK)
    axis.spines[:].set_visible(False)
    axis.axvline(0, color=RULE, linewidth=0.9)
    axis.axvline(1, color=RULE, linewidth=0.9)


def _distance(axis: Axes, distance: float, reference: np.ndarray, off: bool) -> None:
    """The density of the test pairs, and where the picture lies; on a logarithmic scale where that is far out."""
    if distance > 3 * reference.max():
        axis.set_xscale("log")
    position, height = density(reference)
    axis.fill_between(position, 0, height, color=PAIRING["random"], linewidth=0)
    axis.plot(distance, 0.1, "o", color=LINK_RED if off else PAIRING["cycle"], markersize=6, clip_on=False)
    bare(axis)
    axis.minorticks_off()
    axis.set(ylim=(0, 1.1), xlim=(0.9 * min(reference.min(), distance), 1.1 * max(distance, reference.max())))
    axis.axhline(0, color=RULE, linewidth=0.9)


def _y(figure: Figure, top: float) -> float:
    return 1 - top / figure.get_figheight()
