"""What single units do to the classifier's answer (paper §4.4; Fig. 6; supplement Fig. S16, S23)."""

from __future__ import annotations

from collections import Counter

import pandas as pd

from lis.report.figures.relevance import correlation, over_samples, upset
from lis.report.figures.relevance import relevance as relevance_figure
from lis.report.frames import apart, known, largest, records, split, where
from lis.report.labels import listing, number, sentences, share, signed, words
from lis.report.sections import Picture, Section, Table, listed, metrics, section
from lis.report.sections.pictures import pictured
from lis.report.source import Source
from lis.store import Artifact

_TITLE = "Class relevance"
_PANELS = 6
"""Units whose samples are shown."""
_DISTRIBUTION = (
    "Units by the mean change of the probability that the classifier gives to a sample's own class, from their "
    "smallest to their largest activation. Above each line the density of units, grey that of random directions; "
    "below it every unit, large where it is relevant (beyond the dashed lines, {}), the most relevant with its "
    "number."
)
_SETS = (
    "Units that are relevant for exactly the classes marked below each bar. Left: all relevant units of a class; a "
    "class without any is robust."
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


@section(360, "units", "relevance", "relevance_null", "robustness")
def class_relevance(source: Source) -> Section:
    """Distributions, shared units, correlations, pictures, and how robust each class is."""
    table, names = known(source.table("units", "relevance"), "change"), source.facts.class_names
    if table.empty:
        return Section(_TITLE, "No unit was tuned on any sample, so that no answer changed.")
    threshold = float(source.facts.settings["units.relevant"])
    drawn = relevance_figure(table, source.table("units", "relevance_null"), names, threshold)
    figures = [Picture("relevance", drawn, _DISTRIBUTION.format(number(threshold, 2)))]
    sets = {name: set(where(table, **{"class": name}, relevant=True)["unit"]) for name in names}
    if any(sets.values()) and len(names) > 1:
        figures.append(Picture("relevant-units", upset(sets), _SETS))
    figures += [*_correlation(source), *_pictures(source, any(sets.values())), *_samples(source, table)]
    return Section(_TITLE, _lead(table, sets, threshold), figures, [_table(source)])


def _correlation(source: Source) -> list[Picture]:
    """Fig. 6C, where there are two classes or more whose changes vary."""
    names = source.facts.class_names
    if not source.has("units", "relevance_correlation") or len(names) < 2:
        return []
    table = source.table("units", "relevance_correlation")
    if known(apart(table), "r").empty:
        return []
    return [Picture("relevance-correlation", correlation(table, names), _CORRELATION)]


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
    if not source.has("units", "relevance_seeds"):
        return []
    samples = split(known(source.table("units", "relevance_seeds"), "change"), "unit")
    order = dict.fromkeys(table.sort_values("relevance", ascending=False, kind="stable")["unit"])
    first = [samples[unit] for unit in order if unit in samples][:_PANELS]
    if not first:
        return []
    return [Picture("relevance-samples", over_samples(pd.concat(first), source.facts.class_names), _SAMPLES)]


def _lead(table: pd.DataFrame, sets: dict[str, set[int]], threshold: float) -> str:
    """How many units matter, how many for several classes, and which classes are robust."""
    relevant, limit, top = set().union(*sets.values()), number(threshold, 2), largest(table, "relevance")
    if not relevant:
        return (
            f"No single unit changes the probability of a class by {limit} or more on average: every class is robust. "
            f"The largest change is that of unit {top['unit']}, {signed(top['change'])} for {words(top['class'])}."
        )
    robust = [words(name) for name, units in sets.items() if not units]
    tuned, several = len(set(table["unit"])), f", {_several(sets)}" if len(sets) > 1 else ""
    return sentences(
        f"{len(relevant):,} of {tuned:,} units change the probability of a class by {limit} or more on average"
        f"{several}.",
        f"No unit is relevant for {listing(robust)}." if robust else "",
        f"The largest change is that of unit {top['unit']} for {words(top['class'])}, {signed(top['change'])}, where "
        f"the answer flips for {share(top['flipped'])} of the samples.",
    )


def _several(sets: dict[str, set[int]]) -> str:
    """How many units are relevant for more than one class."""
    counts = Counter(unit for units in sets.values() for unit in units).values()
    several, most = sum(n > 1 for n in counts), f" and at most for {max(counts)} of {len(sets)}"
    return f"{several:,} of them for more than one class{most if several else ''}"


def _table(source: Source) -> Table:
    """How robust each class is."""
    columns = {
        "": lambda row: words(row["class"]),
        "mean": lambda row: number(row["mean"], 2),
        "median": lambda row: number(row["median"], 2),
        "relevant units": lambda row: f"{int(row['relevant'])}",
        "answer flips": lambda row: share(row["flipped"]),
    }
    caption = (
        "Relevance over all units: mean and median |mean change of the probability|, relevant units, and the share of "
        "all (unit, sample) pairs in which the answer flips."
    )
    return listed(caption, records(source.table("units", "robustness")), columns)


@metrics("units")
def relevance_numbers(artifact: Artifact) -> dict[str, float]:
    """`units/relevant/<class>`: on how many units a class rests."""
    return {f"units/relevant/{row['class']}": row["relevant"] for row in records(artifact.table("robustness"))}
