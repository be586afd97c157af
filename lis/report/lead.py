"""The one picture of a page's first screen: a sample through the link, a unit, a counterfactual."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle

from lis.quantify.measures import TOLD
from lis.report.marks import axes_at, bare, picture, write
from lis.report.pictures import outline
from lis.report.schematic import median_example
from lis.report.section import Picture
from lis.report.source import Source, colours, label_names
from lis.report.strips import FRAMED, VEILED, frame, nearest_step, thinned, veiled
from lis.report.style import INK, LINK_RED, MUTED, class_colours, plain, styled
from lis.report.tables import records, where
from lis.report.wording import arrow, changed, number, probability, sentences, share, times, words
from lis.units.arrival import outmoved

_WIDE = 5.2
"""Inches: 520 pixels of the page."""
_SMALL, _LARGE = 8.5, 9.5
"""Points of text; 8 are 11 pixels of the page."""
_HEAD, _BELOW = 0.46, 0.37
"""Inches above and below the pictures of a panel."""
_SIDE = 1.02
"""Side of a picture in inches."""
_NO_UNIT = "No unit is shown: none of those in pictures is both reached and moved more than other units are."
_CHOSEN = (
    "of the strips in “What units change”, the first whose unit does more than random directions do, or the first if "
    "none does; its unit is reached and moves more than other units."
)
_FRAMES = 5
"""Images of a unit."""


@dataclass(frozen=True)
class _Panel:
    """One line of the picture."""

    title: str
    draw: Callable[[Figure, float], None]
    """Draws into a figure, below so many inches."""
    rule: str
    """How what is shown was chosen, and how it is read."""
    data: dict[str, Any]
    """What is told of it, in numbers."""
    control: str = ""
    """Below the title: what its number stands beside."""


@styled
def lead(source: Source) -> Picture | None:
    """What the findings say, in pictures, as far as it was computed; None where nothing of it was.

    Nothing is picked by hand: what is shown follows from the tables by rules that the caption tells.
    """
    panels = [panel for make in (_cycle, _unit, _counterfactual) if (panel := make(source)) is not None]
    if not panels:
        return None
    tall = _HEAD + _SIDE + _BELOW
    figure = Figure(figsize=(_WIDE, len(panels) * tall))
    for index, panel in enumerate(panels):
        figure.text(
            0.01, 1 - (index + 0.16 / tall) / len(panels), plain(panel.title), size=_LARGE, weight="bold", va="center"
        )
        figure.text(
            0.01, 1 - (index + 0.34 / tall) / len(panels), plain(panel.control), size=_SMALL, color=MUTED, va="center"
        )
        panel.draw(figure, index * tall + _HEAD)
    missing = _NO_UNIT * (source.has("pictures") and first_strip(source) is None)
    caption = sentences(*(panel.rule for panel in panels), missing)
    alt = "; ".join(panel.title for panel in panels) + "."
    return Picture("lead", figure, caption, "photo", pd.DataFrame([panel.data for panel in panels]), alt)


def _cycle(source: Source) -> _Panel | None:
    """A sample, and the same through the link."""
    if not source.has("evaluation", "examples"):
        return None
    arrays = source.arrays("evaluation", "examples")
    image, cycled = arrays["image"], arrays["cycled"]
    if not len(image):
        return None
    chosen = median_example(image, cycled)

    def draw(figure: Figure, top: float) -> None:
        ends = (0.1, _WIDE - _SIDE - 0.1)
        first, last = (_image(figure, left, top, of[chosen]) for left, of in zip(ends, (image, cycled), strict=True))
        _below(first, words(source.facts.class_names[int(arrays["class_index"][chosen])]))
        _below(last, "after the cycle")
        _arrows(axes_at(figure, ends[0] + _SIDE, top, ends[1] - ends[0] - _SIDE, _SIDE), source)

    rule = f"First: of {len(image)} test images before and after the cycle, the one with the median pixel error."
    title = "An image, and what the link and the generator make of it"
    return _Panel(title, draw, rule, {"picture": "cycle"}, _distances(source))


def _distances(source: Source) -> str:
    """How far cycled images are beside random pairs, and how many keep their class, as far as that was measured."""
    pixels = source.row("evaluation", "summary", "metric", "pixel_l2")
    same = source.row("evaluation", "kept", "class", "all")
    told = [f"Pixel distance (L2): {times(pixels['ratio_random'])} that of random pairs" if pixels else ""]
    told += [f"{share(same['kept'])} keep their class" if same else ""]
    return "; ".join(filter(None, told))


def _arrows(axis: Axes, source: Source) -> None:
    """I → r → w̃ → Ĩ between two pictures, the link in red."""
    bare(axis)
    axis.set(xlim=(0, 1), ylim=(0, 1))
    steps = (("classifier", "", INK), ("link", source.facts.link_label, LINK_RED), ("generator", "", INK))
    for index, (name, detail, colour) in enumerate(steps):
        left, right = index / 3 + 0.04, (index + 1) / 3 - 0.04
        style = {"arrowstyle": "-|>", "mutation_scale": 11, "linewidth": 1.6}
        axis.add_patch(FancyArrowPatch((left, 0.5), (right, 0.5), color=colour, **style))
        axis.text((left + right) / 2, 0.66, name, size=_SMALL, color=colour, ha="center")
        axis.text((left + right) / 2, 0.25, plain(detail), size=_SMALL, color=colour, ha="center")
    for at, name, colour in ((1 / 3, "$r$", INK), (2 / 3, r"$\tilde{w}$", LINK_RED)):
        axis.text(at, 0.5, name, size=13, color=colour, ha="center", va="center")


def first_strip(source: Source) -> dict[str, Any] | None:
    """The row of "pictures" of the first strip below that is fit, with the mean change over the samples, its p and
    its q; None: none is fit.

    Fit are strips of a part that is large enough, in a measure of `TOLD`, whose unit is reached and moves more than
    the other units do. Of these come first those of units that do more than random directions (q ≤ 0.05).
    """
    if not (source.has("pictures", "pictures") and source.has("unit_statistics", "ranking")):
        return None
    pictured, ranked = source.table("pictures", "pictures"), source.table("unit_statistics", "ranking")
    first, keys = where(pictured, step=0), ["unit", "label", "measure"]
    own, others = (first[name].to_numpy(dtype=float) for name in ("own", "others"))
    sound = pd.DataFrame(first[first["measure"].isin(TOLD).to_numpy() & ~outmoved(own, others)])
    tested = where(ranked, interpreted=True, reached=True).assign(average=lambda table: table["change"])
    fit = sound.merge(tested[[*keys, "average", "p_control", "q", "larger"]], on=keys)
    rows = records(fit.sort_values(["larger", "row"], ascending=[False, True], kind="stable"))
    return rows[0] if rows else None


def _unit(source: Source) -> _Panel | None:
    """The unit of the first strip below, from its smallest to its largest activation."""
    row = first_strip(source)
    if row is None:
        return None
    table = where(source.table("pictures", "pictures"), row=row["row"])
    arrays, value = source.arrays("pictures", "pictures"), table["value"].to_numpy(dtype=float)
    unperturbed = nearest_step(value, row.get("activation", np.nan))
    few = thinned(len(value), _FRAMES, unperturbed)
    beyond = np.array([step.get("step_beyond") == 1 for step in records(table)])[few]
    image = veiled(arrays["image"][row["picture"], few], beyond)
    mask = arrays["mask"][row["picture"], few] == 1 + label_names(source).index(row["label"])
    change = f"{row['measure']} of the {words(row['label'])}: {changed(row['measure'], row['average'])} on average"
    more = (
        f"more than random directions do (q {_against(row['q'])})"
        if row["larger"]
        else "no more than random directions do"
    )
    moved = f"the unit moves by {number(row['own'], 2)} sd, others by {number(row['others'], 2)} sd"

    def draw(figure: Figure, top: float) -> None:
        room = _WIDE / len(few)
        side = min(_SIDE, room - 0.04)
        for column, (pixels, part) in enumerate(zip(image, mask, strict=True)):
            axis = _image(figure, column * room + (room - side) / 2, top + (_SIDE - side), pixels, side)
            if part.any():
                outline(axis, part, (0, 0), axis.images[0].get_size()[0], colours(source)[row["label"]])
            if few[column] == unperturbed:
                frame(axis, 0, 0, 1, 1)
            head = "activation " * (column == 0) + number(float(value[few[column]]), 2)
            _below(axis, f"{head}\nthe sample itself" if few[column] == unperturbed else head)

    rule = f"Second: {_CHOSEN} {FRAMED}{VEILED * bool(beyond.any())}".rstrip()
    title = f"Unit {row['unit']} tuned: {more}"
    told = {name: row[name] for name in ("unit", "label", "measure", "average", "own", "others", "p_control", "q")}
    return _Panel(title, draw, rule, {"picture": "unit", **told}, f"{change[0].upper()}{change[1:]}; {moved}")


def _against(q: float) -> str:
    """q behind its sign: of a small one `< 0.001`, of others `= 0.034`."""
    told = probability(q)
    return told if told.startswith("<") else f"= {told}"


def arrived(source: Source) -> tuple[dict[str, Any], pd.DataFrame, int] | None:
    """The first trajectory whose counterfactual is called its target, its steps, and the number of that step; one whose
    w lies where 99 % of held-out samples do comes before one whose w does not.
    """
    if not source.has("trajectories", "trajectories", "steps", "around"):
        return None
    chosen = []
    for row in records(source.table("trajectories", "trajectories")):
        steps = where(source.table("trajectories", "steps"), trajectory=row["trajectory"])
        at = int(np.abs(steps["position"].to_numpy(dtype=float) - 1).argmin())
        step = records(steps)[at]
        if step["prediction"] == row["target"]:
            chosen.append((bool(step.get("beyond", False)), row["trajectory"], row, steps, at))
    return min(chosen, key=lambda each: each[:2])[2:] if chosen else None


def _counterfactual(source: Source) -> _Panel | None:
    """A counterfactual that arrived: the original, the first image beyond the boundary, the last image."""
    if (chosen := arrived(source)) is None:
        return None
    row, steps, at = chosen
    whole, around = (source.arrays("trajectories", name) for name in ("trajectories", "around"))
    k, of_class, told = row["trajectory"], class_colours(source.facts.class_names), records(steps)
    images = [whole["image"][k, 0], around["image"][k, 1], whole["image"][k, at]]
    p = [told[0]["probability"], float(around["probability"][k, 1, row["target_index"]]), told[at]["probability"]]
    answers = [told[0]["prediction"], row["after_answer"], told[at]["prediction"]]
    heads = ("original", "at the boundary", "counterfactual")

    def draw(figure: Figure, top: float) -> None:
        gap = (_WIDE - 3 * _SIDE) / 3
        for index, (image, answer) in enumerate(zip(images, answers, strict=True)):
            axis = _image(figure, gap / 2 + index * (_SIDE + gap), top, image)
            style: dict[str, Any] = {"fill": False, "linewidth": 3, "transform": axis.transAxes, "clip_on": False}
            axis.add_patch(Rectangle((0, 0), 1, 1, edgecolor=of_class.get(str(answer), MUTED), **style))
            _below(axis, f"{heads[index]}: {words(str(answer))}\np({words(row['target'])}) = {p[index]:.2f}")

    beyond = bool(told[at].get("beyond", False))
    rule = "Third: the first counterfactual that is called its target; the frame has the colour of the answer."
    data = {"picture": "counterfactual", "origin": row["origin"], "target": row["target"], "probability": p[2]}
    title = f"Counterfactual: {arrow(row['origin'], row['target'])}"
    control = f"The answer turns at {share(row['boundary'])} of the way"
    control += f"; w ends{' beyond' * beyond} where 99 % of held-out samples lie" * ("beyond" in told[at])
    return _Panel(title, draw, rule, data, control)


def _image(figure: Figure, left: float, top: float, image: np.ndarray, side: float = _SIDE) -> Axes:
    axis = axes_at(figure, left, top, side, side)
    picture(axis, image)
    return axis


def _below(axis: Axes, text: str) -> None:
    """What an image is, in one or two lines."""
    write(axis, 0.5, -0.05, plain(text), size=_SMALL, color=MUTED, ha="center", va="top", linespacing=1.15)
