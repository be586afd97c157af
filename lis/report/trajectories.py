"""What changes on the way of a counterfactual (paper §4.5, Fig. 7; S17, S18, S24, S25, S27, S28)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from lis.quantify.measures import MEASURES, TOLD
from lis.report.evolution import DISTANCES, MOST_NAMED, Course, before_end, evolution
from lis.report.findings_boundary import crossing_changes, sharpest_at_boundary, sharpest_changes
from lis.report.marks import bare, picture
from lis.report.noise import noise_ratio, noise_std
from lis.report.section import Picture, Section, Table, section
from lis.report.source import Source
from lis.report.strips import VEILED, room, thinned, thinning, veiled
from lis.report.style import INK, MUTED, WIDE, class_colours, label_colours, plain
from lis.report.tables import known, records, where
from lis.report.wording import arrow, changed, counted, listing, number, sentences, share, words

FEW = 9
"""Images above the curves."""
_JUMPS = 3
"""Parts per trajectory that are listed."""
_CROSSINGS = (
    "The original, the last image before the boundary, the first one after it, and the counterfactual. In the corner: "
    "the probability of the target; the frame has the colour of the answer."
)
_SEQUENCES = (
    "Images from the original (0) along Δr to the counterfactual (1) and beyond; dashed: where the answer becomes the "
    "target. In the corner: the probability of the target; the frame has the colour of the answer. "
)
_EVOLUTION = (
    "Above: images{masks}, with the probability of the target and a bar in the colour of the answer. Below: the "
    "probability beside distances of the image from the original (each over its largest){parts}; dashed: the boundary."
)
_MASKS = " and their parts"
_CHANGES = (
    ", and the change of every part from the original, all on one scale per measure. Noise: the spread of "
    "neighbouring steps about an even change; bands are ± that of the line, the bar at the right that of the median "
    f"part. In colour, at most {MOST_NAMED} a panel: parts that change up to the counterfactual by more than noise "
    "that is independent in every step would in any line of 19 of 20 such runs, the largest in units of it; thin "
    "and grey, and cut off where they leave the panel: all others; parts that are too small are left out"
)
_NAME = 1.05
"""Inches left and right of the images."""
_CELL = 1.25
"""Largest side of an image in inches."""
_GAP, _FRAME = 0.09, 2.6
"""Between images, as a share of their side; width of a frame in points."""
_CROSSINGS_HEAD, _FOOT = 0.26, 0.36
"""Inches above and below the images."""
MOST = room((WIDE - 2 * _NAME) / (1 + _GAP))
"""Images of a row."""
OTHER = "#8d99a5"
"""The frame of an answer that is none of the run's classes."""


@section(420, "trajectories", "trajectories", "steps", "measures", "jumps", "facts")
def across_the_boundary(source: Source) -> Section:
    """Images, distances and parts along some counterfactuals."""
    table, title = source.table("trajectories", "trajectories"), "Across the decision boundary"
    if table.empty:
        return Section(title, "No counterfactual reached its target, so that there is no way to look at.")
    rows = records(table)
    largest, first = _largest(source, rows)
    courses = [replace(_evolution(source, row), aside=row["trajectory"] != first) for row in rows]
    pictures = [_beside(source, rows), _sequences(source, rows), *sorted(courses, key=lambda picture: picture.aside)]
    told = sentences(_lead(source, rows), largest)
    return Section(title, told, pictures, _jumps(source, rows), _notes(source), _finding(source))


def _beside(source: Source, rows: list[dict[str, Any]]) -> Picture:
    """The original, the two images beside the boundary, and the counterfactual of each trajectory."""
    arrays, around = (source.arrays("trajectories", name) for name in ("trajectories", "around"))
    whole, steps = int(np.abs(arrays["position"] - 1).argmin()), source.table("trajectories", "steps")
    lines = []
    for row in rows:
        k, of_row = row["trajectory"], records(where(steps, trajectory=row["trajectory"]))
        ends, target = [of_row[0], of_row[whole]], row["target_index"]
        images = np.stack([arrays["image"][k, 0], *around["image"][k], arrays["image"][k, whole]])
        p = [ends[0]["probability"], *around["probability"][k, :, target], ends[1]["probability"]]
        answers = [ends[0]["prediction"], row["before_answer"], row["after_answer"], ends[1]["prediction"]]
        lines.append(Crossing(row["origin"], row["target"], images, np.array(p), answers, boundary=2))
    figure = crossings(
        lines, ["original", "before", "after", "counterfactual"], class_colours(source.facts.class_names)
    )
    alt = f"{_ways(rows)}: the image hardly differs between the two sides of the boundary, where the answer turns."
    data = source.table("trajectories", "around")
    return Picture("counterfactuals-crossing", figure, _CROSSINGS, "photo", data, alt, aside=True)


