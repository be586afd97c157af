"""Do units change few labels, and are labels changed by few units? (paper §4.3, Fig. 5A; supplement Fig. S13)."""

from __future__ import annotations

import pandas as pd

from lis.report.figures.sparsity import label_sparsity, unit_sparsity
from lis.report.frames import ends, known, mean, mean_by, split, where
from lis.report.labels import number, sentences, with_control, words
from lis.report.parts import colours
from lis.report.sections import Picture, Section, Table, crossed, section
from lis.report.source import Source

_TITLE = "Sparsity"
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
    names = ("label_sparsity", "label_sparsity_null", "unit_sparsity")
    units, control, labels = (known(source.table("units", name), "sparsity") for name in names)
    figures, tables, lead = [], [], []
    if len(units):
        figures.append(Picture("label-sparsity", label_sparsity(units, control, source.facts.class_names), _LABELS))
        tables.append(_table(units, control))
        lead.append(_of_units(units, control))
    if len(labels):
        seen = {label: colour for label, colour in colours(source).items() if label in set(labels["label"])}
        figures.append(Picture("unit-sparsity", unit_sparsity(labels, seen), _UNITS))
        lead.append(_of_labels(labels))
    return Section(_TITLE, sentences(*lead) or _NOTHING, figures, tables)


def _of_units(units: pd.DataFrame, control: pd.DataFrame) -> str:
    """Label sparsity of the first measure, beside random directions, and the classes at both ends."""
    measure, rows = next(iter(split(units, "measure").items()))
    beside = f", {_mean(where(control, measure=measure))} in random directions" if len(control) else ""
    what = "in all labels and measures" if measure == "all" else f"of {measure}"
    lead = f"A unit's changes {what} have a label sparsity of {_mean(rows)} on average{beside}"
    classes = mean_by(rows, "class", "sparsity")
    if len(classes) < 2:
        return lead + "."
    least, most = (f"{words(row['class'])} ({number(row['sparsity'], 2)})" for row in ends(classes, "sparsity"))
    return f"{lead}; it is largest for {most} and smallest for {least}."


def _of_labels(table: pd.DataFrame) -> str:
    """Which labels few and many units change, by the first measure."""
    measure, rows = next(iter(split(table, "measure").items()))
    if len(rows) < 2:
        return ""
    least, most = ends(rows, "sparsity")
    return (
        f"The {measure} of {words(most['label'])} depends on the fewest units (unit sparsity "
        f"{number(most['sparsity'], 2)}), that of {words(least['label'])} on the most ({number(least['sparsity'], 2)})."
    )


def _table(units: pd.DataFrame, control: pd.DataFrame) -> Table:
    def cell(name: str, measure: str) -> str:
        cells = (where(table, measure=measure, **{"class": name}) for table in (units, control))
        return with_control(*(mean(table, "sparsity") for table in cells))

    caption = "Mean label sparsity of units; in brackets that of random directions."
    return crossed(caption, split(units, "class"), split(units, "measure"), cell)


def _mean(table: pd.DataFrame) -> str:
    return number(mean(table, "sparsity"), 2)
