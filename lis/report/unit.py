"""One unit or one direction, looked at closely (paper §4.3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from lis.quantify.measures import TOLD
from lis.report.animations import animation_names
from lis.report.arrival import arrivals, verdict, which_way_here
from lis.report.layouts import mosaic, overlay
from lis.report.marks import bare, picture, write
from lis.report.section import Picture, Section, Table, section
from lis.report.source import Source
from lis.report.strips import FRAMED, LEAST, VEILED, frame, nearest_step, room, thinned, thinning, veiled
from lis.report.style import INK, MUTED, RULE, WIDE, class_colours, label_colours, plain, sheet, styled
from lis.report.tables import records, where
from lis.report.wording import CHANGES, changed, counted, interval, listing, number, sentences, share, signed, words
from lis.units.arrival import outmoved

_NAMES = ("traversal", "steps", "affected", "facts")
_CURVES = 3
"""Labels per measure that are drawn and listed."""
_TRAVERSAL = (
    "Test samples from the smallest to the largest value of the {what}. In the r that is asked for, all that is "
    "orthogonal to it stays as it is; in the picture, encoded again, that moves too (see “others” in the table)."
)
_PARTS = " Below each image the same with the parts that change most outlined."
_COURSES = (
    "How the parts that change most, and the probability of the sample's own class, change along the way: thick lines "
    "are means over the samples (angles, which may turn to either side, have none), thin lines single samples; marks "
    "on the axis are the samples' own values."
)
_ANSWERS = (
    "How the probability of the sample's own class changes along the way: thick lines are means over the samples, thin "
    "lines single samples; marks on the axis are the samples' own values."
)
_NEAR_DEAD = "The unit is near-dead: its row of the link rests on a handful of samples."
_BOUNDS = "step_norm_low", "step_norm_high"
"""Of the step along a row of the link."""
_COLUMNS = 5
"""Images per line of a sheet."""
_NAME = 0.95
"""Inches left of the images."""
_CELL = 1.35
"""Largest side of an image in inches."""
_TALLEST = 11.0
"""Inches of all images of a figure, as far as each is `LEAST` high."""
_MOST = room(WIDE - _NAME)
"""Images of a strip."""


@section(110, "unit", *_NAMES)
def unit(source: Source) -> Section:
    """The unit that was asked for."""
    return _view(source, "unit")


@section(120, "direction", *_NAMES)
def direction(source: Source) -> Section:
    """The direction that was asked for."""
    return _view(source, "direction")


def title(facts: dict[str, Any]) -> str:
    """What was looked at, in words.

    Example:
        >>> title({"unit": 3, "name": "3"}), title({"unit": -1, "name": "pc:2"})
        ('Unit 3', 'Direction pc:2')
    """
    return f"Unit {facts['unit']}" if facts["unit"] >= 0 else f"Direction {words(facts['name'])}"


def drawn(affected: pd.DataFrame) -> dict[str, list[dict[str, Any]]]:
    """For each measure the rows of the table "affected" with the labels that change most, the largest change first."""
    ranked = {measure: records(where(affected, measure=measure)) for measure in dict.fromkeys(affected["measure"])}
    return {
        measure: sorted((row for row in rows if 1 <= row["rank"] <= _CURVES), key=lambda row: row["rank"])
        for measure, rows in ranked.items()
    }


def _view(source: Source, stage: str) -> Section:
    facts, most = source.json(stage, "facts"), drawn(source.table(stage, "affected"))
    arrays = source.arrays(stage, "traversal")
    what, symbol = ("activation", "r") if facts["unit"] >= 0 else ("projection", "r·d")
    labels = {row["label"] for rows in most.values() for row in rows}
    colours = {name: colour for name, colour in label_colours(facts["labels"]).items() if name in labels}
    samples = _samples(source, arrays, facts, colours)
    traversal = filmstrips(samples, arrays["value"], symbol, colours)
    curves = courses(_panels(source, stage, arrays, most), arrays["value"], arrays["projection"], f"{what} {symbol}")
    steps, veils = len(arrays["value"]), VEILED * any(any(sample.beyond) for sample in samples)
    marks = thinning(steps, len(_drawn(samples, steps))) + FRAMED + veils
    caption = sentences(_TRAVERSAL.format(what=f"{what} {symbol}") + _PARTS * bool(colours), marks.strip())
    alt = f"Strips of images of {counted(len(samples), 'sample')}, along {title(facts).lower()}."
    told = (
        f"The parts that change most: {_changes(most)}."
        if _changes(most)
        else "The probability of each sample's class."
    )
    curve_caption = _COURSES if any(most.values()) else _ANSWERS
    gifs = animation_names(source, stage)
    pictures = [
        Picture(stage, traversal, caption, "photo", source.table(stage, "steps"), alt, others=gifs),
        Picture(f"{stage}-curves", curves, curve_caption, data=source.table(stage, "measures"), alt=told),
    ]
    known = {name: np.nan if value is None else value for name, value in facts.items()}
    tables = [_facts_table(facts, arrays), *arrivals(source, [known | {"name": title(facts)}])]
    tables += [_affected_table(most)] if colours else []
    notes = [*filter(None, [which_way_here(source)]), *([_NEAR_DEAD] if facts["status"] == "near-dead" else [])]
    return Section(title(facts), _lead(source, stage, facts, most), pictures, tables, notes, _finding(facts, most))


def _changes(most: dict[str, list[dict[str, Any]]]) -> str:
    """What changes most in each measure, in words."""
    top = [rows[0] for rows in most.values() if rows]
    return listing(
        [f"{row['measure']} of the {words(row['label'])} ({changed(row['measure'], row['change'])})" for row in top]
    )


def _finding(facts: dict[str, Any], most: dict[str, list[dict[str, Any]]]) -> str:
    """What changes most in area, or that the other units move more; the title where no part is known."""
    own, others = (np.nan if facts[name] is None else facts[name] for name in ("own", "others"))
    if outmoved(own, others):
        return f"{title(facts)} moves the other units more than itself"
    top = next((rows[0] for name, rows in most.items() if name in TOLD and rows), None)
    if top is None:
        return ""
    told = changed(top["measure"], top["change"])
    beside = f" (own {number(own, 2)} sd, others {number(others, 2)})" * bool(np.isfinite(own))
    return f"{title(facts)} changes the {top['measure']} of the {words(top['label'])} most, by {told}{beside}"


def _samples(
    source: Source, arrays: dict[str, np.ndarray], facts: dict[str, Any], colours: dict[str, str]
) -> list[Sample]:
    """The samples, their masks reduced to the labels that are shown."""
    values = np.zeros(1 + len(facts["labels"]), np.uint8)
    for index, name in enumerate(colours, 1):
        values[1 + facts["labels"].index(name)] = index
    samples = []
    for k, c in enumerate(arrays["class_index"]):
        p, image = arrays["probability"][k, :, c], arrays["image"][k]
        detail, mask = f"p {p[0]:.2f} → {p[-1]:.2f}", values[arrays["mask"][k]] if colours else None
        unperturbed = nearest_step(arrays["value"], float(arrays["projection"][k]))
        beyond = (arrays["step_beyond"][k] == 1).tolist() if "step_beyond" in arrays else ()
        samples.append(Sample(plain(source.facts.class_names[c]), detail, image, mask, unperturbed, beyond))
    return samples


def _panels(
    source: Source, stage: str, arrays: dict[str, np.ndarray], most: dict[str, list[dict[str, Any]]]
) -> list[Panel]:
    """A panel per measure that changes at all, with the labels that change most, and one of the probability of the
    samples' own classes.
    """
    table, colours = source.table(stage, "measures"), label_colours(source.json(stage, "facts")["labels"])
    size, panels = (len(arrays["projection"]), len(arrays["value"])), []
    for measure, rows in most.items():
        subset = {row["label"]: where(table, label=row["label"], measure=measure)["change"] for row in rows}
        curves = [
            Curve(plain(label), colours[label], np.asarray(values, dtype=float).reshape(size))
            for label, values in subset.items()
        ]
        axis, mean = CHANGES[measure].replace(f" of {measure}", ""), measure != "angle"
        panels += [Panel(words(measure), axis, curves, mean=mean)] if curves else []
    names, index, p = source.facts.class_names, arrays["class_index"], arrays["probability"]
    colours = class_colours(names)
    curves = [Curve(plain(names[c]), colours[names[c]], p[index == c][:, :, c]) for c in np.unique(index)]
    return [*panels, Panel("probability", "of the sample's own class", curves, (-0.05, 1.05))]


def _lead(source: Source, stage: str, facts: dict[str, Any], most: dict[str, list[dict[str, Any]]]) -> str:
    """What changes most, and what the classifier answers."""
    steps = source.table(stage, "steps")
    first, last = (where(steps, step=step) for step in (0, steps["step"].max()))
    change = float(np.mean(np.asarray(last["probability"]) - np.asarray(first["probability"])))
    parts = _changes(most)
    own, others = (np.nan if facts[name] is None else facts[name] for name in ("own", "others"))
    untold = verdict(own, others, "the unit that is tuned" if facts["unit"] >= 0 else "what is tuned")
    return f"{untold} " * bool(untold) + (
        f"{title(facts)} from {number(facts['low'], 2)} to {number(facts['high'], 2)}: "
        + (f"what changes most is the {parts}. The" if parts else "the")
        + f" probability of a sample's own class changes by {signed(change)} on average, and the answer flips for "
        f"{np.count_nonzero(last['flipped'])} of {len(last)} samples."
    )


def _facts_table(facts: dict[str, Any], arrays: dict[str, np.ndarray]) -> Table:
    """Range, step and faithfulness of the unit or direction."""
    known = {name: np.nan if value is None else value for name, value in facts.items()}
    low, high = (known.get(name, np.nan) if known["along"] == "link" else np.nan for name in _BOUNDS)
    step = interval(known["step_norm"], low, high)
    rows = {
        "range over the training pairs": f"{number(known['low'])} to {number(known['high'])}",
        "mean ± standard deviation over the training pairs": f"{number(known['mean'])} ± {number(known['std'])}",
        "of the samples shown": listing([number(float(value), 2) for value in arrays["projection"]]),
        "step in W, ‖w̃(last) − w̃(first)‖": step,
        "re-encoded share: share of the step found when the images are encoded again": share(known["reencoded_share"]),
    }
    return Table(f"{title(facts)} ({facts['status']}).", ["", ""], list(rows.items()))


def _affected_table(most: dict[str, list[dict[str, Any]]]) -> Table:
    """For each measure the labels that change most, with the range over the samples."""
    cells = {measure: [_affected(row) for row in rows] for measure, rows in most.items()}
    caption = (
        "The labels that change most from the first image to the last: mean (of angles: of axes, none where they have "
        "no common direction), and lowest to highest sample."
    )
    rows = [[measure, *subset, *[""] * (_CURVES - len(subset))] for measure, subset in cells.items()]
    return Table(caption, ["", "first", "second", "third"], rows)


def _affected(row: dict[str, Any]) -> str:
    mean, low, high = (changed(row["measure"], row[name]) for name in ("change", "lowest", "highest"))
    return f"{words(row['label'])} {mean}" + (f" ({low} to {high})" if row["n"] > 1 else "")


@dataclass(frozen=True)
class Sample:
    """One sample in t steps."""

    name: str
    """Left of the images."""
    detail: str
    """Below the name."""
    image: np.ndarray
    """`[t, h, w, 3]` uint8."""
    mask: np.ndarray | None
    """`[t, h', w']` uint8: 0 background, then the labels; None: no part is known."""
    unperturbed: int | None = None
    """The step that is nearest to the sample itself."""
    beyond: Sequence[bool] = ()
    """Whether w of each step lies beyond 99 % of held-out training samples, `[t]`; empty: it is not known."""


@dataclass(frozen=True)
class Curve:
    """A quantity over the steps."""

    name: str
    """In the legend."""
    colour: str
    samples: np.ndarray
    """`[n, t]`, NaN where the part is absent."""


@dataclass(frozen=True)
class Panel:
    """Curves on common axes."""

    title: str
    axis: str
    """What the vertical axis shows."""
    curves: Sequence[Curve]
    limits: tuple[float, float] | None = None
    """Of the vertical axis; None: those of the curves."""
    mean: bool = True
    """Whether the mean over the samples is drawn: turns to opposite sides have none."""


def filmstrips(samples: Sequence[Sample], value: np.ndarray, symbol: str, colours: Mapping[str, str]) -> Figure:
    """Two lines per sample, the images and the same with their parts outlined; the values of r stand above.

    Args:
        samples: each in as many steps.
        value: of the unit or the projection, `[t]`.
        symbol: what the value is called.
        colours: label to colour, in the order of the masks' values; those that are drawn.
    """
    lines, inks, few = [], list(colours.values()), _drawn(samples, len(value))
    for sample in samples:
        lines.append(veiled(sample.image, sample.beyond)[few])
        if sample.mask is not None and inks:
            parts = [overlay(*pair, inks, 0.25) for pair in zip(sample.image[few], sample.mask[few], strict=True)]
            lines.append(np.stack(parts))
    steps = len(few)
    cell = min(_CELL, (WIDE - _NAME) / steps, max(LEAST, _TALLEST / len(lines)))
    head, foot = 0.28, 0.34 * bool(colours)
    width, height = _NAME + steps * cell, head + len(lines) * cell + foot
    figure = Figure(figsize=(width, height))
    axis = figure.add_axes((_NAME / width, foot / height, steps * cell / width, len(lines) * cell / height))
    picture(axis, mosaic(lines))
    each = len(lines) // len(samples)
    x, inch = -0.1 / (steps * cell), 1 / (len(lines) * cell)
    for index, sample in enumerate(samples):
        y = 1 - (index * each + 0.5) / len(lines)
        write(axis, x, y, sample.name, size=9, ha="right", va="center")
        write(axis, x, y - 0.2 * inch, sample.detail, size=8.5, color=MUTED, ha="right", va="center")
        if sample.unperturbed in few:
            frame(axis, few.index(sample.unperturbed), index * each, steps, len(lines))
    for step, at in enumerate(value[few]):
        text = f"{symbol} = " * (step == 0) + number(float(at), 2)
        write(axis, (step + 0.5) / steps, 1 + 0.06 * inch, text, ha="center", color=MUTED, size=8.5)
    if colours:
        _legend(figure, colours)
    return figure


def _drawn(samples: Sequence[Sample], steps: int) -> list[int]:
    """The steps whose images are drawn, the same ones of all samples."""
    return thinned(steps, _MOST, *dict.fromkeys(sample.unperturbed for sample in samples))


def courses(panels: Sequence[Panel], value: np.ndarray, activation: np.ndarray, what: str) -> Figure:
    """A panel per quantity: its mean over the samples over r, each sample as a thin line.

    Args:
        panels: what is drawn.
        value: r at each step, `[t]`.
        activation: r of the samples themselves, `[n]`: marks on the horizontal axis.
        what: the horizontal axis.
    """
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    figure, axes = sheet(WIDE, 0.4 + 2.3 * rows, rows, columns, lines="y")
    figure.set_layout_engine("constrained", w_pad=0.1, h_pad=0.08)
    for axis, panel in zip(axes.flat, panels, strict=False):
        _course(axis, panel, value)
        marks: dict[str, Any] = {"color": INK, "markersize": 9, "clip_on": False}
        axis.plot(activation, np.zeros(len(activation)), "|", transform=axis.get_xaxis_transform(), **marks)
        axis.set_xlabel(what)
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    return figure


def _course(axis: Axes, panel: Panel, value: np.ndarray) -> None:
    axis.axhline(0, color=RULE, linewidth=0.9)
    for curve in panel.curves:
        for index, sample in enumerate(curve.samples):
            name = curve.name if not panel.mean and index == 0 else None
            axis.plot(value, sample, color=curve.colour, linewidth=0.6 if panel.mean else 1.1, alpha=0.45, label=name)
        if panel.mean:
            known = ~np.isnan(curve.samples).all(0)
            mean = np.full(len(value), np.nan)
            mean[known] = np.nanmean(curve.samples[:, known], axis=0)
            axis.plot(value, mean, "o-", color=curve.colour, linewidth=1.8, markersize=3.5, label=curve.name)
    axis.set_title(panel.title)
    axis.set(ylabel=panel.axis, ylim=panel.limits)
    if panel.curves:
        axis.legend(fontsize=8, loc="best")


def _legend(figure: Figure, colours: Mapping[str, str]) -> None:
    handles = [Patch(color=colour, label=plain(label)) for label, colour in colours.items()]
    figure.legend(handles=handles, loc="lower center", ncols=min(len(handles), 10), fontsize=8.5)


@styled
def overlays(images: Mapping[str, np.ndarray], colours: Mapping[str, str]) -> Figure:
    """A sheet of images with their names, and what the colours stand for.

    Args:
        images: name to picture `[h, w, 3]` uint8 with its parts drawn.
        colours: label to colour.
    """
    lines = -(-len(images) // _COLUMNS)
    figure = Figure(figsize=(WIDE, lines * (WIDE / _COLUMNS + 0.1) + 0.4))
    height = (1 - 0.4 / figure.get_figheight()) / lines
    _legend(figure, colours)
    for index, (name, image) in enumerate(images.items()):
        line, column = divmod(index, _COLUMNS)
        left, bottom = (column + 0.02) / _COLUMNS, 1 - (line + 1) * height
        axis = figure.add_axes((left, bottom, 0.96 / _COLUMNS, height * 0.9))
        axis.imshow(image, interpolation="antialiased")
        axis.set_title(plain(name).removesuffix(".png"), size=8.5, weight="normal", pad=2)
        bare(axis)
    return figure
