"""What tuned units change, label by label and measure by measure (paper §4.3; Fig. 4A)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lis.report.arrival import along
from lis.report.claims import callable_units, too_few, undecided, without_claims
from lis.report.marks import dot, facets, heat, matrix, names_down, symmetric
from lis.report.pictures import HOW_TO_READ, pictured
from lis.report.section import Picture, Section, Table, crossed, folded, metrics, prefixed, section
from lis.report.source import Source, colours, label_names
from lis.report.style import HALF, INK, MUTED, plain, sheet
from lis.report.tables import column, known, mean, mean_by, records, split, where
from lis.report.wording import CHANGES, changed, counted, listing, number, probability, sentences, share, words
from lis.statistics import SIGNIFICANT
from lis.store import Artifact

_TITLE = "What units change"
_HEAD = 3
"""Units per cell of the table."""
_FIRST = 5
"""Units per panel of the figure."""
_NOTHING = (
    "No label is seen well enough to be interpreted: each covers less than 0.12 % of the frame on average, or its "
    "change is nowhere defined. Label larger parts, or more images."
)
_TRAJECTORIES = "The labels that one unit changes most, for each measure, each with that unit. " + HOW_TO_READ
_RANKING = (
    "The first {} units of each label's ranking by area: mean log₂ ratio over the samples that have the label (1: "
    "twice as large, −1: half as large) with its 95 % bootstrap interval."
)
_FILLED = "Filled: larger than a random mixture of units (q ≤ 0.05 over all units, labels and measures); open: not."
_OPEN = "Open: none is larger than a random mixture of units (q ≤ 0.05 over all units, labels and measures)."
_GREY = "Grey: not reached, the unit itself does not move more than by chance, and no meaning is read from it."
_UNDECIDED = "Whether any unit changes a part beyond chance is undecided"
_MIXTURE = (
    "Control: {} and their opposites move w by {} of what units do ({} within classes; 1: as far). They test whether a "
    "unit does more than a random mixture of units, not whether it does anything. "
)
_DRAWN = (
    "Random directions are tuned once each at {} to either side of {} and read where w of every unit and sample begins "
    "and ends. In {} of samples w stops before, and goes further in others of the class. "
)
_SHORT = "Beside {} of {}, which go farthest, they go less than 0.95 times as far, so that these are called too often. "
_LINEAR = ("lr", "ridge")
_NOT_CALIBRATED = (
    "That directions which are treated as units are called as rarely as they should be was measured of linear links "
    "along link and pattern, and not of this. "
)
_COUNTED = "So many count a p down to {}"
_TAIL = "; smaller ones are those of a tail fitted to the largest fifth of them, where that is light enough: {}."
_ONLY_COUNTED = " and no further: in no family of tests is their tail light enough to be extrapolated."
_NO_TAIL = "So few count a p down to {} and no further."


@section(330, "unit_statistics", "ranking", "heads", parts=True)
def tuned_units(source: Source) -> Section:
    """Rankings of units, pictures of the first ones, and their table."""
    table = without_claims(source, known(source.table("unit_statistics", "ranking"), "change"))
    if where(table, interpreted=True).empty:
        finding = "No label is seen well enough to say what units change"
        return Section(_TITLE, sentences(_NOTHING, too_few(source)), finding=finding)
    figures = pictured(source, "measures", "unit-trajectories", _TRAJECTORIES)
    first = min(_FIRST, source.facts.settings["unit_statistics.top"])
    if len(area := where(table, measure="area")):
        left = _left(source.table("unit_statistics", "heads"))
        drawn, data = ranking(area, colours(source), first), pd.DataFrame(area[area["rank"] <= first])
        caption = sentences(_RANKING.format(first), left, _marks(data) * callable_units(source))
        figures.append(Picture("unit-ranking", drawn, caption, data=data, alt=_alt(area)))
    lead = sentences(_lead(table, undecided(source, "larger")), too_few(source))
    notes = [_control(source)] if callable_units(source) else []
    finding = _finding(table) if callable_units(source, family="larger") else _UNDECIDED
    return Section(_TITLE, lead, figures, folded(_table(source, table)), notes, finding)


def _finding(table: pd.DataFrame) -> str:
    """How many units change an interpreted label more than random directions."""
    units, count = (len(set(rows["unit"])) for rows in (table, where(table, interpreted=True, larger=True)))
    if not count:
        return f"None of {counted(units, 'unit')} changes a part more than random directions (q ≤ {SIGNIFICANT})"
    verb = "change" if count > 1 else "changes"
    return f"{count:,} of {counted(units, 'unit')} {verb} a part more than random directions (q ≤ {SIGNIFICANT})"


def _marks(drawn: pd.DataFrame) -> str:
    """How the units that are drawn are marked: their fill, and the grey where any is not reached."""
    return sentences(_FILLED if np.any(drawn["larger"]) else _OPEN, _GREY * (not np.all(drawn["reached"])))


def _alt(area: pd.DataFrame) -> str:
    """The first unit of every label."""
    rows = records(where(area, rank=1))
    told = [f"{words(row['label'])} by unit {row['unit']}, {changed('area', row['change'])}" for row in rows]
    return f"The largest mean change of area of each label: {listing(told)}."


def head_shares(table: pd.DataFrame) -> pd.DataFrame:
    """Of "heads": label, measure, and share, the size on samples that did not choose over that on those that did."""
    table = pd.DataFrame(table[table["chosen"] > 0])
    return pd.DataFrame(table[["label", "measure"]]).assign(share=table["crossfit"] / table["chosen"])


def _left(heads: pd.DataFrame) -> str:
    """How much of the size of a head is left on samples that did not choose it, measure by measure."""
    by_measure = split(head_shares(heads), "measure")
    if not by_measure:
        return ""
    told = listing([f"{share(mean(rows, 'share'))} for {measure}" for measure, rows in by_measure.items()])
    return f"They are chosen for their size: on samples that did not choose, {told} is left of it (means over labels)."


@metrics("unit_statistics")
def head_numbers(artifact: Artifact) -> dict[str, float]:
    """`units/head_kept`: what is left of a head's size on other samples, mean over interpreted labels and measures."""
    return prefixed("units", {"head_kept": mean(head_shares(artifact.table("heads")), "share")})


