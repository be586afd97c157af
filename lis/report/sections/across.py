"""What changes on the way of a counterfactual (paper §4.5, Fig. 7; S17, S18, S24, S25, S27, S28)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from lis.boundary.generator_tables import TOLD
from lis.quantify.measures import MEASURES
from lis.report.figures.crossings import OTHER, Crossing, crossings
from lis.report.figures.evolution import DISTANCES, Course, evolution
from lis.report.frames import known, records, where
from lis.report.labels import arrow, counted, listing, number, share, words
from lis.report.measures import changed
from lis.report.sections import Picture, Section, Table, section
from lis.report.source import Source
from lis.report.style import class_colours, label_colours, plain

FEW = 9
"""Images of a sequence."""
_KINKS = 3
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


@section(520, "trajectories", "trajectories", "steps", "measures", "kinks", "facts")
def across_the_boundary(source: Source) -> Section:
    """Images, distances and parts along some counterfactuals."""
    table, title = source.table("trajectories", "trajectories"), "Across the decision boundary"
    if table.empty:
        return Section(title, "No counterfactual reached its target, so that there is no way to look at.")
    colours, rows = class_colours(source.facts.class_names), records(table)
    tensors = {name: x.numpy() for name, x in source.tensors("trajectories", "trajectories").items()}
    around = {name: x.numpy() for name, x in source.tensors("trajectories", "around").items()}
    steps = source.table("trajectories", "steps")
    heads = ["original", "before", "after", "counterfactual"]
    beside = [_beside(row, tensors, around, steps) for row in rows]
    few = _spread(len(tensors["position"]))
    positions = [number(float(tensors["position"][k]), 2) if tensors["position"][k] else "0" for k in few]
    sequences = crossings([_sequence(row, tensors, steps, few) for row in rows], positions, colours)
    pictures = [
        Picture("counterfactuals-crossing", crossings(beside, heads, colours), _CROSSINGS, "photo"),
        Picture("counterfactuals-sequence", sequences, _SEQUENCES, "photo"),
        *(_evolution(source, row, tensors, few) for row in rows),
    ]
    return Section(title, _lead(source, rows), pictures, _kinks(source, rows), _notes(source))


def _spread(steps: int) -> list[int]:
    """At most `FEW` places, evenly from the first to the last.

    Example:
        >>> _spread(4), _spread(17)
        ([0, 1, 2, 3], [0, 2, 4, 6, 8, 10, 12, 14, 16])
    """
    return sorted({round(x) for x in np.linspace(0, steps - 1, min(FEW, steps)).tolist()})


def _beside(
    row: dict[str, Any], tensors: dict[str, np.ndarray], around: dict[str, np.ndarray], steps: pd.DataFrame
) -> Crossing:
    """The four images of Fig. 7A."""
    k, target = row["trajectory"], row["target_index"]
    whole = int(np.abs(tensors["position"] - 1).argmin())
    own = records(where(steps, trajectory=k))
    return Crossing(
        row["origin"],
        row["target"],
        _pixels(np.stack([tensors["image"][k, 0], *around["image"][k], tensors["image"][k, whole]])),
        np.array([own[0]["probability"], *around["probability"][k, :, target], own[whole]["probability"]]),
        [own[0]["prediction"], row["before_answer"], row["after_answer"], own[whole]["prediction"]],
        boundary=2,
    )


def _sequence(row: dict[str, Any], tensors: dict[str, np.ndarray], steps: pd.DataFrame, few: list[int]) -> Crossing:
    k = row["trajectory"]
    own = records(where(steps, trajectory=k))
    after = int(np.searchsorted(tensors["position"][few], row["boundary"]))
    return Crossing(
        row["origin"],
        row["target"],
        _pixels(tensors["image"][k, few]),
        np.array([own[step]["probability"] for step in few]),
        [own[step]["prediction"] for step in few],
        boundary=after if 0 < after < len(few) else None,
    )


def _pixels(image: np.ndarray) -> np.ndarray:
    return image.transpose(0, 2, 3, 1)


def _evolution(source: Source, row: dict[str, Any], tensors: dict[str, np.ndarray], few: list[int]) -> Picture:
    """Fig. 7C and S18 of one trajectory."""
    k, labels = row["trajectory"], source.json("trajectories", "facts")["labels"]
    steps, table = (where(source.table("trajectories", name), trajectory=k) for name in ("steps", "measures"))
    seen = set(where(source.table("trajectories", "kinks"), trajectory=k, interpreted=True)["label"])
    colours = class_colours(source.facts.class_names)
    curves = {
        measure: {label: _values(where(table, label=label, measure=measure)) for label in labels if label in seen}
        for measure in MEASURES
    }
    course = Course(
        title=plain(arrow(row["origin"], row["target"])),
        position=tensors["position"],
        boundary=row["boundary"],
        image=_pixels(tensors["image"][k, few]),
        mask=tensors["mask"][k, few],
        shown=tensors["position"][few],
        frames=[colours.get(str(steps["prediction"].iloc[step]), OTHER) for step in few],
        probability=np.asarray(steps["probability"], dtype=float),
        distances={
            name: np.asarray(steps[f"{name}_normalised"], dtype=float)
            for name in DISTANCES
            if f"{name}_normalised" in steps
        },
        measures=curves,
    )
    caption = _EVOLUTION.format(masks=_MASKS * bool(labels), parts=_CHANGES * bool(course.known))
    return Picture(f"counterfactuals-evolution-{k}", evolution(course, label_colours(labels)), caption)


def _values(table: pd.DataFrame) -> np.ndarray:
    return np.asarray(table["normalised"], dtype=float)


def _lead(source: Source, rows: list[dict[str, Any]]) -> str:
    """How sudden the answer turns, how even the images change, and which part changes with it."""
    steps, count = source.table("trajectories", "steps"), len(rows)
    shares = [_crossing(where(steps, trajectory=row["trajectory"]), row["boundary"]) for row in rows]
    p, mse = (float(np.mean([pair[k] for pair in shares])) for k in (0, 1))
    lead = (
        f"In {counted(count, 'counterfactual')} the step that crosses the decision boundary brings {share(p)} of the "
        f"whole change of the target's probability, and {share(mse)} of the change of the pixels (an equal share would "
        f"be {share(1 / (len(set(steps['step'])) - 1))})"
    )
    table = _told(source)
    if table.empty:
        return lead + "."
    top = records(table)[0]
    row = rows[int(top["trajectory"])]
    return (
        f"{lead}. The sharpest kink in {listing(list(TOLD))}: the {top['measure']} of {words(top['label'])} between "
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
    """The kinks of parts that are large enough, in measures that say something of a round one; the sharpest first."""
    table = known(where(source.table("trajectories", "kinks"), interpreted=True), "score")
    told = pd.DataFrame(table[table["measure"].isin(TOLD)])
    return told.sort_values("score", ascending=False, kind="stable")


def _kinks(source: Source, rows: list[dict[str, Any]]) -> list[Table]:
    """The parts that change most suddenly at each boundary; no table where no part is large enough."""
    table, cells = _told(source), []
    if table.empty:
        return []
    for row in rows:
        top = records(where(table, trajectory=row["trajectory"]).head(_KINKS))
        told = [
            f"{words(x['label'])}: {x['measure']} {changed(x['measure'], x['jump'])} ({number(x['score'], 2)})"
            for x in top
        ]
        name = arrow(row["origin"], row["target"])
        cells.append([name, number(row["boundary"]), *told, *["–"] * (_KINKS - len(told))])
    caption = (
        f"Parts with the largest kink in {listing(list(TOLD))}: change over the step across the boundary, and in "
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
