"""How the link was fitted, and what it says about single units (paper §3.1, supplement S2)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lis.report.marks import PLAIN, above, dot, names_down, note, ring, wants_log
from lis.report.schematic import rank_of_w
from lis.report.section import Picture, Section, metrics, prefixed, section
from lis.report.source import Source
from lis.report.style import HALF, LINK_RED, MUTED, PAIRING, PANEL, RULE, WIDE, light_grid, sheet
from lis.report.tables import column, ends, known, largest, records, where
from lis.report.wording import LINKS_IN_WORDS, PC_TARGETS, interval, listing, number, share
from lis.store import Artifact

_NUMBERS = ("samples", "rank", "dead", "near_dead", "ridge")
_PATH = (
    "Error against the mean step of a unit along the ridge path. Units are collinear: what a single unit does to w is "
    "weakly identified, what all do together is not. The ridge is a stated choice."
)
_CURVE = "Loss per epoch; the dot marks the weights that were kept."
_STEPS = (
    "Step of w̃ when a unit goes from its smallest to its largest activation. Intervals: jackknife over blocks of the "
    "training pairs."
)
TOLERANCE = 1.05
"""Errors up to this multiple of the smallest count as equally good."""
_TOP = 20
"""Units that are named one by one."""


@section(710, "link", "fit")
def fit(source: Source) -> Section:
    """The fit: its size, error against step size along the ridge path, the training curve."""
    facts, figures, notes = source.json("link", "fit"), [], []
    finding = f"{facts['units']} units are linked to W by {facts['samples']:,} pairs{_seconds(facts)}"
    if source.has("link", "path"):
        table = source.table("link", "path")
        figures.append(Picture("ridge-path", ridge_path(table), _PATH, data=table, alt=_path_alt(table), aside=True))
        notes.append(_weakly_identified(table))
    if source.has("link", "curve"):
        table = source.table("link", "curve")
        curve = training_curve(table)
        figures.append(Picture("training-curve", curve, _CURVE, data=table, alt=_trained(table), aside=True))
    return Section("The fit", _fit_lead(source, facts), figures, notes=notes, finding=finding)


def _seconds(facts: dict[str, Any]) -> str:
    """How long the fit took; nothing where that is not known."""
    return f" in {number(facts['seconds'], 2)} s" if "seconds" in facts else ""


def _path_alt(path: pd.DataFrame) -> str:
    low, high = (number(step, 2) for step in equally_good(path))
    return f"The error stays within 5 % of the smallest while the mean step of a unit goes from {low} to {high}."


def _trained(curve: pd.DataFrame) -> str:
    best = ends(curve, "validation_loss")[0]
    return f"The validation loss is smallest in epoch {int(best['epoch'])} of {len(curve)}."


def ceiling(source: Source) -> list[str]:
    """In how many dimensions W varies, and how much of single units can arrive at most; nothing where nobody knows."""
    rank, units = rank_of_w(source), source.facts.units
    if not 0 < rank < units:
        return []
    return [
        f"Within classes W varies in {rank} of its {source.facts.w_dim} dimensions, so that {units:,} units can move "
        f"in no more than {rank} ways of their own. If all others were held exactly, at most {share(rank / units)} "
        f"of a unit's change could be made on average (rank / units, as far as units follow w linearly). “What "
        f"arrives” asks something else: there the other units go along, which is why more arrives."
    ]


def _fit_lead(source: Source, facts: dict[str, Any]) -> str:
    link = source.facts.link
    words = f" ({LINKS_IN_WORDS[link]})" if link in LINKS_IN_WORDS else ""
    details = [
        f"{source.facts.link_label}{words} maps {facts['units']} units to the {facts['w_dim']} dimensions of W",
        f"fitted to {facts['samples']:,} pairs{_seconds(facts)}",
        f"the units span {facts['rank']} dimensions" if facts.get("rank") is not None else "",
        f"ridge {number(facts['ridge'], 2)}" if facts.get("ridge") else "",
        PC_TARGETS.get(facts.get("pc_target") or "", ""),
    ]
    return "; ".join(filter(None, details)) + "."


def _weakly_identified(path: pd.DataFrame) -> str:
    low, high = equally_good(path)
    ratio = high / low if low else float("inf")
    return (
        f"Links whose error is within 5 % of the smallest move w by between {number(low, 2)} and {number(high, 2)} per "
        f"unit, a factor of {number(ratio, 2)} that the error hardly sees: read the size of a single unit's step "
        f"together with its interval."
    )


@section(720, "link", "units")
def units(source: Source) -> Section:
    """How far single units move w."""
    table = source.table("link", "units")
    counts = [f"{len(where(table, status=status))} {status}" for status in ("live", "near-dead", "dead")]
    finding = f"{len(where(table, status='live'))} of {len(table)} units are live"
    lead = f"The classifier has {len(table)} units: {listing(counts)}."
    steps = column(where(table, status="live"), "step_norm")
    if not len(steps):
        return Section("Units", lead, notes=["The link is not linear: a unit has no step of its own."], finding=finding)
    top = largest(where(table, status="live"), "step_norm")
    step = interval(top["step_norm"], top["step_norm_low"], top["step_norm_high"])
    lead += f" The largest step is that of unit {top['unit']}, {step}; the median is {number(np.median(steps))}."
    low, middle, high = (number(x) for x in np.quantile(steps, [0, 0.5, 1]))
    alt = f"Steps of live units spread from {low} to {high}, half of them below {middle}."
    picture = Picture("units", unit_steps(table), _STEPS, data=table, alt=alt, aside=True)
    return Section("Units", lead, [picture], finding=f"{finding}; the largest step is {step}")


@metrics("link")
def link_numbers(artifact: Artifact) -> dict[str, float]:
    """`link/{samples, rank, dead, near_dead, ridge}`."""
    fit = artifact.json("fit") if artifact.has("fit") else {}
    return prefixed("link", {key: fit[key] for key in _NUMBERS if isinstance(fit.get(key), int | float)})


def ridge_path(path: pd.DataFrame) -> Figure:
    """Error against the mean step of a unit along the ridge path, the chosen ridge marked.

    A flat stretch means that steps of very different size predict w equally well: units are collinear, and one row of
    the link is weakly identified.

    Args:
        path: `ridge`, `gcv_mse`, `mean_step_norm`, `chosen` (one row true).
    """
    path = _finite(path).sort_values("ridge")
    figure, axes = sheet(HALF, 3.3)
    axis: Axes = axes[0, 0]
    axis.plot(path["mean_step_norm"], path["gcv_mse"], "-", color=RULE, linewidth=2, zorder=1)
    regular = path[path["ridge"] > 0]
    shade = np.linspace(0.3, 0.95, max(len(regular), 1))
    axis.scatter(regular["mean_step_norm"], regular["gcv_mse"], c=shade, cmap="Blues", vmin=0, vmax=1, s=22, zorder=2)
    low, high = equally_good(path)
    axis.axvspan(low, high, color=PANEL, zorder=0)
    text, style = "error within 5 %\nof the smallest ", {"color": MUTED, "size": 8.5, "va": "top", "ha": "right"}
    above(axis, high, 0.97, text, linespacing=1.3, **style)
    _name_points(axis, path)
    scales = ("mean_step_norm", axis.xaxis, axis.set_xscale), ("gcv_mse", axis.yaxis, axis.set_yscale)
    for name, ticks, set_scale in scales:
        if wants_log(column(path, name), 8):
            set_scale("log")
            ticks.set_major_formatter(PLAIN)
    axis.margins(0.16)
    axis.set(xlabel="mean step of a unit in W, ‖Δw‖ over its range", ylabel="cross-validated MSE in W")
    return figure


def equally_good(path: pd.DataFrame) -> tuple[float, float]:
    """The smallest and the largest mean step among the links whose error is within 5 % of the smallest."""
    path = _finite(path)
    error, step = column(path, "gcv_mse"), column(path, "mean_step_norm")
    good = step[error <= TOLERANCE * error.min()]
    return float(good.min()), float(good.max())


def _finite(path: pd.DataFrame) -> pd.DataFrame:
    """Without the points at which there are no degrees of freedom left, and the criterion is not defined."""
    return known(known(path, "gcv_mse"), "mean_step_norm")


def _name_points(axis: Axes, path: pd.DataFrame) -> None:
    rows = records(path)
    ends = (rows[0], (0, 10), {"va": "bottom"}), (rows[-1], (9, 0), {"ha": "left", "va": "center"})
    notes = [(row, "", offset, style, MUTED) for row, offset, style in ends if not row["chosen"]]
    for row in records(where(path, chosen=True)):
        ring(axis, row["mean_step_norm"], row["gcv_mse"])
        near = row["gcv_mse"] <= 1.02 * min(row["gcv_mse"] for row in rows)
        notes.append((row, "chosen: ", (0, -10 if near else 10), {"va": "top" if near else "bottom"}, LINK_RED))
    for row, start, offset, style, colour in notes:
        text = f"ridge {float(format(row['ridge'], '.2g')):g}" if row["ridge"] else "no ridge"
        note(axis, start + text, (row["mean_step_norm"], row["gcv_mse"]), offset, size=8.5, color=colour, **style)


def training_curve(curve: pd.DataFrame) -> Figure:
    """Training and validation loss per epoch, the epoch that was kept marked.

    Args:
        curve: `epoch`, `train_loss`, `validation_loss`.
    """
    figure, axes = sheet(HALF, 3.0, lines="y")
    axis: Axes = axes[0, 0]
    axis.plot(curve["epoch"], curve["train_loss"], color=PAIRING["within-class"], label="training")
    axis.plot(curve["epoch"], curve["validation_loss"], color=PAIRING["cycle"], label="validation")
    best = ends(curve, "validation_loss")[0]
    point = (best["epoch"], best["validation_loss"])
    axis.plot(*point, "o", color=LINK_RED, markersize=6)
    text = f"kept: epoch {int(point[0])}, {number(point[1])}"
    note(axis, text, point, (0, 12), ha="right", size=9, color=LINK_RED, weight="bold")
    if wants_log(curve[["train_loss", "validation_loss"]].to_numpy(dtype=float).ravel(), 8):
        axis.set_yscale("log")
    axis.set(xlabel="epoch", ylabel="loss")
    axis.legend(loc="upper right")
    return figure


def unit_steps(units: pd.DataFrame) -> Figure:
    """How far each unit moves w over its range: all units, and the largest with their jackknife intervals.

    Args:
        units: `unit`, `status` (`live`, `near-dead`, `dead`), `step_norm`, `step_norm_low`, `step_norm_high`.
    """
    figure, axes = sheet(WIDE, 3.7, 1, 2, width_ratios=[1.25, 1])
    _histogram(axes[0, 0], units)
    _largest(axes[0, 1], where(units, status="live").nlargest(_TOP, columns="step_norm"))
    return figure


def _histogram(axis: Axes, units: pd.DataFrame) -> None:
    live = column(where(units, status="live"), "step_norm")
    axis.hist(live, bins=min(40, max(8, len(live) // 6)), color=PAIRING["cycle"], edgecolor="white", linewidth=0.6)
    median = float(np.median(live)) if len(live) else float("nan")
    axis.axvline(median, color=LINK_RED, linewidth=1.2)
    above(axis, median, 0.98, f"  median {number(median)}", color=LINK_RED, va="top")
    counts = ", ".join(f"{len(where(units, status=status))} {status}" for status in ("live", "near-dead", "dead"))
    axis.set(xlabel="step of a unit in W, ‖Δw‖ over its range", ylabel="live units", title=f"All units: {counts}")
    axis.set_ylim(0, 1.14 * axis.get_ylim()[1])
    axis.set_xlim(left=0)
    axis.yaxis.set_major_locator(MaxNLocator(integer=True))
    light_grid(axis, "y")


def _largest(axis: Axes, top: pd.DataFrame) -> None:
    for at, row in enumerate(records(top)):
        dot(axis, row["step_norm"], row["step_norm_low"], row["step_norm_high"], at, PAIRING["cycle"])
    names_down(axis, [f"{unit}" for unit in top["unit"]])
    axis.tick_params(axis="y", labelsize=7.5)
    axis.set(xlabel="step in W, with jackknife interval", title=f"The {len(top)} largest, live", ylabel="unit")
    axis.set_xlim(left=0)
