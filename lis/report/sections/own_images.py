"""A user's own pictures, and how far they lie from what the generator makes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from lis.report.figures.photos import Row, photos
from lis.report.frames import records, where
from lis.report.labels import number, share, words
from lis.report.sections import Picture, Section, Table, section
from lis.report.source import Source
from lis.report.style import label_colours

_MOST = 12
"""Pictures that are shown."""
_PHOTOS = (
    "Each picture, what comes back from the cycle, and the parts of that: a picture itself has no feature maps to "
    "find parts in. Bars are the classifier's answer to the picture, dots that to the cycled image. On the right the "
    "distance in R to the nearest class (Mahalanobis) and in W to the mean, beside those of the {test:,} test pairs "
    "(grey); red: farther than {off} of them."
)
_FILES = (
    "Every file of the folder. Distances with the share of test pairs that are not farther; the number beside the "
    "answer to the picture is its probability."
)
_AREAS = "Area of the parts of the cycled image, as a share of the frame; all five measures are in the tables."


@section(130, "images", "images", "reference", "facts")
def own_images(source: Source) -> Section:
    """The pictures of a user's folder."""
    facts, table = source.json("images", "facts"), source.table("images", "images")
    used = where(table, reason="")
    reference = {space: source.tensors("images", "reference")[f"distance_{space.lower()}"].numpy() for space in "RW"}
    figure = photos(_rows(source, used, facts), reference, label_colours(facts["labels"]), facts["off"])
    caption = _PHOTOS.format(test=facts["test"], off=share(facts["off"]))
    more = f" The first {_MOST} of {len(used)} are shown." if len(used) > _MOST else ""
    tables = [_files(table), *([_areas(source, facts, used)] if facts["labels"] else [])]
    return Section("Own images", _lead(used, facts), [Picture("images", figure, caption + more, "photo")], tables)


def _rows(source: Source, used: pd.DataFrame, facts: dict[str, Any]) -> list[Row]:
    """The pictures that are shown."""
    found = {name: values.numpy() for name, values in source.tensors("images", "images").items()}
    image, cycled = (found[name].transpose(0, 2, 3, 1) for name in ("image", "cycled"))
    return [
        Row(
            name=row["file"],
            image=image[k],
            cycled=cycled[k],
            mask=found["mask"][k],
            probability=_probability(row, facts["class_names"]),
            distance={"R": row["distance_r"], "W": row["distance_w"]},
            share={"R": row["share_r"], "W": row["share_w"]},
        )
        for k, row in enumerate(records(used.head(_MOST)))
    ]


def _probability(row: dict[str, Any], class_names: list[str]) -> dict[str, tuple[float, float]]:
    """Of the run's classes and of the answer to the picture, given the picture and the cycled image."""
    ours = {name: (row[f"probability_{name}"], row[f"cycled_{name}"]) for name in class_names}
    return ours | ({} if row["prediction"] in ours else {row["prediction"]: (row["probability"], np.nan)})


def _lead(used: pd.DataFrame, facts: dict[str, Any]) -> str:
    """How many pictures are off, and what becomes of the answers."""
    off = np.count_nonzero(used["off"])
    kept = np.count_nonzero(used["prediction"] == used["cycled_prediction"])
    return (
        f"{off} of {len(used)} pictures lie off the generator's distribution: farther than {share(facts['off'])} of "
        f"the {facts['test']:,} test pairs, in R or in W. What the link and the generator make of such a picture need "
        f"not be what the classifier sees in it. The classifier's answer survives the cycle for {kept} of {len(used)}."
    )


def _files(table: pd.DataFrame) -> Table:
    """Every file, also those that are left out."""
    rows = [_file(row) for row in records(table)]
    return Table(_FILES, ["file", "pixels", "answer", "after the cycle", "distance in R", "in W", ""], rows)


def _file(row: dict[str, Any]) -> list[str]:
    size = f"{row['width']} × {row['height']}" if row["width"] else ""
    if row["reason"]:
        return [row["file"], size, "", "", "", "", row["reason"]]
    far = [f"{number(row[f'distance_{space}'])} ({share(row[f'share_{space}'])})" for space in "rw"]
    answers = [f"{words(row['prediction'])} {number(row['probability'], 2)}", words(row["cycled_prediction"])]
    return [row["file"], size, *answers, *far, "; ".join(filter(None, ["off" * row["off"], row["note"]]))]


def _areas(source: Source, facts: dict[str, Any], used: pd.DataFrame) -> Table:
    table, rows = where(source.table("images", "measures"), measure="area"), []
    for file in used["file"].head(_MOST):
        own = {row["label"]: row["measured"] for row in records(where(table, file=file))}
        rows.append([file, *(share(own[label]) for label in facts["labels"])])
    return Table(_AREAS, ["", *(words(label) for label in facts["labels"])], rows)
