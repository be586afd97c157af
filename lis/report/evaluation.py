"""The full cycle w → I → r → w̃ → Ĩ on new samples (paper §4.2, Fig. 3B, C, S1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from lis.report.layouts import reconstructions
from lis.report.link import ceiling
from lis.report.marks import DASHED, PERCENT, dot, eye, facets, names_down, names_up, note, wants_log
from lis.report.section import Picture, Section, Table, folded, means, metrics, prefixed, section
from lis.report.source import SPLITS, Source
from lis.report.style import HALF, INK, MUTED, PAIRING, WIDE, class_colours, light_grid, plain, sheet
from lis.report.tables import column, distribution, ends, records, row_of, split, where
from lis.report.wording import PAIRINGS, interval, listing, metric_label, number, probability, share, times, words
from lis.store import Artifact

_SUMMARY = ("cycle", "random", "within_class", "ratio_random", "ratio_within_class")
_TAKEN = {
    "correct": "Only samples that the classifier gets right are taken.",
    "any": "Every sample is taken.",
    "classifier": "The generator has no classes: a sample's class is what the classifier calls it.",
}
_DISTANCES = (
    "Distance after the cycle, and between random pairs of samples. Density; bars span 5–95 % and the quartiles; the "
    "dot is the mean."
)
_COMPONENTS = (
    "Left: samples in the first components of W, open before and filled after the cycle. Right: the "
    "difference, its mean over samples (dot) and its standard deviation over them (line)."
)
_FIRST = 2
"""Examples of a class that are seen at once."""
EXPLAINS = 0.1
"""R² of w on new samples up to which a link explains nothing, and within classes nothing beyond the class."""


def explained(summary: pd.DataFrame, pairing: str = "random") -> float:
    """R² of w on new samples, 1 − MSE / Var(w): random pairs differ by twice the variance.

    Args:
        summary: the table of an evaluation.
        pairing: `random`: of all samples; `within_class`: within classes.

    Returns:
        At most 1; below 0 where the mean of all samples (of the class) is nearer than the link.
    """
    return 1 - 2 * records(where(summary, metric="mse_w"))[0][f"ratio_{pairing}"]


def nothing_explained(source: Source) -> str:
    """That a link explains nothing, or nothing beyond the class; empty where it does or where it was not measured."""
    if source.row("evaluation", "summary", "metric", "mse_w") is None:
        return ""
    summary = source.table("evaluation", "summary")
    if (r2 := explained(summary)) <= EXPLAINS:
        return (
            f"This link explains nothing: on new samples R² of w is {number(r2, 2)}, where the mean of all samples has "
            "0. Its pictures are no evidence about the classifier."
        )
    if (r2 := explained(summary, "within_class")) <= EXPLAINS:
        return (
            f"Beyond the class this link explains nothing: within classes R² of w is {number(r2, 2)} on new samples, "
            "where the mean of the class has 0. Its pictures are no evidence about what the classifier sees within a "
            "class."
        )
    return ""


@section(210, "evaluation", "examples")
def examples(source: Source) -> Section | None:
    """Images above what came back."""
    arrays = source.arrays("evaluation", "examples")
    if not (count := len(arrays["image"])):
        return None
    drawn = partial(reconstructions, arrays["image"], arrays["cycled"], arrays["class_index"], source.facts.class_names)
    caption = "Upper rows: images that the generator made from w. Lower rows: the same images after the cycle."
    pixels = source.row("evaluation", "summary", "metric", "pixel_l2")
    lead = f"{count} test images before and after the cycle through {source.facts.classifier} and the link."
    if pixels is not None:
        lead += (
            f" Over all {int(pixels['n']):,} test images the pixels differ by a mean squared error of "
            f"{number(pixels['cycle'])}; two random images differ by {number(pixels['random'])}."
        )
    alt = f"{count} pairs of images, by class: above as generated, below after the cycle."
    error = ((arrays["image"].astype(float) - arrays["cycled"]) / 127.5) ** 2
    names = np.asarray(source.facts.class_names)[arrays["class_index"]]
    data = pd.DataFrame({"class": names, "pixel_l2": error.mean((1, 2, 3))})
    pictures = [Picture("reconstructions", drawn(most=_FIRST), caption, "photo", data, alt)]
    if max(np.bincount(arrays["class_index"])) > _FIRST:
        pictures += folded(Picture("reconstructions-all", drawn(), f"All {count} test images.", "photo", data, alt))
    told = (
        ""
        if pixels is None
        else f"After the cycle images differ by {times(pixels['ratio_random'])} what random pairs do"
    )
    return Section("Reconstructions", lead, pictures, finding=told)


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
    samples = source.table("evaluation", "samples")
    figure = distances(samples, dict(zip(summary["metric"], summary["unit"], strict=True)))
    told = [f"{times(row['ratio_random'])} in {metric_label(row['metric'])}" for row in records(summary)]
    alt = f"Beside random pairs the mean distance after the cycle is {listing(told)}."
    data = distribution(samples, ["metric", "pairing"], "value")
    picture, table = Picture("distances", figure, _DISTANCES, data=data, alt=alt), folded(summary_table(summary))
    return Section("Distances", lead, [picture], table, notes=ceiling(source), finding=explains(summary))


def explains(summary: pd.DataFrame) -> str:
    """How much of w a link explains on new samples, beside the mean of the class; table "summary" of an evaluation."""
    first = records(summary)[0]
    if where(summary, metric="mse_w").empty:
        return f"{metric_label(first['metric'])} after the cycle is {times(first['ratio_random'])} that of random pairs"
    r2, within = (explained(summary, pairing) for pairing in ("random", "within_class"))
    if r2 <= EXPLAINS:
        return f"The link explains nothing of w on new samples (R² {number(r2, 2)})"
    if within <= EXPLAINS:
        return f"Beyond the class the link explains nothing of w (R² {number(within, 2)})"
    return f"The link explains {share(r2)} of w on new samples, {share(within)} within classes"


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
        f"The first {len(offsets)} components of W hold {held} of its variance. In standard deviations (sd) of a "
        f"component the error of a sample scatters by {_range(column(offsets, 'spread'))} around its mean, which "
        f"is off by at most {number(abs(worst['offset']), 2)} (component {int(worst['component'])})."
    )
    table = source.table("evaluation", "components")
    figure = components(table, offsets, source.facts.class_names)
    alt = f"The mean offsets of {len(offsets)} components lie within {number(abs(worst['offset']), 2)} sd of 0."
    picture = Picture("components", figure, _COMPONENTS, data=table, alt=alt, aside=True)
    return Section("Principal components", lead, [picture], finding=_returned(offsets))


def _returned(offsets: pd.DataFrame) -> str:
    """How far the error of single samples scatters; that of the mean of all samples by one standard deviation."""
    scatter = float(column(offsets, "spread").max())
    if scatter >= 1:
        return f"Components of W do not come back: their error scatters by {number(scatter, 2)} sd"
    return f"The error of a component of W scatters by at most {number(scatter, 2)} sd (of the mean of all: 1 sd)"


def _range(values: np.ndarray) -> str:
    """From the smallest to the largest."""
    low, high = (number(float(value), 2) for value in (values.min(), values.max()))
    return low if low == high else f"{low} to {high}"


def acceptance_rule(source: Source) -> str:
    """Which samples were taken, in a sentence; empty where the run does not say it."""
    rule = source.facts.settings.get("pairs.accept") if source.facts.conditional else "classifier"
    return _TAKEN.get(str(rule), "")


@section(240)
def classes(source: Source) -> Section | None:
    """Which samples were taken, and whether the cycled image keeps its class."""
    shares, leads, taken, finding = {}, [], [], ""
    if source.has("evaluation", "kept"):
        table = source.table("evaluation", "kept").rename(columns={"kept": "share"})
        shares["Class kept after the cycle"], finding = table, class_kept(table)
        worst, _ = ends(pd.DataFrame(table[table["class"] != "all"]), "share")
        leads.append(
            f"The classifier names the sample's class in its cycled image least often for {words(worst['class'])} "
            f"({share(worst['share'])})."
        )
    for name in SPLITS:
        if source.has(f"pairs/{name}", "acceptance"):
            table = source.table(f"pairs/{name}", "acceptance").rename(columns={"rate": "share"})
            purpose, drawn = "fit" if name == "train" else "test", int(column(table, "drawn").sum())
            shares[f"Accepted for the {purpose}"] = table.assign(low=float("nan"), high=float("nan"))
            rate = share(column(table, "accepted").sum() / drawn)
            taken.append(f"{rate} of {drawn:,} drawn for the {purpose}")
            finding = finding or f"{rate} of the samples drawn for the {purpose} were taken"
    if not shares:
        return None
    if taken:
        leads.append(f"Of samples {listing(taken)} were taken.")
    figure = class_shares(shares, list(source.facts.class_names))
    caption = "Shares in percent; lines are 95 % intervals, the dashed line is the share over all classes."
    data = pd.concat([table.assign(panel=name) for name, table in shares.items()])
    spans = (f"{name.lower()}, {_span(table)}" for name, table in shares.items())
    alt = f"Over the classes: {listing([*spans])}."
    picture = Picture("classes", figure, caption, data=data, alt=alt, aside=True)
    notes = [rule] if (rule := acceptance_rule(source)) else []
    return Section("Classes", " ".join(leads), [picture], notes=notes, finding=finding)


def class_kept(table: pd.DataFrame) -> str:
    """How many cycled images keep their class, beside random pairs of samples.

    Args:
        table: class, share, low, n; with a row "all".
    """
    whole, counts = row_of(table, "all"), column(pd.DataFrame(table[table["class"] != "all"]), "n")
    told = f"{share(whole['share'])} of cycled images keep their class"
    if len(counts) < 2:
        return told
    chance = float(np.square(counts / counts.sum()).sum())
    if whole["low"] <= chance:
        return f"{told}, no more than random pairs ({share(chance)})"
    return f"{told}, {share(chance)} of random pairs do"


def _span(table: pd.DataFrame) -> str:
    low, high = (share(row["share"]) for row in ends(table, "share"))
    return f"{low} to {high}"


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


def components(table: pd.DataFrame, offsets: pd.DataFrame, class_names: Sequence[str], most: int = 40) -> Figure:
    """Original (open) and cycled (filled) samples in the first four components, joined by lines, and all offsets.

    Args:
        table: long table: `class`, `sample_index`, `component` (1, …), `original`, `cycled`.
        offsets: per `component` the mean `offset` and `spread` of cycled − original in standard deviations of the
            component, and the share of variance that it has `explained`.
        class_names: the run's classes, which fix the colours.
        most: most samples per class that are drawn.
    """
    colours = class_colours(class_names)
    pairs = [(1, 2), (3, 4)] if len(set(table["component"])) >= 4 else [(1, 2)]
    figure, axes = sheet(WIDE, 3.7, 1, len(pairs) + 1, width_ratios=[1.15] * len(pairs) + [1])
    for axis, (first, second) in zip(axes[0], pairs, strict=False):
        _scatter(axis, table, (first, second), colours, most)
    names = [name for name in class_names if name in set(table["class"])]
    legend = [(colours[name], colours[name], plain(name)) for name in names]
    for face, edge, name in (*legend, ("white", MUTED, "original"), (MUTED, MUTED, "cycled")):
        axes[0, 0].plot([], [], "o", color=face, markeredgecolor=edge, markersize=5, label=name)
    figure.legend(loc="outside upper left", ncols=min(9, len(names) + 2), handletextpad=0.2, columnspacing=1.2)
    _offsets(axes[0, -1], offsets)
    return figure


def _scatter(axis: Axes, table: pd.DataFrame, pair: tuple[int, int], colours: Mapping[str, str], most: int) -> None:
    for name, rows in table.groupby("class", sort=False):
        wide = rows.pivot(index="sample_index", columns="component", values=["original", "cycled"])
        points = np.stack([np.asarray(wide[kind][list(pair)]) for kind in ("original", "cycled")], axis=1)[:most]
        colour = colours[str(name)]
        axis.add_collection(LineCollection(list(points), colors=colour, linewidths=0.7, alpha=0.55))
        axis.plot(*points[:, 0].T, "o", markersize=3.4, color="white", markeredgecolor=colour, markeredgewidth=0.8)
        axis.plot(*points[:, 1].T, "o", markersize=3.4, color=colour, markeredgewidth=0)
    axis.set(xlabel=f"component {pair[0]} of W", ylabel=f"component {pair[1]} of W")


def _offsets(axis: Axes, offsets: pd.DataFrame) -> None:
    at, style = range(len(offsets)), {"color": PAIRING["cycle"], "markersize": 5, "elinewidth": 1.8}
    axis.axvline(0, color=MUTED, linewidth=0.8)
    axis.errorbar(offsets["offset"], at, xerr=offsets["spread"], fmt="o", **style)
    names = [f"{int(row['component'])}  ({100 * row['explained']:.0f} %)" for row in records(offsets)]
    axis.set_yticks(at, names)
    axis.tick_params(axis="y", length=0, labelcolor=INK)
    axis.invert_yaxis()
    most = max(1.0, 1.1 * float(np.max(np.abs(offsets["offset"]) + offsets["spread"])))
    axis.set(xlim=(-most, most), xlabel="cycled − original, in standard deviations")
    axis.set_ylabel("component (variance explained)")
    light_grid(axis)


def distances(samples: pd.DataFrame, units: Mapping[str, str]) -> Figure:
    """A panel per metric with a half-eye per pairing; the ratio of the cycle's mean to each baseline is written.

    Args:
        samples: long table with the columns `metric`, `pairing` (`cycle`, `within-class`, `random`) and `value`.
        units: metric to what is measured, for its axis.
    """
    metrics = split(samples, "metric")
    columns = 2 if len(metrics) == 4 else min(3, len(metrics))
    figure, panels = facets(metrics, columns, 2.15, 0.25, least=columns)
    for at, (axis, metric) in enumerate(panels):
        _panel(axis, metrics[metric], metric, units[metric])
        axis.tick_params(labelleft=at % columns == 0)
    return figure


def _panel(axis: Axes, samples: pd.DataFrame, metric: str, unit: str) -> None:
    values = {pairing: column(where(samples, pairing=pairing), "value") for pairing in reversed(PAIRINGS)}
    values = {pairing: distances for pairing, distances in values.items() if len(distances)}
    pooled = np.concatenate(list(values.values()))
    log = wants_log(pooled)
    for at, (pairing, distances) in enumerate(values.items()):
        eye(axis, distances, at, PAIRING[pairing], log=log)
        if pairing != "cycle" and "cycle" in values and distances.mean() != 0:
            text = f"cycle is\n{times(values['cycle'].mean() / distances.mean())}"
            style = {"ha": "left", "va": "center", "size": 8.5, "color": MUTED}
            axis.text(1.01, at + 0.25, text, transform=axis.get_yaxis_transform(), **style)
    low, high = np.quantile(pooled, [0.005, 0.995])
    axis.set_xscale("log" if log else "linear")
    axis.set_xlim((low / 1.2, high * 1.6) if log else (min(0.0, low), high * 1.12 if high > 0 else 1.0))
    names_up(axis, [PAIRINGS[pairing] for pairing in reversed(values)], 0.35, 0.9, grid=False)
    axis.set_title(plain(metric_label(metric)))
    axis.set_xlabel(plain(unit) + (" (log)" if log else ""))


def class_shares(shares: Mapping[str, pd.DataFrame], class_names: list[str]) -> Figure:
    """A panel per share (class kept, accepted samples), a row per class.

    Args:
        shares: panel title to a table with `class`, `share`, `low`, `high`; a class `all` is drawn as a line.
        class_names: rows from top to bottom, which also fix the colours.
    """
    width = WIDE if len(shares) > 1 else HALF
    figure, axes = sheet(width, 0.9 + 0.26 * len(class_names), 1, len(shares), sharey=True)
    for axis, (title, table) in zip(axes[0], shares.items(), strict=True):
        _shares(axis, table, class_names, title)
    names_down(axes[0, 0], [plain(name) for name in class_names], axes[0, 1:])
    return figure


def _shares(axis: Axes, table: pd.DataFrame, class_names: list[str], title: str) -> None:
    colours = class_colours(class_names)
    for row in records(where(table, **{"class": "all"})):
        axis.axvline(row["share"], color=MUTED, linewidth=1, linestyle=DASHED)
    for at, row in ((class_names.index(row["class"]), row) for row in records(table) if row["class"] in colours):
        dot(axis, row["share"], row["low"], row["high"], at, colours[row["class"]])
        note(axis, f"{100 * row['share']:.0f}", (row["share"], at), (0, 6), color=INK)
    lowest = np.nanmin([column(table, "share").min(), *column(table, "low")])
    axis.set_xlim(min(0.6, 0.2 * (lowest // 0.2)), 1.02)
    axis.xaxis.set_major_formatter(PERCENT)
    axis.set_title(title)
