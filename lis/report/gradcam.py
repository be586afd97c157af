"""Where GradCAM looks at the boundary, beside the parts that change there (paper Fig. 7B)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from lis.quantify.measures import BACKGROUND, TOLD
from lis.report.layouts import mosaic
from lis.report.marks import axes_at, bare, enlarged, names_down, picture, write
from lis.report.section import Picture, Section, Table, crossed, means, metrics, section
from lis.report.source import Source, colours, label_names
from lis.report.style import INK, MUTED, RULE, WIDE, plain
from lis.report.tables import column, known, mean, records, where
from lis.report.wording import arrow, counted, listing, share
from lis.store import Artifact

_BARS = 6
"""Parts beside a trajectory."""
_HEADS = ("original", "before", "after", "counterfactual")
_CAPTION = (
    "GradCAM for the target (from the last map of the convolutions, on one scale per row) over the original, the two "
    "images beside the boundary, and the counterfactual. A picture that stays grey has less than 20 % of the row's "
    "largest heat: little in it makes the target more likely, as is to be expected of an original."
)
_CHANGES = (
    f" Right: the parts that change most in {listing(list(TOLD))} over the step across the boundary, as a share of the "
    "span that the measure has on the whole path; a line marks the mean of all other steps."
)
_NAME, _BARS_WIDTH, _LABELS = 1.0, 2.5, 1.45
"""Inches of the names at the left, of the bars, and of what stands left of them."""
_GAP, _HEAD, _FOOT = 0.1, 0.3, 0.32
_BETWEEN = 0.34
"""Inches between rows, for the two lines below a picture without heat."""
_FAINT = 0.2
"""Share of the largest heat of a row below which a picture counts as one without heat."""
_NOTHING = "grey: little here\nspeaks for the target"
"""Written below such a picture."""
_STRENGTH = 0.62
"""How much of a picture its heat covers where it is largest."""


@section(430, "gradcam", "heat", "around")
def gradcam(source: Source) -> Section | None:
    """The heat maps, and what they say of parts."""
    if not source.has("trajectories", "trajectories", "measures", "jumps", "facts"):
        return None
    rows = records(source.table("trajectories", "trajectories"))
    if not rows:
        return None
    heat = source.arrays("gradcam", "heat")
    names = [arrow(row["origin"], row["target"]).replace(" →", "\n→") for row in rows]
    drawn = [Heatmap(name, heat["image"][k], heat["heat"][k, :, 1], _bars(source, k)) for k, name in enumerate(names)]
    caption = _CAPTION + _CHANGES * any(row.bars for row in drawn)
    table = source.table("gradcam", "heat")
    alt = f"Heat maps over four images of each of {counted(len(drawn), 'counterfactual')}, beside bars of the parts."
    figure = Picture("gradcam", gradcam_figure(drawn, _HEADS), caption, "photo", table, alt)
    tables = [replace(_table(source), aside=True)] if label_names(source) else []
    return Section("GradCAM at the boundary", _lead(source), [figure], tables, finding=_finding(source))


def _finding(source: Source) -> str:
    """How much of the heat lies on the background, and of the frame; empty without parts or heat."""
    rows = where(source.table("gradcam", "heat"), image="after", of="target", label=BACKGROUND)
    background, area = (column(rows, name) for name in ("share", "area"))
    if not len(background) or not label_names(source):
        return ""
    return (
        f"GradCAM lays {share(background.mean())} of its heat on the background, which is {share(area.mean())} of the "
        "frame"
    )


def _bars(source: Source, trajectory: int) -> list[Bar]:
    """The parts that change most over the step across the boundary.

    Of those that are large enough, by measures that say something of a round one. A step is held against the span of
    the whole path, which no step exceeds; it may exceed the largest change since the first image.
    """
    jumps = known(where(source.table("trajectories", "jumps"), trajectory=trajectory, interpreted=True), "jump")
    moved = where(source.table("trajectories", "measures"), trajectory=trajectory)
    bars = []
    for row in records(pd.DataFrame(jumps[jumps["measure"].isin(TOLD)])):
        subset = column(where(moved, label=row["label"], measure=row["measure"]), "change")
        scale = float(np.ptp(subset)) if len(subset) else 0.0
        if scale > 0:
            name = f"{plain(row['label'])}: {row['measure']}"
            bars.append(Bar(name, abs(row["jump"]) / scale, row["elsewhere"] / scale, colours(source)[row["label"]]))
    return sorted(bars, key=lambda bar: -bar.jump)[:_BARS]


def _lead(source: Source) -> str:
    """How much heat lies in the background, where parts are known, and how little changes when the answer does."""
    table, around = source.table("gradcam", "heat"), where(source.table("gradcam", "around"), of="target")
    rows, moved = where(table, image="after", of="target", label=BACKGROUND), column(around, "moved")
    background, area = column(rows, "share"), column(rows, "area")
    if not len(background):
        return "GradCAM gives no heat for the target in any image beside a boundary."
    if not label_names(source):
        return (
            f"Between the two images beside the boundary {share(moved.mean())} of GradCAM's heat for the target moves."
            if len(moved)
            else "GradCAM gives no heat for the target in one of the two images beside each boundary."
        )
    lead = (
        f"In {counted(len(background), 'image')} just beyond the boundary GradCAM for the target lays "
        f"{share(background.mean())} of its heat on the background, which is {share(area.mean())} of the frame"
    )
    if not len(moved):
        return lead + "."
    return f"{lead}; between the two images beside the boundary {share(moved.mean())} of its heat moves."


def _table(source: Source) -> Table:
    """The share of the heat that each part has, over all trajectories."""
    table = known(where(source.table("gradcam", "heat"), of="target"), "share")

    def cell(label: str, head: str) -> str:
        rows = where(table, label=label)
        return share(mean(rows, "area") if head == "area" else mean(where(rows, image=head), "share"))

    caption = "Share of GradCAM's heat for the target on each part, as a mean over the trajectories, beside its area."
    return crossed(caption, dict.fromkeys(source.table("gradcam", "heat")["label"]), [*_HEADS, "area"], cell)


@metrics("gradcam")
def gradcam_numbers(artifact: Artifact) -> dict[str, float]:
    """`gradcam/background`: share of the heat for the target just beyond the boundary."""
    table = artifact.table("heat")
    if set(table["label"]) <= {BACKGROUND}:  # without parts everything is background
        return {}
    shares = means(where(table, image="after", of="target", label=BACKGROUND), ["share"])
    return {"gradcam/background": shares["share"]} if shares else {}


@dataclass(frozen=True)
class Bar:
    """A measure of a part at the boundary."""

    name: str
    jump: float
    """|Change| over the step that crosses, as a share of the span on the path: in [0, 1]."""
    elsewhere: float
    """Mean |change| of the other steps, in the same unit."""
    colour: str


@dataclass(frozen=True)
class Heatmap:
    """One trajectory; m images."""

    name: str
    image: np.ndarray
    """`[m, h, w, 3]` uint8."""
    heat: np.ndarray
    """`[m, H, W]`, ≥ 0."""
    bars: Sequence[Bar]


def gradcam_figure(rows: Sequence[Heatmap], heads: Sequence[str]) -> Figure:
    """A row per trajectory: GradCAM over the images, then the parts that change most at the boundary, if any do.

    Args:
        rows: trajectories, with as many images in each.
        heads: what the images are, `[m]`.
    """
    count, most = len(heads), max(len(row.bars) for row in rows)
    cell = min(1.35, (WIDE - _NAME - _LABELS - _BARS_WIDTH - _GAP) / count)
    each = max(cell, 0.235 * most) + _BETWEEN
    height = _HEAD + each * len(rows) + _FOOT * bool(most)
    figure = Figure(figsize=(WIDE if most else _NAME + count * cell, height))
    for at, row in enumerate(rows):
        top = _HEAD + at * each
        left = axes_at(figure, _NAME, top, count * cell, cell)
        heated = [_heated(*pair, row.heat.max()) for pair in zip(row.image, row.heat, strict=True)]
        picture(left, mosaic([np.stack(heated)]))
        write(left, -0.1 / (count * cell), 0.5, plain(row.name), size=9, ha="right", va="center")
        for index, text in enumerate(heads if at == 0 else ()):
            write(left, (index + 0.5) / count, 1 + 0.05 / cell, text, size=8.5, color=MUTED, ha="center")
        for index, heat in enumerate(row.heat):
            if heat.max() <= _FAINT * row.heat.max():
                _tell_grey(left, (index + 0.5) / count)
        if most:
            start = _NAME + count * cell + _LABELS
            right = axes_at(figure, start + _GAP, top, WIDE - start - 0.25, each - _BETWEEN)
            _draw_bars(right, row.bars, at == len(rows) - 1)
    return figure


def _tell_grey(axis: Axes, x: float) -> None:
    write(axis, x, -0.02, _NOTHING, size=8, color=MUTED, ha="center", va="top")


def _heated(image: np.ndarray, heat: np.ndarray, most: float) -> np.ndarray:
    """A picture in grey under its heat, `[h, w, 3]` uint8; the colours end at `most`."""
    large = enlarged(image).astype(float)
    grey = np.repeat(large.mean(2, keepdims=True), 3, axis=2)
    share = Image.fromarray((heat / (most or 1.0)).astype(np.float32))
    share = np.asarray(share.resize(large.shape[1::-1], Image.Resampling.BILINEAR))
    ink, cover = 255 * colormaps["inferno"](share)[..., :3], _STRENGTH * share[..., None]
    return ((1 - cover) * grey + cover * ink).round().astype(np.uint8)


def _draw_bars(axis: Axes, bars: Sequence[Bar], last: bool) -> None:
    """The change over the step that crosses the boundary; a line where the other steps lie on average."""
    if not bars:
        bare(axis)
        write(axis, 0.5, 0.5, "no part is interpreted", size=9, ha="center", color=MUTED)
        return
    for at, bar in enumerate(bars):
        axis.barh(at, bar.jump, height=0.62, color=bar.colour)
        axis.plot([bar.elsewhere] * 2, [at - 0.38, at + 0.38], color=INK, linewidth=1.4)
    names_down(axis, [bar.name for bar in bars])
    axis.tick_params(axis="y", labelsize=8.5)
    axis.set(ylim=(len(bars) - 0.4, -0.6), xlim=(0, None))
    axis.axvline(0, color=RULE, linewidth=0.9)
    if last:
        axis.set_xlabel("change across the boundary (share of the span)", x=1.0, ha="right")