def _sequences(source: Source, rows: list[dict[str, Any]]) -> Picture:
    """A strip of images for each trajectory."""
    arrays, table = source.arrays("trajectories", "trajectories"), source.table("trajectories", "steps")
    position = arrays["position"]
    few = thinned(len(position), MOST, int(np.abs(position - 1).argmin()))
    lines = []
    for row in rows:
        steps = where(table, trajectory=row["trajectory"]).iloc[few]
        after = int(np.searchsorted(position[few], row["boundary"]))
        image, beyond = arrays["image"][row["trajectory"], few], _beyond(steps)
        p, answers = np.asarray(steps["probability"], dtype=float), steps["prediction"].tolist()
        boundary = after if 0 < after < len(few) else None
        lines.append(Crossing(row["origin"], row["target"], veiled(image, beyond), p, answers, boundary))
    heads = ["original", *(number(float(at), 2) for at in position[few[1:]])]
    figure = crossings(lines, heads, class_colours(source.facts.class_names))
    caption = _SEQUENCES + thinning(len(position), len(few)) + VEILED * bool(_beyond(table).any())
    alt = f"{_ways(rows)}: rows of {len(few)} images from the original to the counterfactual and beyond."
    return Picture("counterfactuals-sequence", figure, caption.strip(), "photo", table, alt)


def _ways(rows: list[dict[str, Any]]) -> str:
    return listing([f"{words(row['origin'])} to {words(row['target'])}" for row in rows])


def _beyond(steps: pd.DataFrame) -> np.ndarray:
    """Whether w of each row lies beyond where 99 % of held-out samples lie; nowhere where an older run did not tell."""
    return steps["beyond"].to_numpy(dtype=bool) if "beyond" in steps else np.zeros(len(steps), dtype=bool)


def _evolution(source: Source, row: dict[str, Any]) -> Picture:
    """Fig. 7C and S18 of one trajectory."""
    k, labels = row["trajectory"], source.json("trajectories", "facts")["labels"]
    arrays, steps = (
        source.arrays("trajectories", "trajectories"),
        where(source.table("trajectories", "steps"), trajectory=k),
    )
    few = thinned(len(arrays["position"]), FEW)
    noises = part_noise(source, k)
    curves = {key: np.asarray(rows["change"], float) for key, rows in noises.groupby(["measure", "label"])}
    known = {name: np.asarray(steps[key], float) for name in DISTANCES if (key := f"{name}_normalised") in steps}
    colours = class_colours(source.facts.class_names)
    course = Course(
        title=plain(arrow(row["origin"], row["target"])),
        position=arrays["position"],
        boundary=row["boundary"],
        image=arrays["image"][k, few],
        mask=arrays["mask"][k, few],
        beyond=_beyond(steps)[few],
        pictured=arrays["position"][few],
        frames=[colours.get(str(answer), OTHER) for answer in steps["prediction"].iloc[few]],
        probability=np.asarray(steps["probability"], dtype=float),
        distances=known,
        measures={name: {x: curves[name, x] for x in labels if (name, x) in curves} for name in MEASURES},
        looked_at=_looked_at(source),
    )
    caption = _EVOLUTION.format(masks=_MASKS * bool(labels), parts=_CHANGES * bool(course.known))
    caption += f" {thinning(len(steps), len(few))}{VEILED * bool(course.beyond.any())}".rstrip()
    told = [f"{measure} of {listing(list(map(words, of)))}" for measure, of in course.named.items() if of]
    beyond = f"beyond their noise change {'; '.join(told)}" if told else "no part changes beyond its noise"
    alt = f"{words(row['origin'])} to {words(row['target'])}: {beyond * bool(course.known) or 'distances grow evenly'}."
    return Picture(
        f"counterfactuals-evolution-{k}", evolution(course, label_colours(labels)), caption, data=noises, alt=alt
    )


