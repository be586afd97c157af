"""What changes on the way of a counterfactual (paper §4.5, Fig. 7; S17, S18, S24, S25, S27, S28)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from lis.quantify.measures import MEASURES, TOLD
from lis.report.layouts import mosaic, overlay
from lis.report.marks import axes_at, bare, picture
from lis.report.section import Picture, Section, Table, section
from lis.report.source import Source
from lis.report.style import INK, MUTED, RULE, WIDE, class_colours, label_colours, light_grid, plain
from lis.report.tables import known, records, split, where
from lis.report.wording import arrow, changed, counted, listing, number, share, words

FEW = 9
"""Images of a sequence."""
_JUMPS = 3
"""Parts per trajectory that are listed."""
_CROSSINGS = (
    "The original, the last image before the boundary, the first one after it, and the counterfactual. In the corner: "
    "the probability of the target; the frame has the colour of the answer."
)
_SEQUENCES = (
    "Images from the original (0) along Δr to the counterfactual (1) and beyond; dashed: where the answer becomes the "
    "target. In the corner: the probability of the target; the frame has the colour of the answer."
)
_EVOLUTION = (
    "Above: images{masks}, with the probability of the target and a bar in the colour of the answer. Below: the "
    "probability beside distances of the image from the original (each over its largest){parts}; dashed: the boundary."
)
_MASKS = " and their parts"
_CHANGES = (
    ", and the change of every part from the original (over its largest on the path), those that are too small left out"
)
_SIDE = 0.98
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
_NAME = 1.05
"""Inches left and right of the images."""
_CELL = 1.25
"""Largest side of an image in inches."""
_GAP, _FRAME = 0.09, 2.6
"""Between images, as a share of their side; width of a frame in points."""
_CROSSINGS_HEAD, _FOOT = 0.26, 0.36
"""Inches above and below the images."""
OTHER = "#8d99a5"
"""The frame of an answer that is none of the run's classes."""


@section(420, "trajectories", "trajectories", "steps", "measures", "jumps", "facts")
def across_the_boundary(source: Source) -> Section:
    """Images, distances and parts along some counterfactuals."""
    table, title = source.table("trajectories", "trajectories"), "Across the decision boundary"
    if table.empty:
        return Section(title, "No counterfactual reached its target, so that there is no way to look at.")
    colours, rows = class_colours(source.facts.class_names), records(table)
    arrays, around = (source.arrays("trajectories", name) for name in ("trajectories", "around"))
    position, steps = arrays["position"], split(source.table("trajectories", "steps"), "trajectory")
    few, whole = _evenly(len(position)), int(np.abs(position - 1).argmin())
    beside, sequences = [], []
    for row in rows:
        k, pair, one = row["trajectory"], (row["origin"], row["target"]), records(steps[row["trajectory"]])
        image, p = (arrays["image"][k], [step["probability"] for step in one])
        images = np.stack([image[0], *around["image"][k], image[whole]])
        probability = np.array([p[0], *around["probability"][k, :, row["target_index"]], p[whole]])
        answers = [one[0]["prediction"], row["before_answer"], row["after_answer"], one[whole]["prediction"]]
        beside.append(Crossing(*pair, images, probability, answers, boundary=2))
        after, answers = int(np.searchsorted(position[few], row["boundary"])), [one[step]["prediction"] for step in few]
        boundary = after if 0 < after < len(few) else None
        sequences.append(Crossing(*pair, image[few], np.array(p)[few], answers, boundary))
    heads = ["original", "before", "after", "counterfactual"]
    positions = [number(float(at), 2) if at else "0" for at in position[few]]
    pictures = [
        Picture("counterfactuals-crossing", crossings(beside, heads, colours), _CROSSINGS, "photo"),
        Picture("counterfactuals-sequence", crossings(sequences, positions, colours), _SEQUENCES, "photo"),
        *(_evolution(source, row, arrays, few) for row in rows),
    ]
    return Section(title, _lead(source, rows), pictures, _jumps(source, rows), _notes(source))


def _evenly(steps: int) -> list[int]:
    """At most `FEW` indices, evenly from the first to the last.

    Example:
        >>> _evenly(4), _evenly(17)
        ([0, 1, 2, 3], [0, 2, 4, 6, 8, 10, 12, 14, 16])
    """
    return sorted({round(x) for x in np.linspace(0, steps - 1, min(FEW, steps)).tolist()})


