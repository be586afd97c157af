"""How the link was fitted, and what it says about single units (paper §3.1, supplement S2)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from lis.report.figures.fit import equally_good, ridge_path, training_curve, unit_steps
from lis.report.frames import column, largest, where
from lis.report.labels import LINKS_IN_WORDS, PC_TARGETS, interval, listing, number
from lis.report.sections import Picture, Section, metrics, prefixed, section
from lis.report.source import Source
from lis.store import Artifact

_NUMBERS = ("samples", "rank", "dead", "near_dead", "ridge")


@section(610, "link", "fit")
def fit(source: Source) -> Section:
    """The fit: its size, error against step size along the ridge path, the training curve."""
    lead, figures, notes = _fit_lead(source, source.json("link", "fit")), [], []
    if source.has("link", "path"):
        table = source.table("link", "path")
        figures.append(Picture("ridge-path", ridge_path(table), _PATH))
        notes.append(_weakly_identified(table))
    if source.has("link", "curve"):
        curve = training_curve(source.table("link", "curve"))
        figures.append(Picture("training-curve", curve, "Loss per epoch; the dot marks the weights that were kept."))
    return Section("The fit", lead, figures, notes=notes)


_PATH = (
    "Error against the mean step of a unit along the ridge path. Units are collinear: what a single unit does to w is "
    "weakly identified, what all do together is not. The ridge is a stated choice."
)


def _fit_lead(source: Source, facts: dict[str, Any]) -> str:
    link = source.facts.link
    words = f" ({LINKS_IN_WORDS[link]})" if link in LINKS_IN_WORDS else ""
    time = f" in {number(facts['seconds'], 2)} s" if "seconds" in facts else ""
    details = [
        f"{source.facts.link_label}{words} maps {facts['units']} units to the {facts['w_dim']} dimensions of W",
        f"fitted to {facts['samples']:,} pairs{time}",
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


@section(620, "link", "units")
def units(source: Source) -> Section:
    """How far single units move w."""
    table = source.table("link", "units")
    counts = [f"{len(where(table, status=status))} {status}" for status in ("live", "near-dead", "dead")]
    lead = f"The classifier has {len(table)} units: {listing(counts)}."
    steps = column(where(table, status="live"), "step_norm")
    if not len(steps):
        return Section("Units", lead, notes=["The link is not linear: a unit has no step of its own."])
    top = largest(where(table, status="live"), "step_norm")
    step = interval(top["step_norm"], top["step_norm_low"], top["step_norm_high"])
    lead += f" The largest step is that of unit {top['unit']}, {step}; the median is {number(np.median(steps))}."
    caption = (
        "Step of w̃ when a unit goes from its smallest to its largest activation. Intervals: jackknife over blocks of "
        "the training pairs."
    )
    return Section("Units", lead, [Picture("units", unit_steps(table), caption)])


@metrics("link")
def link_numbers(artifact: Artifact) -> dict[str, float]:
    """`link/{samples, rank, dead, near_dead, ridge}`."""
    fit = artifact.json("fit") if artifact.has("fit") else {}
    return prefixed("link", {key: fit[key] for key in _NUMBERS if isinstance(fit.get(key), int | float)})
