"""The stage "pictures" as figures: rows of images with the curve of what changes in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lis.report.arrival import dashes, each_arrived, verdicts, which_way_here
from lis.report.layouts import mosaic
from lis.report.marks import axes_at, bare, enlarged, padded, picture, write
from lis.report.section import Picture
from lis.report.source import Source, colours, label_names
from lis.report.strips import FRAMED, LEAST, VEILED, frame, nearest_step, room, stepped, thinned, thinning, veiled
from lis.report.style import INK, MUTED, RULE, WIDE, class_colours, plain
from lis.report.tables import records, split, where
from lis.report.wording import OTHER_UNITS, changed, number, sentences

HOW_TO_READ = (
    f"From left to right a unit goes from its smallest to its largest activation. {OTHER_UNITS}. Curve: change of the "
    "outlined label's measure from the first image (grey line: none), on one scale per block, with gaps where it is "
    "absent. The sample is the one nearest to the unit's mean change; units whose change less than half of the "
    "samples have are left out, and those whose pictures say little of themselves come last."
)
"""Of figures whose rows have an outlined label."""
THROUGH_CLASSES = ("transfer", "shared")
"""Figures with one unit per block and a class per row."""
_NAME, _CURVE, _TOP, _BOTTOM = 0.95, 2.2, 0.36, 0.12
"""Inches left, right, above and below the images of a block."""
_GAP, _CHANGE = 0.10, 0.76
"""Inches of the right margin before and after the curve."""
MOST = room(WIDE - _NAME - _CURVE)
"""Images of a row."""
_FIRST = 3
"""Blocks of which the first row is seen at once."""


def pictured(source: Source, figure: str, name: str, caption: str, aside: bool = False) -> list[Picture]:
    """A figure of the stage "pictures", and one that folds away with all but the first row of the first blocks, of
    `THROUGH_CLASSES` with all but the first block; none where it holds no such rows.

    Args:
        source: the run.
        figure: what it is called in the table "pictures".
        name: of the file.
        caption: how it is read.
        aside: whether it folds away.
    """
    result = blocks(source, figure)
    if not result:
        return []
    table = where(source.table("pictures", "pictures"), figure=figure)
    rows = records(where(table, step=0))
    if figure in THROUGH_CLASSES or len(result) == 1:
        first, others = result[:1], result[1:]
    else:
        first = [replace(block, rows=block.rows[:1]) for block in result[:_FIRST]]
        rest = [replace(block, rows=block.rows[1:]) for block in result[:_FIRST]] + result[_FIRST:]
        others = [block for block in rest if block.rows]
    told = sentences(_arrives(source, first, rows), which_way_here(source))
    pictures = [Picture(name, trajectories(first), f"{caption} {told}", "photo", table, _alt(first), aside)]
    if others:
        more = sentences("The other rows of the figure above.", _arrives(source, others, rows))
        pictures.append(Picture(f"{name}-more", trajectories(others), more, "photo", table, _alt(others), aside=True))
    return pictures


def _arrives(source: Source, blocks: Sequence[Block], table: Sequence[dict[str, Any]]) -> str:
    """What the frames of a figure mean, and what arrives of its units; `table` has all rows of "pictures"."""
    lines = [row for block in blocks for row in block.rows]
    rows = [row for row in table if row["unit"] in {line.unit for line in lines}]
    beyond = any(any(line.beyond) for line in lines)
    return sentences(verdicts(rows), strip_words(lines), dashes(source, beyond), each_arrived(source, rows))


def _alt(blocks: Sequence[Block]) -> str:
    """What a figure shows, and what changes in its first row."""
    first = blocks[0].rows[0]
    told = ", ".join(filter(None, [blocks[0].title, *f"{first.name}\n{first.detail}".split("\n")]))
    count = sum(len(block.rows) for block in blocks)
    return f"{count} rows of images, units from their smallest to their largest activation; {told}: {first.change}."


def strip_words(rows: Sequence[Row]) -> str:
    """What of rows is left out, framed and veiled, for their caption."""
    left_out = thinning(len(rows[0].image), len(rows[0].drawn))
    framed = FRAMED * any(row.unperturbed is not None for row in rows)
    return (left_out + framed + VEILED * any(any(row.beyond) for row in rows)).strip()


def blocks(source: Source, figure: str) -> list[Block]:
    """The blocks of a figure of the stage "pictures", none where it was not run."""
    if not source.has("pictures", "pictures", "facts"):
        return []
    table = where(source.table("pictures", "pictures"), figure=figure)
    arrays, result = source.arrays("pictures", "pictures"), []
    for rows in split(table, "block").values():
        low, high = (number(float(bound), 2) for bound in (np.min(rows["value"]), np.max(rows["value"])))
        detail = f"r from {low} to {high}" if figure in THROUGH_CLASSES else ""
        samples = [_row(source, steps, arrays) for steps in split(rows, "row").values()]
        result.append(Block(_title(records(rows)[0]), detail, samples))
    return result


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


def _row(source: Source, table: pd.DataFrame, arrays: dict[str, np.ndarray]) -> Row:
    """One sample, from its rows of the table, a row per step."""
    first, last, label = records(table)[0], records(table)[-1], str(table["label"].iloc[0])
    name, detail = f"unit {first['unit']}", plain(first["class"])
    if first["figure"] in THROUGH_CLASSES:
        name, detail = detail, ""
    shared: dict[str, Any] = {
        "name": name,
        "unit": int(first["unit"]),
        "image": arrays["image"][first["picture"]],
        "curve": np.asarray(table["change"], dtype=float),
        "unperturbed": nearest_step(np.asarray(table["value"], dtype=float), first.get("activation", np.nan)),
        "beyond": [row.get("step_beyond") == 1 for row in records(table)],
        "change": changed(first["measure"], last["change"]),
    }
    if label:
        mask = arrays["mask"][first["picture"]] == 1 + label_names(source).index(label)
        detail = f"{plain(label)}\n{detail}" if first["figure"] == "measures" else detail
        return Row(**shared, detail=detail, mask=mask, colour=colours(source)[label])
    colour = class_colours(source.facts.class_names)[first["class"]]
    p, flipped = [f"{p:.2f}" for p in table["probability"]], table["flipped"].to_numpy(dtype=bool)
    return Row(**shared, detail=detail, mask=None, colour=colour, corner=p, flipped=flipped)


@dataclass(frozen=True)
class Row:
    """One sample while one unit goes through its range; t steps."""

    name: str
    """Left of the images."""
    detail: str
    """Below the name, smaller."""
    image: np.ndarray
    """`[t, h, w, 3]` uint8."""
    mask: np.ndarray | None
    """The part that is outlined, `[t, h', w']` bool; None: nothing is."""
    curve: np.ndarray
    """What is drawn beside, `[t]`; NaN where the part is absent."""
    change: str
    """From the first to the last step, in words."""
    colour: str
    corner: Sequence[str] = ()
    """Written into the upper left corner of each image; empty: nothing is."""
    flipped: np.ndarray | None = None
    """`[t]` bool: these dots of the curve are open."""
    unperturbed: int | None = None
    """The step that is nearest to the sample itself, which is framed; None: it is not known."""
    beyond: Sequence[bool] = ()
    """Whether w of each step lies beyond 99 % of held-out training samples, `[t]`; empty: it is not known."""
    unit: int = -1
    """Which one it is; -1: none that was tuned alone."""

    @property
    def drawn(self) -> list[int]:
        """The steps whose images are drawn."""
        return thinned(len(self.image), MOST, self.unperturbed)


@dataclass(frozen=True)
class Block:
    """Rows whose curves have a common scale."""

    title: str
    detail: str
    rows: Sequence[Row]


def trajectories(blocks: Sequence[Block]) -> Figure:
    """Blocks of rows: images from the smallest to the largest activation, and the curve of what changes.

    Args:
        blocks: as many steps in each; no more than `MOST` are drawn.
    """
    steps = min(MOST, len(blocks[0].rows[0].image))
    tall = [_TOP + len(block.rows) * LEAST + _BOTTOM for block in blocks]
    figure = Figure(figsize=(_NAME + steps * LEAST + _CURVE, sum(tall)))
    for block, top in zip(blocks, np.cumsum([0.0, *tall[:-1]]), strict=True):
        _draw_block(figure, block, _NAME, float(top) + _TOP, LEAST)
    return figure


def _draw_block(figure: Figure, block: Block, left: float, top: float, cell: float) -> None:
    steps, count = len(block.rows[0].drawn), len(block.rows)
    axis = axes_at(figure, left, top, steps * cell, count * cell)
    picture(axis, mosaic([veiled(row.image, row.beyond)[row.drawn] for row in block.rows]))
    width, height = steps * cell, count * cell
    above = 1 + 0.08 / height
    write(axis, 0, above, block.title, size=10, weight="bold", va="bottom")
    right = 1 + (_CURVE - 0.06) / width
    write(axis, right, above, block.detail, size=8.5, color=MUTED, ha="right", va="bottom")
    limits = padded(np.concatenate([*(row.curve for row in block.rows), [0.0]]), 0.22)
    for at, row in enumerate(block.rows):
        x, y = -0.09 / width, 1 - (at + 0.5) / count
        write(axis, x, y, row.name, va="bottom" if row.detail else "center", size=8.5, ha="right")
        write(axis, x, y - 0.004, row.detail, va="top", size=8, color=MUTED, linespacing=1.2, ha="right")
        _draw_over(axis, row, at)
        if row.unperturbed in row.drawn:
            frame(axis, row.drawn.index(row.unperturbed), at, steps, count)
        curve = axes_at(figure, left + width + _GAP, top + at * cell, _CURVE - _GAP - _CHANGE, cell)
        _curve(curve, row, limits)


def _draw_over(axis: Axes, row: Row, at: int) -> None:
    """Outlines, and the text in the upper left corners, of the images of a row."""
    side, whole, few = len(enlarged(row.image[0])), axis.images[0].get_size()[1], row.drawn
    stride = (whole - side) / max(len(few) - 1, 1)
    corner = {"boxstyle": "round,pad=0.15", "facecolor": "white", "alpha": 0.8, "linewidth": 0}
    for step, text in enumerate([row.corner[at] for at in few] if row.corner else ()):
        index = ((step + 0.05) * stride, (at + 0.06) * stride)
        axis.text(*index, text, size=8, color=INK, va="top", ha="left", bbox=corner)
    for step, mask in enumerate(() if row.mask is None else row.mask[few]):
        if mask.any():
            outline(axis, mask, (step * stride, at * stride), side, row.colour)


def outline(axis: Axes, mask: np.ndarray, corner: tuple[float, float], side: float, colour: str) -> None:
    """The outline of a mask in an image whose upper left corner and side are given in pixels; white under colour."""
    spots = ((np.arange(-1, n + 1) + 0.5).clip(0, n) / n * side for n in mask.shape)
    y, x = (low + spot - 0.5 for low, spot in zip(corner[::-1], spots, strict=True))
    for width, ink in ((1.8, "white"), (0.9, colour)):
        axis.contour(x, y, np.pad(mask.astype(float), 1), [0.5], colors=[ink], linewidths=[width])


def _curve(axis: Axes, row: Row, limits: tuple[float, float]) -> None:
    """Values over the steps with a line at 0, open dots where the answer has flipped, dashed where w is beyond, the
    change at the right.
    """
    bare(axis)
    axis.axhline(0, color=RULE, linewidth=0.9)
    steps = np.arange(len(row.curve))
    open_ = np.zeros(len(steps), dtype=bool) if row.flipped is None else row.flipped
    stepped(axis, row.curve, row.beyond, open_, row.colour)
    axis.set(xlim=(-0.4, max(steps[-1], 1) + 0.4), ylim=limits)
    write(axis, 1.05, 0.5, row.change, size=8.5, color=INK, va="center")
