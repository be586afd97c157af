"""What survives the cycle of the true factors of a world that knows them (part world)."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lis.report.marks import names_down
from lis.report.section import Picture, Section, section
from lis.report.source import Source
from lis.report.style import HALF, PAIRING, RULE, WIDE, plain, sheet
from lis.report.tables import column, ends, mean, records
from lis.report.wording import listing, number, words

SURVIVES = 0.2
"""R² within classes from which on a true factor is said to survive the cycle; the mean of the class has 0."""
_LONG = 12
"""Factors up to which one column is enough."""


@section(250, "evaluation", "factors")
def true_factors(source: Source) -> Section | None:
    """How well each factor of a world with known truth survives."""
    table = source.table("evaluation", "factors").dropna().sort_values("r2_within", ascending=False)
    if table.empty:
        return None
    names = [words(row["factor"]) for row in records(table)]
    r2, within = (number(mean(table, name), 2) for name in ("r2", "r2_within"))
    lead = (
        f"Of {len(table)} true factors, the mean R² after the cycle is {r2} over all samples and {within} within "
        f"classes; {names[0]} survives best, {names[-1]} least."
    )
    lost = [words(row["factor"]) for row in records(table) if row["r2_within"] < SURVIVES]
    notes = [f"Hardly any of {listing(lost)} survives within classes (R² below {SURVIVES})."] if lost else []
    caption = "R² of each true factor of w̃ against that of w, over all samples and within classes (0: the class mean)."
    low, high = (number(row["r2_within"], 2) for row in ends(table, "r2_within"))
    alt = f"R² within classes falls from {high} for {names[0]} to {low} for {names[-1]}."
    picture = Picture("factors", factors(table), caption, data=table, alt=alt, aside=True)
    return Section("True factors", lead, [picture], notes=notes, finding=_surviving(len(table) - len(lost), len(table)))


def _surviving(count: int, factors: int) -> str:
    if not count:
        return f"No true factor survives within classes (R² below {SURVIVES})"
    return f"{count} of {factors} true factors survive within classes (R² ≥ {SURVIVES})"


def factors(table: pd.DataFrame) -> Figure:
    """R² of each true factor over all samples (filled) and within classes (open), ordered by the latter.

    Args:
        table: `factor`, `r2`, `r2_within`.
    """
    table = table.sort_values("r2_within", ascending=False)
    columns = 2 if len(table) > _LONG else 1
    length = -(-len(table) // columns)
    floor = max(-0.5, min(0.0, column(table, "r2_within").min() - 0.05))
    figure, axes = sheet(WIDE if columns == 2 else HALF, 0.75 + 0.22 * length, 1, columns)
    for index, axis in enumerate(axes[0]):
        _factors(axis, table.iloc[index * length : (index + 1) * length], floor)
        axis.set_ylim(length - 0.5, -0.5)
    axis = axes[0, 0]
    axis.plot([], [], "o", color=PAIRING["cycle"], label="over all samples")
    axis.plot([], [], "o", color="white", markeredgecolor=PAIRING["cycle"], label="within classes")
    figure.legend(loc="outside upper left", ncols=2, handletextpad=0.2)
    return figure


def _factors(axis: Axes, table: pd.DataFrame, floor: float) -> None:
    rows, (overall, within) = range(len(table)), table[["r2", "r2_within"]].clip(lower=floor).to_numpy(dtype=float).T
    colour = PAIRING["cycle"]
    axis.hlines(rows, within, overall, color=RULE, linewidth=2)
    axis.plot(within, rows, "o", color="white", markeredgecolor=colour, markeredgewidth=1.5, markersize=5.5)
    axis.plot(overall, rows, "o", color=colour, markersize=5.5)
    names_down(axis, [plain(name) for name in table["factor"]])
    axis.set(xlim=(floor - 0.03, 1.03), xlabel="R² of the true factor after the cycle")
