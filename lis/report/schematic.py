"""The schematic at the top of a page: what was run, with one example, and three findings beside their arrows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Polygon, Rectangle

from lis.report.marks import picture
from lis.report.section import Picture
from lis.report.source import Source
from lis.report.style import INK, LINK_RED, MUTED, PANEL, WIDE, plain, styled
from lis.report.wording import share, times

Point = tuple[float, float]
_HEIGHT = 4.5
_TOP, _BOTTOM, _LANE = 3.22, 1.52, 0.42
"""Heights in inches of the row of the original, of the cycled row, and of the link's way back."""
_W, _GENERATOR, _IMAGE, _CLASSIFIER, _R = 2.62, (3.2, 4.62), 5.72, (7.2, 8.55), 9.25


def drawing(source: Source) -> list[Picture]:
    """The schematic with the example that is kept nearest to the median; none without examples."""
    if not source.has("evaluation", "examples"):
        return []
    arrays = source.arrays("evaluation", "examples")
    image, cycled = arrays["image"], arrays["cycled"]
    if not len(image):
        return []
    chosen = median_example(image, cycled)
    caption = (
        f"What was run. A generated image I is read by the classifier; the link (red) takes the activations r back to "
        f"W, and the generator shows w̃ as Ĩ. Of the {len(image)} examples below, this one has the median pixel error."
    )
    figure = schematic(_wiring(source), image[chosen], cycled[chosen])
    alt = (
        "z and c to w, through the generator to an image, through the classifier to r, and by the link back to w̃ and Ĩ."
    )
    return [Picture("schematic", figure, caption, "drawing", alt=alt)]


