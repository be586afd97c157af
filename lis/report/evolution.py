"""A counterfactual's way as curves: probability, distances, what changes of its parts beyond noise (Fig. 7C, S18)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lis.report.layouts import mosaic, overlay
from lis.report.marks import axes_at, bare, note, padded, picture
from lis.report.noise import named, noise_std
from lis.report.strips import veiled
from lis.report.style import GREY, INK, MUTED, RULE, SERIES, WIDE, light_grid, plain
from lis.report.wording import CHANGES

MOST_NAMED = 5
"""Lines of a panel that have a name and a colour."""
WITHIN = GREY
"""Lines that do not leave their noise, or are not among those named."""
TARGET = INK
"""The probability of the target; no part has this colour."""
DISTANCES = {"mse": ("MSE", SERIES[0]), "lpips": ("LPIPS", SERIES[1]), "moco": ("MoCo v2", SERIES[6])}
"""Name and colour of what tells two images apart."""
_SIDE = 1.05
"""Largest side of an image in inches."""
_PANEL = 2.0
"""Height of a line of panels with its names in inches."""
_COLUMNS = 3
_TINT = 0.35
_HEAD = 0.62
"""Inches above the images: the title, the probabilities, the answers."""


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
    beyond: np.ndarray
    """Whether their w lies beyond 99 % of held-out training samples, `[m]` bool."""
    pictured: np.ndarray
    """Their positions, `[m]`."""
    frames: Sequence[str]
    """Colour of the answer to each, `[m]`."""
    probability: np.ndarray
    """Of the target, `[T]`."""
    distances: Mapping[str, np.ndarray]
    """Metric to its values over the largest, `[T]`."""
    measures: Mapping[str, Mapping[str, np.ndarray]]
    """Measure to label to its change in the measure's unit, `[T]`; NaN where the label is absent."""

    looked_at: int = 1
    """Curves of parts of all trajectories of the run, among which those that change are called."""

    @property
    def known(self) -> dict[str, dict[str, np.ndarray]]:
        """The measures and labels that have a value at any position."""
        seen = {
            measure: {label: values for label, values in curves.items() if np.isfinite(values).any()}
            for measure, curves in self.measures.items()
        }
        return {measure: curves for measure, curves in seen.items() if curves}

    @property
    def named(self) -> dict[str, list[str]]:
        """Measure to the labels that change beyond their noise up to the counterfactual and have a colour, at most
        `MOST_NAMED`."""
        until = before_end(self.position)
        return {measure: named(curves, MOST_NAMED, self.looked_at, until) for measure, curves in self.known.items()}


def before_end(position: np.ndarray) -> int:
    """How many of the ascending positions `[T]` are not beyond the counterfactual, which is at 1."""
    return int(np.sum(position <= 1 + 1e-6))


