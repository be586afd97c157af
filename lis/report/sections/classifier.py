"""What the classifier is, and how often it is right."""

from __future__ import annotations

from typing import Any

from lis.report.figures.classifier import trained_classifier
from lis.report.frames import records
from lis.report.labels import number, share, share_between, words
from lis.report.sections import Picture, Section, Table, facts_as_metrics, section
from lis.report.source import Source


@section(630)
def classifier(source: Source) -> Section | None:
    """Its training on part world where there was one, how many of the generator's images it gets right, remarks."""
    trained, seen = source.has("classifier", "training"), source.has("pairs/test", "acceptance")
    if not (trained or seen or source.facts.classifier_notes):
        return None
    lead, figures = f"{source.facts.classifier} has {source.facts.units:,} units in its penultimate layer.", []
    if trained:
        accuracy, curve = source.table("classifier", "accuracy"), source.table("classifier", "curve")
        lead += " " + _training(source.json("classifier", "training"), records(accuracy)[-1])
        figures.append(Picture("classifier", trained_classifier(accuracy, curve), _CAPTION))
    judged = seen and source.facts.settings["pairs.accept"] == "correct"
    tables = [_accepted(source, records(source.table("pairs/test", "acceptance")))] if judged else []
    return Section("The classifier", lead, figures, tables, notes=source.facts.classifier_notes)


_CAPTION = (
    "Accuracy on rendered figures that were not trained on, with 95 % Wilson intervals. Bayes' rule knows the true "
    "factors of a figure: nothing is right more often."
)


def _training(facts: dict[str, Any], whole: dict[str, Any]) -> str:
    return (
        f"It was trained on {facts['images']:,} rendered figures of part world, from nothing, in "
        f"{number(facts['seconds'], 2)} s, and is right on "
        f"{share_between(whole['accuracy'], whole['low'], whole['high'])} of new ones; Bayes' rule on "
        f"{share(whole['bayes'])}."
    )


def _accepted(source: Source, rows: list[dict[str, Any]]) -> Table:
    of = "images of a class" if source.facts.conditional else "images"
    caption = f"Of the generator's {of}, the share that the classifier calls so."
    cells = [[words(row["class"]), share(row["rate"]), f"{int(row['drawn']):,}"] for row in rows]
    return Table(caption, ["class", "called so", "images"], cells)


facts_as_metrics("classifier", "training", "accuracy", "bayes")
