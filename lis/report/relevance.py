"""What single units do to the classifier's answer (paper §4.4; Fig. 6; supplement Fig. S16, S23)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lis.report import marks
from lis.report.claims import callable_units, too_few, undecided
from lis.report.marks import TWO_SIDED, heat, matrix, symmetric
from lis.report.pictures import pictured
from lis.report.section import Picture, Section, Table, folded, listed, metrics, section
from lis.report.source import Source
from lis.report.style import HALF, INK, MUTED, RULE, WIDE, class_colours, plain, sheet
from lis.report.tables import apart, column, ends, known, largest, mean, records, split, where
from lis.report.wording import counted, listing, number, sentences, share, signed, words
from lis.statistics import SIGNIFICANT
from lis.store import Artifact

_TITLE = "Class relevance"
_PANELS = 6
"""Units whose samples are shown."""
_DISTRIBUTION = (
    "Units by the mean change of the probability that the classifier gives to a sample's own class, from their "
    "smallest to their largest activation. Above each line the density of units, grey that of random directions; "
    "below it every unit, large where it is relevant (beyond the dashed lines, {}), the most relevant with its "
    "number{}."
)
_FILLED = "; filled where it does more than a random mixture of units (q ≤ 0.05 over units and classes) and is reached"
_SETS = (
    "Units that are relevant for exactly the classes marked below each bar, by the size of their effect alone, whether "
    "they are reached or not. Left: all relevant units of a class; a class without any is robust."
)
_CORRELATION = "Pearson's r over units between the mean changes of two classes' probabilities."
_ANSWER = (
    "From left to right a unit goes from its smallest to its largest activation. Corner: probability of the sample's "
    "class; the curve is its change, with open dots where the answer is another than at the left. The sample is the "
    "one whose change is nearest to the mean of its class."
)
_SAMPLES = (
    "The most relevant units, sample by sample: a dot is one sample's change of the probability of its class, circles "
    "are means. A wide row means that a unit matters for some samples only."
)
_MOST = 14
"""Intersections that a set diagram shows."""


@section(360, "unit_statistics", "relevance", "relevance_control", "robustness")
def class_relevance(source: Source) -> Section:
    """Distributions, shared units, correlations, pictures, and how robust each class is."""
    table, names = known(source.table("unit_statistics", "relevance"), "change"), source.facts.class_names
    if table.empty:
        nothing = "No unit was tuned on any sample, so that no answer changed."
        return Section(_TITLE, nothing, finding="No unit was tuned: no answer changed")
    threshold = float(source.facts.settings["unit_statistics.relevant"])
    drawn = relevance_figure(table, source.table("unit_statistics", "relevance_control"), names, threshold)
    called = callable_units(source, family="relevant")
    filled = called and bool(table["larger"].any())
    caption = _DISTRIBUTION.format(number(threshold, 2), _FILLED * filled)
    sets = {name: set(where(table, **{"class": name}, relevant=True)["unit"]) for name in names}
    figures = [Picture("relevance", drawn, caption, data=table, alt=_per_class("Relevant units of each class", sets))]
    figures += folded(*_shared_units(sets), *_correlation(source), *_samples(source, table))
    figures += folded(*_pictures(source, any(sets.values())))
    few = too_few(source) * source.facts.partless
    lead = sentences(_lead(table, sets, threshold, called), few, undecided(source, "relevant"))
    return Section(_TITLE, lead, figures, folded(_table(source)), finding=_finding(table, threshold, called))


def _finding(table: pd.DataFrame, threshold: float, called: bool) -> str:
    """How many units matter for an answer beyond random directions, where that could be decided."""
    limit = number(threshold, 2)
    if where(table, relevant=True).empty:
        return f"No single unit changes a class's probability by {limit} or more on average"
    if not called:
        return "Whether any unit changes an answer beyond chance is undecided"
    if not (count := _larger(table)):
        return f"No unit changes an answer more than random directions do (q ≤ {SIGNIFICANT})"
    told = f"{count:,} of {counted(len(set(table['unit'])), 'unit')} {'change' if count > 1 else 'changes'} an answer"
    return f"{told} more than random directions (q ≤ {SIGNIFICANT})"


def _per_class(what: str, sets: dict[str, set[int]]) -> str:
    return f"{what}: {listing([f'{words(name)} {len(units)}' for name, units in sets.items()])}."


def _shared_units(sets: dict[str, set[int]]) -> list[Picture]:
    """Fig. 6B, where there are several classes, and any unit is relevant."""
    if not any(sets.values()) or len(sets) < 2:
        return []
    groups = combinations(sets)
    rows = [{"classes": ", ".join(x for x in sets if x in names), "units": len(units)} for names, units in groups]
    names, units = groups[0]
    told = listing([words(name) for name in sets if name in names])
    alt = f"The largest group, of {counted(len(units), 'unit')}, is relevant for {told} and for no other class."
    return [Picture("relevant-units", upset(sets), _SETS, data=pd.DataFrame(rows), alt=alt)]


def _correlation(source: Source) -> list[Picture]:
    """Fig. 6C, where there are two classes or more whose changes vary."""
    names = source.facts.class_names
    if not source.has("unit_statistics", "relevance_correlation") or len(names) < 2:
        return []
    table = source.table("unit_statistics", "relevance_correlation")
    if (pairs := known(apart(table), "r")).empty:
        return []
    low, high = (signed(row["r"]) for row in ends(pairs, "r"))
    alt = f"Correlations of two classes lie between {low} and {high}."
    return [Picture("relevance-correlation", correlation(table, names), _CORRELATION, data=table, alt=alt)]


def _pictures(source: Source, any_relevant: bool) -> list[Picture]:
    """Fig. 6D, and the most relevant units."""
    which = "that is relevant for most classes" if any_relevant else "with the largest mean relevance"
    captions = {
        "shared": f"The unit {which}, on a sample of each class. {_ANSWER}",
        "relevant": f"The most relevant units, each on a sample of the class that it moves most. {_ANSWER}",
    }
    return [x for name, caption in captions.items() for x in pictured(source, name, f"unit-{name}", caption)]


def _samples(source: Source, table: pd.DataFrame) -> list[Picture]:
    """Fig. S16."""
    if not source.has("unit_statistics", "relevance_seeds"):
        return []
    samples = split(known(source.table("unit_statistics", "relevance_seeds"), "change"), "unit")
    order = dict.fromkeys(table.sort_values("relevance", ascending=False, kind="stable")["unit"])
    first = [samples[unit] for unit in order if unit in samples][:_PANELS]
    if not first:
        return []
    data = pd.concat(first)
    low, high = (signed(row["change"]) for row in ends(data, "change"))
    alt = f"Single samples of {len(first)} units change between {low} and {high}."
    return [Picture("relevance-samples", over_samples(data, source.facts.class_names), _SAMPLES, data=data, alt=alt)]


def _lead(table: pd.DataFrame, sets: dict[str, set[int]], threshold: float, called: bool) -> str:
    """How many units matter, how many for several classes, and which classes are robust."""
    relevant, limit, top = set().union(*sets.values()), number(threshold, 2), largest(table, "relevance")
    if not relevant:
        return (
            f"No single unit changes the probability of a class by {limit} or more on average: every class is robust "
            f"to single units at this threshold. The largest change is that of unit {top['unit']}, "
            f"{signed(top['change'])} for {words(top['class'])}."
        )
    robust = [words(name) for name, units in sets.items() if not units]
    several = ""
    if len(sets) > 1:
        counts = Counter(unit for units in sets.values() for unit in units).values()
        several = f", {sum(n > 1 for n in counts):,} of them for more than one class"
        several += f" and at most for {max(counts)} of {len(sets)}" * (max(counts) > 1)
    larger = (
        f"{_larger(table):,} of the relevant units do more than a random mixture of units (q ≤ 0.05) and are reached."
    )
    return sentences(
        f"{len(relevant):,} of {len(set(table['unit'])):,} units change the probability of a class by {limit} or more "
        f"on average{several}{_by_chance(table)}.",
        larger * called,
        f"No unit is relevant for {listing(robust)}." if robust else "",
        f"The largest change is that of unit {top['unit']} for {words(top['class'])}, {signed(top['change'])}, where "
        f"the answer flips for {share(top['flipped'])} of the samples.",
    )


def _by_chance(table: pd.DataFrame) -> str:
    """How many random directions are relevant, where there are any."""
    if not len(column(table, "control")):
        return ""
    beside = (share(mean(table, name)) for name in ("control", "relevant"))
    return "; by chance, as random directions that move w as far do: {} of units and classes, beside {}".format(*beside)


def _larger(table: pd.DataFrame) -> int:
    """How many of the relevant units are so beyond random directions."""
    return len(set(where(table, relevant=True, larger=True)["unit"]))


def _table(source: Source) -> Table:
    """How robust each class is."""
    columns = {
        "": lambda row: words(row["class"]),
        "mean": lambda row: number(row["mean"], 2),
        "median": lambda row: number(row["median"], 2),
        "relevant units": lambda row: f"{int(row['relevant'])}",
        "of these beyond random mixtures": lambda row: f"{int(row['larger'])}",
        "relevant random directions": lambda row: share(row["control"]),
        "answer flips": lambda row: share(row["flipped"]),
    }
    larger = "how many of them do more than random mixtures of units (q ≤ 0.05, and reached), "
    if not callable_units(source, family="relevant"):
        del columns["of these beyond random mixtures"]
        larger = ""
    caption = (
        f"Relevance over all units: mean and median |mean change of the probability|, relevant units, {larger}"
        "the share of random directions that move w as far and are relevant, and the "
        "share of all (unit, sample) pairs in which the answer flips."
    )
    return listed(caption, records(source.table("unit_statistics", "robustness")), columns)


@metrics("unit_statistics")
def relevance_numbers(artifact: Artifact) -> dict[str, float]:
    """`unit_statistics/relevant/<class>`: on how many units a class rests."""
    return {
        f"unit_statistics/relevant/{row['class']}": row["relevant"] for row in records(artifact.table("robustness"))
    }


def relevance_figure(
    table: pd.DataFrame, control: pd.DataFrame, class_names: Sequence[str], threshold: float
) -> Figure:
    """A row per class: units by the mean change of the class's probability, their density, and that of the control.

    Args:
        table: "relevance": unit, class, change, relevance, relevant, larger.
        control: "relevance_control": class, change, of random directions.
        class_names: rows from top to bottom, which also fix the colours.
        threshold: from this change on (either sign) a unit is relevant.
    """
    figure, axes = sheet(WIDE, 0.75 + 0.62 * len(class_names))
    axis, colours = axes[0, 0], class_colours(class_names)
    widest = float(np.max([threshold, *column(table, "relevance")]))
    for at, name in enumerate(reversed(class_names)):
        units, random = (where(rows, **{"class": name}) for rows in (table, control))
        _units(axis, units, at, colours[name])
        marks.control_density(axis, column(random, "change"), at, 0.55)
        count = int(np.sum(units["relevant"]))
        axis.text(1.26 * widest, at + 0.05, f"{count} relevant", ha="right", size=8.5, color=INK if count else MUTED)
    for bound in (-threshold, threshold):
        axis.axvline(bound, color=INK, linewidth=0.8, linestyle=marks.DASHED)
    axis.axvline(0, color=RULE, linewidth=0.8)
    marks.names_up(axis, [plain(name) for name in class_names], 0.4, 0.7, grid=False)
    axis.set(xlim=(-1.1 * widest, 1.28 * widest), xlabel="mean change of the probability of a sample's own class")
    if len(control):
        marks.name_control(figure, axis)
    return figure


def _units(axis: Axes, table: pd.DataFrame, at: int, colour: str) -> None:
    """Density above the line, every unit as a dot below it, and the number of the most relevant one."""
    position, height = marks.density(column(table, "change"))
    axis.fill_between(position, at, at + 0.55 * height, color=colour, alpha=0.75, linewidth=0)
    table = table.assign(y=at - 0.13 + marks.jitter(len(table), 0.07))
    relevant, others = (where(table, relevant=value) for value in (True, False))
    marks.dots(axis, others["change"], others["y"], colour, 2.2, 0.4)
    for larger, face, edge in ((False, "white", colour), (True, colour, "white")):
        rows = where(relevant, larger=larger)
        axis.plot(rows["change"], rows["y"], "o", color=face, markersize=5, markeredgecolor=edge)
    if len(relevant):
        top = largest(relevant, "relevance")
        right = top["change"] > 0
        offset, side = ((7, 0), "left") if right else ((-7, 0), "right")
        marks.note(axis, f"{top['unit']}", (top["change"], top["y"]), offset, ha=side, va="center")


def upset(sets: Mapping[str, set[int]]) -> Figure:
    """How many units are relevant for exactly which classes: a column per combination, the largest first.

    Args:
        sets: class to the units that are relevant for it, in the order that fixes the colours; at least one has any.
    """
    names, result = list(sets), combinations(sets)
    columns = result[:_MOST]
    ratios = {"width_ratios": [1.0, max(2.0, 0.42 * len(columns))], "height_ratios": [1.5, 0.26 * len(names)]}
    width = min(WIDE, 3.6 + 0.42 * max(len(columns), 5))
    figure, axes = sheet(width, 2.2 + 0.27 * len(names), 2, 2, gridspec_kw=ratios)
    axes[0, 0].set_visible(False)
    _counts(axes[0, 1], [len(units) for _, units in columns])
    _members(axes[1, 1], [members for members, _ in columns], names)
    _totals(axes[1, 0], sets)
    if len(result) > len(columns):
        axes[0, 1].set_title(f"{len(columns)} of {len(result)} combinations", weight="normal", size=8.5)
    return figure


def combinations(sets: Mapping[str, set[int]]) -> list[tuple[frozenset[str], set[int]]]:
    """Elements by exactly which sets they are in, the most frequent combination first.

    Example:
        >>> [(sorted(names), sorted(units)) for names, units in combinations({"a": {1, 2, 3}, "b": {3}})]
        [(['a'], [1, 2]), (['a', 'b'], [3])]
    """
    result: dict[frozenset[str], set[int]] = {}
    for unit in sorted(set().union(*sets.values())):
        result.setdefault(frozenset(name for name, units in sets.items() if unit in units), set()).add(unit)
    return sorted(result.items(), key=lambda item: (-len(item[1]), len(item[0])))


def _counts(axis: Axes, counts: Sequence[int]) -> None:
    axis.bar_label(axis.bar(range(len(counts)), counts, 0.6, color=INK), size=8.5)
    axis.set(xlim=(-0.6, max(len(counts), 5) - 0.4), ylim=(0, 1.18 * max(counts)), xticks=[], ylabel="units")
    axis.spines["bottom"].set_visible(False)
    axis.locator_params(axis="y", integer=True, nbins=4)


def _members(axis: Axes, columns: Sequence[frozenset[str]], names: Sequence[str]) -> None:
    colours = class_colours(names)
    for at, members in enumerate(columns):
        inside = [row for row, name in enumerate(names) if name in members]
        axis.vlines(at, min(inside), max(inside), color=INK, linewidth=1.4)
        for row, name in enumerate(names):
            axis.plot(at, row, "o", markersize=7.5, color=colours[name] if row in inside else RULE, markeredgewidth=0)
    axis.set(xlim=(-0.6, max(len(columns), 5) - 0.4), ylim=(len(names) - 0.5, -0.5), xticks=[], yticks=[])
    axis.spines[:].set_visible(False)


def _totals(axis: Axes, sets: Mapping[str, set[int]]) -> None:
    """Bars to the left of the matrix, names at the far left."""
    counts, colours = [len(units) for units in sets.values()], class_colours(list(sets))
    axis.barh(range(len(sets)), counts, 0.6, color=[colours[name] for name in sets])
    for at, count in enumerate(counts):
        axis.text(count, at, f"{count} " if count else "0 (robust) ", ha="right", va="center", size=8.5)
    axis.set(xlim=(1.45 * max(counts), 0), xticks=[])
    marks.names_down(axis, [plain(name) for name in sets], grid=False)
    axis.spines["bottom"].set_visible(False)


def correlation(table: pd.DataFrame, class_names: Sequence[str]) -> Figure:
    """Pearson's r over units between the changes of two classes' probabilities.

    Args:
        table: "relevance_correlation": class_a, class_b, r.
        class_names: rows and columns.
    """
    values = symmetric(matrix(table, ("class_a", class_names), ("class_b", class_names), "r"))
    width = min(WIDE, max(HALF, 1.3 + 0.72 * len(class_names)))
    figure, axes = sheet(width, 0.75 + 0.42 * len(class_names))
    heat(axes[0, 0], values, class_names, class_names, (-1, 1), signed, TWO_SIDED)
    return figure


def over_samples(table: pd.DataFrame, class_names: Sequence[str]) -> Figure:
    """A panel per unit, a row per class, a dot per sample: the change of the probability of the sample's class.

    Args:
        table: rows of "relevance_seeds": unit, class, change; panels are in its order of units.
        class_names: rows from top to bottom, which also fix the colours.
    """
    units, height = split(table, "unit"), 0.4 + 0.27 * len(class_names)
    x = "change of the probability of a sample's own class"
    figure, panels = marks.facets(units, 3, height, 0.35, x=x, sharex=True, sharey=True)
    for axis, unit in panels:
        axis.axvline(0, color=RULE, linewidth=1)
        for at, (name, colour) in enumerate(class_colours(class_names).items()):
            values = column(where(units[unit], **{"class": name}), "change")
            marks.dots(axis, values, at + marks.jitter(len(values), 0.2), colour, 3.4)
            if len(values):
                marks.circle(axis, values.mean(), at, 6)
        axis.set_title(f"unit {unit}")
    marks.names_down(panels[0][0], [plain(name) for name in class_names], [axis for axis, _ in panels[1:]])
    return figure
