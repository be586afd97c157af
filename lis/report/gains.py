"""What a link gains over least squares on the same samples: do nonlinear links pay? (supplement S3)"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from lis.report.figures.gains import gains as figure_of
from lis.report.frames import records, where
from lis.report.jobs import Job
from lis.report.labels import gain, link_label, metric_label
from lis.report.sections import Picture, Section, Table

REFERENCE = "lr"
_PAIRED = ["class", "sample_index"]
_95 = 1.96
_NAMED = 6
"""Settings up to which all are named in the sentence above the figure."""
_CAPTION = (
    "How much smaller the mean distance after the cycle is than LR's on the same test samples, in percent of LR's: "
    "right of zero (+) is better than LR, left (−) is worse. Lines are 95 % intervals over test samples; each link was "
    "fitted once."
)
_NOTE = (
    "LR fits every unit freely: where it has few pairs per unit it also fits noise. A gain over LR is one of "
    "nonlinearity only as far as ridge, which is linear too, does not reach it (link=lr,ridge,…)."
)


def gains(jobs: Sequence[Job]) -> Section | None:
    """A figure and a table per value of the outer settings; None unless LR and another link were run."""
    table = gain_table(jobs)
    if table.empty:
        return None
    pictures, tables = [], []
    for place, outer in enumerate(dict.fromkeys(table["outer"])):
        part, start = where(table, outer=outer), f"{outer}: " if outer else ""
        pictures.append(Picture(f"gains-{place + 1}", figure_of(part, _labels(part)), f"{start}{_CAPTION}"))
        tables.append(_table(part, f"{start}Gain over LR, and half the width of its 95 % interval."))
    return Section("Gain over LR", _lead(table), pictures, tables, [_NOTE])


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
        both = _cycle(job.samples).merge(_cycle(reference.samples), on=[*_PAIRED, "metric"], suffixes=("", "_lr"))
        for metric in dict.fromkeys(both["metric"]):
            own = where(both, metric=metric)
            ratio, margin = ratio_of_means(own["value"].to_numpy(), own["value_lr"].to_numpy())
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


def _cycle(samples: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(where(samples, pairing="cycle"), columns=[*_PAIRED, "metric", "value"])


def _labels(table: pd.DataFrame) -> dict[str, str]:
    return {str(link): link_label(str(link)) for link in table["link"]}


def _table(part: pd.DataFrame, caption: str) -> Table:
    cells = {(row["inner"], row["link"], row["metric"]): gain(row["gain"], row["margin"]) for row in records(part)}
    metrics = list(dict.fromkeys(part["metric"]))
    rows = [
        [setting, link_label(link), *(cells.get((setting, link, metric), "–") for metric in metrics)]
        for setting, link in dict.fromkeys(key[:2] for key in cells)
    ]
    return Table(caption, ["", "link", *(metric_label(metric) for metric in metrics)], rows)


def _lead(table: pd.DataFrame) -> str:
    """The best other link of each setting in the first metric, from the largest gain to the smallest."""
    metric = table["metric"].iloc[0]
    ranked = where(table, metric=metric).sort_values("gain", ascending=False, kind="stable")
    best = records(ranked.drop_duplicates(["outer", "inner"]))
    names = [", ".join(filter(None, (row["outer"], row["inner"]))) for row in best]
    found = [
        f"{name + ': ' if name else ''}{gain(row['gain'])} ({link_label(row['link'])})"
        for name, row in zip(names, best, strict=True)
    ]
    found = found if len(found) <= _NAMED else [*found[:2], "…", *found[-2:]]
    return f"What the best other link gains over LR in {metric_label(metric)}: {'; '.join(found)}."
