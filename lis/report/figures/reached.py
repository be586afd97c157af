"""How often a counterfactual is found, how far away, and how few units it needs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lis.report.figures.heat import ONE_SIDED, heat, matrix
from lis.report.labels import number
from lis.report.style import INK, MUTED, PAIRING, SERIES, WIDE, light_grid, sheet, styled


@styled
def reached(pairs: pd.DataFrame, class_names: Sequence[str]) -> Figure:
    """Three matrices, origins down and targets across: share that reaches its target, steps, distance in W.

    Args:
        pairs: origin, target, rate, steps, w_distance.
        class_names: rows and columns.
    """
    texts: dict[str, tuple[str, Callable[[float], str]]] = {
        "target reached": ("rate", lambda x: f"{100 * x:.0f}"),
        "steps (median)": ("steps", lambda x: f"{x:,.0f}"),
        "distance in W": ("w_distance", lambda x: number(x, 2)),
    }
    figure, axes = sheet(WIDE, 1.0 + 0.36 * len(class_names), 1, 3)
    for place, (title, (name, text)) in enumerate(texts.items()):
        values = matrix(pairs, ("origin", class_names), ("target", class_names), name)
        known = values[np.isfinite(values)]
        limits = (0.0, 1.0) if name == "rate" else (0.0, float(known.max()) if len(known) else 1.0)
        heat(axes[0, place], values, class_names if place == 0 else [], class_names, limits, text, ONE_SIDED)
        axes[0, place].set_title(f"{title}, %" if name == "rate" else title, pad=10)
    axes[0, 0].set_ylabel("from")
    return figure


@styled
def trade_off(summary: pd.DataFrame) -> Figure:
    """What an L1 penalty buys: left, units moved over the penalty; right, success and probability over the units moved.

    Args:
        summary: l1, units, units_low, units_high, rate, low, high, probability.
    """
    table = summary.sort_values("l1")
    figure, axes = sheet(WIDE, 2.9, 1, 2)
    left, right = axes[0]
    place, units = np.arange(len(table)), table["units"].to_numpy(dtype=float)
    spans = [np.abs(table[name].to_numpy(dtype=float) - units) for name in ("units_low", "units_high")]
    left.errorbar(place, units, spans, fmt="o-", color=PAIRING["cycle"], markersize=5, elinewidth=1.2)
    left.set_xticks(place, [number(float(x), 2) for x in table["l1"]])
    left.set(xlabel="weight of the L1 penalty on Δr", ylabel="units moved", ylim=(0, None), title="Units that move")
    rate = table["rate"].to_numpy(dtype=float)
    bounds = [np.abs(table[name].to_numpy(dtype=float) - rate) for name in ("low", "high")]
    right.errorbar(units, rate, bounds, fmt="o-", color=SERIES[0], markersize=5, elinewidth=1.2, label="target reached")
    right.plot(units, table["probability"], "s-", color=SERIES[2], markersize=5, label="probability of the target")
    for x, y, penalty in zip(units, rate, table["l1"], strict=True):
        if np.isfinite([x, y]).all():
            right.annotate(number(float(penalty), 2), (x, y), (5, 4), textcoords="offset points", size=7.5, color=MUTED)
    right.set(
        xlabel="units moved (median)", ylabel="share, probability", ylim=(0, 1.1), title="What is left of the effect"
    )
    right.legend(loc="lower right")
    for axis in (left, right):
        axis.tick_params(labelcolor=INK)
        light_grid(axis, "y")
    return figure
