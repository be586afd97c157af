"""Prints the tables of `experiments/bau_gan/README.md` from finished runs, as Markdown.

    python experiments/dissection_tables.py outputs/<date>/<time> …       # runs of analysis=dissect_gan

First how many parts of each run lose more by their best units than by random ones (q ≤ 0.05 over all rows of the run),
then a table of all parts for each run.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pandas as pd

from lis.plain import print_anywhere
from lis.statistics import SIGNIFICANT


def summary(runs: dict[str, pd.DataFrame]) -> str:
    """A row per run, a column per number of removed units."""
    counts = sorted({n for table in runs.values() for n in table["units"]})
    lines = ["| run | parts | " + " | ".join(f"n = {n}" for n in counts) + " |", "|---" * (2 + len(counts)) + "|"]
    for name, table in runs.items():
        called = [int((table.loc[table["units"] == n, "q"] <= SIGNIFICANT).sum()) for n in counts]
        lines.append(f"| {name} | {table['part'].nunique()} | " + " | ".join(map(str, called)) + " |")
    return "\n".join(lines)


def parts(table: pd.DataFrame) -> str:
    """A row per part: what share of its area is gone, beside random units with their middle 95 %, and q."""
    counts = sorted(table["units"].unique())
    heads = [f"n = {n}: gone | random (95 %) | q" for n in counts]
    lines = ["| part | share of image | " + " | ".join(heads) + " |", "|---" * (2 + 3 * len(counts)) + "|"]
    for name, rows in table.groupby("part", sort=False):
        cells = [f"{100 * rows['baseline'].iloc[0]:.1f} %"]
        for row in rows.sort_values("units").to_dict("records"):
            change, control, low, high = (f"{100 * row[key]:.0f}" for key in ("change", "control", "low", "high"))
            q = f"**{row['q']:.3f}**" if row["q"] <= SIGNIFICANT else f"{row['q']:.3f}"
            cells += [f"{change} %", f"{control} % ({low} to {high})", q]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def title(folder: Path) -> str:
    """Classes and layer of a run."""
    overrides = json.loads((folder / "summary.json").read_text())["overrides"]
    values = dict(override.partition("=")[::2] for override in overrides)
    return f"{values.get('classes', 'dogs')}, {values.get('dissect_gan.layer', 'b16.1')}"


def main() -> None:
    """Print what the runs say."""
    print_anywhere()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="folders of runs")
    options = parser.parse_args()
    tables = {title(run): pd.read_parquet(run / "tables" / "dissect_gan" / "removal.parquet") for run in options.runs}
    print(summary(tables))
    for name, table in tables.items():
        print(f"\n## Removal, {name}\n\n{parts(table)}")


if __name__ == "__main__":
    main()
