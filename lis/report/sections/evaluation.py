"""The full cycle w → I → r → w̃ → Ĩ on new samples (paper §4.2, Fig. 3B, C, S1)."""

from __future__ import annotations

from functools import partial

import pandas as pd

from lis.report.figures.components import components
from lis.report.figures.distributions import distances
from lis.report.figures.reconstructions import reconstructions
from lis.report.figures.recovery import class_shares, factors
from lis.report.frames import column, ends, mean, records, row_of
from lis.report.labels import interval, listing, metric_label, number, probability, share, times, words
from lis.report.sections import Picture, Section, Table, means, metrics, prefixed, section
from lis.report.source import SPLITS, Source
from lis.store import Artifact

_SUMMARY = ("cycle", "random", "within_class", "ratio_random", "ratio_within_class")
_SPLIT_TITLES = {"train": "Accepted for the fit", "test": "Accepted for the test"}


@section(210, "evaluation", "examples")
def examples(source: Source) -> Section | None:
    """Images above what came back."""
    tensors = {name: tensor.numpy() for name, tensor in source.tensors("evaluation", "examples").items()}
    image, cycled = (tensors[name].transpose(0, 2, 3, 1) for name in ("image", "cycled"))
    if not len(image):
        return None
    figure = reconstructions(image, cycled, tensors["class_index"], source.facts.class_names)
    caption = "Upper rows: images that the generator made from w. Lower rows: the same images after the cycle."
    pixels = source.row("evaluation", "summary", "metric", "pixel_l2")
    lead = f"{len(image)} test images before and after the cycle through {source.facts.classifier} and the link."
    if pixels is not None:
        lead += (
            f" Over all {int(pixels['n']):,} test images the pixels differ by a mean squared error of "
            f"{number(pixels['cycle'])}; two random images differ by {number(pixels['random'])}."
        )
    return Section("Reconstructions", lead, [Picture("reconstructions", figure, caption, "photo")])


@section(220, "evaluation", "samples", "summary")
def distance(source: Source) -> Section:
    """Every metric beside its baselines."""
    summary = source.table("evaluation", "summary")
    first = records(summary)[0]
    lead = (
        f"Over {int(first['n']):,} new samples, {metric_label(first['metric'])} of the cycle is "
        f"{interval(first['cycle'], first['cycle_low'], first['cycle_high'])}: {times(first['ratio_random'])} what "
        f"random pairs give, and {times(first['ratio_within_class'])} what random pairs of the same class give."
    )
    caption = (
        "Distance after the cycle, and between random pairs of samples. Density; bars span 5–95 % and the quartiles; "
        "the dot is the mean."
    )
    units = dict(zip(summary["metric"], summary["unit"], strict=True))
    figure = distances(source.table("evaluation", "samples"), units)
    return Section("Distances", lead, [Picture("distances", figure, caption)], [summary_table(summary)])


def summary_table(summary: pd.DataFrame) -> Table:
    """The table "summary" of an evaluation as text."""
    rows = [
        [
            metric_label(row["metric"]),
            *(interval(row[x], row[f"{x}_low"], row[f"{x}_high"]) for x in ("cycle", "within_class", "random")),
            times(row["ratio_within_class"]),
            times(row["ratio_random"]),
            probability(max(row["p_random"], row["p_within_class"])),
        ]
        for row in records(summary)
    ]
    columns = ["", "cycle", "random, same class", "random", "ratio, same class", "ratio", "p"]
    caption = "Means with 95 % intervals. p: the larger of the two tests against a baseline."
    return Table(caption, columns, rows)


@section(230, "evaluation", "components", "offsets")
def principal_components(source: Source) -> Section:
    """Offsets in the first components of W."""
    offsets = source.table("evaluation", "offsets")
    worst = max(records(offsets), key=lambda row: abs(row["offset"]))
    held = share(column(offsets, "explained").sum())
    lead = (
        f"Along the first {len(offsets)} components of W, which hold {held} of its variance, the cycle is off by at "
        f"most {number(abs(worst['offset']), 2)} standard deviations on average (component {int(worst['component'])})."
    )
    caption = (
        "Left: samples in the first components of W, open before and filled after the cycle. Right: mean and spread "
        "of the difference."
    )
    table = source.table("evaluation", "components")
    figure = components(table, offsets, source.facts.class_names)
    return Section("Principal components", lead, [Picture("components", figure, caption)])


