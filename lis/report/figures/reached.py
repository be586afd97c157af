"""How often a counterfactual is found, how far away, and how few units it needs."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib.figure import Figure

from lis.report.figures.heat import ONE_SIDED, matrices
from lis.report.figures.marks import errors, note
from lis.report.frames import known, records
from lis.report.labels import number
from lis.report.style import INK, MUTED, PAIRING, SERIES, WIDE, light_grid, sheet, styled


@styled
def reached(pairs: pd.DataFrame, class_names: Sequence[str]) -> Figure:
    """Three matrices, origins down and targets across: share that reaches its target, steps, distance in W.

    Args:
        pairs: origin, target, rate, steps, w_distance.
        class_names: rows and columns.
    """
    panels = [
        ("target reached, %", pairs, "rate", (0, 1), lambda x: f"{100 * x:.0f}", ONE_SIDED),
        ("steps (median)", pairs, "steps", (0, None), lambda x: f"{x:,.0f}", ONE_SIDED),
        ("distance in W", pairs, "w_distance", (0, None), lambda x: number(x, 2), ONE_SIDED),
    ]
    rows, columns, height = ("origin", class_names), ("target", class_names), 1.0 + 0.36 * len(class_names)
    return matrices(panels, rows, columns, height, beside=3, pad=10, y="from")


@styled
def trade_off(summary: pd.DataFrame) -> Figure:
    """What an L1 penalty buys: left, units moved over the penalty; right, success and probability over the units moved.

    Args:
        summary: l1, units, units_low, units_high, rate, low, high, probability.
    """
    table = summary.sort_values("l1")
    figure, axes = sheet(WIDE, 2.9, 1, 2)
    left, right = axes[0]
    order, units, rate = range(len(table)), table["units"], table["rate"]
    errors(left, order, units, table["units_low"], table["units_high"], PAIRING["cycle"])
    left.set_xticks(order, [number(float(x), 2) for x in table["l1"]])
    left.set(xlabel="weight of the L1 penalty on Δr", ylabel="units moved", ylim=(0, None), title="Units that move")
    errors(right, units, rate, table["low"], table["high"], SERIES[0], label="target reached")
    right.plot(units, table["probability"], "s-", color=SERIES[2], markersize=5, label="probability of the target")
    for row in records(known(known(table, "units"), "rate")):
        note(right, number(row["l1"], 2), (row["units"], row["rate"]), (5, 4), ha="left", size=7.5, color=MUTED)
    right.set(xlabel="units moved (median)", ylabel="share, probability", ylim=(0, 1.1))
    right.set_title("What is left of the effect")
    right.legend(loc="lower right")
    for axis in (left, right):
        axis.tick_params(labelcolor=INK)
        light_grid(axis, "y")
    return figure
