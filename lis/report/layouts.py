"""Layouts of pictures that several sections share: images above what came back, along a range, under their masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image

from lis.dissection.top_images import masked_pictures
from lis.report.marks import axes_at, bare, enlarged, note, picture, write
from lis.report.strips import LEAST, frame, room, stepped, thinned, veiled
from lis.report.style import INK, LINK_RED, MUTED, RULE, WIDE, class_colours, link_colour, plain
from lis.report.wording import number, signed, wrapped

_GAP = 6
_CELL = 1.0
"""Largest side of a picture in inches."""
_MARGIN = 1.15
"""Room for names left of a block."""
_BETWEEN = 0.12
"""Inches between blocks of pictures."""
_LINE = 0.155
"""Height of a line of text in inches."""
_LETTER = 0.082
"""Width of a letter of a heading in inches."""
_BLOCKS = {2: 3, 4: 2}
"""How many blocks stand side by side, by the examples per class up to which they do."""
_MOST = 6
"""Strips per unit that are shown, where there are not more classes."""
_NAME, _CURVE, _TOP, _BOTTOM = 0.95, 2.0, 0.34, 0.34
"""Inches left, right, above and below the images of a unit."""
_CURVE_GAP, _CHANGE = 0.10, 0.52
"""Inches of the right margin before and after the curve."""
MOST_STEPS = room(WIDE - _NAME - _CURVE)
"""Images of a row of a unit."""


def reconstructions(
    image: np.ndarray, cycled: np.ndarray, class_index: np.ndarray, class_names: Sequence[str], most: int = 10
) -> Figure:
    """A block per class: originals above, cycled below.

    Args:
        image: originals `[k, h, w, 3]` uint8.
        cycled: what came back `[k, h, w, 3]` uint8.
        class_index: class of each `[k]`.
        class_names: names that `class_index` points into.
        most: most examples of a class that are shown.
    """
    examples = {name: np.flatnonzero(class_index == index)[:most] for index, name in enumerate(class_names)}
    examples = {name: rows for name, rows in examples.items() if len(rows)}
    widest = max(len(rows) for rows in examples.values())
    blocks = min(len(examples), next((count for most, count in _BLOCKS.items() if widest <= most), 1))
    lines = -(-len(examples) // blocks)
    cell = min(_CELL, (WIDE / blocks - _MARGIN) / widest)
    figure = Figure(figsize=(WIDE, lines * (2 * cell + 0.2)))
    for index, (name, rows) in enumerate(examples.items()):
        line, column = divmod(index, blocks)
        left, top = column * WIDE / blocks + _MARGIN, line * (2 * cell + 0.2) + 0.1
        axis = axes_at(figure, left, top, len(rows) * cell, 2 * cell)
        picture(axis, mosaic([image[rows], cycled[rows]]))
        _row_names(axis, [(plain(name), INK), ("cycled", LINK_RED)])
    return figure


def reconstructions_by_link(image: np.ndarray, cycled: Mapping[str, np.ndarray], labels: Mapping[str, str]) -> Figure:
    """One row of originals `[k, h, w, 3]` and one row per link, in the links' colours.

    Args:
        image: originals, uint8.
        cycled: link to its images of the same samples.
        labels: link to the name that is written.
    """
    rows = [image, *cycled.values()]
    cell = min(_CELL, (WIDE - _MARGIN) / len(image))
    figure = Figure(figsize=(WIDE, len(rows) * cell + 0.1))
    width = len(image) * cell
    axis = figure.add_axes((_MARGIN / WIDE, 0, width / WIDE, 1))
    picture(axis, mosaic(rows))
    names = [(plain(labels[link]), link_colour(link, index)) for index, link in enumerate(cycled)]
    _row_names(axis, [("original", INK), *names])
    return figure


def reconstructions_by_setting(
    image: np.ndarray, names: Sequence[str], blocks: Mapping[str, Mapping[str, np.ndarray]], labels: Mapping[str, str]
) -> Figure:
    """A row per example: the original, then for each setting (a classifier, say) a column per link.

    Args:
        image: originals `[k, h, w, 3]` uint8.
        names: what is written left of each row `[k]`; the same name is written once.
        blocks: setting to link to its images of the same samples.
        labels: link to the name that is written.
    """
    widths = [1, *(len(cycled) for cycled in blocks.values())]
    cell = min(_CELL, (WIDE - _MARGIN - len(blocks) * _BETWEEN) / sum(widths))
    headings = {setting: wrapped(setting, int(len(cycled) * cell / _LETTER)) for setting, cycled in blocks.items()}
    head = (max(text.count("\n") for text in headings.values()) + 2) * _LINE + 0.1
    figure = Figure(figsize=(WIDE, len(image) * cell + head))
    lefts = _MARGIN + np.cumsum([0.0, *(width * cell + _BETWEEN for width in widths)])
    blocks_at = zip(lefts, widths, strict=False)
    axes = [axes_at(figure, left, head, width * cell, len(image) * cell) for left, width in blocks_at]
    picture(axes[0], mosaic(list(image[:, None])))
    _column_names(axes[0], "", [("original", INK)])
    _row_names(axes[0], [("" if n in names[:index] else wrapped(n, 16), INK) for index, n in enumerate(names)])
    for axis, (setting, cycled) in zip(axes[1:], blocks.items(), strict=True):
        picture(axis, mosaic(list(np.stack(list(cycled.values()), axis=1))))
        links = [(plain(labels[link]), link_colour(link, index)) for index, link in enumerate(cycled)]
        _column_names(axis, headings[setting], links)
    return figure


def mosaic(rows: Sequence[np.ndarray]) -> np.ndarray:
    """Rows of pictures, each `[k, h, w, 3]` uint8, as one picture with thin white lines between them."""
    large = [np.stack([enlarged(image) for image in row]) for row in rows]
    padded = [np.pad(row, ((0, 0), (0, _GAP), (0, _GAP), (0, 0)), constant_values=255) for row in large]
    whole = np.concatenate([np.concatenate(list(row), axis=1) for row in padded], axis=0)
    return whole[:-_GAP, :-_GAP]


def _column_names(axis: Axes, heading: str, names: Sequence[tuple[str, str]]) -> None:
    style: dict[str, Any] = {"xycoords": "axes fraction", "va": "bottom"}
    for index, (name, colour) in enumerate(names):
        weight = "bold" if colour == INK else "normal"
        note(axis, name, ((index + 0.5) / len(names), 1), (0, 3), size=9, color=colour, weight=weight, **style)
    note(axis, heading, (0.5, 1), (0, 5 + 72 * _LINE), size=10, color=INK, weight="bold", **style)


def _row_names(axis: Axes, names: Sequence[tuple[str, str]]) -> None:
    x = -0.09 / axis.get_position().width / WIDE
    for index, (name, colour) in enumerate(names):
        weight, colour = "bold" if colour == INK else "normal", MUTED if name == "cycled" else colour
        write(
            axis, x, 1 - (index + 0.5) / len(names), name, color=colour, weight=weight, size=9, ha="right", va="center"
        )


@dataclass(frozen=True)
class Block:
    """The traversals of one unit."""

    title: str
    detail: str
    image: np.ndarray
    """`[rows, steps, h, w, 3]` uint8."""
    class_names: Sequence[str]
    """Class of each row."""
    probability: np.ndarray
    """Of the row's class, `[rows, steps]`."""
    flipped: np.ndarray
    """`[rows, steps]` bool: the classifier's answer is another than at the first step."""
    ends: tuple[float, float]
    """The unit's smallest and largest activation."""
    unperturbed: Sequence[int | None] = ()
    """The step of each row that is nearest to the sample itself, which is framed; empty: it is not known."""
    beyond: np.ndarray | None = None
    """Whether w lies beyond 99 % of held-out training samples, `[rows, steps]` bool; None: it is not known."""

    def drawn(self, row: int) -> list[int]:
        """The steps of a row whose images are drawn."""
        marked = self.unperturbed[row] if len(self.unperturbed) else None
        return thinned(self.image.shape[1], MOST_STEPS, marked)


