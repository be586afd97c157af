"""Do units change few labels, and are labels changed by few units? (paper §4.3, Fig. 5A; supplement Fig. S13)."""

from __future__ import annotations

import pandas as pd

from lis.report.figures.sparsity import label_sparsity, unit_sparsity
from lis.report.frames import column, known, records, where
from lis.report.labels import number, words
from lis.report.parts import colours
from lis.report.sections import Picture, Section, Table, section
from lis.report.source import Source

_TITLE = "Sparsity"
_ALL = "all"
"""What the tables call all measures together."""
_NOTHING = "Sparsity compares labels, and fewer than two are large enough to be interpreted."
_LABELS = (
    "Label sparsity (Hoyer) of each unit's median change over the samples of a class: 1, the unit changes one label; "
    "0, it changes all alike. Colour: units, with quartiles, 5–95 % and mean (dot). Grey line: random directions, "
    "with their mean (dash)."
)
_UNITS = (
    "Unit sparsity (Hoyer) of the changes of a label over all units: 1, one unit changes it; 0, all units do so alike. "
    "Means over samples with 95 % bootstrap intervals."
)


@section(340, "units", "label_sparsity", "label_sparsity_null", "unit_sparsity")
def sparsity(source: Source) -> Section:
    """Both sparsities, beside random directions."""
    own, null = (known(source.table("units", f"label_sparsity{end}"), "sparsity") for end in ("", "_null"))
    by_units = known(source.table("units", "unit_sparsity"), "sparsity")
    figures, tables, lead = [], [], []
    if len(own):
        figures.append(Picture("label-sparsity", label_sparsity(own, null, source.facts.class_names), _LABELS))
        tables.append(_table(own, null))
        lead.append(_of_units(own, null))
    if len(by_units):
        seen = {label: colour for label, colour in colours(source).items() if label in set(by_units["label"])}
        figures.append(Picture("unit-sparsity", unit_sparsity(by_units, seen), _UNITS))
        lead.append(_of_labels(by_units))
    return Section(_TITLE, " ".join(filter(None, lead)) or _NOTHING, figures, tables)


def _of_units(own: pd.DataFrame, null: pd.DataFrame) -> str:
    """Label sparsity of the first measure, beside the null, and the classes at both ends."""
    measure = str(own["measure"].iloc[0])
    mean, random = (_mean(where(table, measure=measure)) for table in (own, null))
    ends = _ends(pd.DataFrame(where(own, measure=measure).groupby("class", as_index=False)["sparsity"].mean()), "class")
    beside = f", {random} in random directions" if len(null) else ""
    what = "in all labels and measures" if measure == _ALL else f"of {measure}"
    return f"A unit's changes {what} have a label sparsity of {mean} on average{beside}{ends}."


def _of_labels(table: pd.DataFrame) -> str:
    """Which labels few and many units change, by the first measure."""
    measure = str(table["measure"].iloc[0])
    own = where(table, measure=measure)
    if len(own) < 2:
        return ""
    most, least = (records(own.sort_values("sparsity"))[k] for k in (-1, 0))
    return (
        f"The {measure} of {words(most['label'])} depends on the fewest units (unit sparsity "
        f"{number(most['sparsity'], 2)}), that of {words(least['label'])} on the most ({number(least['sparsity'], 2)})."
    )


def _ends(means: pd.DataFrame, name: str) -> str:
    if len(means) < 2:
        return ""
    most, least = (records(means.sort_values("sparsity"))[k] for k in (-1, 0))
    return (
        f"; it is largest for {words(most[name])} ({number(most['sparsity'], 2)}) and smallest for "
        f"{words(least[name])} ({number(least['sparsity'], 2)})"
    )


def _table(own: pd.DataFrame, null: pd.DataFrame) -> Table:
    names = list(dict.fromkeys(own["measure"]))
    rows = [
        [words(name), *(_cell(*(where(table, **{"class": name}, measure=m) for table in (own, null))) for m in names)]
        for name in dict.fromkeys(own["class"])
    ]
    return Table("Mean label sparsity of units; in brackets that of random directions.", ["", *names], rows)


def _cell(own: pd.DataFrame, null: pd.DataFrame) -> str:
    return f"{_mean(own)} ({_mean(null)})" if len(null) else _mean(own)


def _mean(table: pd.DataFrame) -> str:
    return number(column(table, "sparsity").mean(), 2) if len(table) else "–"
