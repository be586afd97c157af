"""What the classifier is, and how often it is right."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from lis.report.marks import THOUSANDS, dot, names_down
from lis.report.section import Picture, Section, facts_as_metrics, folded, listed, section
from lis.report.source import Source
from lis.report.style import INK, LINK_RED, MUTED, PAIRING, WIDE, light_grid, plain, sheet
from lis.report.tables import column, ends, records
from lis.report.wording import number, share, share_between, words

_CAPTION = (
    "Accuracy on rendered figures that were not trained on, with 95 % Wilson intervals. Bayes' rule knows the true "
    "factors of a figure: nothing is right more often."
)


_ACCEPTED = {
    "class": lambda row: words(row["class"]),
    "called so": lambda row: share(row["rate"]),
    "images": lambda row: f"{int(row['drawn']):,}",
}
"""Columns of the table of accepted images."""


@section(740)
def classifier(source: Source) -> Section | None:
    """Its training on part world where there was one, how many of the generator's images it gets right, remarks."""
    trained, seen = source.has("classifier", "training"), source.has("pairs/test", "acceptance")
    if not (trained or seen or source.facts.classifier_notes):
        return None
    lead, figures = f"{source.facts.classifier} has {source.facts.units:,} units in its penultimate layer.", []
    finding, tables = "", []
    if seen and source.facts.settings["pairs.accept"] == "correct":
        table, of = (
            source.table("pairs/test", "acceptance"),
            "images of a class" if source.facts.conditional else "images",
        )
        caption = f"Of the generator's {of}, the share that the classifier calls so."
        tables, finding = folded(listed(caption, records(table), _ACCEPTED)), _called(table)
    if trained:
        accuracy, curve = source.table("classifier", "accuracy"), source.table("classifier", "curve")
        whole = records(accuracy)[-1]
        finding = f"It is right on {share(whole['accuracy'])} of new figures, Bayes' rule on {share(whole['bayes'])}"
        lead += " " + _training(source.json("classifier", "training"), whole)
        drawn = trained_classifier(accuracy, curve)
        figures.append(Picture("classifier", drawn, _CAPTION, data=accuracy, alt=f"{finding}.", aside=True))
    return Section("The classifier", lead, figures, tables, notes=source.facts.classifier_notes, finding=finding)


def _called(table: pd.DataFrame) -> str:
    """How many of the generator's images are called their class; table "acceptance"."""
    rate = float(column(table, "accepted").sum() / column(table, "drawn").sum())
    worst = ends(table, "rate")[0]
    return f"It names {share(rate)} of generated images right (least: {words(worst['class'])}, {share(worst['rate'])})"


def _training(facts: dict[str, Any], whole: dict[str, Any]) -> str:
    return (
        f"It was trained on {facts['images']:,} rendered figures of part world, from nothing, in "
        f"{number(facts['seconds'], 2)} s, and is right on "
        f"{share_between(whole['accuracy'], whole['low'], whole['high'])} of new ones; Bayes' rule on "
        f"{share(whole['bayes'])}."
    )


facts_as_metrics("classifier", "training", "accuracy", "bayes")


def trained_classifier(accuracy: pd.DataFrame, curve: pd.DataFrame) -> Figure:
    """Accuracy per class with its interval and what Bayes' rule reaches; the loss beside it.

    Args:
        accuracy: `class`, `accuracy`, `low`, `high`, `bayes`; the row "all" comes last.
        curve: `images`, `loss`.
    """
    figure, axes = sheet(WIDE, 0.9 + 0.19 * max(len(accuracy), 9), 1, 2, width_ratios=[1.25, 1])
    axis, rows = axes[0, 0], records(accuracy)
    for at, row in enumerate(rows):
        colour = INK if row["class"] == "all" else PAIRING["cycle"]
        dot(axis, row["accuracy"], row["low"], row["high"], at, colour)
        axis.plot(row["bayes"], at, "|", color=LINK_RED, markersize=9, markeredgewidth=1.6)
    names_down(axis, [plain(row["class"]) for row in rows])
    axis.set_xlim(min(0.5, min(row["low"] for row in rows) - 0.03), 1.01)
    axis.xaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f}%")
    axis.set(xlabel="right on held-out rendered figures (red: Bayes' rule)", title="Accuracy")
    axis = axes[0, 1]
    axis.plot(curve["images"], curve["loss"], color=MUTED, linewidth=0.8, alpha=0.5)
    axis.plot(curve["images"], curve["loss"].ewm(span=10).mean(), color=PAIRING["cycle"])
    axis.xaxis.set_major_formatter(THOUSANDS)
    axis.set(xlabel="rendered images seen", ylabel="smoothed cross-entropy", title="Training")
    axis.set_ylim(bottom=0)
    light_grid(axis, "y")
    return figure