@metrics("unit_statistics")
def control_numbers(artifact: Artifact) -> dict[str, float]:
    """`units/control_length`: how far random directions move w over how far units do, a mean; none without any."""
    return prefixed("units", {"control_length": artifact.json("control").get("length_ratio")})


def _control(source: Source) -> str:
    """What random directions test, how many there are, and how far they go."""
    facts = source.json("unit_statistics", "control")
    went = (number(facts["length_ratio"], 2), _range(facts["class_ratio"].values()))
    units = counted(len(source.table("unit_statistics", "faithfulness")), "unit")
    told = _MIXTURE.format(counted(facts["directions"], "random direction"), *went)
    short = _SHORT.format(facts["short"], units) if facts["short"] and _any_called(source) else ""
    return (told + short + _calibrated(source)).rstrip()


def _any_called(source: Source) -> bool:
    """Whether any unit is called larger, selective or relevant."""
    tables = {"ranking": "larger", "faithfulness": "selective", "relevance": "larger"}
    artifact = source.artifacts["unit_statistics"]
    return any(bool(np.any(artifact.table(table)[column])) for table, column in tables.items() if artifact.has(table))


def _drawn(source: Source) -> str:
    """How random directions are tuned, and what resolution of p that gives; nothing where none can be called."""
    if not callable_units(source):
        return ""
    facts = source.json("unit_statistics", "control")
    counts = (counted(facts["lengths"], "length"), counted(facts["samples"], "sample"))
    told = _DRAWN.format(*counts, share(facts["clipped"]))
    return told + _resolution(facts["smallest"], facts["tails"])


def _range(ratios: Collection[float]) -> str:
    """From the smallest to the largest."""
    low, high = number(min(ratios), 2), number(max(ratios), 2)
    return low if low == high else f"{low} to {high}"


def _calibrated(source: Source) -> str:
    """That nobody measured the null, where nobody did."""
    return _NOT_CALIBRATED if along(source) == "closed" or source.facts.link not in _LINEAR else ""


def _resolution(smallest: float, tails: Mapping[str, Mapping[str, Any]]) -> str:
    """How small a p can be, by how many columns of each family of tests have a tail that is fitted."""
    if all("largest" not in tail for tail in tails.values()):
        return _NO_TAIL.format(probability(smallest))
    fitted = [f"{share(1 - tail['counted'])} of {name}" for name, tail in tails.items() if tail["counted"] < 1]
    kinds = _TAIL.format(listing(fitted)) if fitted else _ONLY_COUNTED
    return _COUNTED.format(probability(smallest)) + kinds


def _lead(table: pd.DataFrame, undecided: str) -> str:
    """How many units, how many are reached, the largest change of area, and how many changes stand out of chance."""
    seen, units = where(table, interpreted=True), table.drop_duplicates("unit")
    lead = f"{counted(len(units), 'unit')} went from the smallest to the largest activation"
    if len(column(table, "p_control")):
        lead += f", and {int(np.sum(units['reached']))} of them are reached"
    lead += "."
    first = where(seen, measure="area", rank=1)
    for top in records(first.assign(size=np.abs(first["change"])).nlargest(1, columns="size")):
        by = changed("area", top["change"])
        lead += f" Unit {top['unit']} changes the area of a label most: {words(top['label'])} by {by} on average."
    if not len(column(seen, "q")):
        return lead
    by_chance = share(float((column(seen, "p_control") <= SIGNIFICANT).mean()))
    random, larger = "those of random directions", share(mean(known(seen, "q"), "larger"))
    called = "" if undecided else f"{larger} are larger than {random} (q ≤ 0.05, and reached); "
    beyond = f"{by_chance} lie beyond 95 % of {'them' if called else random}, where chance alone would give 5 %."
    return sentences(lead, undecided, f"Of all changes of a label by a unit, {called}{beyond}")


