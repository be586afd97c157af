"""The head that a logistic regression on R gives a classifier: how often it is right, and how far to believe it."""

from __future__ import annotations

from typing import Any

import pandas as pd

from lis.report.figures.probe import regularisation, reliability
from lis.report.frames import records, row_of, where
from lis.report.labels import number, share_between, words
from lis.report.sections import Picture, Section, Table, facts_as_metrics, section
from lis.report.source import Source


@section(640, "probe", "probe", "accuracy", "calibration", "path")
def linear_probe(source: Source) -> Section:
    """Accuracy and calibration on samples of its own, and the regularisation."""
    facts = source.json("probe", "probe")
    accuracy, path = source.table("probe", "accuracy"), source.table("probe", "path")
    pictures = [
        Picture("probe-calibration", reliability(source.table("probe", "calibration")), _CALIBRATION),
        Picture("probe-regularisation", regularisation(path), _REGULARISATION),
    ]
    return Section("Linear probe", _lead(facts, accuracy), pictures, [_table(accuracy)], _notes(facts, path))


_CALIBRATION = (
    "Upper: how often the class with the largest probability is right, in bins of equal width, with 95 % intervals; a "
    "calibrated probe lies on the dashed line. Lower: samples per bin."
)
_REGULARISATION = (
    "Log loss on held-out folds against the inverse C of the penalty's weight; the band is one standard error over "
    "folds."
)


def _lead(facts: dict[str, Any], accuracy: pd.DataFrame) -> str:
    return (
        f"The classes are read off R by a logistic regression: it is right about {_share(row_of(accuracy, 'all'))} of "
        f"{facts['test_samples']:,} new samples, with an expected calibration error of {number(facts['ece'], 2)} "
        f"({_verdict(facts)})."
    )


def _verdict(facts: dict[str, Any]) -> str:
    bound = f"a calibrated probe stays below {number(facts['ece_bound'], 2)} in 95 % of test sets like this one"
    return bound if facts["ece"] <= facts["ece_bound"] else f"more than chance explains: {bound}"


def _share(row: dict[str, Any]) -> str:
    return share_between(row["accuracy"], row["low"], row["high"])


def _table(accuracy: pd.DataFrame) -> Table:
    rows = [[words(row["class"]), _share(row), f"{row['n']:,}"] for row in records(accuracy)]
    return Table("Share of new samples that the probe names right, with 95 % intervals.", ["", "right", "n"], rows)


def _notes(facts: dict[str, Any], path: pd.DataFrame) -> list[str]:
    """How it was fitted; and a warning where the grid ends before the best C is passed."""
    chosen = records(where(path, chosen=True))[0]
    fitted = (
        f"Fitted to {facts['samples']:,} samples of {facts['units']:,} units in {number(facts['seconds'], 2)} s. The "
        f"penalty (C = {number(facts['C'], 2)}) is that with the smallest log loss over {facts['folds']} folds, "
        f"{number(chosen['log_loss'])} nats; on the new samples it is {number(facts['log_loss'])}."
    )
    at_end = facts["C"] in (path["C"].min(), path["C"].max())
    return [fitted, "The best penalty lies at the end of the grid, perhaps beyond."] if at_end else [fitted]


facts_as_metrics("probe", "probe", "accuracy", "ece", "log_loss")
