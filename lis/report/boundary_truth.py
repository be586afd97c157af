"""Does the classifier's boundary lie where the class truly changes? On a world that knows (part world)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lis.report.marks import DASHED, diagonal, dots, facets, names_down
from lis.report.section import Picture, Section, by_pair, facts_as_metrics, folded, section
from lis.report.source import Source
from lis.report.style import INK, LINK_RED, MUTED, PAIRING, SERIES, WIDE, plain, sheet
from lis.report.tables import column, known, pairs_of, records, where
from lis.report.wording import arrow, counted, number, offset, share, words

_TITLE = "Counterfactuals and the truth"
_PAIRS = 3
"""Pairs of classes whose factors are drawn."""
_FACTORS = 4
"""Factors per pair that are listed."""
_TABLE = "True factors that change most, in latent units; in brackets the difference of the classes' means."
_BOUNDARIES = (
    "A dot is one counterfactual. Left: where the classifier's answer becomes the target (0: original, 1: "
    "counterfactual), and where the most probable true class does; on the line both agree, red ones never turn. Right: "
    "the true probability of the target, by Bayes' rule on the true factors, where the classifier changes its answer."
)
_POSTERIORS = "Probability of the target along some counterfactuals: what the classifier says, and what is true."
_FACTORS_CAPTION = (
    "Change of the true factors from the original to the counterfactual (narrow), beside the difference of the means "
    "of both classes (wide), for the factors where either is largest."
)


@section(460, "boundary_truth", "boundaries", "factors", "summary")
def boundary_truth(source: Source) -> Section:
    """Both boundaries, and the true factors on the way."""
    summary, table = source.json("boundary_truth", "summary"), source.table("boundary_truth", "boundaries")
    if table.empty:
        nothing = "No counterfactual reached its target, so that there is none to hold against the truth."
        return Section(_TITLE, nothing, finding="No counterfactual to hold against the truth")
    moved = source.table("boundary_truth", "factors")
    pairs = pairs_of(moved)
    end = float(np.nanmax([1.0, *np.asarray(table["bayes"], dtype=float)]))
    if source.has("trajectories", "facts"):
        end = float(source.json("trajectories", "facts")["path_end"])
    finding = _finding(summary)
    figures = [Picture("truth-boundaries", boundaries(table, end), _BOUNDARIES, data=table, alt=f"{finding}.")]
    if source.has("boundary_truth", "posterior_paths"):
        paths = source.table("boundary_truth", "posterior_paths")
        known = {(row["origin"], row["target"], int(row["sample_index"])): row["classifier"] for row in records(table)}
        figures += folded(_paths(paths, known)) if len(paths) else []
    drawn = factors(moved, pairs[:_PAIRS])
    picture = Picture("truth-counterfactual-factors", drawn, _FACTORS_CAPTION, data=moved, alt=_cosine(summary))
    figures += folded(picture)
    ranked = moved.sort_values("change", key=np.abs, ascending=False, kind="stable")
    first = pd.DataFrame(ranked.groupby(["origin", "target"], sort=False).head(_FACTORS))
    told = by_pair(
        _TABLE, "factors", first, pairs,
        lambda row: f"{words(row['factor'])} {offset(row['change'])} ({offset(row['difference'])})",
    )  # fmt: skip
    return Section(_TITLE, _lead(summary), figures, folded(told), finding=finding)


def _paths(table: pd.DataFrame, boundary: dict[tuple[str, str, int], float]) -> Picture:
    """The answer along some counterfactuals, beside the truth."""
    last = [rows.iloc[-1] for _, rows in table.groupby(["origin", "target", "sample_index"], sort=False)]
    turned = [sum(row[f"{who}_probability"] > 0.5 for row in last) for who in ("classifier", "bayes")]
    alt = f"At the end of {len(last)} paths the classifier calls {turned[0]} the target, Bayes' rule {turned[1]}."
    return Picture("truth-posteriors", posteriors(table, boundary), _POSTERIORS, data=table, alt=alt)


def _finding(summary: dict[str, Any]) -> str:
    """How many of the counterfactuals that the classifier believes are true ones."""
    truly = share(summary["bayes_reached"])
    return f"{truly} of {counted(summary['n'], 'counterfactual')} truly are of the target class (Bayes' rule)"


def _cosine(summary: dict[str, Any]) -> str:
    return (
        f"The change of the factors has a mean cosine of {number(summary['cosine'], 2)} with the difference of the "
        "classes' means."
    )


def _lead(summary: dict[str, Any]) -> str:
    """How many counterfactuals are true ones, and how far behind the truth is."""
    lead = (
        f"Of {counted(summary['n'], 'counterfactual')} whose image the classifier calls the target, "
        f"{share(summary['bayes_reached'])} truly are of that class by Bayes' rule on their factors; going on along "
        f"the same line {share(summary['bayes_on_path'])} get there"
    )
    gap = summary["gap_median"]
    if gap is not None and np.isfinite(gap):
        side = "after" if gap > 0 else "before"
        lead += f", in the median {number(abs(gap), 2)} of the path {side} the classifier's boundary"
    return f"{lead}. {_cosine(summary)}"


facts_as_metrics("boundary_truth", "summary", "bayes_reached", "bayes_on_path", "gap_median", "cosine")


def boundaries(table: pd.DataFrame, end: float) -> Figure:
    """Left: both boundaries of each counterfactual; right: how sure Bayes is where the classifier changes its answer.

    Args:
        table: classifier and bayes (positions; NaN: not before the end of the path), posterior.
        end: of the path.
    """
    figure, axes = sheet(WIDE, 3.2, 1, 2, lines="y")
    left, right = axes[0]
    both = known(known(table, "classifier"), "bayes")
    diagonal(left, 0, end)
    dots(left, both["classifier"], both["bayes"], PAIRING["cycle"])
    beyond = known(table, "classifier")
    beyond = beyond[~np.isfinite(np.asarray(beyond["bayes"], dtype=float))]
    if len(beyond):
        dots(left, beyond["classifier"], 1.04 * end, LINK_RED)
        left.text(0.02 * end, 1.09 * end, f"never on the path: {len(beyond)}", size=8, color=LINK_RED, va="bottom")
    left.set(xlabel="the classifier's boundary (position)", ylabel="true boundary (position)")
    left.set(xlim=(0, 1.02), ylim=(0, 1.16 * end))
    right.hist(column(table, "posterior"), bins=np.linspace(0, 1, 21).tolist(), color=PAIRING["cycle"])
    right.axvline(0.5, color=MUTED, linewidth=1, linestyle=DASHED)
    right.set(xlabel="true probability of the target at the classifier's boundary", ylabel="counterfactuals")
    right.set_xlim(0, 1)
    return figure


def posteriors(table: pd.DataFrame, boundary: dict[tuple[str, str, int], float]) -> Figure:
    """A panel per trajectory: the classifier's and the true probability of the target along it.

    Args:
        table: "posterior_paths": origin, target, sample_index, position, bayes_probability, classifier_probability.
        boundary: the classifier's, by origin, target and sample.
    """
    rows = table[["origin", "target", "sample_index"]].drop_duplicates().itertuples(index=False)
    figure, panels = facets(rows, 4, 2.2, 0.5, sharey=True, lines="y")
    for axis, (origin, target, index) in panels:
        path = where(table, origin=origin, target=target, sample_index=index)
        position, dashed = path["position"], {"color": INK, "linewidth": 1.6, "linestyle": "--"}
        axis.plot(position, path["classifier_probability"], color=PAIRING["cycle"], linewidth=2, label="classifier")
        axis.plot(position, path["bayes_probability"], label="truth (Bayes)", **dashed)
        at = boundary.get((origin, target, int(index)), np.nan)
        if np.isfinite(at):
            axis.axvline(at, color=MUTED, linestyle=(0, (2, 2)), linewidth=1.2)
        axis.set_title(plain(arrow(origin, target)), size=8.5)
        axis.set(ylim=(-0.05, 1.05), xlabel="position")
    panels[0][0].set_ylabel("p(target)")
    panels[0][0].legend(loc="best", fontsize=8)
    return figure


def factors(table: pd.DataFrame, pairs: Sequence[tuple[str, str]], most: int = 10) -> Figure:
    """For some pairs of classes the factors that a counterfactual moves most, beside what tells the classes apart.

    Args:
        table: "factors": origin, target, factor, change, difference.
        pairs: origins and targets that are drawn.
        most: factors per pair.
    """
    figure, axes = sheet(WIDE, 0.7 + 0.23 * most, 1, len(pairs))
    for axis, (origin, target) in zip(axes[0], pairs, strict=True):
        rows = where(table, origin=origin, target=target)
        size = np.abs(rows[["change", "difference"]].to_numpy(dtype=float)).max(axis=1)
        _factors(axis, rows.iloc[np.argsort(-size, kind="stable")[:most]])
        axis.set_title(plain(arrow(origin, target)), size=8.5)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper right", ncols=2, fontsize=8)
    figure.supxlabel("change of the true factor (latent units)", size=9)
    return figure


def _factors(axis: Axes, table: pd.DataFrame) -> None:
    rows = range(len(table))
    axis.barh(rows, table["difference"], height=0.7, color=PAIRING["random"], label="difference of the classes")
    axis.barh(rows, table["change"], height=0.34, color=SERIES[0], label="counterfactual")
    axis.axvline(0, color=MUTED, linewidth=0.8)
    names_down(axis, [plain(name) for name in table["factor"]])
    axis.set_ylim(len(table) - 0.4, -0.6)
    axis.tick_params(axis="y", labelsize=8)
