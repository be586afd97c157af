"""The forward model that units are moved by: how well r follows from w, and what was chosen by that."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lis.report.arrival import along, which_way_here
from lis.report.marks import ring
from lis.report.section import Picture, Section, Table, folded, means_as_metrics, section
from lis.report.source import Source
from lis.report.style import INK, MUTED, SERIES, WIDE, sheet
from lis.report.tables import column, largest, mean, records, where
from lis.report.wording import number, sentences, share

_FIGURE = (
    "Left: R² of each live unit within classes, of samples that the forward model was not fitted to; 0: no better than "
    "the mean of its class, the line is the mean over units. Right: that mean by the ridge, relative to the mean "
    "variance of w along its axes; the ring is what was chosen."
)
_PENALTIES = (
    "Penalties λ that were tried on some units, each asked to change by ±1 standard deviation. Own: share of it that "
    "arrives in the image, encoded again; others: root mean square change of the other live units per standard "
    "deviation of the unit's own; more: share of these that move more. Bold: chosen."
)
_NOTE = (
    "R² says how much of a unit a linear map of w can tell: the smaller it is, the longer the step in w for the same "
    "change, and the further other units move along."
)
_UNFITTED = (
    "There are too few training pairs of a class for a forward model, so that nothing is told of r by w, nor which "
    "images lie beyond 99 % of the samples: pairs.train is to be larger."
)
means_as_metrics("directions", "units", "r2")


@section(730, "directions", "ridge", "units", "penalty")
def forward_model(source: Source) -> Section:
    """R² of the units, the ridge, and the penalty where one was chosen."""
    ridges, units = source.table("directions", "ridge"), source.table("directions", "units")
    penalties = source.table("directions", "penalty")
    r2 = column(units, "r2")
    if not len(ridges):
        finding = "Too few pairs of a class to say how well r follows from w"
        return Section("Forward model", sentences(_UNFITTED, which_way_here(source)), finding=finding)
    if not len(r2):
        return Section(
            "Forward model", "No unit is live, so that nothing is told of r by w.", finding="No unit is live"
        )
    top = largest(units, "r2")
    lead = (
        f"Within classes, w tells {share(float(r2.mean()))} of the variance of a unit (held out, mean over {len(r2)} "
        f"live units; most, {share(top['r2'])}, of unit {top['unit']})."
    )
    low, middle, high = (share(x) for x in np.quantile(r2, [0, 0.5, 1]))
    alt = f"R² of single units spreads from {low} to {high}, half of them above {middle}."
    lead = sentences(lead, which_way_here(source))
    figure = Picture("forward-model", fits(units, ridges), _FIGURE, data=units, alt=alt, aside=True)
    tables = folded(penalty_table(penalties)) if len(penalties) else []
    notes = [_NOTE] if along(source) != "link" else []
    return Section("Forward model", lead, [figure], tables, notes, _finding(float(r2.mean())))


def _finding(r2: float) -> str:
    if r2 <= 0:
        return "Within classes w tells nothing of a unit (held out)"
    return f"Within classes w tells {share(r2)} of a unit's variance (held out)"


def penalty_table(penalties: pd.DataFrame) -> Table:
    """The table "penalty" of `directions` as text."""
    rows = records(penalties)
    cells = [
        [
            f"{row['penalty']:g}",
            share(row["own"]),
            number(row["others"], 2),
            share(row["more"]),
            f"{row['images']:,.0f}",
        ]
        for row in rows
    ]
    bold = frozenset((k, 0) for k, row in enumerate(rows) if row["chosen"])
    return Table(_PENALTIES, ["λ", "own", "others per own", "more", "images"], cells, bold)


def fits(units: pd.DataFrame, ridges: pd.DataFrame) -> Figure:
    """Held-out R²: over units, and by the ridge; tables "units" and "ridge" of `directions`."""
    figure, axes = sheet(0.8 * WIDE, 2.6, 1, 2)
    left: Axes = axes[0, 0]
    right: Axes = axes[0, 1]
    left.hist(column(units, "r2"), bins=24, color=SERIES[0], alpha=0.85)
    left.axvline(mean(units, "r2"), color=INK, linewidth=1.4)
    left.set(xlabel="R² of r on w within classes, held out", ylabel="units")
    at = np.arange(len(ridges))
    right.plot(at, ridges["r2"], "o-", color=MUTED)
    chosen = where(ridges.assign(at=at), chosen=True)
    ring(right, float(chosen["at"].iloc[0]), float(chosen["r2"].iloc[0]))
    right.set_xticks(at, [f"{ridge:g}" for ridge in ridges["ridge"]])
    right.set(xlabel="ridge", ylabel="mean R²")
    right.margins(0.12)
    return figure