def part_noise(source: Source, trajectory: int) -> pd.DataFrame:
    """The rows of "measures" of one trajectory, labels that are large enough, with what of their change is noise.

    Columns beside those of the table: noise (`noise_std` of the change), ratio (`noise_ratio` up to the counterfactual,
    among the curves of all trajectories: from 1 on it changes).
    """
    curves = _looked_at(source)
    until = before_end(np.unique(source.table("trajectories", "steps")["position"]))
    seen = set(where(source.table("trajectories", "jumps"), trajectory=trajectory, interpreted=True)["label"])
    table = where(source.table("trajectories", "measures"), trajectory=trajectory)
    table = pd.DataFrame(table[table["label"].isin(list(seen))]).drop(columns="normalised")
    grouped = table.groupby(["measure", "label"])["change"]
    told = {"noise": noise_std, "ratio": lambda values: noise_ratio(values, curves, until)}
    return table.assign(
        **{name: grouped.transform(lambda x, f=f: f(x.to_numpy(dtype=float))) for name, f in told.items()}
    )


def _looked_at(source: Source) -> int:
    """How many curves there are: one per trajectory, measure and label that is large enough, one at least."""
    return max(len(where(source.table("trajectories", "jumps"), interpreted=True)), 1)


def _finding(source: Source) -> str:
    """Whether parts change most sharply where the answer turns, as a heading; nothing of a run without parts."""
    if not source.json("trajectories", "facts")["labels"]:
        return ""
    match sharpest_at_boundary(sharpest_changes(source)):
        case None:
            return "Too few steps to say whether parts change most sharply at the boundary"
        case True:
            return "Parts change most sharply at the boundary"
    return "Parts change no more sharply at the boundary than elsewhere on the path"


def _largest(source: Source, rows: list[dict[str, Any]]) -> tuple[str, int]:
    """What changes most beyond its noise, and whether before the answer turns or after, in a sentence; and on which
    trajectory that is seen, without one the first.

    Of the areas of all parts, else of luminance, else of entropy, the largest change up to the counterfactual in units
    of its noise; before: half of it or more is there at the boundary.
    """
    if not source.json("trajectories", "facts")["labels"]:
        return "", rows[0]["trajectory"]
    tables = {row["trajectory"]: part_noise(source, row["trajectory"]) for row in rows}
    for measure in TOLD:
        known = pd.concat([where(table, measure=measure) for table in tables.values()])
        beyond = pd.DataFrame(known[(known["ratio"] >= 1) & (known["position"] <= 1)])
        if len(beyond):
            return _course(beyond, {row["trajectory"]: row for row in rows})
    return "No part changes beyond its noise on the way to another answer.", rows[0]["trajectory"]


def _course(table: pd.DataFrame, rows: dict[int, dict[str, Any]]) -> tuple[str, int]:
    """The sentence on the line with the largest ratio, and of those the largest change, and its trajectory."""
    size = table["change"].abs()
    top = records(table.assign(size=size).sort_values(["ratio", "size"], ascending=False, kind="stable"))[0]
    row, line = rows[top["trajectory"]], known(where(table, trajectory=top["trajectory"], label=top["label"]), "change")
    position, values = (np.asarray(line[name], dtype=float) for name in ("position", "change"))
    at, last = float(np.interp(row["boundary"], position, values)), float(values[-1])
    when = "before" if abs(at) >= abs(last) / 2 else "mostly after"
    told = changed(top["measure"], at if when == "before" else last)
    noise = changed(top["measure"], top["noise"]).lstrip("+")
    return (
        f"The largest change against its noise: from {words(row['origin'])} to {words(row['target'])} the "
        f"{top['measure']} of the {words(top['label'])} changes by {told} (noise {noise}), {when} the answer turns.",
        top["trajectory"],
    )


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
    table = crossing_changes(source)
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


def _jumps(source: Source, rows: list[dict[str, Any]]) -> list[Table]:
    """The parts that change most suddenly at each boundary; no table where no part is large enough."""
    table, cells = crossing_changes(source), []
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
    return [Table(caption, ["", "boundary", "first", "second", "third"], cells, aside=True)]


def _notes(source: Source) -> list[str]:
    facts = source.json("trajectories", "facts")
    left_out = {DISTANCES[name][0]: why for name, why in facts["left_out"].items() if name in DISTANCES}
    notes = [f"{name} is left out: {why}." for name, why in left_out.items()]
    if left_out and source.has("evaluation", "left_out"):
        notes = [f"Left out, as the limits of this page say: {listing([*left_out])}."]
    failed = [f"{arrow(row['origin'], row['target'])} ({row['reason']})" for row in facts["failed"]]
    return [*notes, *([f"Not shown: {listing(failed)}."] if failed else [])]


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