@section(240)
def classes(source: Source) -> Section | None:
    """Which samples were taken, and whether the cycled image keeps its class."""
    shares, leads = {}, []
    if source.has("evaluation", "kept"):
        kept = source.table("evaluation", "kept").rename(columns={"kept": "share"})
        shares["Class kept after the cycle"] = kept
        leads.append(_kept_lead(kept))
    for split in SPLITS:
        if source.has(f"pairs/{split}", "acceptance"):
            table = source.table(f"pairs/{split}", "acceptance").rename(columns={"rate": "share"})
            shares[_SPLIT_TITLES[split]] = table.assign(low=float("nan"), high=float("nan"))
            leads.append(_accepted_lead(table, split))
    if not shares:
        return None
    figure = class_shares(shares, list(source.facts.class_names))
    caption = "Shares in percent; lines are 95 % intervals, the dashed line is the share over all classes."
    notes = _acceptance_notes(source)
    return Section("Classes", " ".join(leads), [Picture("classes", figure, caption)], notes=notes)


def _kept_lead(kept: pd.DataFrame) -> str:
    worst, _ = ends(pd.DataFrame(kept[kept["class"] != "all"]), "share")
    return (
        f"For {share(row_of(kept, 'all')['share'])} of the cycled images the classifier still names the sample's class "
        f"(lowest: {words(worst['class'])}, {share(worst['share'])})."
    )


def _accepted_lead(table: pd.DataFrame, split: str) -> str:
    drawn = int(column(table, "drawn").sum())
    rate = column(table, "accepted").sum() / drawn
    purpose = "fit" if split == "train" else "test"
    return f"{share(rate)} of {drawn:,} samples drawn for the {purpose} were taken."


def _acceptance_notes(source: Source) -> list[str]:
    if not source.facts.conditional:
        return ["The generator has no classes: a sample's class is what the classifier calls it."]
    rule = source.facts.settings.get("pairs.accept")
    taken = {"correct": "Only samples that the classifier gets right are taken.", "any": "Every sample is taken."}
    return [taken[rule]] if rule in taken else []


@section(250, "evaluation", "factors")
def true_factors(source: Source) -> Section | None:
    """How well each factor of a world with known truth survives."""
    table = source.table("evaluation", "factors").dropna().sort_values("r2_within", ascending=False)
    if table.empty:
        return None
    names = [words(row["factor"]) for row in records(table)]
    r2, within = (number(mean(table, name), 2) for name in ("r2", "r2_within"))
    lead = (
        f"Of {len(table)} true factors, the mean R² after the cycle is {r2} over all samples and {within} within "
        f"classes; {names[0]} survives best, {names[-1]} least."
    )
    lost = [words(row["factor"]) for row in records(table) if row["r2_within"] < 0.2]
    notes = [f"Hardly any of {listing(lost)} survives within classes (R² below 0.2)."] if lost else []
    caption = "R² of each true factor of w̃ against that of w, over all samples and within classes."
    return Section("True factors", lead, [Picture("factors", factors(table), caption)], notes=notes)


@metrics("evaluation")
def cycle_numbers(artifact: Artifact) -> dict[str, float]:
    """`<metric>/{cycle, random, within_class, ratio_random, ratio_within_class}`, `class_kept`, and of the true factors
    the means `r2`, `r2_within`.
    """
    numbers: dict[str, float] = {}
    if artifact.has("summary"):
        for row in records(artifact.table("summary")):
            numbers |= prefixed(row["metric"], {name: row[name] for name in _SUMMARY})
    if artifact.has("kept"):
        numbers["class_kept"] = row_of(artifact.table("kept"), "all")["kept"]
    if artifact.has("factors"):
        numbers |= means(artifact.table("factors"), ("r2", "r2_within"))
    return numbers


def _acceptance(artifact: Artifact, split: str) -> dict[str, float]:
    """`acceptance/<split>/<class>`."""
    return {f"acceptance/{split}/{row['class']}": row["rate"] for row in records(artifact.table("acceptance"))}


for _split in SPLITS:
    metrics(f"pairs/{_split}")(partial(_acceptance, split=_split))
