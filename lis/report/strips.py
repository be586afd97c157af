"""What all strips of pictures share: how large a picture is, which steps are drawn, what is marked, what is veiled."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from lis.report.marks import DASHED
from lis.report.style import INK

LEAST = 0.99
"""Inches of the smallest side of a picture in a strip with the white line behind it: 96 pixels of the page and 3."""
_PALE = 0.5
"""How far what is veiled is faded to white."""
FRAMED = "Framed: the step nearest to the sample's own activation, where nothing is changed. "
VEILED = "Grey and pale: w lies beyond where 99 % of held-out samples lie, or was stopped there. "


def room(width: float, gap: float = 0.0) -> int:
    """How many pictures of at least `LEAST` stand beside each other on so many inches, each with a gap behind it.

    Example:
        >>> room(6.0)
        6
    """
    return max(2, int(width / (LEAST + gap) + 1e-9))


def thinned(steps: int, most: int, *marked: int | None) -> list[int]:
    """At most `most` indices, evenly from the first to the last, and in place of the nearest ones between them those
    that are marked; None marks nothing.

    Example:
        >>> thinned(4, 9), thinned(9, 5), thinned(9, 5, 3)
        ([0, 1, 2, 3], [0, 2, 4, 6, 8], [0, 2, 3, 6, 8])
    """
    indices = [round(x) for x in np.linspace(0, steps - 1, min(most, steps)).tolist()]
    for index in [step for step in marked if step is not None]:
        free = [at for at in range(1, len(indices) - 1) if indices[at] not in marked]
        if index not in indices and free:
            indices[min(free, key=lambda at: (abs(indices[at] - index), -at))] = index
    return sorted(indices)


def thinning(steps: int, drawn: int) -> str:
    """That not every step is drawn; nothing where each is.

    Example:
        >>> thinning(17, 7), thinning(5, 5)
        ('Of 17 steps 7 are drawn, about evenly, the ends among them. ', '')
    """
    return f"Of {steps} steps {drawn} are drawn, about evenly, the ends among them. " if drawn < steps else ""


def nearest_step(value: np.ndarray, activation: float) -> int | None:
    """The step of `value [t]` that is nearest to the sample's own activation; None where that is not known.

    Example:
        >>> nearest_step(np.array([0.0, 1.0, 2.0]), 1.2), nearest_step(np.zeros(2), float("nan"))
        (1, None)
    """
    return int(np.abs(value - activation).argmin()) if np.isfinite(activation) else None


def veiled(image: np.ndarray, beyond: Sequence[bool] | np.ndarray) -> np.ndarray:
    """Images `[t, h, w, 3]` uint8, those that are `beyond [t]` without colour and pale; empty: none is."""
    if not len(beyond):
        return image
    pale = (1 - _PALE) * image.mean(-1, keepdims=True) + _PALE * 255
    return np.where(np.asarray(beyond)[:, None, None, None], pale, image).round().astype(np.uint8)


def stepped(
    axis: Axes,
    values: np.ndarray,
    beyond: Sequence[bool] | np.ndarray,
    hollow: Sequence[bool] | np.ndarray,
    colour: str,
) -> None:
    """A curve over steps, dashed on the way to those that are beyond.

    Args:
        axis: gets the curve.
        values: `[t]`, NaN where there is a gap.
        beyond: `[t]`, or empty: none is.
        hollow: `[t]`, whose dots are open.
        colour: of line and dots.
    """
    inside = ~np.asarray(beyond, dtype=bool) if len(beyond) else np.ones(len(values), dtype=bool)
    dashed = ~inside | np.append(~inside[1:], False) | np.insert(~inside[:-1], 0, False)
    axis.plot(np.where(inside, values, np.nan), color=colour)
    if not inside.all():
        axis.plot(np.where(dashed, values, np.nan), color=colour, linestyle=DASHED)
    for at, (value, open_) in enumerate(zip(values, hollow, strict=True)):
        axis.plot(at, value, "o", color="white" if open_ else colour, markeredgecolor=colour, markersize=4.2)


def frame(axis: Axes, column: int, row: int, columns: int, rows: int) -> None:
    """A dark frame around one of the pictures `[rows, columns]` that fill the axes."""
    corner, style = (column / columns, 1 - (row + 1) / rows), {"fill": False, "edgecolor": INK, "linewidth": 2.4}
    axis.add_patch(Rectangle(corner, 1 / columns, 1 / rows, transform=axis.transAxes, clip_on=False, **style))
