"""What was found of units: how many are reached, what stands out, and which parts carry the classes."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.stats import fisher_exact

from lis.report.claims import callable_units
from lis.report.findings import BY_CHANCE, UNDECIDED, Finding, finding
from lis.report.section import anchor
from lis.report.source import Source
from lis.report.tables import column, known, mean, records, where
from lis.report.wording import changed, counted, listing, number, probability, sentences, share, signed, words
from lis.statistics import SIGNIFICANT, benjamini_hochberg

_REACHED = "How many units are reached?"
_STANDS_OUT = "How many units stand out?"
_CARRY = "Which parts carry the classes?"
_ARE_REACHED = (
    "The image made to move a reached unit moves it in the network, more than images for random directions of R "
    "(mixtures of units) do."
)
_CHANGES = {"larger": "a part", "selective": "mainly one part", "relevant": "the probability of a class"}
"""What a unit that stands out changes, by family of tests."""


@finding(20, "unit_statistics", "faithfulness", "control")
def units_reached(source: Source) -> Finding:
    """How many of the tuned units are reached, and what else moves with them."""
    address = anchor("What arrives")
    if not callable_units(source):
        return Finding(_REACHED, UNDECIDED, _cannot_be_said(source), _random(source), address)
    table = source.table("unit_statistics", "faithfulness")
    units = where(table, reached=True)
    value = f"{len(units):,} of {len(table):,}"
    if units.empty:
        sentence = f"{_ARE_REACHED} None is, so that no meaning is read from any."
        return Finding(_REACHED, value, sentence, f"none has q ≤ 0.05; {_random(source)}", address)
    own, others, random = (number(mean(units, name), 2) for name in ("own", "others", "own_control"))
    sentence = (
        f"{_ARE_REACHED} Reached units move by {own} standard deviations (sd), others meanwhile by {others}; "
        f"{share(mean(units, 'more'))} of the others move more than the unit."
    )
    control = f"random directions move the same units by {random} sd; of the reached {BY_CHANCE}"
    return Finding(_REACHED, value, sentence, control, address)


@finding(30, "unit_statistics", "ranking", "faithfulness", "relevance", "control")
def units_stand_out(source: Source) -> Finding:
    """How many reached units do more than random directions, and the change that is surest."""
    called = units_called(source)
    address = anchor("What units change" if "larger" in called else "Class relevance")
    decided = [name for name in called if callable_units(source, family=name)]
    if not decided:
        return Finding(_STANDS_OUT, UNDECIDED, _cannot_be_said(source), _random(source), address)
    units = set[int]().union(*called.values())
    count, beside = f"{len(units):,} of {_tuned(source):,}", f"{_small_p(source)}; {_random(source)}"
    if not units:
        value = count if decided[0] == next(iter(called)) else UNDECIDED
        sentence = sentences(
            f"No unit changes {_any_of(decided)} more than random directions do.", _open(called, decided)
        )
        return Finding(_STANDS_OUT, value, sentence, f"none has q ≤ 0.05; {beside}", address)
    strongest, parts = _surest(source)
    counts = listing([_count(len(called[name]), _CHANGES[name]) for name in decided])
    told = f"Of the reached units, {counts}, more than random directions do."
    sentence = sentences(told, strongest, _open(called, decided))
    return Finding(_STANDS_OUT, count, sentence, f"of the changes called {BY_CHANCE}; {beside}", address, parts)


def units_called(source: Source) -> dict[str, set[int]]:
    """The reached units that do more than random directions (q ≤ 0.05), by family of tests.

    Returns:
        larger (of a run with parts), selective (with two or more) and relevant (also by size); see `lis.report.claims`.
    """
    ranking = where(source.table("unit_statistics", "ranking"), interpreted=True)
    labels = len(set(ranking["label"]))
    tables = {
        "larger": where(ranking, larger=True) if labels else None,
        "selective": where(source.table("unit_statistics", "faithfulness"), selective=True) if labels > 1 else None,
        "relevant": where(source.table("unit_statistics", "relevance"), relevant=True, larger=True),
    }
    return {name: set(rows["unit"].tolist()) for name, rows in tables.items() if rows is not None}


def _surest(source: Source) -> tuple[str, tuple[str, ...]]:
    """The change of a part with the smallest q, the largest of several, and the part; else that of a class."""
    ranking = where(source.table("unit_statistics", "ranking"), interpreted=True, larger=True)
    if len(ranking):
        by_area = ranking.assign(other=ranking["measure"] != "area")
        row = records(by_area.sort_values(["q", "other", "rank"], kind="stable"))[0]
        change = f"the {row['measure']} of the {words(row['label'])} by {changed(row['measure'], row['change'])}"
        return f"The surest: unit {row['unit']} changes {change} (q {probability(row['q'])}).", (row["label"],)
    relevance = where(source.table("unit_statistics", "relevance"), relevant=True, larger=True)
    if relevance.empty:
        return "", ()
    row = records(relevance.sort_values(["q", "relevance"], ascending=[True, False], kind="stable"))[0]
    change = f"the probability of {words(row['class'])} by {signed(row['change'])}"
    return f"The surest: unit {row['unit']} changes {change} (q {probability(row['q'])}).", ()


@finding(40, "unit_statistics", "ranking", "faithfulness", "relevance", "control")
def parts_carry_classes(source: Source) -> Finding | None:
    """Whether units that change a part move the class more often than other reached units do."""
    called, address, beside = units_called(source), anchor("Class relevance"), _cases(source)
    if "larger" not in called:
        return None
    if not all(callable_units(source, family=name) for name in ("larger", "relevant")):
        return Finding(_CARRY, UNDECIDED, _cannot_be_said(source), beside, address)
    missing = [name for name in ("larger", "relevant") if not called[name]]
    if missing:
        sentence = (
            f"No unit changes {_any_of(missing)} more than random directions do, so none links a part to a class."
        )
        return Finding(_CARRY, _of_parts(source, 0), sentence, beside, address)
    reached = where(source.table("unit_statistics", "faithfulness"), reached=True)
    tested = records(parts_and_classes(source, called["relevant"], set(reached["unit"].tolist())))
    carrying = [row["label"] for row in tested if row["q"] <= SIGNIFICANT]
    best = tested[0]
    counts = (
        f"of {counted(best['units'], 'unit')} that change the {words(best['label'])}, {best['moving']} also "
        f"change the probability of a class; of the {best['others']} other reached units {best['others_moving']} do."
    )
    told = f"Units that change one part change the classes no more often than others do. The nearest: {counts}"
    if carrying:
        also = f" The same holds of {listing([words(label) for label in carrying[1:]])}." * (len(carrying) > 1)
        told = f"O{counts[1:]}{also}"
    control = f"q {probability(best['q'])}, Fisher's exact test over {counted(len(tested), 'part')}; {beside}"
    value = _of_parts(source, len(carrying))
    return Finding(_CARRY, value, told, control, address, tuple(carrying or [best["label"]]))


def _of_parts(source: Source, carrying: int) -> str:
    """How many of the parts that are large enough to be measured carry classes."""
    measured = where(source.table("unit_statistics", "ranking"), interpreted=True)
    return f"{carrying} of {counted(len(set(measured['label'])), 'part')}"


def parts_and_classes(source: Source, relevant: set[int], reached: set[int]) -> pd.DataFrame:
    """Whether the units that change a part beyond random directions are relevant for a class more often than others.

    Args:
        source: of the page.
        relevant: units that are relevant for any class, and so beyond random directions.
        reached: all units that are.

    Returns:
        label, units (that change it), moving (of these, relevant), others, others_moving, p (Fisher's exact test, one
        sided), q (over labels); the surest first; a label that no unit changes has no row.
    """
    ranking = where(source.table("unit_statistics", "ranking"), interpreted=True, larger=True)
    rows = []
    for label in dict.fromkeys(ranking["label"]):
        units = set(where(ranking, label=label)["unit"].tolist())
        others = reached - units
        counts = [[len(group & relevant), len(group - relevant)] for group in (units, others)]
        p = fisher_exact(counts, alternative="greater")[1]
        rows.append((label, len(units), counts[0][0], len(others), counts[1][0], p))
    table = pd.DataFrame(rows, columns=["label", "units", "moving", "others", "others_moving", "p"])
    table = table.assign(q=benjamini_hochberg(np.asarray(table["p"], dtype=float)))
    return table.sort_values(["q", "p"], kind="stable", ignore_index=True)


def _cannot_be_said(source: Source) -> str:
    """That there are too few random directions; the warning says so too, with the remedy."""
    return f"That cannot be told from chance with only {_random(source)} of R (mixtures of units)."


def _open(called: dict[str, set[int]], decided: list[str]) -> str:
    """Which questions so few random directions leave undecided."""
    asked = [name for name in called if name not in decided]
    return f"Whether any changes {_any_of(asked)} is undecided." * bool(asked)


def _any_of(families: list[str]) -> str:
    """What is changed, of some families of tests."""
    return " or ".join(_CHANGES[name] for name in families)


def _count(units: int, what: str) -> str:
    """How many units change something."""
    return f"{units or 'none'} {'changes' if units == 1 else 'change'} {what}"


def _random(source: Source) -> str:
    return counted(int(source.json("unit_statistics", "control")["directions"]), "random direction")


def _small_p(source: Source) -> str:
    """How many of all tests of parts, or else of classes, have a p of 0.05 or less, where no unit does anything 5 %."""
    tested = known(where(source.table("unit_statistics", "ranking"), interpreted=True), "p_control")
    what = "part"
    if tested.empty:
        tested, what = known(source.table("unit_statistics", "relevance"), "p_control"), "class"
    small = share(float((column(tested, "p_control") <= SIGNIFICANT).mean()))
    return f"of {len(tested):,} tests of a unit on a {what}, {small} have p ≤ {SIGNIFICANT}, by chance 5 %"


def _tuned(source: Source) -> int:
    return len(source.table("unit_statistics", "faithfulness"))


def _cases(source: Source) -> str:
    """How often units, and random directions, are relevant for a class."""
    table = known(source.table("unit_statistics", "relevance"), "change")
    limit = number(float(source.facts.settings["unit_statistics.relevant"]), 2)
    units, random = (share(mean(table, name)) for name in ("relevant", "control"))
    return (
        f"units change the probability of a class by {limit} or more in {units} of cases, random directions in {random}"
    )