def rows_pictured(class_names: Sequence[str], most: int = _MOST) -> list[int]:
    """Rows of a figure out of traversals that are ordered by class: as many of every class, and not more than `most`.

    Example:
        >>> rows_pictured(["a", "a", "a", "b", "b", "b"], most=4)
        [0, 1, 3, 4]
    """
    names = list(dict.fromkeys(class_names))
    per_class = max(1, most // len(names))
    return [k for name in names for k in [i for i, subset in enumerate(class_names) if subset == name][:per_class]]


def traversals(blocks: Sequence[Block], class_names: Sequence[str]) -> Figure:
    """A block per unit, a row per sample: images from the smallest to the largest activation, and the curve of p.

    Args:
        blocks: units, each with as many rows and steps; no more than `MOST_STEPS` are drawn.
        class_names: the run's classes, which fix the colours.
    """
    rows, steps = len(blocks[0].image), min(MOST_STEPS, blocks[0].image.shape[1])
    height = _TOP + rows * LEAST + _BOTTOM
    figure = Figure(figsize=(_NAME + steps * LEAST + _CURVE, len(blocks) * height))
    colours = class_colours(class_names)
    for index, block in enumerate(blocks):
        top, right = index * height + _TOP, _NAME + steps * LEAST + _CURVE_GAP
        axis = axes_at(figure, _NAME, top, steps * LEAST, rows * LEAST)
        picture(axis, mosaic([_strip(block, row) for row in range(rows)]))
        _write(axis, block, steps * LEAST, rows * LEAST)
        for row, name in enumerate(block.class_names):
            curve = axes_at(figure, right, top + row * LEAST, _CURVE - _CURVE_GAP - _CHANGE, LEAST)
            beyond = () if block.beyond is None else block.beyond[row]
            _curve(curve, block.probability[row], block.flipped[row], beyond, colours[name])
            _frame(axis, block, row)
    return figure


def _frame(axis: Axes, block: Block, row: int) -> None:
    """Frame the image of a row that is nearest to the sample itself, where it is known."""
    few, marked = block.drawn(row), block.unperturbed[row] if len(block.unperturbed) else None
    if marked is not None and marked in few:
        frame(axis, few.index(marked), row, len(few), len(block.image))


def _strip(block: Block, row: int) -> np.ndarray:
    """The images of a row that are drawn, `[k, h, w, 3]` uint8."""
    return veiled(block.image[row], () if block.beyond is None else block.beyond[row])[block.drawn(row)]


def _write(axis: Axes, block: Block, width: float, height: float) -> None:
    """Titles above, classes to the left, the unit's range below."""
    style: dict[str, Any] = {"transform": axis.transAxes, "size": 8.5, "va": "center"}
    small: dict[str, Any] = style | {"va": "bottom", "color": MUTED}
    large: dict[str, Any] = style | {"va": "bottom", "size": 10, "weight": "bold"}
    above, below, low, high = 1 + 0.07 / height, -0.15 / height, *block.ends
    axis.text(0, above, block.title, **large)
    axis.text(1 + (_CURVE - 0.06) / width, above, block.detail, ha="right", **small)
    for row, name in enumerate(block.class_names):
        y = 1 - (row + 0.5) / len(block.class_names)
        axis.text(-0.09 / width, y, plain(name), ha="right", **style)
    axis.text(0, below, f"r = {number(low, 2)}", color=MUTED, **style)
    axis.text(1, below, number(high, 2), color=MUTED, ha="right", **style)
    arrow = {"arrowstyle": "->", "color": RULE, "linewidth": 1.2}
    tip, tail = (1 - 0.42 / width, below), (0.72 / width, below)
    axis.annotate("", tip, tail, xycoords="axes fraction", textcoords="axes fraction", arrowprops=arrow)


def _curve(
    axis: Axes, probability: np.ndarray, flipped: np.ndarray, beyond: Sequence[bool] | np.ndarray, colour: str
) -> None:
    """p over the steps, open dots where the answer flips, dashed where w is beyond, and the change at the right."""
    bare(axis)
    for level in (0.0, 1.0):
        axis.axhline(level, color=RULE, linewidth=0.7)
    stepped(axis, probability, beyond, flipped, colour)
    axis.set(xlim=(-0.4, len(probability) - 0.6), ylim=(-0.28, 1.28))
    write(axis, 1.06, 0.5, signed(probability[-1] - probability[0]), size=8.5, color=INK, va="center")


def overlay(image: np.ndarray, mask: np.ndarray, colours: Sequence[str], fill: float = 0.0) -> np.ndarray:
    """An image, enlarged, with the outlines of its parts.

    Args:
        image: `[h, w, 3]` uint8.
        mask: `[h', w']` integers, 0 background; its outlines are smoothed.
        colours: of the values from 1.
        fill: how strongly the parts are tinted, from 0 to 1.

    Returns:
        `[H, W, 3]` uint8, at least 192 pixels high.
    """
    large = enlarged(image).astype(np.float64)
    smooth = _smoothed(mask, large.shape[0], large.shape[1])
    ink = 255 * np.array([(0, 0, 0), *map(to_rgb, colours)])[smooth]
    line = _mask_outline(smooth, max(2, round(len(large) / 96)))
    share = np.where(line, 1.0, fill * (smooth > 0))[..., None]
    return ((1 - share) * large + share * ink).round().astype(np.uint8)


def darkened_outside(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Images `[…, s, s, 3]` uint8 that are darkened outside of masks `[…, s, s]` bool, which get a border."""
    marked = masked_pictures(torch.from_numpy(np.moveaxis(image, -1, -3)), torch.from_numpy(mask))
    return np.moveaxis(marked.numpy(), -3, -1)


def _smoothed(mask: np.ndarray, height: int, width: int) -> np.ndarray:
    """The mask at another size: every pixel gets the value whose share there is largest."""
    values = np.unique(mask)
    pictures = [Image.fromarray(np.where(mask == value, 255, 0).astype(np.uint8)) for value in values]
    shares = [np.asarray(picture.resize((width, height), Image.Resampling.BICUBIC)) for picture in pictures]
    return values[np.argmax(shares, axis=0)]


def _mask_outline(mask: np.ndarray, width: int) -> np.ndarray:
    """Pixels `[h, w]` bool of a part that have another value within `width` pixels to a side, above or below."""
    edge = np.zeros(mask.shape, dtype=bool)
    for axis in (0, 1):
        for step in range(1, width + 1):
            subset, other = (np.take(mask, range(a, mask.shape[axis] + b), axis) for a, b in ((step, 0), (0, -step)))
            differ = subset != other
            pads = [(0, 0), (0, 0)]
            for pad in ((step, 0), (0, step)):
                pads[axis] = pad
                edge |= np.pad(differ, pads)
    return edge & (mask > 0)
