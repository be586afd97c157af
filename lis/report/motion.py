"""What moves along the range of units: the whole figure, and its parts within it (paper §3.2; Fig. 4C, S14, S15)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse

from lis.motion.local import enlarged
from lis.motion.tuned import tuned_units
from lis.report.animations import motion_names
from lis.report.arrival import arrivals, verdicts, which_way_here
from lis.report.fields import FieldRow, PathRow, fields, paths
from lis.report.leaders import leaders_first
from lis.report.marks import ONE_SIDED, dots, heat, matrix, names_down, padded
from lis.report.section import Picture, Section, Table, crossed, folded, metrics, section
from lis.report.source import Source
from lis.report.style import GREY, INK, RULE, SERIES, WIDE, light_grid, plain, sheet
from lis.report.tables import column, known, largest, records, split
from lis.report.wording import counted, listing, number, probability, sentences, words
from lis.statistics import SIGNIFICANT
from lis.store import Artifact

_TITLE = "What moves"
_FIELDS = (
    "Hue is the direction of a displacement (wheel), the longest is written "
    "below; arrows begin on the figure, the shorter ones are left out. An affine map per step takes out what moves as "
    "a whole; what is then left is local."
)
_ROWS = {True: "One unit on one sample. ", False: "A row is one unit, all on one sample. "}
"""By whether there is a single row."""
_PATHS = (
    "Where points of the figure go along the range once the movement of the whole is taken out, on a sample that is "
    "typical for the unit; the colour is the activation. Shown are units that move one part more than the others."
)
_MOVEMENT = (
    "A dot is one sample: what the affine map from the smallest to the largest activation does. Left: where the middle "
    "of the picture goes, and an ellipse of one standard deviation per unit; those tuned for translation have a "
    "colour. Right: rotation (positive: counter-clockwise) and scale; filled: tuned; bar: median."
)
_PARTS = "How far each part moves after alignment: mean length over its pixels, median over samples, in pixels."
_KINDS = {"translation": "px", "rotation": "°", "scale": "", "shear": ""}
_FIRST = 1
"""Rows of fields that are seen at once."""
_COLOURED = 6
"""Units that have a colour of their own."""
_ROW = 0.24
"""Inches per unit."""
_PERCENTILES = (2, 98)
"""Percentiles of the samples that the axes are made for."""


@section(510, "motion", "tracks", "tuned", "units", "parts", "examples", "facts")
def motion(source: Source) -> Section:
    """Fields, paths, the movement of the whole, and that of the parts."""
    tracks, tuned = source.table("motion", "tracks"), source.table("motion", "tuned")
    if known(tracks, "dx").empty:
        return Section(_TITLE, f"Nothing could be aligned: {_reasons(tracks)}.")
    table = source.table("motion", "parts")
    alt = "Left, where the middle of the figure goes in each sample; right, its rotation and scale, a line per unit."
    figures = [*_examples(source), Picture("motion-units", movement(tracks, tuned), _MOVEMENT, data=tracks, alt=alt)]
    labels = source.json("motion", "facts")["labels"]
    if labels and not known(table, "strength").empty:
        alt = f"A matrix of {counted(len(set(table['name'])), 'unit')} and {counted(len(labels), 'part')}."
        figures.append(Picture("motion-parts", parts(table, labels), _PARTS, data=table, alt=alt, aside=True))
    told = records(source.table("motion", "arrival")) if source.has("motion", "arrival") else []
    lead = sentences(verdicts(told), _lead(source, tracks, tuned, table))
    notes = [*_notes(source, tracks), *filter(None, [which_way_here(source)])]
    return Section(_TITLE, lead, figures, folded(_table(tuned), *arrivals(source, told)), notes, _finding(tuned))


def _finding(tuned: pd.DataFrame) -> str:
    """How many units move the whole figure alike in all samples; empty where that was not tested."""
    if known(tuned, "q").empty:
        return ""
    units = {kind: set(tuned_units(tuned, kind)["name"]) for kind in ("translation", "rotation", "scale")}
    count, of = len(set().union(*units.values())), counted(len(set(tuned["name"])), "unit")
    if not count:
        return f"None of {of} moves the whole figure alike in all samples"
    return f"{count} of {of} {'moves' if count == 1 else 'move'} the whole figure alike in all samples"


def _examples(source: Source) -> list[Picture]:
    """The figures of single units; none where no unit is shown."""
    arrays = source.arrays("motion", "examples")
    rows: dict[str, list[Any]] = {"fields": [], "trajectories": []}
    gifs = motion_names(source)
    table = source.table("motion", "examples").assign(index=lambda x: range(len(x)))
    if source.has("motion", "arrival"):
        arrived = source.table("motion", "arrival")[["name", "own", "others"]]
        table = table.merge(arrived, on="name", how="left")
        table = leaders_first(source, surest_first(table, source.table("motion", "tuned")))
    for row in records(table):
        rows[row["figure"]].append(_row(row, {name: values[row["index"]] for name, values in arrays.items()}))
    first, others = rows["fields"][:_FIRST], rows["fields"][_FIRST:]
    drawings = [
        ("motion-fields", fields, first, _ROWS[len(first) == 1] + _FIELDS),
        ("motion-fields-more", fields, others, "The other rows of the figure above."),
        ("motion-paths", paths, rows["trajectories"], _PATHS),
    ]
    return [
        _example(name, draw(lines), [row.name for row in lines], caption, table, gifs if draw is paths else ())
        for name, draw, lines, caption in drawings
        if lines
    ]


def surest_first(table: pd.DataFrame, tuned: pd.DataFrame) -> pd.DataFrame:
    """Rows of units in the order of the smallest q of their movements: those that are tuned for one come first.

    Args:
        table: name, several rows per unit.
        tuned: table "tuned" of the stage "motion": name, q.
    """
    smallest = {name: float(column(rows, "q").min(initial=np.inf)) for name, rows in split(tuned, "name").items()}
    return table.iloc[np.argsort([smallest.get(name, np.inf) for name in table["name"]], kind="stable")]


def _example(
    name: str, figure: Figure, units: list[str], caption: str, table: pd.DataFrame, others: Sequence[str] = ()
) -> Picture:
    """A figure of single units, with other files of it; all but the first folds away."""
    alt = f"{caption.split('.')[0]}: {listing(units)}."
    return Picture(name, figure, caption, "photo", table, alt, aside=name != "motion-fields", others=others)


def _row(row: dict[str, Any], one: dict[str, np.ndarray]) -> FieldRow | PathRow:
    image = one["image"]
    figure = enlarged(torch.from_numpy(one["mask"]), image.shape[1:3]).numpy() > 0
    shared = (
        plain(row["name"]),
        plain(row["class"]),
        figure if figure.any() else np.ones_like(figure),
        image[0],
        image[-1],
    )
    if row["figure"] == "trajectories":
        return PathRow(*shared, one["local"], one["value"])
    return FieldRow(*shared, one["aligned"][-1], one["whole"], one["local"][-1])


def _lead(source: Source, tracks: pd.DataFrame, tuned: pd.DataFrame, table: pd.DataFrame) -> str:
    """Which units move the whole, and what moves locally."""
    names = list(dict.fromkeys(tracks["name"]))
    samples = counted(len(tracks) // len(names), "sample")
    if known(tuned, "q").empty:
        row = records(known(source.table("motion", "units"), "dx"))[0]
        samples = counted(int(row["n"]), "sample")
        lead = (
            f"Along {words(row['name'])} the figure moves by {number(row['dx'], 2)} px to the right and "
            f"{number(row['dy'], 2)} px down, turns by {number(row['rotation'], 2)}° and changes its size by a factor "
            f"of {number(row['scale'], 3)} (medians over {samples})."
        )
    else:
        told = listing([_tuned(tuned, kind) for kind in ("translation", "rotation", "scale")])
        lead = (
            f"{counted(len(names), 'unit')} followed on {samples} each. The whole figure is moved alike in all "
            f"samples, beyond units that are shuffled: {told}."
        )
    return f"{lead} {_local(table)}".strip()


def _tuned(tuned: pd.DataFrame, kind: str) -> str:
    units = records(tuned_units(tuned, kind))
    first = f" (most: {units[0]['name']}, {_strength(kind, units[0]['strength'])})" if units else ""
    return f"{kind} by {len(units)}{first}"


def _strength(kind: str, value: float) -> str:
    """A strength with its unit; that of the scale is the logarithm of a factor."""
    if kind == "scale":
        return f"a factor of {number(float(np.exp(value)), 3)}"
    unit = _KINDS[kind]
    return number(value, 2) + (f" {unit}" if unit == "px" else unit)


def _local(table: pd.DataFrame) -> str:
    """The largest movement of a part within the figure."""
    table = known(table, "strength")
    if table.empty:
        return ""
    first, medians = largest(table, "strength"), table.groupby("label")["strength"].median().to_dict()
    ordered = sorted(medians, key=lambda label: -medians[label])
    lead = (
        f"Within the figure, {first['name']} moves the {words(first['label'])} most, by "
        f"{number(first['strength'], 2)} px"
    )
    if len(set(table["name"])) == 1 or len(ordered) == 1:
        return f"{lead}."
    most, least = (
        f"the {words(label)} {{}} ({number(medians[label], 2)} px, median)" for label in ordered[:: len(ordered) - 1]
    )
    return f"{lead}; over units {most.format('moves most')} and {least.format('least')}."


def _table(tuned: pd.DataFrame) -> Table:
    """Strength and q of every unit and kind of movement."""
    rows = {(row["name"], row["kind"]): row for row in records(tuned)}

    def cell(name: str, head: str) -> str:
        if head == "samples":
            return str(min(int(row["n"]) for (unit, _), row in rows.items() if unit == name))
        row = rows[name, head]
        told = f"{_strength(head, row['strength'])} (q {probability(row['q'])})"
        return told if np.isfinite(row["strength"]) else "–"

    def bold(name: str, head: str) -> bool:
        return head in _KINDS and rows[name, head]["q"] <= SIGNIFICANT

    caption = (
        "How far a unit moves the whole figure from its smallest to its largest activation: length of the median over "
        "samples; q: share of shuffles, in which each sample's units are permuted, with at least this length, adjusted "
        f"over units; bold: q ≤ {SIGNIFICANT}."
    )
    return crossed(caption, dict.fromkeys(tuned["name"]), [*_KINDS, "samples"], cell, name=str, bold=bold)


def _notes(source: Source, tracks: pd.DataFrame) -> list[str]:
    facts = source.json("motion", "facts")
    notes = [f"Matched by {facts['matcher']}, in images of {facts['height']} × {facts['width']} pixels."]
    failed = sum(reason != "" for reason in tracks["reason"])
    if failed:
        notes.append(
            f"Without motion, and neither drawn nor counted: {failed} of {len(tracks)} samples of units "
            f"({_reasons(tracks)})."
        )
    return notes


def _reasons(tracks: pd.DataFrame) -> str:
    """Why samples have no motion, the most frequent reason first."""
    result = Counter(reason for reason in tracks["reason"] if reason)
    return "; ".join(f"{reason}: {count}" for reason, count in result.most_common(3))


@metrics("motion")
def motion_numbers(artifact: Artifact) -> dict[str, float]:
    """`motion/tuned/<kind>` (units tuned for a movement of the whole figure), `motion/{local, aligned}` (median local
    displacement in pixels, share of samples that could be aligned).
    """
    tracks, tuned = artifact.table("tracks"), artifact.table("tuned")
    numbers = {"motion/aligned": float(np.mean([reason == "" for reason in tracks["reason"]]))}
    if len(local := column(tracks, "figure")):
        numbers["motion/local"] = float(np.median(local))
    if len(column(tuned, "q")):
        numbers |= {f"motion/tuned/{kind}": len(tuned_units(tuned, kind)) for kind in dict.fromkeys(tuned["kind"])}
    return numbers


def movement(tracks: pd.DataFrame, tuned: pd.DataFrame) -> Figure:
    """Left the translation of every sample with an ellipse per unit, right rotation and scale.

    Units that are tuned for translation stand out on the left, on the right those tuned for the quantity.

    Args:
        tracks: table "tracks" of the stage "motion": name, dx, dy, rotation, scale.
        tuned: table "tuned": name, kind, strength, q.
    """
    units, colours = split(tracks, "name"), unit_colours(tuned)
    height = max(3.2, 0.9 + _ROW * len(units))
    figure, axes = sheet(WIDE, height, 1, 3, width_ratios=(1.55, 1, 1))
    _translation(axes[0, 0], units, colours)
    figure.legend(fontsize=8, loc="outside upper left", ncols=9, handletextpad=0.3, columnspacing=1.2)
    kinds = ("rotation", "degrees", 0.0), ("scale", "factor", 1.0)
    for axis, (kind, label, still) in zip(axes[0, 1:], kinds, strict=True):
        _samples(axis, units, kind, set(tuned_units(tuned, kind)["name"]), colours)
        axis.axvline(still, color=RULE, linewidth=1, zorder=0)
        axis.set(title=kind, xlabel=label, xlim=_limits(tracks[[kind]].to_numpy(dtype=float)))
    limits = _limits(tracks[["dx", "dy"]].to_numpy(dtype=float))
    axes[0, 0].set(xlim=limits, ylim=limits[::-1], aspect="equal", title="translation")
    axes[0, 2].tick_params(labelleft=False)
    return figure


def unit_colours(tuned: pd.DataFrame) -> dict[str, str]:
    """Colours of the units that are tuned for translation most surely, of a table "tuned"; the others are grey."""
    surest = tuned_units(tuned, "translation").sort_values("q", kind="stable")
    return dict(zip(surest["name"].tolist()[:_COLOURED], SERIES, strict=False))


def _translation(axis: Axes, units: Mapping[str, pd.DataFrame], colours: dict[str, str]) -> None:
    """A dot per sample, an ellipse per unit: its mean and one standard deviation around it."""
    axis.axhline(0, color=RULE, linewidth=1, zorder=0)
    axis.axvline(0, color=RULE, linewidth=1, zorder=0)
    for name in sorted(units, key=lambda name: name in colours):
        xy = known(known(units[name], "dx"), "dy")[["dx", "dy"]].to_numpy(dtype=float)
        colour = colours.get(name, GREY)
        dots(axis, xy[:, 0], xy[:, 1], colour, 3.4, 0.75, label="_")
        if len(xy) > 1:
            axis.add_patch(ellipse(xy, colour, strong=name in colours))
        if name in colours:
            axis.plot(*np.median(xy, axis=0), "P", color=colour, markersize=7, markeredgecolor="white", label=name)
    axis.plot([], [], "o", color=GREY, markersize=4, label="other units")
    axis.set(xlabel="to the right (pixels)", ylabel="downwards (pixels)")
    light_grid(axis, "both")


def ellipse(xy: np.ndarray, colour: str, strong: bool = True) -> Ellipse:
    """The ellipse of one standard deviation around the mean of points `[n, 2]`."""
    values, vectors = np.linalg.eigh(np.cov(xy.T))
    width, height = 2 * np.sqrt(np.maximum(values[::-1], 0))
    angle = float(np.degrees(np.arctan2(vectors[1, 1], vectors[0, 1])))
    x, y = (float(value) for value in xy.mean(0))
    shape = Ellipse((x, y), width, height, angle=angle, facecolor=colour, alpha=0.16 if strong else 0.05)
    shape.set_edgecolor(colour)
    return shape


def _samples(
    axis: Axes, units: Mapping[str, pd.DataFrame], kind: str, tuned: set[str], colours: dict[str, str]
) -> None:
    """A line per unit: a dot per sample, a bar at the median; filled where the unit is tuned."""
    for at, (name, rows) in enumerate(units.items()):
        values, colour = column(rows, kind), colours.get(name, INK if name in tuned else GREY)
        face = colour if name in tuned else "white"
        axis.plot(values, np.full(len(values), at), "o", color=face, markeredgecolor=colour, markersize=3.8, alpha=0.8)
        if len(values):
            axis.plot(np.median(values), at, "|", color=INK, markersize=11, markeredgewidth=1.6)
    names_down(axis, list(units))


def _limits(values: np.ndarray) -> tuple[float, float]:
    """A range that holds nearly all values, with room at both ends."""
    values = values[np.isfinite(values)]
    return padded(np.percentile(values, _PERCENTILES), 0.12) if len(values) else (-1.0, 1.0)


def parts(table: pd.DataFrame, labels: Sequence[str]) -> Figure:
    """Unit × part: how far the part moves within the figure.

    Args:
        table: table "parts" of the stage "motion": name, label, strength (pixels).
        labels: columns.
    """
    names = list(dict.fromkeys(table["name"]))
    values = matrix(table, ("name", names), ("label", labels), "strength")
    figure, axes = sheet(max(4.0, min(WIDE, 1.2 + 0.85 * len(labels))), 0.6 + 0.26 * max(len(names), 2))
    top = float(np.nanpercentile(values, 95)) if np.isfinite(values).any() else 1.0
    heat(axes[0, 0], values, names, labels, (0, top), lambda value: number(value, 2), ONE_SIDED)
    return figure
