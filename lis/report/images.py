"""A user's own pictures, and how far they lie from what the generator makes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lis.report.layouts import overlay
from lis.report.marks import axes_at, bare, density, picture
from lis.report.section import Picture, Section, Table, crossed, section
from lis.report.source import Source
from lis.report.style import INK, LINK_RED, PAIRING, RULE, WIDE, label_colours, plain
from lis.report.tables import records, where
from lis.report.wording import counted, number, share, words, wrapped

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
_NAME, _CELL, _HEAD, _GAP = 1.3, 1.2, 0.35, 0.12
"""Inches: room for names, side of an image, height of the headings, between rows."""
_CLASSES, _FAR, _TEXT = 1.15, 1.75, 0.19
"""Inches: room for the names of classes, width of the distances, height of what is written above them."""
_TINT = 0.25
"""How strongly parts are tinted."""
_MOST_CLASSES = 5
"""Classes whose probability is shown."""


@section(130, "images", "images", "reference", "facts")
def images(source: Source) -> Section:
    """The pictures of a user's folder."""
    facts, table = source.json("images", "facts"), source.table("images", "images")
    used = where(table, reason="")
    arrays = source.arrays("images", "reference")
    reference = {space: arrays[f"distance_{space.lower()}"] for space in "RW"}
    figure = photos(_rows(source, used, facts), reference, label_colours(facts["labels"]), facts["off"])
    caption = _PHOTOS.format(test=facts["test"], off=share(facts["off"]))
    more = f" The first {_MOST} of {len(used)} are shown." if len(used) > _MOST else ""
    columns = ["file", "pixels", "answer", "after the cycle", "distance in R", "in W", ""]
    tables = [Table(_FILES, columns, [_file(row) for row in records(table)])]
    tables += [replace(_areas(source, facts, used), aside=True)] if facts["labels"] else []
    alt = f"Rows of {counted(min(len(used), _MOST), 'picture')}: each beside its cycled image, answers and distances."
    pictures = [Picture("images", figure, caption + more, "photo", table, alt)]
    off = np.count_nonzero(used["off"])
    finding = f"{off} of {counted(len(used), 'picture')} {'lies' if off == 1 else 'lie'} off what the generator makes"
    return Section("Own images", _lead(used, facts), pictures, tables, finding=finding)


def _rows(source: Source, used: pd.DataFrame, facts: dict[str, Any]) -> list[Row]:
    """The pictures that are shown."""
    arrays, rows = source.arrays("images", "images"), []
    for k, row in enumerate(records(used.head(_MOST))):
        probability = _probability(row, facts["class_names"])
        distance, share = ({space: row[f"{name}_{space.lower()}"] for space in "RW"} for name in ("distance", "share"))
        image, cycled, mask = (arrays[name][k] for name in ("image", "cycled", "mask"))
        rows.append(Row(row["file"], image, cycled, mask, probability, distance, share))
    return rows


def _probability(row: dict[str, Any], class_names: list[str]) -> dict[str, tuple[float, float]]:
    """Of the run's classes and of the answer to the picture, given the picture and the cycled image."""
    ours = {name: (row[f"probability_{name}"], row[f"cycled_{name}"]) for name in class_names}
    return ours | ({} if row["prediction"] in ours else {row["prediction"]: (row["probability"], np.nan)})


def _lead(used: pd.DataFrame, facts: dict[str, Any]) -> str:
    """How many pictures are off, and what becomes of the answers."""
    off = np.count_nonzero(used["off"])
    same = np.count_nonzero(used["prediction"] == used["cycled_prediction"])
    return (
        f"{off} of {len(used)} pictures lie off the generator's distribution: farther than {share(facts['off'])} of "
        f"the {facts['test']:,} test pairs, in R or in W. What the link and the generator make of such a picture need "
        f"not be what the classifier sees in it. The classifier's answer survives the cycle for {same} of {len(used)}."
    )


def _file(row: dict[str, Any]) -> list[str]:
    size = f"{row['width']} × {row['height']}" if row["width"] else ""
    if row["reason"]:
        return [row["file"], size, "", "", "", "", row["reason"]]
    far = [f"{number(row[f'distance_{space}'])} ({share(row[f'share_{space}'])})" for space in "rw"]
    answers = [f"{words(row['prediction'])} {number(row['probability'], 2)}", words(row["cycled_prediction"])]
    return [row["file"], size, *answers, *far, "; ".join(filter(None, ["off" * row["off"], row["note"]]))]


def _areas(source: Source, facts: dict[str, Any], used: pd.DataFrame) -> Table:
    rows = records(where(source.table("images", "measures"), measure="area"))
    areas = {(row["file"], row["label"]): row["measured"] for row in rows}
    return crossed(
        _AREAS, used["file"].head(_MOST), facts["labels"], lambda *cell: share(areas[cell]), name=str, heads=words
    )


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
    heads = [(_NAME + k * step, name) for k, name in enumerate(("picture", "cycled", "its parts")[:columns])]
    for left, name in (*heads, (bars, "answers"), (far, "distance")):
        figure.text(left / WIDE, 1 - (_HEAD - 0.1) / figure.get_figheight(), name, size=9.5, weight="bold", va="bottom")
    for index, row in enumerate(rows):
        top = _HEAD + index * step
        middle = 1 - (top + _CELL / 2) / figure.get_figheight()
        figure.text((_NAME - 0.1) / WIDE, middle, wrapped(row.name, 16), ha="right", va="center", size=9)
        parts = [overlay(row.cycled, row.mask, list(colours.values()), _TINT)] if colours else []
        for column, image in enumerate([row.image, row.cycled, *parts]):
            picture(axes_at(figure, _NAME + column * step, top, _CELL, _CELL), image)
        _answers(axes_at(figure, bars, top, far - bars - 0.4, _CELL - 0.1), row.probability)
        for half, space in enumerate(row.distance):
            axis = axes_at(figure, far, top + half * _CELL / 2 + _TEXT, _FAR, _CELL / 2 - _TEXT - 0.05)
            _distance(axis, row.distance[space], reference[space], row.share[space] > off)
            axis.set_title(f"in {space}: farther than {share(row.share[space])}", size=8.5, weight="normal", pad=2)
    return figure


def _answers(axis: Axes, probability: Mapping[str, tuple[float, float]]) -> None:
    """A bar per class for the picture, and a dot for the cycled image; the most probable classes."""
    most = sorted(probability, key=lambda name: -np.nanmax(probability[name]))[:_MOST_CLASSES]
    names = [name for name in probability if name in most]
    for index, name in enumerate(names):
        before, after = probability[name]
        axis.barh(index, before, height=0.6, color=PAIRING["within-class"])
        axis.plot(after, index, "o", color=PAIRING["cycle"], markersize=5, clip_on=False)
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
