"""Prints the tables of `experiments/bau_gan/README.md` from finished runs, as Markdown.

    python experiments/dissection_tables.py outputs/<date>/<time> …       # runs of analysis=dissect_gan

First how many parts of each run lose more by their best units than by random ones (q ≤ 0.05 over all rows of the run),
then a table of all parts for each run. Runs are told by what their stage "dissect_gan" says of itself.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from finished import Run, Tables, markdown, print_tables

from lis.report.tables import records, split
from lis.statistics import SIGNIFICANT

STAGE = "dissect_gan"


def summary(runs: Sequence[Run]) -> str:
    """A row per run, a column per number of removed units."""
    tables = [run.frame(STAGE, "removal") for run in runs]
    counts = sorted({n for table in tables for n in table["units"]})
    rows = [
        [title(run), str(table["part"].nunique()), *called(table, counts)]
        for run, table in zip(runs, tables, strict=True)
    ]
    return markdown(["run", "parts", *(f"n = {n}" for n in counts)], rows)


def called(table: pd.DataFrame, counts: Sequence[int]) -> list[str]:
    """Parts with q ≤ 0.05 by the number of removed units; a dash for one that the run does not test."""
    tested = split(table, "units")
    return [str(np.count_nonzero(tested[n]["q"] <= SIGNIFICANT)) if n in tested else "–" for n in counts]


def parts(table: pd.DataFrame) -> str:
    """A row per part: what share of its area is gone, beside random units with their middle 95 %, and q."""
    heads = [head for n in sorted(table["units"].unique()) for head in (f"n = {n}: gone", "random (95 %)", "q")]
    rows = []
    for name, tested in split(table, "part").items():
        cells = [str(name), f"{100 * tested['baseline'].iloc[0]:.1f} %"]
        for row in records(tested.sort_values("units")):
            change, control, low, high = (f"{100 * row[key]:.0f}" for key in ("change", "control", "low", "high"))
            q = f"**{row['q']:.3f}**" if row["q"] <= SIGNIFICANT else f"{row['q']:.3f}"
            cells += [f"{change} %", f"{control} % ({low} to {high})", q]
        rows.append(cells)
    return markdown(["part", "share of image", *heads], rows)


def title(run: Run) -> str:
    """Classes and layer of a run, what its units were set to, its samples in all, and its random sets."""
    facts = run.json(STAGE, "facts")
    value = f"quantile {facts['value_quantile']}" if facts["value"] == "quantile" else facts["value"]
    return f"{run.name}, {facts['layer']}, {value}, {facts['samples']} samples, {facts['draws']} draws"


def removals(runs: Sequence[Run]) -> str:
    """A table per run."""
    return "\n".join(f"### {title(run)}\n\n{parts(run.frame(STAGE, 'removal'))}" for run in runs)


TABLES: Tables = {
    "All runs": ((STAGE,), summary),
    "Removal": ((STAGE,), removals),
}


if __name__ == "__main__":
    print_tables(TABLES, __doc__)
