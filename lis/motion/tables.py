"""What was followed, as tables: a row per unit and sample, and medians over samples.

Medians, since one alignment that goes wrong can be far out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lis.matching.affine import decompose
from lis.quantify.averages import axial_median
from lis.units.perturbation import Perturbation
from lis.units.tables import long_table

GLOBAL = ("dx", "dy", "rotation", "scale", "shear")
"""Columns that tell what an affine map does."""


def track_table(
    along: Sequence[Perturbation],
    samples: dict[str, Tensor],
    found: dict[str, Any],
    size: tuple[int, int],
    class_names: Sequence[str],
) -> pd.DataFrame:
    """Table "tracks" of the stage "motion", a row per unit and sample.

    Args:
        along: what was followed.
        samples: class_index and sample_index, `[n]` each.
        found: total `[along · n, T, 2, 3]`, figure and agreement `[along · n]`, and reasons, samples running fastest.
        size: height and width of the images that were matched.
        class_names: the classes of the run.
    """
    moved, n = decompose(found["total"][:, -1], size), len(samples["class_index"])
    table = long_table({"place": range(len(along)), "sample": range(n)}, {})
    place, sample = table["place"].to_numpy(dtype=int), table["sample"].to_numpy(dtype=int)
    return pd.DataFrame(
        {
            "name": np.asarray([p.label for p in along])[place],
            "unit": np.asarray([p.unit for p in along])[place],
            "class": np.asarray(class_names)[samples["class_index"].numpy()[sample]],
            "sample_index": samples["sample_index"].numpy()[sample],
            **{name: getattr(moved, name).numpy() for name in GLOBAL},
            "figure": found["figure"].numpy(),
            "agreement": found["agreement"].numpy(),
            "reason": found["reasons"],
        }
    )


def local_table(tracks: pd.DataFrame, found: dict[str, Any], labels: Sequence[str]) -> pd.DataFrame:
    """Table "local" of the stage "motion", a row per unit, sample and label.

    Args:
        tracks: table "tracks".
        found: strength `[rows, K]` and drift `[rows, K, 2]`, in the order of "tracks".
        labels: K names.
    """
    columns = {"strength": found["strength"], "x": found["drift"][..., 0], "y": found["drift"][..., 1]}
    table = long_table({"row": range(len(tracks)), "label": list(labels)}, columns)
    row = table.pop("row").to_numpy(dtype=int)
    for place, name in enumerate(("name", "unit", "class", "sample_index")):
        table.insert(place, name, tracks[name].to_numpy()[row])
    return table


def unit_table(along: Sequence[Perturbation], tracks: pd.DataFrame) -> pd.DataFrame:
    """Table "units" of the stage "motion": ranges, and medians over the samples that have a motion (n).

    Rotations by 170° and −170° have a median of 180°: that of directions.
    """
    table = _medians(tracks, ["name"], [*GLOBAL, "figure"])
    turns = [torch.tensor(own["rotation"].to_numpy(float)) for _, own in tracks.groupby("name", sort=False)]
    table["rotation"] = [2 * float(axial_median(degrees / 2)) for degrees in turns]
    ranges = {p.label: (p.unit, p.low, p.high) for p in along}
    for place, name in enumerate(("unit", "low", "high")):
        table.insert(1 + place, name, [ranges[label][place] for label in table["name"]])
    return table


def part_table(local: pd.DataFrame) -> pd.DataFrame:
    """Table "parts" of the stage "motion": medians over samples, and the number of those that have the part (n)."""
    return _medians(local, ["name", "unit", "label"], ["strength", "x", "y"])


def _medians(table: pd.DataFrame, by: list[str], columns: list[str]) -> pd.DataFrame:
    """Medians of the columns in each group, in the order of the table, and n: the rows where the first one is known."""
    grouped = table.groupby(by, sort=False)
    medians = pd.DataFrame(grouped[columns].median())
    return medians.assign(n=grouped[columns[0]].count()).reset_index()
