"""Whether a unit does the same in every class (paper §4.3, Fig. 4B; supplement Fig. S21, S22, S26)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lis.report.marks import TWO_SIDED, facets, heat, matrix
from lis.report.pictures import HOW_TO_READ, pictured
from lis.report.section import Picture, Section, folded, section
from lis.report.source import Source, label_names
from lis.report.style import HALF, plain, sheet
from lis.report.tables import apart, column, known, mean, mean_by, records, split
from lis.report.wording import changed, listing, sentences, signed

_TITLE = "Transfer between classes"
_NOTHING = "No label is large enough to be interpreted, so that nothing is compared between classes."
_PICTURES = "The unit that changes a label most over all classes, on a sample of each. " + HOW_TO_READ
_TRANSFER = (
    "Mean change by the first unit of each label's ranking (its number stands beside the label) in each class. Colours "
    "are relative to the largest change of a row: one colour along a row, the unit does the same in every class. "
    "Without a number: the label is absent there, or its angles have no common direction."
)
_AGREEMENT = (
    "Pearson's r over all units between the mean changes in two classes, as a mean over pairs of classes: 1, units do "
    "the same in every class; 0, what a unit does in one says nothing about another."
)


@section(370, "unit_statistics", "transfer", "transfer_control", "agreement", parts=True)
def transfer(source: Source) -> Section:
    """Pictures through the classes, the first units in each, and the agreement over all units."""
    names, table = source.facts.class_names, known(source.table("unit_statistics", "transfer"), "change")
    if len(names) < 2:
        return Section(_TITLE, "There is one class: nothing to transfer to.", finding="There is one class only")
    if table.empty:
        return Section(_TITLE, _NOTHING, finding="No label is large enough to compare classes")
    random = known(source.table("unit_statistics", "transfer_control"), "change")
    finding = _finding(table, random)
    figures = [
        *pictured(source, "transfer", "unit-transfer", _PICTURES),
        Picture("transfer", transfer_figure(table, names), _TRANSFER, data=table, alt=f"{finding}."),
    ]
    pairs = known(source.table("unit_statistics", "agreement"), "r")
    told = [f"{_beside(rows)} for {name}" for name, rows in split(pairs, "measure").items()]
    correlated = f"Over all units, changes in two classes correlate at {listing(told)}." if told else ""
    if len(pairs):
        labels = [name for name in label_names(source) if name in set(pairs["label"])]
        drawn = agreement_figure(pairs, labels, list(dict.fromkeys(pairs["measure"])))
        figures.append(Picture("class-agreement", drawn, _AGREEMENT, data=pairs, alt=correlated))
    return Section(_TITLE, sentences(_same_sign(table, random), correlated), folded(*figures), finding=finding)


def _finding(table: pd.DataFrame, control: pd.DataFrame) -> str:
    """Whether first units change their label alike in all classes more often than first random directions."""
    (same, several), (same_control, several_control) = (_shared(of) for of in (table, control))
    if not several:
        return "No label changes in two classes, so that first units are not compared"
    told = f"First units act alike in all classes in {same} of {several} cases"
    if not several_control:
        return f"{told}, beside no control"
    if same / several <= same_control / several_control:
        return "First units act alike in all classes no more often than random directions"
    return f"{told}, random in {same_control} of {several_control}"


def _beside(table: pd.DataFrame) -> str:
    """Mean correlation, with that over random directions in brackets."""
    control = column(table, "control")
    return signed(mean(table, "r")) + (
        f" ({signed(float(control.mean()))} over random directions)" if len(control) else ""
    )


def _same_sign(table: pd.DataFrame, control: pd.DataFrame) -> str:
    """How many first units change their label in the same direction in all classes, beside first random directions."""
    (same, several), (same_control, several_control) = (_shared(of) for of in (table, control))
    beside = (
        f", and the first of the random directions for {same_control} of {several_control}" if several_control else ""
    )
    if not several:
        return "No label that a unit changes most has a change in two classes."
    return (
        f"The unit that changes a label most does so in the same direction in every class for {same} of "
        f"{several} pairs of a label and a measure{beside}."
    )


def _shared(table: pd.DataFrame) -> tuple[int, int]:
    """Of how many labels and measures the changes have one sign in all classes, and of how many there are several."""
    groups = [np.sign(column(group, "change")) for _, group in table.groupby(["label", "measure"])]
    same = [bool((signs == signs[0]).all()) for signs in groups if len(signs) > 1]
    return sum(same), len(same)


def transfer_figure(table: pd.DataFrame, class_names: Sequence[str]) -> Figure:
    """A block per measure, a row per label: what the unit that changes it most does in every class.

    Args:
        table: rows of "transfer", a unit per label × measure: unit, label, measure, class, change.
        class_names: columns; colours are relative to the largest change of the row.
    """
    table = table.assign(row=[f"{plain(row['label'])} · {row['unit']}" for row in records(table)])
    measures = split(table, "measure")
    figure, panels = facets(measures, 2, 0.85 + 0.26 * max(len(set(table["label"])), 2), 0, least=1)
    for axis, measure in panels:
        names = list(dict.fromkeys(measures[measure]["row"]))
        values = matrix(measures[measure], ("row", names), ("class", class_names), "change")
        largest = np.abs(np.nan_to_num(values)).max(axis=1, keepdims=True)
        shade = values / np.where(largest > 0, largest, 1.0)
        heat(axis, values, names, class_names, (-1, 1), partial(changed, measure), TWO_SIDED, shade)
        axis.set_title(plain(measure), pad=8)
    return figure


def agreement_figure(table: pd.DataFrame, labels: Sequence[str], measures: Sequence[str]) -> Figure:
    """Correlation over units of the mean changes in two classes, as a mean over pairs of classes.

    Args:
        table: "agreement": label, measure, class_a, class_b, r.
        labels: rows.
        measures: columns.
    """
    means = mean_by(apart(table), ["label", "measure"], "r")
    figure, axes = sheet(HALF, 0.55 + 0.3 * max(len(labels), 3))
    values = matrix(means, ("label", labels), ("measure", measures), "r")
    heat(axes[0, 0], values, labels, measures, (-1, 1), signed, TWO_SIDED)
    return figure