def _evolution(source: Source, row: dict[str, Any], arrays: dict[str, np.ndarray], few: list[int]) -> Picture:
    """Fig. 7C and S18 of one trajectory."""
    k, labels = row["trajectory"], source.json("trajectories", "facts")["labels"]
    steps, table = (where(source.table("trajectories", name), trajectory=k) for name in ("steps", "measures"))
    seen = set(where(source.table("trajectories", "jumps"), trajectory=k, interpreted=True)["label"])
    values = {key: np.asarray(rows["normalised"], float) for key, rows in table.groupby(["measure", "label"])}
    known = {name: np.asarray(steps[key], float) for name in DISTANCES if (key := f"{name}_normalised") in steps}
    colours = class_colours(source.facts.class_names)
    course = Course(
        title=plain(arrow(row["origin"], row["target"])),
        position=arrays["position"],
        boundary=row["boundary"],
        image=arrays["image"][k, few],
        mask=arrays["mask"][k, few],
        pictured=arrays["position"][few],
        frames=[colours.get(str(answer), OTHER) for answer in steps["prediction"].iloc[few]],
        probability=np.asarray(steps["probability"], dtype=float),
        distances=known,
        measures={name: {x: values[name, x] for x in labels if x in seen} for name in MEASURES},
    )
    caption = _EVOLUTION.format(masks=_MASKS * bool(labels), parts=_CHANGES * bool(course.known))
    return Picture(f"counterfactuals-evolution-{k}", evolution(course, label_colours(labels)), caption)


def _lead(source: Source, rows: list[dict[str, Any]]) -> str:
    """How sudden the answer turns, how even the images change, and which part changes with it."""
    steps = source.table("trajectories", "steps")
    shares = [_crossing(where(steps, trajectory=row["trajectory"]), row["boundary"]) for row in rows]
    p, mse = (float(np.mean(values)) for values in zip(*shares, strict=True))
    lead = (
        f"In {counted(len(rows), 'counterfactual')} the step that crosses the decision boundary brings {share(p)} of "
        f"the whole change of the target's probability, and {share(mse)} of the change of the pixels (an equal share "
        f"would be {share(1 / (len(set(steps['step'])) - 1))})"
    )
    table = _told(source)
    if table.empty:
        return lead + "."
    top = records(table)[0]
    row = rows[int(top["trajectory"])]
    return (
        f"{lead}. The sharpest jump in {listing(list(TOLD))}: the {top['measure']} of {words(top['label'])} between "
        f"{words(row['origin'])} and {words(row['target'])}, {number(top['score'], 2)} times its mean step."
    )


def _crossing(steps: pd.DataFrame, boundary: float) -> tuple[float, float]:
    """Shares of the summed |change| of probability and MSE that the step across the boundary has."""
    at = int(np.searchsorted(np.asarray(steps["position"], dtype=float), boundary))
    parts = [np.abs(np.diff(np.asarray(steps[name], dtype=float))) for name in ("probability", "mse")]
    at = min(max(at, 1), len(parts[0])) - 1
    first, second = (float(x[at] / x.sum()) if x.sum() > 0 else 0.0 for x in parts)
    return first, second


def _told(source: Source) -> pd.DataFrame:
    """The jumps of parts that are large enough, in measures that say something of a round one; the sharpest first."""
    table = known(where(source.table("trajectories", "jumps"), interpreted=True), "score")
    told = pd.DataFrame(table[table["measure"].isin(TOLD)])
    return told.sort_values("score", ascending=False, kind="stable")


def _jumps(source: Source, rows: list[dict[str, Any]]) -> list[Table]:
    """The parts that change most suddenly at each boundary; no table where no part is large enough."""
    table, cells = _told(source), []
    if table.empty:
        return []
    for row in rows:
        top = records(where(table, trajectory=row["trajectory"]).head(_JUMPS))
        told = [
            f"{words(x['label'])}: {x['measure']} {changed(x['measure'], x['jump'])} ({number(x['score'], 2)})"
            for x in top
        ]
        name = arrow(row["origin"], row["target"])
        cells.append([name, number(row["boundary"]), *told, *["–"] * (_JUMPS - len(told))])
    caption = (
        f"Parts with the largest jump in {listing(list(TOLD))}: change over the step across the boundary, and in "
        "brackets how many times the mean change of all steps that is."
    )
    return [Table(caption, ["", "boundary", "first", "second", "third"], cells)]


def _notes(source: Source) -> list[str]:
    facts = source.json("trajectories", "facts")
    notes = [
        f"{DISTANCES[name][0]} is left out: {why}." for name, why in facts["left_out"].items() if name in DISTANCES
    ]
    failed = [f"{arrow(row['origin'], row['target'])} ({row['reason']})" for row in facts["failed"]]
    return [*notes, *([f"Not shown: {listing(failed)}."] if failed else [])]


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
    pictured: np.ndarray
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


