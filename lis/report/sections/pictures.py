"""The stage "pictures" as figures: rows of images with the curve of what changes in them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from lis.report.figures.trajectories import Block, Row, trajectories
from lis.report.frames import records, where
from lis.report.labels import OTHER_UNITS, number
from lis.report.measures import changed
from lis.report.parts import colours, label_names
from lis.report.sections import Picture
from lis.report.source import Source
from lis.report.style import class_colours, plain

HOW_TO_READ = (
    f"From left to right a unit goes from its smallest to its largest activation. {OTHER_UNITS} (see “What arrives”). "
    "The label is outlined; the curve is the measure's change from the first image (grey line: none) on one scale per "
    "block, with the last value at the right and gaps where the label is absent. Of all samples, the one whose change "
    "is nearest to the unit's mean is shown; units whose change less than half of the samples have are passed over."
)
"""Of figures whose rows have an outlined label."""
THROUGH_CLASSES = ("transfer", "shared")
"""Figures with one unit per block and a class per row."""


def pictured(source: Source, figure: str, name: str, caption: str) -> list[Picture]:
    """A figure of the stage "pictures"; none where it holds no such rows.

    Args:
        source: the run.
        figure: what it is called in the table "pictures".
        name: of the file.
        caption: how it is read.
    """
    found = blocks(source, figure)
    return [Picture(name, trajectories(found), caption, "photo")] if found else []


def blocks(source: Source, figure: str) -> list[Block]:
    """The blocks of a figure of the stage "pictures", none where it was not run."""
    if not source.has("pictures", "pictures", "facts"):
        return []
    table = where(source.table("pictures", "pictures"), figure=figure)
    looks = {name: x.numpy() for name, x in source.tensors("pictures", "pictures").items() if name in ("image", "mask")}
    return [_block(source, where(table, block=block), looks) for block in dict.fromkeys(table["block"])]


def _block(source: Source, table: pd.DataFrame, looks: dict[str, np.ndarray]) -> Block:
    first = records(table)[0]
    rows = [_row(source, where(table, row=row), looks) for row in dict.fromkeys(table["row"])]
    return Block(_title(first), _range(table) if first["figure"] in THROUGH_CLASSES else "", rows)


def _title(first: dict[str, Any]) -> str:
    """What the rows of a block have in common."""
    what = f"{plain(first['label'])}: {plain(first['measure'])}" if first["label"] else ""
    titles = {
        "measures": plain(first["measure"]),
        "transfer": f"{what} · unit {first['unit']}",
        "shared": f"unit {first['unit']}",
        "relevant": "probability of the class",
    }
    return titles.get(first["figure"], what)


def _range(table: pd.DataFrame) -> str:
    low, high = float(np.min(table["value"])), float(np.max(table["value"]))
    return f"r from {number(low, 2)} to {number(high, 2)}"


def _row(source: Source, table: pd.DataFrame, looks: dict[str, np.ndarray]) -> Row:
    """One sample, from its rows of the table, a row per step."""
    first, last, label = records(table)[0], records(table)[-1], str(table["label"].iloc[0])
    name, detail = f"unit {first['unit']}", plain(first["class"])
    if first["figure"] in THROUGH_CLASSES:
        name, detail = detail, ""
    shared: dict[str, Any] = {
        "name": name,
        "image": looks["image"][first["picture"]].transpose(0, 2, 3, 1),
        "curve": np.asarray(table["change"], dtype=float),
        "change": changed(first["measure"], last["change"]),
    }
    if label:
        mask = looks["mask"][first["picture"]] == 1 + label_names(source).index(label)
        detail = f"{plain(label)}\n{detail}" if first["figure"] == "measures" else detail
        return Row(**shared, detail=detail, mask=mask, colour=colours(source)[label])
    colour = class_colours(source.facts.class_names)[first["class"]]
    p, flipped = [f"{p:.2f}" for p in table["probability"]], table["flipped"].to_numpy(dtype=bool)
    return Row(**shared, detail=detail, mask=None, colour=colour, corner=p, flipped=flipped)
