"""Do units change few labels, and are labels changed by few units? (paper §4.3, Fig. 5A; supplement Fig. S13)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lis.report.marks import control_density, dot, eye, facets, name_control, names_down, names_up
from lis.report.section import Picture, Section, Table, crossed, folded, section
from lis.report.source import Source, colours
from lis.report.style import INK, MUTED, WIDE, class_colours, plain, sheet
from lis.report.tables import column, distribution, ends, known, mean, mean_by, records, split, where
from lis.report.wording import number, sentences, with_control, words

_TITLE = "Sparsity"
_GROUPS = ["of", "measure", "class"]
_NOTHING = "Sparsity compares labels, and fewer than two are large enough to be interpreted."
_LABELS = (
    "Label sparsity (Hoyer) of each unit's median change over the samples of a class: 1, the unit changes one label; "
    "0, it changes all alike. Colour: units, with quartiles, 5–95 % and mean (dot). Grey line: random directions, "
    "with their mean (dash)."
)
_UNITS = (
    "Unit sparsity (Hoyer) of the changes of a label over all units: 1, one unit changes it; 0, all units do so "
    "alike. Means over samples with 95 % bootstrap intervals; grey line: over random directions, of which there may "
    "be another number."
)


@section(350, "unit_statistics", "label_sparsity", "label_sparsity_control", "unit_sparsity", parts=True)
def sparsity(source: Source) -> Section:
    """Both sparsities, beside random directions."""
    names = ("label_sparsity", "label_sparsity_control", "unit_sparsity")
    units, control, labels = (known(source.table("unit_statistics", name), "sparsity") for name in names)
    figures, tables, lead, finding = [], [], [], "Fewer than two labels are large enough to compare"
    if len(units):
        finding, drawn = _finding(units, control), label_sparsity(units, control, source.facts.class_names)
        parts = {"units": units, "random directions": control}
        data = pd.concat([distribution(x.assign(of=of), _GROUPS, "sparsity") for of, x in parts.items() if len(x)])
        figures.append(Picture("label-sparsity", drawn, _LABELS, data=data, alt=f"{finding}."))
        tables.append(_table(units, control))
        lead.append(_of_units(units))
    if len(labels):
        seen = {label: colour for label, colour in colours(source).items() if label in set(labels["label"])}
        alt = _of_labels(labels) or f"Unit sparsity is {_mean(labels)} on average."
        figures.append(Picture("unit-sparsity", unit_sparsity(labels, seen), _UNITS, data=labels, alt=alt))
        lead.append(_of_labels(labels))
    return Section(_TITLE, sentences(*lead) or _NOTHING, folded(*figures), folded(*tables), finding=finding)


def _finding(units: pd.DataFrame, control: pd.DataFrame) -> str:
    """Label sparsity of the first measure beside that of random directions."""
    measure = units["measure"].iloc[0]
    told = f"Label sparsity of a unit is {_mean(where(units, measure=measure))} on average"
    random = where(control, measure=measure)
    return f"{told}, of random directions {_mean(random)}" if len(random) else f"{told}, beside no random direction"


def _of_units(units: pd.DataFrame) -> str:
    """What label sparsity is of, and the classes at both ends."""
    measure, rows = next(iter(split(units, "measure").items()))
    lead = f"That is of the changes {'in all labels and measures' if measure == 'all' else f'of {measure}'}"
    classes = mean_by(rows, "class", "sparsity")
    if len(classes) < 2:
        return f"{lead}."
    least, most = (f"{words(row['class'])} ({number(row['sparsity'], 2)})" for row in ends(classes, "sparsity"))
    return f"{lead}; it is largest for {most} and smallest for {least}."


def _of_labels(table: pd.DataFrame) -> str:
    """Which labels few and many units change, by the first measure."""
    measure, rows = next(iter(split(table, "measure").items()))
    if len(rows) < 2:
        return ""
    (least, most), beside = ends(rows, "sparsity"), column(rows, "control")
    return (
        f"The {measure} of {words(most['label'])} depends on the fewest units (unit sparsity "
        f"{number(most['sparsity'], 2)}), that of {words(least['label'])} on the most ({number(least['sparsity'], 2)})"
        + (f"; over random directions: {number(mean(rows, 'control'), 2)} on average." if len(beside) else ".")
    )


def _table(units: pd.DataFrame, control: pd.DataFrame) -> Table:
    def cell(name: str, measure: str) -> str:
        cells = (where(table, measure=measure, **{"class": name}) for table in (units, control))
        return with_control(*(mean(table, "sparsity") for table in cells))

    caption = "Mean label sparsity of units; in brackets that of random directions."
    return crossed(caption, split(units, "class"), split(units, "measure"), cell)


def _mean(table: pd.DataFrame) -> str:
    return number(mean(table, "sparsity"), 2)


def label_sparsity(table: pd.DataFrame, control: pd.DataFrame, class_names: Sequence[str]) -> Figure:
    """A panel per measure, a half-eye per class over units; grey behind it, the same for random directions.

    Args:
        table: "label_sparsity": unit, class, measure, sparsity.
        control: the same of random directions.
        class_names: rows from top to bottom, which also fix the colours.
    """
    measures, height = split(known(table, "sparsity"), "measure"), 0.45 + 0.38 * len(class_names)
    x = "label sparsity (1: the unit changes one label)"
    figure, panels = facets(measures, 3, height, 0.5, x=x, sharex=True, sharey=True)
    for axis, measure in panels:
        _classes(axis, measures[measure], where(control, measure=measure), class_names)
        axis.set_title("all measures" if measure == "all" else plain(measure))
    if len(control):
        name_control(figure, panels[0][0])
    return figure


def _classes(axis: Axes, table: pd.DataFrame, control: pd.DataFrame, class_names: Sequence[str]) -> None:
    colours = class_colours(class_names)
    for at, name in enumerate(reversed(class_names)):
        values, random = (column(where(rows, **{"class": name}), "sparsity") for rows in (table, control))
        if len(values):
            eye(axis, values, at, colours[name], width=0.7)
        control_density(axis, random, at, 0.7)
        if len(random):
            axis.plot(random.mean(), at - 0.09, "|", color=INK, markersize=9, markeredgewidth=1.4)
    names_up(axis, [plain(name) for name in class_names], 0.35, 0.85)
    _from_0_to_1(axis, 0)


def unit_sparsity(table: pd.DataFrame, colours: Mapping[str, str]) -> Figure:
    """A panel per measure, a row per label: how few units change it, with the interval over samples.

    Args:
        table: "unit_sparsity": label, measure, sparsity, low, high, control.
        colours: of the labels, which are the rows from top to bottom.
    """
    measures, labels = split(table, "measure"), list(colours)
    figure, axes = sheet(WIDE, 0.95 + 0.24 * len(labels), 1, len(measures), sharey=True)
    for axis, (measure, rows) in zip(axes[0], measures.items(), strict=True):
        for row in records(known(rows, "sparsity")):
            if row["label"] in colours:
                at, colour = labels.index(row["label"]), colours[row["label"]]
                dot(axis, row["sparsity"], row["low"], row["high"], at, colour)
                axis.plot(row["control"], at, "|", color=MUTED, markersize=9, markeredgewidth=1.4)
        axis.set_title(plain(measure))
        _from_0_to_1(axis, 0.04)
    names_down(axes[0, 0], [plain(label) for label in labels], axes[0, 1:])
    figure.supxlabel("unit sparsity (1: one unit changes the label; 0: all units do alike)", size=9)
    return figure


def _from_0_to_1(axis: Axes, room: float) -> None:
    axis.set_xlim(-room, 1 + room)
    axis.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
