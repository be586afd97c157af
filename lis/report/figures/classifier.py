"""How well a classifier does: accuracy per class beside Bayes' rule, and the loss while it was trained."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lis.report.figures.marks import THOUSANDS, dot, names_down
from lis.report.frames import records
from lis.report.style import INK, LINK_RED, MUTED, PAIRING, WIDE, light_grid, plain, sheet, styled


@styled
def trained_classifier(accuracy: pd.DataFrame, curve: pd.DataFrame) -> Figure:
    """Accuracy per class with its interval and what Bayes' rule reaches; the loss beside it.

    Args:
        accuracy: `class`, `accuracy`, `low`, `high`, `bayes`; the row "all" comes last.
        curve: `images`, `loss`.
    """
    figure, axes = sheet(WIDE, 0.9 + 0.19 * max(len(accuracy), 9), 1, 2, width_ratios=[1.25, 1])
    _accuracy(axes[0, 0], accuracy)
    _loss(axes[0, 1], curve)
    return figure


def _accuracy(axis: Axes, accuracy: pd.DataFrame) -> None:
    rows = records(accuracy)
    for at, row in enumerate(rows):
        colour = INK if row["class"] == "all" else PAIRING["cycle"]
        dot(axis, row["accuracy"], row["low"], row["high"], at, colour)
        axis.plot(row["bayes"], at, "|", color=LINK_RED, markersize=9, markeredgewidth=1.6)
    names_down(axis, [plain(row["class"]) for row in rows])
    axis.set_xlim(min(0.5, min(row["low"] for row in rows) - 0.03), 1.01)
    axis.xaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f}%")
    axis.set(xlabel="right on held-out rendered figures (red: Bayes' rule)", title="Accuracy")


def _loss(axis: Axes, curve: pd.DataFrame) -> None:
    axis.plot(curve["images"], curve["loss"], color=MUTED, linewidth=0.8, alpha=0.5)
    axis.plot(curve["images"], curve["loss"].ewm(span=10).mean(), color=PAIRING["cycle"])
    axis.xaxis.set_major_formatter(THOUSANDS)
    axis.set(xlabel="rendered images seen", ylabel="smoothed cross-entropy", title="Training")
    axis.set_ylim(bottom=0)
    light_grid(axis, "y")
