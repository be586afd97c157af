"""How far measured changes are the true ones: a finding of worlds that know theirs."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.stats import t as student

from lis.report.findings import Finding, finding
from lis.report.section import anchor
from lis.report.source import Source
from lis.report.tables import column, ends, known, mean, records, where
from lis.report.wording import counted, number, signed, words
from lis.statistics import HEAD, SIGNIFICANT, benjamini_hochberg

_QUESTION = "Are the measured changes the true ones?"


@finding(60, "truth", "agreement")
def changes_are_true(source: Source) -> Finding | None:
    """How far the segmenter and the exact masks rank units alike, by the first measure that is compared."""
    table = known(where(source.table("truth", "agreement"), interpreted=True), "spearman")
    if table.empty:
        return None
    measure = records(table)[0]["measure"]
    first = where(table, measure=measure)
    rho, worst = column(first, "spearman"), ends(first, "spearman")[0]
    q = benjamini_hochberg(spearman_p(rho, column(first, "ranked")))
    alike, units = int(((q <= SIGNIFICANT) & (rho > 0)).sum()), int(worst["units"])
    several = len(first) > 1
    agrees = "agrees" if alike == len(first) else f"agrees for {alike} of {counted(len(first), 'part')}"
    agrees = agrees if alike else "does not agree"
    told = (
        f"The order of {counted(units, 'unit')} by how much they change the "
        f"{'area' if measure == 'extent' else measure} of a part {agrees} between the "
        f"segmenter, a network that marks parts, and the exact masks: Spearman's ρ {signed(rho.mean())}"
    )
    lowest = f" on average, lowest for the {words(worst['label'])} ({signed(worst['spearman'])})" if several else ""
    head = min(HEAD, units)
    control = (
        f"ρ 0 by chance, q ≤ 0.05 in {alike} of {counted(len(first), 'part')}; {number(mean(first, 'overlap'), 2)} of "
        f"the first {head} units agree, by chance {number(head**2 / units, 2)}"
    )
    sentence, address = f"{told}{lowest}.{_least_alike(table, measure)}", anchor("Measured and true changes")
    return Finding(_QUESTION, f"ρ {signed(rho.mean())}", sentence, control, address, (worst["label"],) * several)


def spearman_p(rho: np.ndarray, units: np.ndarray) -> np.ndarray:
    """Two-sided p of Spearman's ρ `[n]` over so many units `[n]`, by Student's t with two degrees of freedom less.

    Example:
        >>> spearman_p(np.array([0.0, 0.9]), np.array([20, 20])).round(6).tolist()
        [1.0, 0.0]
    """
    freedom = np.maximum(units - 2, 1)
    return 2 * student.sf(np.abs(rho) * np.sqrt(freedom / np.maximum(1 - rho**2, 1e-12)), freedom)


def _least_alike(table: pd.DataFrame, first: str) -> str:
    """The measure, other than the first and the paper's relative area, whose changes are least the true ones."""
    measures = [name for name in dict.fromkeys(table["measure"]) if name not in (first, "relative")]
    if not measures:
        return ""
    worst = min(measures, key=lambda name: mean(where(table, measure=name), "spearman"))
    return f" Least alike: the {worst} ({signed(mean(where(table, measure=worst), 'spearman'))})."
