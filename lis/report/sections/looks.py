"""Where GradCAM looks at the boundary, beside the parts that change there (paper Fig. 7B)."""

from __future__ import annotations

import numpy as np
import pandas as pd

from lis.boundary.generator_tables import TOLD
from lis.boundary.gradcam import BACKGROUND
from lis.report.figures.looks import Bar, Look, looks
from lis.report.frames import column, known, mean, records, where
from lis.report.labels import arrow, counted, listing, share
from lis.report.sections import Picture, Section, Table, crossed, means, metrics, section
from lis.report.source import Source
from lis.report.style import label_colours, plain
from lis.store import Artifact

_BARS = 6
"""Parts beside a trajectory."""
_HEADS = ("original", "before", "after", "counterfactual")
_CAPTION = (
    "GradCAM for the target (from the last map of the convolutions, on one scale per row) over the original, the two "
    "images beside the boundary, and the counterfactual."
)
_CHANGES = (
    f" Right: the parts that change most in {listing(list(TOLD))} over the step across the boundary, as a share of the "
    "span that the measure has on the whole path; a line marks the mean of all other steps."
)


@section(530, "gradcam", "heat", "around")
def gradcam(source: Source) -> Section | None:
    """The heat maps, and what they say of parts."""
    if not source.has("trajectories", "trajectories", "measures", "kinks", "facts"):
        return None
    rows = records(source.table("trajectories", "trajectories"))
    if not rows:
        return None
    heat = {name: x.numpy() for name, x in source.tensors("gradcam", "heat").items()}
    names = [arrow(row["origin"], row["target"]).replace(" →", "\n→") for row in rows]
    images = heat["image"].transpose(0, 1, 3, 4, 2)
    drawn = [Look(name, images[k], heat["heat"][k, :, 1], _bars(source, k)) for k, name in enumerate(names)]
    caption = _CAPTION + _CHANGES * any(look.bars for look in drawn)
    picture = Picture("gradcam", looks(drawn, _HEADS), caption, "photo")
    return Section("GradCAM at the boundary", _lead(source), [picture], [_table(source)] if _parts(source) else [])


def _parts(source: Source) -> list[str]:
    """The labels of the run."""
    return source.json("trajectories", "facts")["labels"]


def _bars(source: Source, trajectory: int) -> list[Bar]:
    """The parts that change most over the step across the boundary.

    Of those that are large enough, by measures that say something of a round one. A step is held against the span of
    the whole path, which no step exceeds; it may exceed the largest change since the first image.
    """
    colours = label_colours(_parts(source))
    kinks = known(where(source.table("trajectories", "kinks"), trajectory=trajectory, interpreted=True), "jump")
    moved = where(source.table("trajectories", "measures"), trajectory=trajectory)
    bars = []
    for row in records(pd.DataFrame(kinks[kinks["measure"].isin(TOLD)])):
        own = column(where(moved, label=row["label"], measure=row["measure"]), "change")
        scale = float(np.ptp(own)) if len(own) else 0.0
        if scale > 0:
            name = f"{plain(row['label'])}: {row['measure']}"
            bars.append(Bar(name, abs(row["jump"]) / scale, row["elsewhere"] / scale, colours[row["label"]]))
    return sorted(bars, key=lambda bar: -bar.jump)[:_BARS]


def _lead(source: Source) -> str:
    """How much heat lies in the background, where parts are known, and how little changes when the answer does."""
    table, around = source.table("gradcam", "heat"), where(source.table("gradcam", "around"), of="target")
    rows, moved = where(table, image="after", of="target", label=BACKGROUND), column(around, "moved")
    background, area = column(rows, "share"), column(rows, "area")
    if not len(background):
        return "GradCAM gives no heat for the target in any image beside a boundary."
    if not _parts(source):
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
