"""Which units of a layer each class rests on (Bau et al. 2020, Fig. S4)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lis.dissection.ablation import LEADING
from lis.report.interpretability import interpretability, shared_units
from lis.report.marks import dots
from lis.report.section import Picture, Section, Table, facts_as_metrics, listed, section
from lis.report.source import Source
from lis.report.style import GREY, MUTED, SERIES, WIDE, light_grid, sheet
from lis.report.tables import column, known, mean, mean_by, records, split, where
from lis.report.wording import counted, number, sentences, share, share_between, signed, words

_CURVES = (
    "Left: balanced accuracy of each class against the others, on test samples, after the n units that are least or "
    "most important to it are ablated together (value: {}); units are ranked on train samples. Thick: mean over "
    "classes. Grey: control, random orders, their mean over classes with the mean of the bands of 95 % of orders. "
    "Right: the change from the whole network. A rise without the least important units says that they answer for "
    "other classes; it does not say that the network is better without them."
)
_SCATTER = (
    "A dot is a unit and a class: what ablating the unit costs the class (train samples), and Pearson's r of the "
    f"unit's spatial maximum with the softmax of the class (test samples). Blue: the {LEADING} most important units of "
    "a class whose importance is positive; grey, the control: all others. A correlation says neither that a unit is "
    "needed nor what it responds to."
)
_CEILING = (
    "Samples were accepted because the classifier names them right, so that the whole network has 1 by construction "
    "and no removal can raise it: pairs.accept=any takes all samples."
)
_NO_TRIPLE = (
    f"There are no three classes whose pairs share one of their {LEADING} most important units while no unit serves "
    "all three."
)
_TENTH = 10
"""Of the units at most so small a part is in the heading."""
_MANY = 0.5
"""Share of importances at 0 from which on that is told."""
_LISTED = 12
"""Rows of the table."""
_COLOURS = {"least": SERIES[0], "most": SERIES[4], "random": MUTED}

facts_as_metrics("importance", "facts", "top_positive", "positive")


@section(610, "importance", "importance", "curves", "facts")
def class_importance(source: Source) -> Section:
    """Removal curves, importance against correlation, and the most important units."""
    table, curves = source.table("importance", "importance"), source.table("importance", "curves")
    facts = source.json("importance", "facts")
    figures = [
        Picture("removal-curves", removal_curves(curves), _CURVES.format(facts["value"]), data=curves),
        Picture("importance-correlation", scatter(table), _SCATTER, data=table),
        *filter(None, (interpretability(source), shared_units(source))),
    ]
    lead = _lead(source, table, curves, facts)
    return Section("Class importance", lead, figures, [_table(table)], finding=_finding(curves, facts))


def _finding(curves: pd.DataFrame, facts: dict[str, Any]) -> str:
    """What some of the most important units are worth, beside as many random ones."""
    few = max(n for n in curves["n"] if n <= max(1, facts["units"] / _TENTH))
    most, random = (
        number(mean(where(curves, order=order, n=few), "balanced_accuracy"), 2) for order in ("most", "random")
    )
    return (
        f"Without the {few} most important of {facts['units']} units of {facts['layer']} a class is told from the "
        f"others with a balanced accuracy of {most}, without {few} random ones, the control, with {random}"
    )


def _lead(source: Source, table: pd.DataFrame, curves: pd.DataFrame, facts: dict[str, Any]) -> str:
    half = max((n for n in curves["n"] if n <= facts["units"] / 2), default=0)
    least, most, random = (
        number(mean(where(curves, order=order, n=half), "balanced_accuracy"), 3)
        for order in ("least", "most", "random")
    )
    base = number(mean(where(curves, order="most", n=0), "balanced_accuracy"), 3)
    loud = "Every ablation took a whole pass of the network." if facts["tail"] == "whole pass" else ""
    return sentences(
        f"Without the {half} least important of {facts['units']} units of {facts['layer']} a class is told from the "
        f"others with a balanced accuracy of {least} (mean over classes; {base} with all units), without the {half} "
        f"most important ones with {most}, and without {half} random ones, the control, with {random}.",
        _resolution(table, facts),
        _signs(facts),
        "" if len(source.table("importance", "shared")) else _NO_TRIPLE,
        _CEILING * (source.facts.settings["pairs.accept"] == "correct"),
        loud,
    )


def _resolution(table: pd.DataFrame, facts: dict[str, Any]) -> str:
    """How many importances are 0, and what a reader must make of it."""
    zero = float(np.mean(table["importance"] == 0))
    if zero < _MANY:
        return ""
    own, others = facts["per_class"], facts["per_class"] * (table["class"].nunique() - 1)
    return (
        f"{share(zero)} of the importances are exactly 0: without that unit the answers to the train samples are "
        f"as good as with it. A single answer that turns wrong costs its class up to {number(0.5 / own, 2)} and the "
        f"class that is called instead up to {number(0.5 / others, 2)}. Units of equal importance are ranked in the "
        "order of their numbers: beyond the few units above 0, “most” and “least important” say nothing of a single "
        "unit."
    )


def _signs(facts: dict[str, Any]) -> str:
    """How often leading units go with their class, beside all others."""
    if facts["top_positive"] is None or facts["positive"] is None:
        return ""
    leading, others = (
        share_between(*(facts[f"{name}{end}"] for end in ("", "_low", "_high")))
        for name in ("top_positive", "positive")
    )
    return (
        f"The {LEADING} most important units of a class, where their importance is positive, have "
        f"{counted(facts['top_positive_of'], 'correlation')} with it, of which {leading} are positive, beside {others} "
        f"of the {facts['positive_of']:,} others, the control (95 % Wilson; the units of a class share its samples, so "
        "that the intervals are too narrow rather than too wide)."
    )


def _leading(table: pd.DataFrame) -> np.ndarray:
    """Rows of the most important units of a class that cost it something when they are ablated: bool."""
    return ((table["rank"] <= LEADING) & (table["importance"] > 0)).to_numpy(dtype=bool)


def _table(table: pd.DataFrame) -> Table:
    leading = records(table.nlargest(_LISTED, columns="importance", keep="first"))
    caption = (
        f"The {len(leading)} largest importances, in units of balanced accuracy. They are the largest of many, and so "
        "too large by selection; the control is the same importance on the test samples, which ranked nothing."
    )
    columns = {
        "unit": lambda row: f"{row['unit']}",
        "class": lambda row: words(row["class"]),
        "importance": lambda row: signed(row["importance"], 3),
        "test samples": lambda row: signed(row["test_importance"], 3),
        "correlation": lambda row: signed(row["correlation"], 2),
    }
    return listed(caption, leading, columns)


def removal_curves(curves: pd.DataFrame) -> Figure:
    """Balanced accuracy, and its change, by the number of removed units; table "curves"."""
    figure, axes = sheet(WIDE, 3.4, 1, 2)
    counts = sorted(set(curves["n"]))
    for axis, relative in zip(axes[0], (False, True), strict=True):
        _band(axis, curves, counts, relative)
        for order in ("least", "most"):
            for rows in split(where(curves, order=order), "class").values():
                y = _from(column(rows, "balanced_accuracy"), relative)
                axis.plot(_at(counts), y, color=_COLOURS[order], linewidth=0.6, alpha=0.5)
            y = _from(_means(curves, order, "balanced_accuracy"), relative)
            axis.plot(_at(counts), y, color=_COLOURS[order], linewidth=2.2, label=f"{order} important")
        axis.set_xticks(_at(counts), [f"{n}" for n in counts])
        axis.set(xlabel="removed units", ylabel="change" if relative else "balanced accuracy")
        light_grid(axis, "y")
    axes[0, 0].legend()
    return figure


def _from(curve: np.ndarray, relative: bool) -> np.ndarray:
    """A curve that begins with no removed unit, or its change from there."""
    return curve - curve[0] if relative else curve


def _band(axis: Axes, curves: pd.DataFrame, counts: Sequence[int], relative: bool) -> None:
    low, high, middle = (
        _from(_means(curves, "random", name), relative) for name in ("low", "high", "balanced_accuracy")
    )
    axis.fill_between(_at(counts), low, high, color=GREY, alpha=0.45, linewidth=0)
    axis.plot(_at(counts), middle, color=_COLOURS["random"], linewidth=1.6, label="random (control)")


def _at(counts: Sequence[int]) -> np.ndarray:
    """Positions of the counts: equally far apart, since they run from 1 to thousands."""
    return np.arange(len(counts))


def _means(curves: pd.DataFrame, order: str, name: str) -> np.ndarray:
    return mean_by(where(curves, order=order), "n", name)[name].to_numpy(dtype=np.float64)


def scatter(table: pd.DataFrame) -> Figure:
    """Correlation by importance, leading units in colour; table "importance"."""
    figure, axes = sheet(0.6 * WIDE, 3.6)
    axis, pairs = axes[0, 0], known(table, "correlation")
    leading = _leading(pairs)
    for subset, colour, label in (
        (~leading, MUTED, "others (control)"),
        (leading, SERIES[0], f"{LEADING} most important"),
    ):
        dots(axis, pairs["importance"][subset], pairs["correlation"][subset], colour, 3.2, 0.5, label=label)
    axis.axhline(0, color=GREY, linewidth=0.8)
    axis.set(xlabel="importance", ylabel="correlation with the class", ylim=(-1.05, 1.05))
    axis.legend(loc="lower right", title="unit and class")
    return figure
