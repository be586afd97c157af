"""How the parts change along a counterfactual, beside what an image distance sees (Fig. 7C; S18, S25, S28)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lis.report.figures.marks import bare, picture
from lis.report.figures.overlay import overlay
from lis.report.figures.reconstructions import mosaic
from lis.report.style import INK, MUTED, RULE, WIDE, light_grid, plain, styled

_STRIP = 0.98
"""Largest side of an image in inches."""
_PANEL = 2.0
"""Height of a line of panels with its names in inches."""
_COLUMNS = 3
_TINT = 0.35
_HEAD = 0.62
"""Inches above the images: the title, the probabilities, the answers."""
TARGET = "#009e73"
"""The probability of the target, green as in the paper."""
DISTANCES = {"mse": ("MSE", "#4d4d4d"), "lpips": ("LPIPS", "#8c6d31"), "moco": ("MoCo v2", "#7a5195")}
"""Name and colour of what tells two images apart."""


@dataclass(frozen=True)
class Course:
    """One trajectory of T images; K labels."""

    title: str
    position: np.ndarray
    """`[T]`: 0 is the original, 1 the counterfactual."""
    boundary: float
    """Where the answer changes, a position."""
    image: np.ndarray
    """Some of the images, `[m, h, w, 3]` uint8."""
    mask: np.ndarray
    """Their masks, `[m, h', w']` integers, 0 background."""
    shown: np.ndarray
    """Their positions, `[m]`."""
    frames: Sequence[str]
    """Colour of the answer to each, `[m]`."""
    probability: np.ndarray
    """Of the target, `[T]`."""
    distances: Mapping[str, np.ndarray]
    """Metric to its values over the largest, `[T]`."""
    measures: Mapping[str, Mapping[str, np.ndarray]]
    """Measure to label to its change over the largest |change|, `[T]`; NaN where the label is absent."""

    @property
    def known(self) -> dict[str, dict[str, np.ndarray]]:
        """The measures and labels that have a value at any position."""
        seen = {
            measure: {label: values for label, values in curves.items() if np.isfinite(values).any()}
            for measure, curves in self.measures.items()
        }
        return {measure: curves for measure, curves in seen.items() if curves}


@styled
def evolution(course: Course, colours: Mapping[str, str]) -> Figure:
    """Images above, and where parts are known their masks; below, the distances and every measure, a line per label.

    Args:
        course: what is drawn.
        colours: label to colour, in the order of the masks' values.
    """
    count, known = len(course.image), course.known
    cell = min(_STRIP, (WIDE - 0.2) / count)
    columns = min(_COLUMNS, 1 + len(known))
    lines = -(-(1 + len(known)) // columns)
    top = _HEAD + (1 + bool(colours)) * cell + 0.14
    height = top + lines * _PANEL + 0.52
    figure = Figure(figsize=(WIDE, height))
    _strip(figure, course, list(colours.values()), cell)
    panels = _panels(figure, 1 + len(known), columns, top)
    _distances(panels[0], course)
    for axis, (measure, curves) in zip(panels[1:], known.items(), strict=True):
        axis.axhline(0, color=RULE, linewidth=0.9)
        for label, values in curves.items():
            axis.plot(course.position, values, color=colours[label], linewidth=1.5)
        axis.set(ylim=(-1.12, 1.12))
        axis.set_title(plain(measure))
    for place, axis in enumerate(panels):
        _decorate(axis, course)
        if place >= len(panels) - columns:
            axis.set_xlabel("position: 0 original, 1 counterfactual")
    _legend(figure, course, colours)
    return figure


def _strip(figure: Figure, course: Course, inks: list[str], cell: float) -> None:
    """The pictures, and below them the same with their parts where any are known; the answers as bars above."""
    count, height = len(course.image), figure.get_figheight()
    left, rows = (WIDE - count * cell) / 2, [course.image]
    if inks:
        rows.append(np.stack([overlay(*pair, inks, _TINT) for pair in zip(course.image, course.mask, strict=True)]))
    tall = len(rows) * cell
    box = (left / WIDE, 1 - (_HEAD + tall) / height, count * cell / WIDE, tall / height)
    axis = figure.add_axes(box)
    picture(axis, mosaic(rows))
    bar = figure.add_axes((box[0], 1 - (_HEAD - 0.005) / height, box[2], 0.06 / height))
    bare(bar)
    bar.set(xlim=(0, count), ylim=(0, 1))
    for place, (at, colour) in enumerate(zip(course.shown, course.frames, strict=True)):
        bar.barh(0.5, 0.94, height=1, left=place + 0.02, color=colour)
        p = float(np.interp(at, course.position, course.probability))
        bar.text(place + 0.5, 1.5, f"p = {p:.2f}" if place == 0 else f"{p:.2f}", size=8.5, color=MUTED, ha="center")
    after = int(np.searchsorted(course.shown, course.boundary))
    if 0 < after < count:
        wide = axis.images[0].get_size()[1]
        axis.axvline(after / count * wide, color=INK, linestyle="--", linewidth=1.1)


def _panels(figure: Figure, count: int, columns: int, top: float) -> list[Axes]:
    """Axes for so many panels, `columns` in a line, below `top` inches."""
    height = figure.get_figheight()
    width, left, gap = (WIDE - 0.55 - 0.15) / columns, 0.55, 0.45
    axes = []
    for place in range(count):
        line, column = divmod(place, columns)
        bottom = height - top - (line + 1) * _PANEL + 0.2
        box = (left + column * width, bottom, width - gap, _PANEL - 0.5)
        axes.append(figure.add_axes((box[0] / WIDE, box[1] / height, box[2] / WIDE, box[3] / height)))
    return axes


def _distances(axis: Axes, course: Course) -> None:
    axis.plot(course.position, course.probability, color=TARGET, linewidth=2)
    for metric, values in course.distances.items():
        axis.plot(course.position, values, color=DISTANCES[metric][1], linewidth=1.4)
    axis.set(ylim=(-0.05, 1.05))
    axis.set_title("image distance, probability")


def _decorate(axis: Axes, course: Course) -> None:
    axis.axvline(course.boundary, color=MUTED, linestyle=(0, (2, 2)), linewidth=1.2)
    axis.set(xlim=(course.position[0], course.position[-1]))
    light_grid(axis, "y")


def _legend(figure: Figure, course: Course, colours: Mapping[str, str]) -> None:
    """Of the first panel above the labels, all in a line below."""
    drawn = {label for curves in course.known.values() for label in curves}
    entries = {"p(target)": TARGET} | {DISTANCES[name][0]: DISTANCES[name][1] for name in course.distances}
    entries |= {plain(label): colour for label, colour in colours.items() if label in drawn}
    handles = [
        figure.axes[0].plot([], [], color=colour, linewidth=2.4, label=name)[0] for name, colour in entries.items()
    ]
    figure.legend(handles=handles, loc="lower center", ncols=13, fontsize=8, handlelength=1.1, columnspacing=1.1)
    figure.text(0.5, 1 - 0.06 / figure.get_figheight(), course.title, ha="center", va="top", size=10, weight="bold")
