"""Prints the tables of `experiments/fig*/README.md` from finished runs, as Markdown.

    python experiments/tables.py outputs/<date>/<time> …       # runs of analysis=demo, one per class set

Every number is read from the artifacts that the runs name in their `summary.json`.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lis.plain import print_anywhere
from lis.quantify.measures import MEASURES
from lis.report.tables import records
from lis.store import Artifact
from lis.units.truth import COMPARED

CHANGE = {
    "area": "{:+.0%}",
    "luminance": "{:+.0%}",
    "entropy": "{:+.2f}",
    "eccentricity": "{:+.2f}",
    "angle": "{:+.0f}°",
}
"""How a mean change is written."""
BEYOND = 0.05
"""Units whose share of random directions with a larger effect is below this are counted."""


QUANTILES = (0, 0.25, 0.5, 0.75, 1)


class Run:
    """A finished run."""

    def __init__(self, folder: Path, store: Path) -> None:
        summary = json.loads((folder / "summary.json").read_text())
        self.name: str = summary["choices"]["classes"]
        self._artifacts = {
            stage: Artifact(next(store.glob(f"*/{key}")), key, {}) for stage, key in summary["artifacts"].items()
        }

    def rows(self, stage: str, name: str) -> list[dict[str, Any]]:
        """The rows of a table of one of its stages."""
        return records(self._artifacts[stage].table(name))

    def json(self, stage: str, name: str) -> dict[str, Any]:
        """An object of one of its stages."""
        return self._artifacts[stage].json(name)


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


def leaders(run: Run) -> str:
    """The first unit of every ranking with its mean change (Fig. 4A; S21, S26)."""
    first = [row for row in run.rows("unit_statistics", "ranking") if row["rank"] == 1 and row["interpreted"]]
    cell = {(row["label"], row["measure"]): f"{row['unit']} ({based(row)})" for row in first}
    labels = dict.fromkeys(row["label"] for row in first)
    return markdown(["label", *MEASURES], [[label, *(cell[label, m] for m in MEASURES)] for label in labels])


def faithful(run: Run) -> str:
    """Beyond random directions, agreement of classes, and what arrives (Fig. 4)."""
    ranked = [
        row for row in run.rows("unit_statistics", "ranking") if row["interpreted"] and not np.isnan(row["change"])
    ]
    beyond = means(ranked, lambda row: row["p_control"] < BEYOND, "measure")
    same = means(run.rows("unit_statistics", "agreement"), lambda row: row["r"], "measure")
    arrived = {
        name: float(np.nanmean([row[name] for row in run.rows("unit_statistics", "faithfulness")]))
        for name in ("reencoded_share", "off_target")
    }
    rows = [
        [run.name, "beyond 95 % of random directions", *(f"{100 * beyond[m,]:.1f} %" for m in MEASURES)],
        ["", "r between classes", *(f"{same[m,]:.2f}" for m in MEASURES)],
    ]
    arrives = (
        f"re-encoded share {arrived['reencoded_share']:.1%}, "
        f"off-target change {arrived['off_target']:.2f} standard deviations\n"
    )
    return markdown(["set", "measure of change", *MEASURES], rows) + arrives


def true(run: Run) -> str:
    """Measured ranking beside the true one (Fig. 4, S9)."""
    found = run.json("truth", "summary")
    rows = [
        [run.name, "ρ", *(f"{found[m]['spearman']:.2f}" for m in COMPARED)],
        ["", "of first 10", *(f"{found[m]['overlap']:.1f}" for m in COMPARED)],
    ]
    return markdown(["set", "", *COMPARED], rows)


def sparse_units(run: Run) -> str:
    """Label sparsity of units, random directions in brackets (Fig. 5A), and the strongest labels (5B)."""
    units, control = (
        means(run.rows("unit_statistics", name), lambda row: row["sparsity"], "class", "measure")
        for name in ("label_sparsity", "label_sparsity_control")
    )
    columns = [*MEASURES, "all"]
    rows = [
        [name.replace("_", " "), *(f"{units[name, m]:.2f} ({control[name, m]:.2f})" for m in columns)]
        for name in dict.fromkeys(name for name, _ in units)
    ]
    strongest = Counter(row["label"] for row in run.rows("unit_statistics", "map"))
    counts = ", ".join(f"{label} {count}" for label, count in strongest.most_common())
    return markdown(["class", *columns], rows) + f"strongest label: {counts}\n"


def sparse_labels(run: Run) -> str:
    """Unit sparsity of labels (S13)."""
    cell = means(run.rows("unit_statistics", "unit_sparsity"), lambda row: row["sparsity"], "label", "measure")
    labels = dict.fromkeys(label for label, _ in cell)
    rows = [[run.name, label, *(f"{cell[label, m]:.2f}" for m in MEASURES)] for label in labels]
    return markdown(["set", "label", *MEASURES], rows)


def overlaps(run: Run) -> str:
    """Units that the heads of two measures share (S10, S11)."""
    found = means(run.rows("unit_statistics", "overlap"), lambda row: row["overlap"], "measure_a", "measure_b")
    names = [f"{a} and {b}" for a, b in found]
    return markdown(["set", *names], [[run.name, *(f"{value:.2f}" for value in found.values())]])


def distributions(run: Run) -> str:
    """Skew and excess kurtosis of the changes (S12)."""
    rows = run.rows("unit_statistics", "distribution")
    cells = [f"{row['skew']:.2f} / {row['kurtosis']:.1f}".replace("-", "−") for row in rows]
    largest = f"n {max(row['n'] for row in rows):,}, largest p {max(row['p_normal'] for row in rows):.1g}\n"
    return markdown(["set", *(row["measure"] for row in rows)], [[run.name, *cells]]) + largest


def transferred(run: Run) -> str:
    """The leading unit of every label and measure in each class (S22)."""
    found = run.rows("unit_statistics", "transfer")
    cell = {(row["label"], row["measure"], row["class"]): written(row["measure"], row["change"]) for row in found}
    classes = list(dict.fromkeys(row["class"] for row in found))
    heads = dict.fromkeys((row["label"], row["measure"], str(row["unit"])) for row in found)
    rows = [[*head, *(cell[*head[:2], name] for name in classes)] for head in heads]
    return markdown(["label", "measure", "unit", *classes], rows)


def segmented(run: Run) -> str:
    """IoU of every part (S7) and of single images (S8)."""
    pooled = [row for row in run.rows("segmentation", "iou") if row["class"] == "all"]
    cell = {(row["kind"], row["label"]): row["iou"] for row in pooled}
    kinds, labels = (dict.fromkeys(row[name] for row in pooled) for name in ("kind", "label"))
    mean = {kind: np.mean([cell[kind, label] for label in labels]) for kind in kinds}
    rows = [[kind, *(f"{cell[kind, label]:.2f}" for label in labels), f"{mean[kind]:.3f}"] for kind in kinds]
    parts = markdown([run.name, *labels, "mean"], rows)
    single = {kind: [row["iou"] for row in run.rows("segmentation", "images") if row["kind"] == kind] for kind in kinds}
    spread = [[run.name, kind, *(f"{v:.2f}" for v in np.nanquantile(single[kind], QUANTILES))] for kind in kinds]
    names = ["set", "images", "lowest", "quarter", "median", "three quarters", "highest"]
    return parts + "\n" + markdown(names, spread) + f"training: {run.json('segmenter', 'fit')['seconds']:.1f} s\n"


TABLES = {
    "figS7, figS8": segmented,
    "fig4 leaders; figS21, figS26": leaders,
    "fig4": faithful,
    "fig4 truth, figS9": true,
    "fig5": sparse_units,
    "figS10, figS11": overlaps,
    "figS12": distributions,
    "figS13": sparse_labels,
    "figS22": transferred,
}


def main() -> None:
    """The command line."""
    print_anywhere()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--store", type=Path, default=Path("outputs/store"))
    arguments = parser.parse_args()
    runs = [Run(folder, arguments.store) for folder in arguments.runs]
    for title, table in TABLES.items():
        print(f"## {title}\n")
        for run in runs:
            print(table(run))


if __name__ == "__main__":
    main()
