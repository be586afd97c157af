"""What a reader of a run has to know before any of its findings is believed, each with what to do about it."""

from __future__ import annotations

from typing import Any

import pandas as pd

from lis.linking.distances import LPIPS_SMALLEST
from lis.report.arrival import along
from lis.report.claims import callable_units, more_directions, nothing_called
from lis.report.evaluation import nothing_explained
from lis.report.findings import Warned, findings, warning
from lis.report.findings_link import OVERFITS
from lis.report.html import Attempts
from lis.report.section import anchor
from lis.report.segmentation import main_kind
from lis.report.source import SPLITS, Source
from lis.report.tables import mean, records, where
from lis.report.wording import listing, metric_label, number, share, words

FEW_ACCEPTED = 0.2
"""Share of a class's samples that are taken, below which it is warned of."""
WEAK = 0.6
"""IoU of a part below which it is warned of."""
MOST = 0.5
"""Share of last images beyond where 99 % of held-out samples lie, above which it is warned of."""


@warning(10, "evaluation", "summary")
def link_explains_nothing(source: Source) -> Warned | None:
    """The link is no better than the mean of all samples, or than that of the class."""
    if not (sentence := nothing_explained(source)):
        return None
    return Warned(sentence, OVERFITS, anchor("Distances"))


@warning(20, "unit_statistics", "control")
def too_few_directions(source: Source) -> Warned | None:
    """No unit can be called anything."""
    if callable_units(source):
        return None
    return Warned(f"{nothing_called(source)}.", f"Set {more_directions(source)}.", anchor("What arrives"))


@warning(30)
def few_accepted(source: Source) -> Warned | None:
    """The classifier takes few of the images of a class for it; a generator without classes has no such images."""
    names = [f"pairs/{name}" for name in SPLITS if source.has(f"pairs/{name}", "acceptance")]
    if not names or not source.facts.conditional:
        return None
    drawn = pd.concat([source.table(name, "acceptance") for name in names])
    rates = {row["class"]: row["accepted"] / row["drawn"] for row in records(_summed(drawn))}
    few = [f"{share(rate)} of {words(name)}" for name, rate in rates.items() if rate < FEW_ACCEPTED]
    if not few:
        return None
    return Warned(
        f"The classifier recognises few of the images that the generator makes of a class: {listing(few)}. All that "
        "is said of it rests on these.",
        "Leave the class out of classes.names, use a classifier that knows it, or take every sample "
        "(pairs.accept=any).",
        anchor("Classes"),
    )


def _summed(acceptance: pd.DataFrame) -> pd.DataFrame:
    """Drawn and accepted samples of each class over all splits."""
    return pd.DataFrame(acceptance.groupby("class", as_index=False, sort=False)[["drawn", "accepted"]].sum())


@warning(40, "unit_statistics", "faithfulness")
def beyond_training(source: Source) -> Warned | None:
    """Most last images are of w where hardly any training sample lies; only along the link w goes on there."""
    beyond = mean(source.table("unit_statistics", "faithfulness"), "beyond")
    if along(source) != "link" or not beyond > MOST:
        return None
    return Warned(
        f"In {share(beyond)} of the samples the last image of a unit shows a w beyond where 99 % of held-out "
        "samples lie: what the generator draws there, it was not trained on.",
        "Set tuning.along=pattern, faithful or closed, along which w stops there.",
        anchor("What arrives"),
    )


@warning(50)
def weak_parts(source: Source) -> Warned | None:
    """The segmenter finds a part poorly that a finding names, or how well it does was not measured."""
    named = sorted({label for finding in findings(source, attempt=Attempts()) for label in finding.parts})
    if not named:
        return None
    if not source.has("segmentation", "iou"):
        return Warned(
            f"How well the segmenter finds parts was not measured; the findings name {_the(named)}.",
            "Add segmentation to analysis.stages.",
            "",
        )
    table = source.table("segmentation", "iou")
    rows: Any = records(where(table, kind=main_kind(table), **{"class": "all"}))
    iou = {row["label"]: row["iou"] for row in rows}
    weak = [label for label in named if not iou.get(label, 0.0) >= WEAK]
    if not weak:
        return None
    told = listing([f"the {words(label)} (IoU {number(iou.get(label, float('nan')), 2)})" for label in weak])
    return Warned(
        f"The segmenter finds poorly what the findings name: {told}.",
        "Label more images that show it (labels.train, or labels.folder), and look at its masks before its changes.",
        anchor("Parts"),
    )


def _the(labels: list[str]) -> str:
    return listing([f"the {words(label)}" for label in labels])


@warning(60, "probe", "probe")
def probe_not_calibrated(source: Source) -> Warned | None:
    """The calibration error of the probe is more than chance explains."""
    facts = source.json("probe", "probe")
    if not facts["ece"] > facts["ece_bound"]:
        return None
    return Warned(
        f"The probabilities of the linear probe are not calibrated: their expected calibration error is "
        f"{number(facts['ece'], 2)}, of a calibrated probe below {number(facts['ece_bound'], 2)}.",
        "Raise probe.train, and read changes of a probability as more or less, not as percent.",
        anchor("Linear probe"),
    )


@warning(70, "evaluation", "left_out")
def without_lpips(source: Source) -> Warned | None:
    """LPIPS is missing, though it was asked for and the images are large enough."""
    reason = source.json("evaluation", "left_out").get("lpips")
    asked = source.facts.settings.get("evaluation.lpips", True) and source.facts.resolution >= LPIPS_SMALLEST
    if reason is None or not asked:
        return None
    why, _, remedy = reason.partition("; ")
    sentence = f"{metric_label('lpips')}, which compares images as people do, was left out: {why}."
    remedy = f"{remedy[:1].upper()}{remedy[1:]}." if remedy else ""
    return Warned(sentence, remedy, anchor("Distances"), minor=True)
