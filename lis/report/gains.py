"""What other links gain over the least squares of LR, on the same test samples of a sweep (Fig. S1–S3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lis.report.jobs import Job
from lis.report.marks import dot, names_down, note
from lis.report.section import Picture, Section, Table, section
from lis.report.style import MUTED, PANEL, RULE, WIDE, link_colour, plain, sheet
from lis.report.tables import ends, records, split, where
from lis.report.wording import gain, link_label, metric_label, wrapped

REFERENCE = "lr"
PAIRED = ["class", "sample_index"]
"""What names a test sample."""
_95 = 1.96
_NAMED = 6
"""Settings up to which all are named in the sentence above the figure."""
_GAINS_CAPTION = (
    "How much smaller the mean distance after the cycle is than LR's on the same test samples, in percent of LR's: "
    "right of zero (+) is better than LR, left (−) is worse. Lines are 95 % intervals over test samples; each link was "
    "fitted once."
)
_NOTE = (
    "LR fits every unit freely: where it has few pairs per unit it also fits noise. A gain over LR is one of "
    "nonlinearity only as far as ridge, which is linear too, does not reach it (link=lr,ridge,…)."
)
_APART = 0.3
"""Distance of two links of a setting; settings are 1 apart."""


@section(300, page="comparison")
def gains(jobs: Sequence[Job]) -> Section | None:
    """A figure and a table per value of the outer settings; None unless LR and another link were run."""
    table = gain_table(jobs)
    if table.empty:
        return None
    pictures, tables = [], []
    for index, outer in enumerate(dict.fromkeys(table["outer"])):
        part, start = where(table, outer=outer), f"{outer}: " if outer else ""
        figure = gains_figure(part, {str(link): link_label(str(link)) for link in part["link"]})
        alt = f"{_extremes(part)}."
        pictures.append(Picture(f"gains-{index + 1}", figure, f"{start}{_GAINS_CAPTION}", data=part, alt=alt))
        tables.append(_table(part, f"{start}Gain over LR, and half the width of its 95 % interval."))
    return Section("Gain over LR", _gains_lead(table), pictures, tables, [_NOTE], finding=_extremes(table))


def gain_table(jobs: Sequence[Job]) -> pd.DataFrame:
    """A row per setting, link other than LR, and metric.

    Columns: `outer`, `inner` (the setting), `link`, `metric`, `gain` (1 − mean distance after the cycle / that of LR),
    `margin` (half width of its 95 % interval).
    """
    rows = []
    for job in jobs:
        reference = next((other for other in jobs if other.link == REFERENCE and other.column == job.column), None)
        if job.link == REFERENCE or reference is None or job.samples is None or reference.samples is None:
            continue
        both = cycle_distances(job.samples).merge(
            cycle_distances(reference.samples), on=[*PAIRED, "metric"], suffixes=("", "_lr")
        )
        for metric in dict.fromkeys(both["metric"]):
            subset = where(both, metric=metric)
            ratio, margin = ratio_of_means(subset["value"].to_numpy(), subset["value_lr"].to_numpy())
            setting = {"outer": job.outer, "inner": job.inner, "link": job.link}
            rows.append(setting | {"metric": metric, "gain": 1 - ratio, "margin": margin})
    return pd.DataFrame(rows, columns=["outer", "inner", "link", "metric", "gain", "margin"])


def ratio_of_means(values: np.ndarray, reference: np.ndarray) -> tuple[float, float]:
    """Ratio of the means of paired values `[n]`, and half the width of its 95 % interval.

    The interval is that of the ratio estimator (Cochran 1977, Sampling Techniques, §6.3): the variance of
    x − R·y, divided by n and by the squared mean of y. It is not a number below two samples.
    """
    ratio = values.mean() / reference.mean()
    if len(values) < 2:
        return float(ratio), float("nan")
    error = (values - ratio * reference).std(ddof=1) / (len(values) ** 0.5 * reference.mean())
    return float(ratio), float(_95 * error)


def cycle_distances(samples: pd.DataFrame) -> pd.DataFrame:
    """The distance of every test sample after the cycle: class, sample_index, metric, value; of table "samples"."""
    return pd.DataFrame(where(samples, pairing="cycle"), columns=[*PAIRED, "metric", "value"])


def _table(part: pd.DataFrame, caption: str) -> Table:
    cells = {(row["inner"], row["link"], row["metric"]): gain(row["gain"], row["margin"]) for row in records(part)}
    metrics = list(dict.fromkeys(part["metric"]))
    rows = [
        [setting, link_label(link), *(cells.get((setting, link, metric), "–") for metric in metrics)]
        for setting, link in dict.fromkeys(key[:2] for key in cells)
    ]
    return Table(caption, ["", "link", *(metric_label(metric) for metric in metrics)], rows)


def _gains_lead(table: pd.DataFrame) -> str:
    """The best other link of each setting in the first metric, from the largest gain to the smallest."""
    metric = table["metric"].iloc[0]
    ranked = where(table, metric=metric).sort_values("gain", ascending=False, kind="stable")
    best = records(ranked.drop_duplicates(["outer", "inner"]))
    told = []
    for row in best:
        setting = ", ".join(filter(None, (row["outer"], row["inner"])))
        told.append(f"{setting + ': ' if setting else ''}{gain(row['gain'])} ({link_label(row['link'])})")
    told = told if len(told) <= _NAMED else [*told[:2], "…", *told[-2:]]
    return f"What the best other link gains over LR in {metric_label(metric)}: {'; '.join(told)}."


def _extremes(table: pd.DataFrame) -> str:
    """The smallest and the largest gain in the first metric, each with half the width of its 95 % interval."""
    metric = table["metric"].iloc[0]
    told = [
        f"{gain(row['gain'], row['margin'])} ({', '.join(filter(None, (link_label(row['link']), row['inner'])))})"
        for row in ends(where(table, metric=metric), "gain")
    ]
    return f"The gain over LR in {metric_label(metric)} is {' to '.join(dict.fromkeys(told))}"


def gains_figure(table: pd.DataFrame, labels: Mapping[str, str]) -> Figure:
    """Dots with 95 % intervals; right of zero, which is LR, a link is better.

    Args:
        table: `inner`, `link`, `metric`, `gain`, `margin`; the last two as fractions of LR's mean distance.
        labels: link to the name that is written.
    """
    metrics, settings = split(table, "metric"), list(dict.fromkeys(table["inner"]))
    height = 1.2 + (0.3 + 0.1 * len(labels)) * len(settings)
    figure, axes = sheet(WIDE, height, 1, len(metrics), sharex=True, sharey=True)
    for axis, (metric, rows) in zip(axes[0], metrics.items(), strict=True):
        _gains_panel(axis, rows, settings, list(labels))
        axis.set_title(plain(metric_label(metric)), pad=16)
    names_down(axes[0, 0], [wrapped(name, 26) for name in settings], axes[0, 1:])
    axes[0, 0].set_xlim(*_limits(table))
    for index, (link, name) in enumerate(labels.items()):
        axes[0, 0].plot([], [], "o", color=link_colour(link, index), label=plain(name))
    figure.legend(loc="outside upper right", ncols=len(labels), handletextpad=0.2)
    figure.supxlabel("how much smaller the distance is than LR's (%)", size=9)
    return figure


def _gains_panel(axis: Axes, table: pd.DataFrame, settings: Sequence[str], links: Sequence[str]) -> None:
    axis.axvspan(-1e6, 0, color=PANEL, linewidth=0)
    axis.axvline(0, color=link_colour("lr"), linewidth=1.6)
    for row in records(table):
        index = links.index(row["link"])
        at = settings.index(row["inner"]) + _APART * (index - (len(links) - 1) / 2)
        low, high = (100 * (row["gain"] + side * row["margin"]) for side in (-1, 1))
        dot(axis, 100 * row["gain"], low, high, at, link_colour(row["link"], index))
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