def _table(source: Source, table: pd.DataFrame) -> Table:
    """A row per label: the first units of each measure, bold where the first is beyond random directions."""
    seen = set(where(table, interpreted=True)["label"])
    remarks = dict.fromkeys(table["label"], " (too small)") | dict.fromkeys(seen, "")

    def ranked(label: str, measure: str) -> pd.DataFrame:
        return where(table, label=label, measure=measure)

    larger = "; bold where it is larger than a random mixture of units (q ≤ 0.05, and the unit is reached)"
    caption = (
        f"The first {_HEAD} units of each ranking, with the mean change by the first{larger * callable_units(source)}. "
        "Areas are means of their log₂ ratio, angles those of axes, ranked by them times their resultant length R (1: "
        "all samples turn alike); where R is not beyond chance (Rayleigh's test, p > 0.05) there is no angle. In "
        "brackets also in how many of the samples the measure is known at both ends (15/20), where it is not in all. "
        "Every unit, with intervals: tables/unit_statistics/ranking.parquet. "
    ) + _drawn(source)
    return crossed(
        caption,
        label_names(source),
        dict.fromkeys(table["measure"]),
        lambda label, measure: _cell(ranked(label, measure)),
        corner="label",
        name=lambda label: words(label) + remarks.get(label, " (never seen)"),
        bold=lambda *cell: bool(where(ranked(*cell), rank=1)["larger"].any()),
    )


def _cell(ranked: pd.DataFrame) -> str:
    """The first units, with the first one's change, and what that rests on."""
    head = records(ranked.nsmallest(_HEAD, columns="rank"))
    if not head:
        return "–"
    row, facts = head[0], [changed(head[0]["measure"], head[0]["change"])]
    if row["measure"] == "angle":
        facts.append(f"R {number(row['resultant'], 2)}")
    if row["n"] < row["samples"]:
        facts.append(f"{int(row['n'])}/{int(row['samples'])}")
    return ", ".join([f"{row['unit']} ({', '.join(facts)})", *(str(row["unit"]) for row in head[1:])])


def ranking(table: pd.DataFrame, colours: Mapping[str, str], most: int = _FIRST) -> Figure:
    """A panel per label with the units that change one measure most: mean over samples and its interval.

    Args:
        table: rows of "ranking" of one measure: unit, label, measure, change, rank, low, high, larger,
            reached, interpreted.
        colours: of the labels, in the order of the panels.
        most: units per panel.
    """
    labels = [label for label in colours if label in set(table["label"])]
    length = min(most, int(np.max(table["rank"])))
    x = CHANGES[str(table["measure"].iloc[0])]
    figure, panels = facets(labels, 5, 0.5 + 0.14 * length, 0.45, x=x, y="unit")
    for axis, label in panels:
        _ranked(axis, where(table, label=label).nsmallest(most, columns="rank"), colours[label])
        axis.set_ylim(length - 0.5, -0.5)
    return figure


def _ranked(axis: Axes, table: pd.DataFrame, colour: str) -> None:
    axis.axvline(0, color=MUTED, linewidth=0.8)
    rows = records(table)
    for at, row in enumerate(rows):
        ink = colour if row["reached"] else MUTED
        dot(axis, row["change"], row["low"], row["high"], at, ink, filled=bool(row["larger"]))
    names_down(axis, [str(row["unit"]) for row in rows])
    axis.tick_params(axis="y", labelsize=8)
    for tick, row in zip(axis.get_yticklabels(), rows, strict=True):
        tick.set_color(INK if row["reached"] else MUTED)
    seen = all(row["interpreted"] for row in rows)
    axis.set_title(plain(rows[0]["label"]) + ("" if seen else " (too small)"), color=colour if seen else MUTED)
    axis.locator_params(axis="x", nbins=4)


def overlap(table: pd.DataFrame, measures: Sequence[str], top: int) -> Figure:
    """How many of the first `top` units two measures share, as a mean over labels.

    Args:
        table: "overlap": label, measure_a, measure_b, overlap, each pair once or twice.
        measures: rows and columns.
        top: units at the head of each ranking.
    """
    means = mean_by(table, ["measure_a", "measure_b"], "overlap")
    values = symmetric(matrix(means, ("measure_a", measures), ("measure_b", measures), "overlap"))
    figure, axes = sheet(HALF, 0.7 + 0.36 * len(measures))
    heat(axes[0, 0], values, measures, measures, (0, top), lambda value: f"{value:.1f}")
    return figure