def evolution(course: Course, colours: Mapping[str, str]) -> Figure:
    """Images above, and where parts are known their masks; below, the distances and every measure, a line per label.

    A panel has one scale, that of the lines that are named; the others are thin and grey, and may leave it.

    Args:
        course: what is drawn.
        colours: label to colour, in the order of the masks' values.
    """
    count, known = len(course.image), course.known
    cell = min(_SIDE, (WIDE - 0.2) / count)
    columns = min(_COLUMNS, 1 + len(known))
    lines = -(-(1 + len(known)) // columns)
    top = _HEAD + (1 + bool(colours)) * cell + 0.14
    figure = Figure(figsize=(WIDE, top + lines * _PANEL + 0.52))
    _images(figure, course, list(colours.values()), cell)
    panels = _panels(figure, 1 + len(known), columns, top)
    panels[0].plot(course.position, course.probability, color=TARGET, linewidth=2)
    for metric, values in course.distances.items():
        panels[0].plot(course.position, values, color=DISTANCES[metric][1], linewidth=1.4)
    panels[0].set(ylim=(-0.05, 1.05))
    panels[0].set_title("image distance, probability")
    for axis, (measure, curves) in zip(panels[1:], known.items(), strict=True):
        _changes(axis, course.position, curves, course.named[measure], colours)
        axis.set_title(plain(measure))
        axis.set_title(CHANGES.get(measure, "").partition("(")[2].rstrip(")"), loc="right", size=8, weight="normal")
    for index, axis in enumerate(panels):
        axis.axvline(course.boundary, color=MUTED, linestyle=(0, (2, 2)), linewidth=1.2)
        axis.set(xlim=(course.position[0], course.position[-1]))
        light_grid(axis, "y")
        if index >= len(panels) - columns:
            axis.set_xlabel("position: 0 original, 1 counterfactual")
    _legend(figure, course, colours)
    return figure


def _changes(
    axis: Axes, position: np.ndarray, curves: Mapping[str, np.ndarray], chosen: list[str], colours: Mapping[str, str]
) -> None:
    """A line per label; the chosen ones have a colour and a band of ± their noise, and the median noise is a bar."""
    axis.axhline(0, color=RULE, linewidth=0.9)
    for label, values in curves.items():
        if label not in chosen:
            axis.plot(position, values, color=WITHIN, linewidth=0.8, zorder=1)
    for label in reversed(chosen):
        values, noise = curves[label], noise_std(curves[label])
        axis.fill_between(position, values - noise, values + noise, color=colours[label], alpha=0.2, linewidth=0)
        axis.plot(position, values, color=colours[label], linewidth=1.8)
    low, high = padded(np.concatenate([[0.0], *(curves[label] for label in chosen or curves)]), 0.1)
    axis.set(ylim=(low, high))
    noises = [noise for values in curves.values() if np.isfinite(noise := noise_std(values))]
    if noises:
        half = min(float(np.median(noises)), (high - low) / 2)
        middle, right = (low + high) / 2, position[-1] + 0.025 * (position[-1] - position[0])
        axis.errorbar(right, middle, half, color=MUTED, capsize=2, elinewidth=1.2, clip_on=False)
        style = {"size": 7.5, "color": MUTED, "ha": "left", "va": "center", "rotation": 90}
        note(axis, "noise", (right, middle), (4, 0), annotation_clip=False, **style)


def _images(figure: Figure, course: Course, inks: list[str], cell: float) -> None:
    """The pictures, and below them the same with their parts where any are known; the answers as bars above."""
    count, height = len(course.image), figure.get_figheight()
    left, rows = (WIDE - count * cell) / 2, [veiled(course.image, course.beyond)]
    if inks:
        rows.append(np.stack([overlay(*pair, inks, _TINT) for pair in zip(course.image, course.mask, strict=True)]))
    tall = len(rows) * cell
    box = (left / WIDE, 1 - (_HEAD + tall) / height, count * cell / WIDE, tall / height)
    axis = figure.add_axes(box)
    picture(axis, mosaic(rows))
    bar = figure.add_axes((box[0], 1 - (_HEAD - 0.005) / height, box[2], 0.06 / height))
    bare(bar)
    bar.set(xlim=(0, count), ylim=(0, 1))
    for index, (at, colour) in enumerate(zip(course.pictured, course.frames, strict=True)):
        bar.barh(0.5, 0.94, height=1, left=index + 0.02, color=colour)
        p = float(np.interp(at, course.position, course.probability))
        bar.text(index + 0.5, 1.5, f"p = {p:.2f}" if index == 0 else f"{p:.2f}", size=8.5, color=MUTED, ha="center")
    after = int(np.searchsorted(course.pictured, course.boundary))
    if 0 < after < count:
        wide = axis.images[0].get_size()[1]
        axis.axvline(after / count * wide, color=INK, linestyle="--", linewidth=1.1)


def _panels(figure: Figure, count: int, columns: int, top: float) -> list[Axes]:
    """Axes for so many panels, `columns` in a line, below `top` inches."""
    width, lines = (WIDE - 0.55 - 0.15) / columns, (divmod(index, columns) for index in range(count))
    return [
        axes_at(figure, 0.55 + column * width, top + line * _PANEL + 0.3, width - 0.62, _PANEL - 0.5)
        for line, column in lines
    ]


def _legend(figure: Figure, course: Course, colours: Mapping[str, str]) -> None:
    """Of the first panel above the labels that are named in any panel, all in a line below."""
    drawn = {label for labels in course.named.values() for label in labels}
    entries = {"p(target)": TARGET} | {DISTANCES[name][0]: DISTANCES[name][1] for name in course.distances}
    entries |= {plain(label): colour for label, colour in colours.items() if label in drawn}
    entries |= {"within its noise, or a smaller change": WITHIN} if course.known else {}
    handles = [
        figure.axes[0].plot([], [], color=colour, linewidth=2.4, label=name)[0] for name, colour in entries.items()
    ]
    figure.legend(handles=handles, loc="lower center", ncols=13, fontsize=8, handlelength=1.1, columnspacing=1.1)
    figure.text(0.5, 1 - 0.06 / figure.get_figheight(), course.title, ha="center", va="top", size=10, weight="bold")
