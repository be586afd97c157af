"""What moves along the range of units: the whole figure, and its parts within it (paper §3.2; Fig. 4C, S14, S15)."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pandas as pd

from lis.motion.local import enlarged
from lis.motion.tuned import SIGNIFICANT, tuned_units
from lis.report.animations import motion_names
from lis.report.figures.fields import FieldRow, PathRow, fields, paths
from lis.report.figures.movement import movement, parts
from lis.report.frames import column, known, largest, records
from lis.report.labels import counted, listing, number, probability, words
from lis.report.sections import Picture, Section, Table, crossed, metrics, section
from lis.report.source import Source
from lis.report.style import plain
from lis.store import Artifact

_TITLE = "What moves"
_FIELDS = (
    "A row is one unit, all on one sample. Hue is the direction of a displacement (wheel), the longest is written "
    "below; arrows begin on the figure, the shorter ones are left out. An affine map per step takes out what moves as "
    "a whole; what is then left is local."
)
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


@section(410, "motion", "tracks", "tuned", "units", "parts", "shown", "facts")
def motion(source: Source) -> Section:
    """Fields, paths, the movement of the whole, and that of the parts."""
    tracks, tuned = source.table("motion", "tracks"), source.table("motion", "tuned")
    if known(tracks, "dx").empty:
        return Section(_TITLE, f"Nothing could be aligned: {_reasons(tracks)}.")
    own = source.table("motion", "parts")
    figures = [*_shown(source), Picture("motion-units", movement(tracks, tuned), _MOVEMENT)]
    labels = source.json("motion", "facts")["labels"]
    if labels and not known(own, "strength").empty:
        figures.append(Picture("motion-parts", parts(own, labels), _PARTS))
    return Section(_TITLE, _lead(source, tracks, tuned, own), figures, [_table(tuned)], _notes(source, tracks))


def _shown(source: Source) -> list[Picture]:
    """The figures of single units; none where no unit is shown."""
    table, kept = source.table("motion", "shown"), source.tensors("motion", "shown")
    tensors = {name: values.numpy() for name, values in kept.items()}
    rows: dict[str, list[Any]] = {"fields": [], "trajectories": []}
    for k, row in enumerate(records(table)):
        one = {name: values[k] for name, values in tensors.items()}
        rows[row["figure"]].append(_row(row, one, kept["mask"][k]))
    drawings = ("motion-fields", fields, rows["fields"], _FIELDS), ("motion-paths", paths, rows["trajectories"], _PATHS)
    return [Picture(name, draw(shown), caption, "photo") for name, draw, shown, caption in drawings if shown]


def _row(row: dict[str, Any], one: dict[str, np.ndarray], mask: Any) -> FieldRow | PathRow:
    image, aligned = (one[name].transpose(0, 2, 3, 1) for name in ("image", "aligned"))
    figure = enlarged(mask, image.shape[1:3]).numpy() > 0
    figure = figure if figure.any() else np.ones_like(figure)
    name, detail = plain(row["name"]), plain(row["class"])
    if row["figure"] == "trajectories":
        return PathRow(name, detail, image[0], image[-1], one["local"], one["value"], figure)
    return FieldRow(name, detail, image[0], image[-1], aligned[-1], one["whole"], one["local"][-1], figure)


def _lead(source: Source, tracks: pd.DataFrame, tuned: pd.DataFrame, own: pd.DataFrame) -> str:
    """Which units move the whole, and what moves locally."""
    names = list(dict.fromkeys(tracks["name"]))
    samples = len(tracks) // len(names)
    told = [_tuned(tuned, kind) for kind in ("translation", "rotation", "scale")]
    lead = f"{counted(len(names), 'unit')} followed on {counted(samples, 'sample')} each."
    if known(tuned, "q").empty:
        rows = records(source.table("motion", "units"))[0]
        lead = (
            f"Along {words(names[0])} the figure moves by {_moved(rows)}, turns by {number(rows['rotation'], 2)}° and "
            f"changes its size by a factor of {number(rows['scale'], 3)} (medians over {counted(samples, 'sample')})."
        )
    else:
        lead += f" The whole figure is moved alike in all samples, beyond units that are shuffled: {listing(told)}."
    return f"{lead} {_local(own)}".strip()


def _moved(row: dict[str, Any]) -> str:
    return f"{number(row['dx'], 2)} px to the right and {number(row['dy'], 2)} px down"


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


def _local(own: pd.DataFrame) -> str:
    """The largest movement of a part within the figure."""
    table = known(own, "strength")
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
    files = motion_names(source)
    return [*notes, f"As moving pictures, in the folder of the figures: {listing(files)}."] if files else notes


def _reasons(tracks: pd.DataFrame) -> str:
    """Why samples have no motion, the most frequent reason first."""
    found = Counter(reason for reason in tracks["reason"] if reason)
    return "; ".join(f"{reason}: {count}" for reason, count in found.most_common(3))


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
