"""Whether units respond to texture or to shape (Bau et al. 2020, Fig. S3)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lis.report.evaluation import acceptance_rule
from lis.report.layouts import darkened_outside, mosaic
from lis.report.marks import axes_at, bare, names_down, picture, write
from lis.report.section import Picture, Section, Table, crossed, metrics, section
from lis.report.source import Source
from lis.report.style import GREY, INK, MUTED, SERIES, WIDE, light_grid, plain, sheet
from lis.report.tables import column, known, mean, records, split, where
from lis.report.wording import counted, listing, number, sentences, share, words
from lis.statistics import SIGNIFICANT, fewest_called
from lis.store import Artifact

_COLOURS = {"texture": SERIES[1], "shape": SERIES[0]}
_RESTYLED = {
    "factors": "colours and patterns of another sample",
    "texture": "amplitudes of another sample",
    "colour": "channels in another order",
}
"""Restylings, in words."""
_DONE = {
    "factors": "the same geometry in part world with the factors {style} of another sample, exactly drawn",
    "texture": "the Fourier amplitudes of another sample with the phases of its own, so that edges stay",
    "colour": "the colour channels in another order",
}
_SCORES = (
    "Units by their score: IoU of where they respond (above their own {level} quantile) in {images} images and in "
    "their restyled twins, over all images together, in the resolution of the map. Line: {cut}, the published cut "
    "between texture (left) and shape. Grey, the control: the mean score of the same units between an image and "
    "another of its class, whose shapes differ too. A score says where a unit responds, not what it responds to."
)
_EXTREMES = (
    "{title}: units of the lowest score on the side of texture, left, and of the highest on that of shape, right. "
    "Above: the images in which each is most active, darkened where it does not respond; below: the same images "
    "restyled. They are the extremes of {units} units; units of the same score are in the order of their numbers."
)
_CONCEPTS = (
    "Units per concept that stands out most in the dissection, by the side on which their score lies ({title}). Only "
    "units with q ≤ 0.05 there. Few units on one side, or concepts that are large, say little."
)
_FOLDER = (
    "The images are those of the folder, whose factors nobody knows: no restyling is exact, and what else it changes "
    "is not told."
)
_LABEL, _TOP, _GAP = 0.32, 0.25, 0.12
"""Inches: of the text above a unit and of the headings, and between columns."""


@section(615, "texture", "units", "extremes", "facts")
def texture_or_shape(source: Source) -> Section:
    """Histograms of scores, the extreme units in both versions, and concepts on both sides."""
    units, facts = source.table("texture", "units"), source.json("texture", "facts")
    main = next(iter(split(units, "restyling")))
    caption = _SCORES.format(level=facts["quantile"], images=f"{facts['images']:,}", cut=facts["cut"])
    figures = [Picture("texture-scores", scores_figure(units, facts["cut"]), caption, data=units)]
    figures += [_extremes(source, name, facts, aside=name != main) for name in _with_extremes(source)]
    concepts = concepts_by_side(source, where(units, restyling=main))
    if len(concepts):
        caption = _CONCEPTS.format(title=_RESTYLED[main])
        figures.append(Picture("texture-concepts", concepts_figure(concepts), caption, data=concepts))
    live = known(where(units, restyling=main), "iou")
    shaped = len(where(live, side="shape"))
    without = int(np.sum(live["control"] >= facts["cut"]))
    finding = (
        f"{shaped} of {counted(len(live), 'unit')} of {facts['layer']} score {facts['cut']} or more after restyling; "
        f"{without} do so between different images of a class, the control"
    )
    lead = sentences(_lead(live, main, facts), _taken(source, facts))
    return Section("Texture or shape", lead, figures, [_table(units)], finding=finding)


def _taken(source: Source, facts: dict[str, Any]) -> str:
    """Which samples of the generator the images are of; empty where they are those of a folder."""
    return "" if facts["source"] == "folder" else acceptance_rule(source)


def _lead(live: pd.DataFrame, main: str, facts: dict[str, Any]) -> str:
    """The score of the first restyling beside its control."""
    style = listing([words(name) for name in facts["style"]])
    beyond = int(np.sum(live["q"] <= SIGNIFICANT))
    return sentences(
        f"Restyled, in the first row: {_DONE[main].format(style=style)}.",
        _FOLDER if facts["source"] == "folder" else "",
        _grey(facts),
        f"The mean score is {number(mean(live, 'iou'), 2)}, beside {number(mean(live, 'control'), 2)} between an image "
        f"and another one of its class, the control; {beyond} of {len(live)} units lie above it with "
        f"q ≤ {SIGNIFICANT}. The published cut of {facts['cut']} alone does not tell shape from chance.",
        _resolution(len(live), facts["shuffles"]),
        "A low score is no proof of texture: a unit that answers to a colour, or to the contrast that an edge has, "
        "moves with these.",
    )


def _grey(facts: dict[str, Any]) -> str:
    """What channels in another order say of grey images; empty where there is none."""
    grey, images = facts["grey"], facts["images"]
    if grey == images:
        return "All images are grey: their channels in another order are the same images, and that row is left out."
    if not grey:
        return ""
    return (
        f"{grey:,} of {images:,} images are grey, which channels in another order leave as they are, so that scores of "
        "that row are too high."
    )


def _resolution(units: int, shuffles: int) -> str:
    """How many units must lie above all draws before any is significant; empty where one alone can be."""
    fewest = fewest_called(units, shuffles)
    if fewest < 2:
        return ""
    return (
        f"With {shuffles:,} draws of {counted(units, 'unit')} q ≤ {SIGNIFICANT} takes {fewest} units above all draws: "
        "texture.shuffles sets their number."
    )


def _table(units: pd.DataFrame) -> Table:
    """Numbers of each restyling."""

    def cell(name: str, head: str) -> str:
        rows = known(where(units, restyling=name), "iou")
        if head in ("texture", "shape"):
            return f"{len(where(rows, side=head))}"
        if head == "above control":
            return share(float(np.mean(rows["q"] <= SIGNIFICANT)) if len(rows) else None)
        return number(mean(rows, {"mean score": "iou", "control": "control"}[head]), 2)

    heads = ["texture", "shape", "mean score", "control", "above control"]
    caption = (
        "Units on each side of the cut, by what was replaced; above control: share of the live units whose score lies "
        f"above that between an image and another one of its class with q ≤ {SIGNIFICANT} (Benjamini–Hochberg over the "
        "units of a row)."
    )
    return crossed(
        caption, list(split(units, "restyling")), heads, cell, corner="replaced", name=lambda n: _RESTYLED[n]
    )


def scores_figure(units: pd.DataFrame, cut: float) -> Figure:
    """A histogram per restyling; table "units"."""
    panels = split(units, "restyling")
    figure, axes = sheet(WIDE, 2.8, 1, len(panels), sharey=True, sharex=True)
    top = max([cut, *column(units, "iou"), *column(units, "control")])
    bins = np.arange(0, top + cut / 4, cut / 4)
    for axis, (name, rows) in zip(axes[0], panels.items(), strict=True):
        axis.hist(column(rows, "control"), bins, color=GREY, label="another image of the class (control)")
        for side, colour in _COLOURS.items():
            values = column(where(rows, side=side), "iou")
            axis.hist(values, bins, color=colour, alpha=0.75, label=f"{side}: {len(values)}")
        axis.axvline(cut, color=INK, linewidth=0.9)
        axis.set(title=_RESTYLED[name], xlabel="score", xlim=(0, top + cut / 4))
        axis.legend(loc="upper right")
        light_grid(axis, "y")
    axes[0, 0].set_ylabel("units")
    return figure


def _with_extremes(source: Source) -> list[str]:
    return list(split(source.table("texture", "extremes"), "restyling"))


def _extremes(source: Source, name: str, facts: dict[str, Any], aside: bool) -> Picture:
    rows = where(source.table("texture", "extremes"), restyling=name)
    figure = extremes_figure(rows, source.arrays("texture", "extremes"))
    caption = _EXTREMES.format(title=_RESTYLED[name].capitalize(), units=facts["units"])
    alt = f"Images of {counted(len(rows), 'unit')}, each above its restyled twin."
    return Picture(f"texture-extremes-{name}", figure, caption, "photo", rows, alt, aside=aside)


def extremes_figure(rows: pd.DataFrame, top: dict[str, np.ndarray]) -> Figure:
    """A column per side, a block per unit; rows of the table "extremes" and tensors of that name."""
    count, width = top["image"].shape[1], (WIDE - _GAP) / 2
    side = width / count
    lines = max(len(subset) for subset in split(rows, "side").values())
    height = 2 * side + _LABEL
    figure = Figure(figsize=(WIDE, lines * height))
    for column_, name in enumerate(_COLOURS):
        for line, row in enumerate(records(where(rows, side=name))):
            axis = axes_at(figure, column_ * (width + _GAP), line * height + _TOP, width, 2 * side)
            at = int(row["index"])
            pairs = ((top["image"], top["mask"]), (top["restyled"], top["restyled_mask"]))
            picture(axis, mosaic([darkened_outside(image[at], mask[at]) for image, mask in pairs]))
            bare(axis)
            heading = f"unit {row['unit']}: score {number(row['iou'], 2)}"
            write(axis, 0.0, 1.01, heading, color=INK, va="bottom", ha="left", transform=axis.transAxes)
            write(axis, 1.0, 1.01, name, color=MUTED, va="bottom", ha="right", transform=axis.transAxes)
    return figure


def concepts_by_side(source: Source, units: pd.DataFrame) -> pd.DataFrame:
    """Units per concept on either side, the most frequent first; none where the layer was not dissected in the run."""
    columns = ["concept", "texture", "shape"]
    if not source.has("dissect", "units"):
        return pd.DataFrame(columns=pd.Index(columns))
    labelled = where(source.table("dissect", "units"), above_chance=True)
    both = labelled.assign(concept=labelled["specific"]).merge(units[["layer", "unit", "side"]], on=["layer", "unit"])
    counts = [
        (concept, *(len(where(rows, side=side)) for side in ("texture", "shape")))
        for concept, rows in split(both, "concept").items()
    ]
    return pd.DataFrame(sorted(counts, key=lambda row: -sum(row[1:])), columns=pd.Index(columns))


def concepts_figure(table: pd.DataFrame) -> Figure:
    """Bars to the left for texture and to the right for shape; table of `concepts_by_side`."""
    figure, axes = sheet(0.7 * WIDE, 0.9 + 0.24 * len(table))
    axis, rows = axes[0, 0], np.arange(len(table))
    for name, sign in (("texture", -1), ("shape", 1)):
        axis.barh(rows, sign * table[name].to_numpy(), color=_COLOURS[name], height=0.7, label=name)
    axis.axvline(0, color=INK, linewidth=0.9)
    names_down(axis, [plain(name) for name in table["concept"]], grid=False)
    axis.xaxis.set_major_formatter(lambda value, _: f"{abs(value):g}")
    axis.set_xlabel("units")
    light_grid(axis)
    axis.legend(loc="lower right")
    return figure


@metrics("texture")
def texture_numbers(artifact: Artifact) -> dict[str, float]:
    """`texture/<restyling>`: mean score of live units; `texture/<restyling>_shape`: share of them at 0.1 or more."""
    result = {}
    for name, rows in split(known(artifact.table("units"), "iou"), "restyling").items():
        result |= {
            f"texture/{name}": mean(rows, "iou"),
            f"texture/{name}_shape": float(np.mean(rows["side"] == "shape")),
        }
    return result | ({"texture/control": mean(artifact.table("units"), "control")} if result else {})
