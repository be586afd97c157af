"""Where the classifier changes its answer, and where the class truly changes (part world)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lis.report.figures.evolution import TARGET
from lis.report.frames import column, known, where
from lis.report.style import INK, LINK_RED, MUTED, PAIRING, RULE, SERIES, WIDE, light_grid, plain, sheet, styled


@styled
def boundaries(table: pd.DataFrame, end: float) -> Figure:
    """Left: both boundaries of each counterfactual; right: how sure Bayes is where the classifier changes its answer.

    Args:
        table: classifier and bayes (positions; NaN: not before the end of the path), posterior.
        end: of the path.
    """
    figure, axes = sheet(WIDE, 3.2, 1, 2)
    left, right = axes[0]
    both = known(known(table, "classifier"), "bayes")
    left.plot([0, end], [0, end], color=RULE, linewidth=1.2)
    left.plot(both["classifier"], both["bayes"], "o", color=PAIRING["cycle"], markersize=4, alpha=0.5, mew=0)
    beyond = known(table, "classifier")
    beyond = beyond[~np.isfinite(np.asarray(beyond["bayes"], dtype=float))]
    if len(beyond):
        at = np.full(len(beyond), 1.04 * end)
        left.plot(beyond["classifier"], at, "o", color=LINK_RED, markersize=4, alpha=0.5, mew=0)
        left.text(0.02 * end, 1.09 * end, f"never on the path: {len(beyond)}", size=8, color=LINK_RED, va="bottom")
    left.set(xlabel="the classifier's boundary (position)", ylabel="true boundary (position)")
    left.set(xlim=(0, max(1.02, 1.0)), ylim=(0, 1.16 * end))
    posterior = column(table, "posterior")
    right.hist(posterior, bins=np.linspace(0, 1, 21).tolist(), color=PAIRING["cycle"])
    right.axvline(0.5, color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
    right.set(
        xlabel="true probability of the target at the classifier's boundary", ylabel="counterfactuals", xlim=(0, 1)
    )
    for axis in (left, right):
        light_grid(axis, "y")
    return figure


@styled
def posteriors(table: pd.DataFrame, boundary: dict[tuple[str, str, int], float]) -> Figure:
    """A panel per trajectory: the classifier's and the true probability of the target along it.

    Args:
        table: "posterior_paths": origin, target, sample_index, position, bayes_probability, classifier_probability.
        boundary: the classifier's, by origin, target and sample.
    """
    rows = table[["origin", "target", "sample_index"]].drop_duplicates()
    columns = min(4, len(rows))
    lines = -(-len(rows) // columns)
    figure, axes = sheet(WIDE * max(columns, 2) / 4, 0.5 + 2.2 * lines, lines, columns, sharey=True)
    for axis, (origin, target, index) in zip(axes.flat, rows.itertuples(index=False), strict=False):
        own = where(table, origin=origin, target=target, sample_index=index)
        axis.plot(own["position"], own["classifier_probability"], color=TARGET, linewidth=2, label="classifier")
        axis.plot(
            own["position"], own["bayes_probability"], color=INK, linewidth=1.6, linestyle="--", label="truth (Bayes)"
        )
        at = boundary.get((origin, target, int(index)), np.nan)
        if np.isfinite(at):
            axis.axvline(at, color=MUTED, linestyle=(0, (2, 2)), linewidth=1.2)
        axis.set_title(f"{plain(origin)} → {plain(target)}", size=8.5)
        axis.set(ylim=(-0.05, 1.05), xlabel="position")
        light_grid(axis, "y")
    for axis in axes.flat[len(rows) :]:
        axis.set_visible(False)
    axes[0, 0].set_ylabel("p(target)")
    axes[0, 0].legend(loc="best", fontsize=8)
    return figure


@styled
def factors(table: pd.DataFrame, pairs: Sequence[tuple[str, str]], most: int = 10) -> Figure:
    """For some pairs of classes the factors that a counterfactual moves most, beside what tells the classes apart.

    Args:
        table: "factors": origin, target, factor, change, difference.
        pairs: origins and targets that are drawn.
        most: factors per pair.
    """
    figure, axes = sheet(WIDE, 0.7 + 0.23 * most, 1, len(pairs))
    for axis, (origin, target) in zip(axes[0], pairs, strict=True):
        own = where(table, origin=origin, target=target)
        size = np.maximum(np.abs(own["change"]), np.abs(own["difference"]))
        _factors(axis, own.iloc[np.argsort(-np.asarray(size), kind="stable")[:most]])
        axis.set_title(f"{plain(origin)} → {plain(target)}", size=8.5)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper right", ncols=2, fontsize=8)
    figure.supxlabel("change of the true factor (latent units)", size=9)
    return figure


def _factors(axis: Axes, table: pd.DataFrame) -> None:
    place = np.arange(len(table))
    axis.barh(place, table["difference"], height=0.7, color=PAIRING["random"], label="difference of the classes")
    axis.barh(place, table["change"], height=0.34, color=SERIES[0], label="counterfactual")
    axis.axvline(0, color=MUTED, linewidth=0.8)
    axis.set_yticks(place, [plain(name) for name in table["factor"]])
    axis.tick_params(axis="y", length=0, labelcolor=INK, labelsize=8)
    axis.set_ylim(len(table) - 0.4, -0.6)
    axis.spines["left"].set_visible(False)
    light_grid(axis)
