"""The head that a logistic regression on R gives a classifier: how often it is right, and how far to believe it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lis.report.marks import DASHED, PERCENT, PLAIN, note, ring, wants_log
from lis.report.section import Picture, Section, facts_as_metrics, listed, section
from lis.report.source import Source
from lis.report.style import HALF, INK, LINK_RED, MUTED, PAIRING, sheet
from lis.report.tables import column, records, row_of, where
from lis.report.wording import number, share, share_between, words

_CALIBRATION = (
    "Upper: how often the class with the largest probability is right, in bins of equal width, with 95 % intervals; a "
    "calibrated probe lies on the dashed line. Lower: samples per bin."
)
_REGULARISATION = (
    "Log loss on held-out folds against the inverse C of the penalty's weight; the band is one standard error over "
    "folds."
)
_HEIGHT = 3.9


@section(750, "probe", "probe", "accuracy", "calibration", "path")
def linear_probe(source: Source) -> Section:
    """Accuracy and calibration on samples of its own, and the regularisation."""
    facts = source.json("probe", "probe")
    accuracy, path = source.table("probe", "accuracy"), source.table("probe", "path")
    calibration, finding = source.table("probe", "calibration"), _finding(facts, accuracy)
    alt = f"The smallest log loss lies at C = {number(facts['C'], 2)}."
    pictures = [
        Picture("probe-calibration", reliability(calibration), _CALIBRATION, data=calibration, alt=f"{finding}."),
        Picture("probe-regularisation", regularisation(path), _REGULARISATION, data=path, alt=alt, aside=True),
    ]
    columns = {"": lambda row: words(row["class"]), "right": _share, "n": lambda row: f"{row['n']:,}"}
    caption = "Share of new samples that the probe names right, with 95 % intervals."
    table, more = listed(caption, records(accuracy), columns), "more than chance explains: "
    lead = (
        f"The classes are read off R by a logistic regression: it is right about {_share(row_of(accuracy, 'all'))} of "
        f"{facts['test_samples']:,} new samples, with an expected calibration error of {number(facts['ece'], 2)} "
        f"({more * (facts['ece'] > facts['ece_bound'])}a calibrated probe stays below "
        f"{number(facts['ece_bound'], 2)} in 95 % of test sets like this one)."
    )
    return Section("Linear probe", lead, pictures, [table], _notes(facts, path), finding)


def _finding(facts: dict[str, Any], accuracy: pd.DataFrame) -> str:
    """How often the probe is right, and whether its confidence can be believed."""
    right = f"The probe is right on {share(row_of(accuracy, 'all')['accuracy'])} of new samples"
    if facts["ece"] > facts["ece_bound"]:
        return f"{right}, but not calibrated (error {number(facts['ece'], 2)} > {number(facts['ece_bound'], 2)})"
    return f"{right}, and calibrated (error {number(facts['ece'], 2)} ≤ {number(facts['ece_bound'], 2)})"


def _share(row: dict[str, Any]) -> str:
    return share_between(row["accuracy"], row["low"], row["high"])


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


def reliability(calibration: pd.DataFrame) -> Figure:
    """Accuracy against confidence of the top label, above the number of samples in each bin.

    Args:
        calibration: `lower`, `upper`, `confidence`, `accuracy`, `low`, `high`, `n` of each bin.
    """
    filled = pd.DataFrame(calibration.loc[(calibration["n"] > 0).to_numpy(dtype=bool)])
    figure, axes = sheet(HALF, _HEIGHT, 2, 1, lines="y", height_ratios=[3, 1], sharex=True)
    _diagram(axes[0, 0], filled)
    _counts(axes[1, 0], filled)
    start = column(filled, "lower").min()
    figure.legend(loc="outside upper left")
    axes[1, 0].set_xlim(start - 0.02 * (1 - start), 1 + 0.02 * (1 - start))
    return figure


def _diagram(axis: Axes, filled: pd.DataFrame) -> None:
    axis.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=DASHED, label="calibrated")
    style = {"color": PAIRING["cycle"], "linewidth": 1.8, "alpha": 0.75}
    axis.vlines(filled["confidence"], filled["low"], filled["high"], **style)
    axis.plot(filled["confidence"], filled["accuracy"], "o", color=PAIRING["cycle"], markersize=5.5)
    bottom = min(column(filled, "low").min(), column(filled, "lower").min())
    axis.set(ylabel="share that is right", ylim=(bottom - 0.02, 1.02))
    axis.yaxis.set_major_formatter(PERCENT)


def _counts(axis: Axes, filled: pd.DataFrame) -> None:
    lower, upper = column(filled, "lower"), column(filled, "upper")
    bars = axis.bar(lower, filled["n"], upper - lower, align="edge", color=PAIRING["within-class"], edgecolor="white")
    axis.bar_label(bars, size=7.5, color=INK, padding=1)
    axis.set(xlabel="confidence: the largest probability", ylabel="samples")
    axis.margins(y=0.25)
    axis.xaxis.set_major_formatter(PERCENT)
    axis.yaxis.set_major_locator(MaxNLocator(3, integer=True))


def regularisation(path: pd.DataFrame) -> Figure:
    """Log loss on held-out folds against the strength C, with its standard error, the chosen C marked.

    Args:
        path: `C`, `log_loss`, `se`, `chosen` (one row true).
    """
    path = path.sort_values("C")
    figure, axes = sheet(HALF, _HEIGHT, lines="y")
    axis: Axes = axes[0, 0]
    strength, loss, error = (np.asarray(path[name], float) for name in ("C", "log_loss", "se"))
    axis.fill_between(strength, loss - error, loss + error, color=PAIRING["random"], alpha=0.5, linewidth=0)
    axis.plot(strength, loss, "o-", color=PAIRING["cycle"], markersize=3.5)
    axis.set_xscale("log")
    if wants_log(loss, 8):
        axis.set_yscale("log")
        axis.yaxis.set_major_formatter(PLAIN)
    axis.minorticks_off()
    chosen = records(where(path, chosen=True))[0]
    ring(axis, chosen["C"], chosen["log_loss"])
    text, point = f"chosen: C = {number(chosen['C'], 2)}", (chosen["C"], chosen["log_loss"])
    note(axis, text, point, (0, -12), va="top", size=8.5, color=LINK_RED)
    axis.set(xlabel="C, the inverse of the penalty's weight", ylabel="log loss on held-out folds (nats)")
    axis.margins(y=0.16)
    return figure
