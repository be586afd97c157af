"""A finished run, and how the numbers of `tables.py` and `boundary_tables.py` are written."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from lis.plain import print_anywhere
from lis.report.claims import decides
from lis.report.tables import records
from lis.store import Artifact

UNDECIDED = "undecided"
"""Instead of a number of units that are called, where so few random directions can call none."""
CHANGE = {
    "area": "{:+.0%}",
    "luminance": "{:+.0%}",
    "entropy": "{:+.2f}",
    "eccentricity": "{:+.2f}",
    "angle": "{:+.0f}°",
}
"""How a mean change is written."""
Rows = Iterator[tuple[list[str], list[str]]]
"""Columns and cells of each row of a run, in a table of several runs."""
Tables = Mapping[str, tuple[Sequence[str], Callable[[Sequence["Run"]], str]]]
"""What a table is for, the stages that it reads, and how it is written: runs without these are left out."""


class Run:
    """A finished run."""

    def __init__(self, folder: Path, store: Path) -> None:
        summary = json.loads((folder / "summary.json").read_text())
        self.name: str = summary["choices"]["classes"]
        settings = yaml.safe_load((folder / ".hydra" / "config.yaml").read_text())
        self.row = [self.name, settings["tuning"]["along"]]
        """What a row of a table begins with."""
        self.objective: str = settings["counterfactuals"]["objective"]
        """Whose logits counterfactuals followed."""
        self._artifacts = {
            stage: Artifact(next(store.glob(f"*/{key}")), key, {}) for stage, key in summary["artifacts"].items()
        }

    def has(self, stage: str) -> bool:
        """Whether the run computed a stage."""
        return stage in self._artifacts

    def frame(self, stage: str, name: str) -> pd.DataFrame:
        """A table of one of its stages."""
        return self._artifacts[stage].table(name)

    def rows(self, stage: str, name: str) -> list[dict[str, Any]]:
        """The rows of a table of one of its stages."""
        return records(self.frame(stage, name))

    def json(self, stage: str, name: str) -> dict[str, Any]:
        """An object of one of its stages."""
        return self._artifacts[stage].json(name)

    def called(self, family: str, told: str) -> str:
        """How many units are called in a family of tests of "unit_statistics", or that nothing can be (`decides`)."""
        return told if decides(self._artifacts["unit_statistics"], family) else UNDECIDED


def means(rows: Iterable[dict[str, Any]], value: Callable[[dict[str, Any]], float], *keys: str) -> dict[tuple, float]:
    """Mean of a value by the values of some keys, NaN left out, in the order of the rows."""
    groups: dict[tuple, list[float]] = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in keys), []).append(value(row))
    return {key: float(np.nanmean(values)) for key, values in groups.items()}


def markdown(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def written(measure: str, change: float) -> str:
    """A change with its sign, as text; a log₂ ratio of areas as what it comes to."""
    change = 2**change - 1 if measure == "area" else change
    return "–" if np.isnan(change) else CHANGE[measure].format(change).replace("-", "−").replace("%", " %")


def based(row: dict[str, Any]) -> str:
    """A mean change, with the resultant length of angles, and the samples that have it where not all do."""
    facts = [written(row["measure"], row["change"])]
    facts += [f"R {row['resultant']:.2f}"] if row["measure"] == "angle" else []
    return ", ".join([*facts, *([f"{row['n']} of {row['samples']}"] if row["n"] < row["samples"] else [])])


def share(values: Iterable[float]) -> str:
    """The mean of what is 0 or 1, in percent."""
    return f"{100 * np.nanmean([float(value) for value in values]):.1f} %"


def with_control(value: float, control: float) -> str:
    """A number and that of random directions."""
    return f"{value:.2f} ({control:.2f})"


def average(rows: Iterable[dict[str, Any]], name: str) -> float:
    """Mean of a column, NaN left out; NaN where all are."""
    values = np.array([row[name] for row in rows], dtype=float)
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")


def print_tables(tables: Tables, description: str | None) -> None:
    """The command line of a program that prints tables of finished runs.

    Args:
        tables: in order.
        description: of the program.
    """
    print_anywhere()
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--store", type=Path, default=Path("outputs/store"))
    arguments = parser.parse_args()
    runs = [Run(folder, arguments.store) for folder in arguments.runs]
    for title, (stages, table) in tables.items():
        if chosen := [run for run in runs if all(run.has(stage) for stage in stages)]:
            print(f"## {title}\n\n{table(chosen)}")