def evolution(course: Course, colours: Mapping[str, str]) -> Figure:
    """Images above, and where parts are known their masks; below, the distances and every measure, a line per label.

    Args:
        course: what is drawn.
        colours: label to colour, in the order of the masks' values.
    """
    count, known = len(course.image), course.known
    cell = min(_SIDE, (WIDE - 0.2) / count)
    columns = min(_COLUMNS, 1 + len(known))
    lines = -(-(1 + len(known)) // columns)
    top = _HEAD + (1 + bool(colours)) * cell + 0.14
    height = top + lines * _PANEL + 0.52
    figure = Figure(figsize=(WIDE, height))
    _images(figure, course, list(colours.values()), cell)
    panels = _panels(figure, 1 + len(known), columns, top)
    panels[0].plot(course.position, course.probability, color=TARGET, linewidth=2)
    for metric, values in course.distances.items():
        panels[0].plot(course.position, values, color=DISTANCES[metric][1], linewidth=1.4)
    panels[0].set(ylim=(-0.05, 1.05))
    panels[0].set_title("image distance, probability")
    for axis, (measure, curves) in zip(panels[1:], known.items(), strict=True):
        axis.axhline(0, color=RULE, linewidth=0.9)
        for label, values in curves.items():
            axis.plot(course.position, values, color=colours[label], linewidth=1.5)
        axis.set(ylim=(-1.12, 1.12))
        axis.set_title(plain(measure))
    for index, axis in enumerate(panels):
        axis.axvline(course.boundary, color=MUTED, linestyle=(0, (2, 2)), linewidth=1.2)
        axis.set(xlim=(course.position[0], course.position[-1]))
        light_grid(axis, "y")
        if index >= len(panels) - columns:
            axis.set_xlabel("position: 0 original, 1 counterfactual")
    _legend(figure, course, colours)
    return figure


def _images(figure: Figure, course: Course, inks: list[str], cell: float) -> None:
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
        axes_at(figure, 0.55 + column * width, top + line * _PANEL + 0.3, width - 0.45, _PANEL - 0.5)
        for line, column in lines
    ]


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


@dataclass(frozen=True)
class Crossing:
    """One sample on its way; m images."""

    origin: str
    target: str
    image: np.ndarray
    """`[m, h, w, 3]` uint8."""
    probability: np.ndarray
    """Of the target, `[m]`."""
    answers: Sequence[str]
    """What the classifier says, `[m]`."""
    boundary: int | None = None
    """A dashed line stands before this image; None: nowhere."""
    detail: str = ""
    """Below the origin."""


def crossings(rows: Sequence[Crossing], heads: Sequence[str], colours: Mapping[str, str]) -> Figure:
    """A row per sample: the origin left, the target right, its probability in the corner of each image.

    Args:
        rows: as many images in each.
        heads: written above the images; empty: nothing is.
        colours: class to the colour of its frame.
    """
    count = len(rows[0].image)
    cell = min(_CELL, (WIDE - 2 * _NAME) / (count * (1 + _GAP)))
    side = cell * (1 + _GAP)
    head = _CROSSINGS_HEAD if heads else 0.06
    width, height = 2 * _NAME + count * side, head + len(rows) * side + _FOOT
    figure = Figure(figsize=(width, height))
    axis = figure.add_axes((_NAME / width, _FOOT / height, count * side / width, len(rows) * side / height))
    bare(axis)
    for at, row in enumerate(rows):
        _row(axis, row, len(rows) - 1 - at, colours)
    axis.set(xlim=(0, count), ylim=(0, len(rows)))
    for index, text in enumerate(heads):
        axis.text(index + 0.5, len(rows) + 0.03 / side, text, size=8.5, color=MUTED, ha="center", va="bottom")
    _crossings_legend(figure, rows, colours)
    return figure


def _row(axis: Axes, row: Crossing, bottom: int, colours: Mapping[str, str]) -> None:
    edge = _GAP / (1 + _GAP) / 2
    corner = {"boxstyle": "round,pad=0.15", "facecolor": "white", "alpha": 0.85, "linewidth": 0}
    for index, (image, p, answer) in enumerate(zip(row.image, row.probability, row.answers, strict=True)):
        box = (index + edge, index + 1 - edge, bottom + edge, bottom + 1 - edge)
        picture(axis, image, box)
        colour = colours.get(answer, OTHER)
        style: dict[str, Any] = {"fill": False, "edgecolor": colour, "linewidth": _FRAME, "joinstyle": "miter"}
        axis.add_patch(Rectangle((box[0], box[2]), box[1] - box[0], box[3] - box[2], **style))
        axis.text(box[0] + 0.05, box[3] - 0.05, f"{p:.2f}", size=7.5, color=INK, va="top", ha="left", bbox=corner)
    if row.boundary is not None:
        axis.plot([row.boundary] * 2, [bottom + edge, bottom + 1 - edge], color=INK, linewidth=1.1, linestyle="--")
    names: dict[str, Any] = {"size": 9, "va": "center", "clip_on": False}
    middle = bottom + 0.5
    axis.text(-0.08, middle + 0.09 * bool(row.detail), plain(row.origin), ha="right", **names)
    axis.text(-0.08, middle - 0.1, row.detail, ha="right", va="center", size=7.5, color=MUTED)
    axis.text(len(row.image) + 0.08, middle, f"→ {plain(row.target)}", ha="left", **names)


def _crossings_legend(figure: Figure, rows: Sequence[Crossing], colours: Mapping[str, str]) -> None:
    """The answers that occur, in the order of the classes."""
    answers = {answer for row in rows for answer in row.answers}
    known = [name for name in colours if name in answers]
    handles = [Patch(facecolor="white", edgecolor=colours[name], linewidth=2, label=plain(name)) for name in known]
    if answers - set(known):
        handles.append(Patch(facecolor="white", edgecolor=OTHER, linewidth=2, label="another class"))
    figure.legend(handles=handles, loc="lower center", ncols=6, fontsize=8.5, title=None, borderaxespad=0.2)
