"""Whether the link explains: the first finding of every run that evaluates one."""

from __future__ import annotations

import numpy as np

from lis.report.evaluation import EXPLAINS, explained
from lis.report.findings import Finding, finding
from lis.report.section import anchor
from lis.report.source import Source
from lis.report.tables import column, split, where
from lis.report.wording import number, sentences, words

GUESSING = "guessing the mean has R² 0"
"""What R² of a link stands beside."""
_LINEAR_WORLD = "this world's w is linear in its factors, which favours a linear link"
"""What the first finding of part world stands beside, where that holds."""
OVERFITS = "If it only overfits, link=ridge or more pairs.train help."
"""What to do about a link that explains nothing."""


@finding(10, "evaluation", "summary", "samples")
def link_explains(source: Source) -> Finding | None:
    """R² of w on new samples, over all, within classes, and in the class where it is lowest."""
    if (row := source.row("evaluation", "summary", "metric", "mse_w")) is None:
        return None
    summary = source.table("evaluation", "summary")
    overall, within = explained(summary), explained(summary, "within_class")
    if not np.isfinite(overall):
        return None
    by_class = r2_by_class(source)
    lowest = min(by_class, key=lambda name: by_class[name], default="")
    least = f" (lowest in {words(lowest)}, {number(by_class[lowest], 2)})" if len(by_class) > 1 else ""
    told = (
        f"On {int(row['n']):,} new images the link predicts the generator's code w from the classifier's activations "
        f"with R² {number(overall, 2)}; within a class, with R² {number(within, 2)}{least}."
    )
    linear = source.facts.known_truth and not source.facts.nonlinear_world
    control = f"{GUESSING}; {_LINEAR_WORLD}" if linear else GUESSING
    sentence = sentences(told, _null(overall, within, len(by_class)))
    return Finding("Does the link explain?", f"R² {number(overall, 2)}", sentence, control, anchor("Distances"))


def _null(overall: float, within: float, classes: int) -> str:
    """That a link explains nothing, or nothing beyond the class; empty where it does."""
    if overall <= EXPLAINS or (classes < 2 and within <= EXPLAINS):
        return "That is no better than guessing."
    return "It tells classes apart, and explains nothing within one." if within <= EXPLAINS else ""


def r2_by_class(source: Source) -> dict[str, float]:
    """R² of w on the new samples of each class, 1 − MSE / Var(w); 0 is guessing the mean of the class.

    Two random samples of a class differ by twice its variance.
    """
    samples = where(source.table("evaluation", "samples"), metric="mse_w")
    result = {}
    for name, rows in split(samples, "class").items():
        cycle, pairs = (column(where(rows, pairing=pairing), "value") for pairing in ("cycle", "within-class"))
        if len(cycle) and pairs.sum() > 0:
            result[name] = float(1 - 2 * cycle.mean() / pairs.mean())
    return result
