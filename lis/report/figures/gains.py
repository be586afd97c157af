"""What each link gains over least squares: a panel per metric, a row per setting (supplement S3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lis.report.figures.marks import dot, names_down, note
from lis.report.frames import records, split
from lis.report.labels import metric_label, wrapped
from lis.report.style import MUTED, PANEL, RULE, WIDE, link_colour, plain, sheet, styled

_APART = 0.3
"""Distance of two links of a setting; settings are 1 apart."""


@styled
def gains(table: pd.DataFrame, labels: Mapping[str, str]) -> Figure:
    """Dots with 95 % intervals; right of zero, which is LR, a link is better.

    Args:
        table: `inner`, `link`, `metric`, `gain`, `margin`; the last two as fractions of LR's mean distance.
        labels: link to the name that is written.
    """
    metrics, settings = split(table, "metric"), list(dict.fromkeys(table["inner"]))
    height = 1.2 + (0.3 + 0.1 * len(labels)) * len(settings)
    figure, axes = sheet(WIDE, height, 1, len(metrics), sharex=True, sharey=True)
    for axis, (metric, rows) in zip(axes[0], metrics.items(), strict=True):
        _panel(axis, rows, settings, list(labels))
        axis.set_title(plain(metric_label(metric)), pad=16)
    names_down(axes[0, 0], [wrapped(name, 26) for name in settings], axes[0, 1:])
    axes[0, 0].set_xlim(*_limits(table))
    for place, (link, name) in enumerate(labels.items()):
        axes[0, 0].plot([], [], "o", color=link_colour(link, place), label=plain(name))
    figure.legend(loc="outside upper right", ncols=len(labels), handletextpad=0.2)
    figure.supxlabel("how much smaller the distance is than LR's (%)", size=9)
    return figure


def _panel(axis: Axes, table: pd.DataFrame, settings: Sequence[str], links: Sequence[str]) -> None:
    axis.axvspan(-1e6, 0, color=PANEL, linewidth=0)
    axis.axvline(0, color=link_colour("lr"), linewidth=1.6)
    for row in records(table):
        place = links.index(row["link"])
        at = settings.index(row["inner"]) + _APART * (place - (len(links) - 1) / 2)
        low, high = (100 * (row["gain"] + side * row["margin"]) for side in (-1, 1))
        dot(axis, 100 * row["gain"], low, high, at, link_colour(row["link"], place))
    for line in range(1, len(settings)):
        axis.axhline(line - 0.5, color=RULE, linewidth=0.7)
    for text, x, side in (("← worse", -4, "right"), ("better →", 4, "left")):
        note(axis, text, (0, 1), (x, 3), ha=side, xycoords=axis.get_xaxis_transform(), color=MUTED)
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:+g}".replace("-", "−") if value else "LR")


def _limits(table: pd.DataFrame) -> tuple[float, float]:
    """All dots and intervals, and a part on either side of zero that the words above it fit on."""
    gain, margin = (np.nan_to_num(np.asarray(table[name], dtype=float)) for name in ("gain", "margin"))
    low, high = 100 * min(0.0, (gain - margin).min()), 100 * max(0.0, (gain + margin).max())
    span = (high - low) or 1.0
    return min(low - 0.05 * span, -0.3 * span), max(high + 0.05 * span, 0.3 * span)