def median_example(image: np.ndarray, cycled: np.ndarray) -> int:
    """Which of images `[n, h, w, 3]` uint8 has the median pixel error after the cycle; the upper of two."""
    error = ((image.astype(float) - cycled.astype(float)) ** 2).mean(axis=(1, 2, 3))
    return int(np.argsort(error, kind="stable")[len(error) // 2])


def _wiring(source: Source) -> Wiring:
    facts = source.facts
    detail = f"{facts.units} → {facts.w_dim}"
    if source.has("link", "fit"):
        detail += f", fitted to {source.json('link', 'fit')['samples']:,} pairs (w, r)"
    same = source.row("evaluation", "kept", "class", "all")
    return Wiring(
        generator=facts.generator.split(" (")[0],
        classifier=facts.classifier.split(" (")[0],
        link=facts.link_label,
        link_detail=detail,
        w_dim=facts.w_dim,
        units=facts.units,
        resolution=facts.resolution,
        classes=len(facts.class_names) if facts.conditional else 0,
        in_w=_beside(source, "mse_w", "the MSE"),
        in_image=_beside(source, "pixel_l2", "pixel L2"),
        class_kept="" if same is None else f"{share(same['kept'])} keep\ntheir class",
        rank=rank_of_w(source),
    )


def rank_of_w(source: Source) -> int:
    """Dimensions in which w of the training pairs varies within a class; 0 where that was not computed."""
    return len(source.arrays("directions", "forward")["variance"]) if source.has("directions", "forward") else 0


def _beside(source: Source, metric: str, name: str) -> str:
    row = source.row("evaluation", "summary", "metric", metric)
    return "" if row is None else f"{times(row['ratio_random'])} {name}\nof random pairs"


@dataclass(frozen=True)
class Wiring:
    """The names and sizes that the schematic shows; the three findings are empty where they were not measured."""

    generator: str
    classifier: str
    link: str
    link_detail: str
    """A line under the link's name, for example `256 → 64, fitted to 6,000 pairs (w, r)`."""
    w_dim: int
    units: int
    resolution: int
    classes: int
    """Classes of the run; 0 where the generator draws the class itself."""
    in_w: str = ""
    in_image: str = ""
    class_kept: str = ""
    rank: int = 0
    """Dimensions in which w varies within a class; 0: it is not known."""


@styled
def schematic(wiring: Wiring, image: np.ndarray, cycled: np.ndarray) -> Figure:
    """The loop z, c → w → I → r → w̃ → Ĩ with the link in red; `image`, `cycled` are `[h, w, 3]` uint8."""
    figure = Figure(figsize=(WIDE, _HEIGHT))
    axis = figure.add_axes((0, 0, 1, 1))
    axis.set_axis_off()
    _forward(axis, wiring)
    _pictures(axis, image, cycled, wiring)
    _back(axis, wiring)
    axis.set(xlim=(0, WIDE), ylim=(0, _HEIGHT))
    return figure


def _forward(axis: Axes, wiring: Wiring) -> None:
    _inputs(axis, wiring)
    _box(axis, (1.2, _TOP - 0.36), 0.95, 0.72, "mapping")
    _arrow(axis, (2.15, _TOP), (_W - 0.12, _TOP))
    for row, name in ((_TOP, r"$w$"), (_BOTTOM, r"$\tilde{w}$")):
        _vector(axis, (_W, row), name, INK if row == _TOP else LINK_RED, left=True)
        _arrow(axis, (_W + 0.12, row), (_GENERATOR[0], row))
        _arrow(axis, (_GENERATOR[1], row), (_IMAGE - 0.68, row))
    middle = (_TOP + _BOTTOM) / 2
    _funnel(axis, _GENERATOR, middle, (0.95, 1.58), ("generator", plain(wiring.generator)))
    _arrow(axis, (_IMAGE + 0.66, _TOP), (_CLASSIFIER[0], _TOP))
    _funnel(axis, _CLASSIFIER, _TOP, (0.8, 0.45), ("classifier", plain(wiring.classifier)))
    _arrow(axis, (_CLASSIFIER[1], _TOP), (_R - 0.12, _TOP))
    _vector(axis, (_R, _TOP), r"$r$", INK, left=False)
    varies = f",\n{wiring.rank} vary in a class" if wiring.rank else ""
    axis.text(_W, _TOP + (0.82 if not varies else 0.89), f"{wiring.w_dim} dimensions{varies}", **_small())
    axis.text(_R, _TOP + 0.82, f"{wiring.units} units", **_small())
    axis.text(_R + 0.28, _TOP - 0.3, "penultimate\nlayer", **_small("left"))


def _inputs(axis: Axes, wiring: Wiring) -> None:
    noise, classes = ("$z$", "noise"), ("$c$", f"{wiring.classes} classes" if wiring.classes > 1 else "class")
    rows = [(noise, _TOP + 0.42), (classes, _TOP - 0.42)] if wiring.classes else [(noise, _TOP)]
    for (symbol, meaning), height in rows:
        axis.text(0.42, height + 0.07, symbol, **_centre(17))
        axis.text(0.42, height - 0.17, meaning, **_small())
        _arrow(axis, (0.62, height + 0.02), (1.2, _TOP + (height - _TOP) * 0.45))


def _pictures(axis: Axes, image: np.ndarray, cycled: np.ndarray, wiring: Wiring) -> None:
    half = 0.64
    for row, pixels, name in ((_TOP, image, r"$I$"), (_BOTTOM, cycled, r"$\tilde{I}$")):
        picture(axis, pixels, (_IMAGE - half, _IMAGE + half, row - half, row + half))
        corner, style = (_IMAGE - half, row - half), {"fill": False, "edgecolor": INK, "linewidth": 0.8}
        axis.add_patch(Rectangle(corner, 2 * half, 2 * half, **style))
        axis.text(_IMAGE + half + 0.17, row - half + 0.12, name, **_centre(17))
    axis.text(_IMAGE, _TOP + half + 0.16, f"{wiring.resolution} × {wiring.resolution} pixels", **_small())
    _compared(axis, (_W, _TOP - 0.7), (_W, _BOTTOM + 0.7), wiring.in_w, left=True)
    _compared(axis, (_IMAGE, _TOP - half), (_IMAGE, _BOTTOM + half), wiring.in_image, left=False)
    if wiring.class_kept:
        start, end = (_IMAGE + half + 0.06, _BOTTOM), (sum(_CLASSIFIER) / 2, _TOP - 0.66)
        dotted = {"color": MUTED, "linewidth": 1.2, "linestyle": (0, (1.5, 2))}
        axis.plot([start[0], end[0], end[0]], [start[1], start[1], end[1] - 0.1], **dotted)
        _arrow(axis, (end[0], end[1] - 0.16), end, MUTED)
        axis.text(end[0] + 0.12, (_TOP + _BOTTOM) / 2 - 0.3, wiring.class_kept, **_small("left"))


def _compared(axis: Axes, top: Point, bottom: Point, finding: str, left: bool) -> None:
    if finding:
        axis.add_patch(FancyArrowPatch(top, bottom, arrowstyle="<->", mutation_scale=9, color=MUTED, linewidth=1))
        x = top[0] + (-0.12 if left else 0.12)
        axis.text(x, (top[1] + bottom[1]) / 2, finding, linespacing=1.3, **_small("right" if left else "left"))


def _back(axis: Axes, wiring: Wiring) -> None:
    """The red way from r down, back to the left, and up into w̃."""
    axis.plot(
        [_R, _R, _W, _W], [_TOP - 0.72, _LANE, _LANE, _BOTTOM - 0.85], color=LINK_RED, linewidth=2.6,
        solid_joinstyle="round", zorder=1,
    )  # fmt: skip
    _arrow(axis, (_W, _BOTTOM - 0.9), (_W, _BOTTOM - 0.66), LINK_RED, width=2.6)
    middle, width = (_W + _R) / 2, 3.9
    _box(axis, (middle - width / 2, _LANE - 0.31), width, 0.62, "", edge=LINK_RED, face="white")
    axis.text(middle, _LANE + 0.11, f"link: {plain(wiring.link)}", color=LINK_RED, weight="bold", **_centre(10.5))
    axis.text(middle, _LANE - 0.13, plain(wiring.link_detail), color=MUTED, **_centre(8.5))


def _vector(axis: Axes, centre: Point, name: str, colour: str, left: bool) -> None:
    x, y = centre
    cells, width, height = 9, 0.16, 1.26
    for k in range(cells):
        low = y - height / 2 + k * height / cells
        axis.add_patch(Rectangle((x - width / 2, low), width, height / cells, facecolor=PANEL, edgecolor=colour))
    axis.text(x + (-0.26 if left else 0.28), y + 0.42, name, color=colour, **_centre(18))


def _funnel(axis: Axes, xs: Point, y: float, halves: Point, lines: tuple[str, str]) -> None:
    """A trapezoid from half height `halves[0]` at the left to `halves[1]` at the right, with a role and a name."""
    (x0, x1), (h0, h1) = xs, halves
    corners = [(x0, y - h0), (x1, y - h1), (x1, y + h1), (x0, y + h0)]
    axis.add_patch(Polygon(corners, facecolor=PANEL, edgecolor=INK, linewidth=1, joinstyle="round"))
    axis.text((x0 + x1) / 2, y + 0.12, lines[1], weight="bold", wrap=True, **_centre(9.5))
    axis.text((x0 + x1) / 2, y - 0.12, lines[0], color=MUTED, **_centre(8.5))


def _box(axis: Axes, corner: Point, width: float, height: float, text: str, edge: str = INK, face: str = PANEL) -> None:
    shape = FancyBboxPatch(
        (corner[0] + 0.06, corner[1] + 0.06), width - 0.12, height - 0.12, boxstyle="round,pad=0.06", facecolor=face,
        edgecolor=edge, linewidth=1.2, zorder=2,
    )  # fmt: skip
    axis.add_patch(shape)
    axis.text(corner[0] + width / 2, corner[1] + height / 2, text, **_centre(9.5))


def _arrow(axis: Axes, start: Point, end: Point, colour: str = INK, width: float = 1.1) -> None:
    shape = FancyArrowPatch(
        start, end, arrowstyle="-|>", mutation_scale=7 + 3 * width, shrinkA=1, shrinkB=1, color=colour,
        linewidth=width, joinstyle="miter",
    )  # fmt: skip
    axis.add_patch(shape)


def _centre(size: float, side: str = "center") -> dict[str, Any]:
    return {"size": size, "ha": side, "va": "center"}


def _small(side: str = "center") -> dict[str, Any]:
    return {"color": MUTED, **_centre(8.5, side)}
