"""Which units are tuned for a movement of the whole figure: their effect over samples against shuffled units (S15).

A unit's effect is the length of its median over samples: what samples do in all directions cancels, and one alignment
that goes wrong says little. Under the null hypothesis it does not matter which unit was tuned, so the units are
shuffled within each sample: those that have a motion there, so that a unit keeps its number of samples.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from lis.statistics import SIGNIFICANT, benjamini_hochberg

KINDS = {"translation": ("dx", "dy"), "rotation": ("rotation",), "scale": ("log_scale",), "shear": ("shear",)}
"""Columns that each kind of movement is made of."""
_LEAST = 2
"""Samples, and units, below which nothing is tested."""


def tuned_table(tracks: pd.DataFrame, shuffles: int, rng: np.random.Generator) -> pd.DataFrame:
    """A row per unit and kind of movement.

    Columns: name, unit, kind, strength (length of the median over samples; pixels, degrees, log factor, shear), p
    (share of shuffles with at least this strength), q (p adjusted over units, Benjamini & Hochberg 1995), n (samples).

    Args:
        tracks: table "tracks" of the stage "motion".
        shuffles: how many.
        rng: random numbers.
    """
    table = tracks.assign(log_scale=np.log(tracks["scale"]))
    first = table.drop_duplicates("name")
    names, units = first["name"].tolist(), first["unit"].tolist()
    samples = table.groupby(["class", "sample_index"], sort=False).ngroup().to_numpy()
    rows = []
    for kind, columns in KINDS.items():
        values = np.full((len(names), samples.max(initial=-1) + 1, len(columns)), np.nan)
        values[[names.index(name) for name in table["name"]], samples] = table[list(columns)].to_numpy()
        p = shuffled_p(values, shuffles, rng)
        numbers = {"strength": effect(values), "p": p, "q": benjamini_hochberg(p), "n": known(values).sum(1)}
        rows.append(pd.DataFrame({"name": names, "unit": units, "kind": kind} | numbers))
    return pd.concat(rows, ignore_index=True)


def tuned_units(table: pd.DataFrame, kind: str) -> pd.DataFrame:
    """The rows of a table "tuned" of the units that are tuned for a kind of movement, the strongest first."""
    rows = table[(table["kind"] == kind) & (table["q"] <= SIGNIFICANT)]
    return pd.DataFrame(rows).sort_values("strength", ascending=False)


def known(values: np.ndarray) -> np.ndarray:
    """Which samples of `values [units, samples, columns]` have all columns, `[units, samples]` bool."""
    return np.asarray(np.isfinite(values).all(axis=2))


def effect(values: np.ndarray) -> np.ndarray:
    """Length of the median over samples, `[units]`, of `values [units, samples, columns]`; NaN samples are left out.

    Example:
        >>> effect(np.array([[[3.0, 0.0], [3.0, 8.0]], [[1.0, 0.0], [-1.0, 0.0]]])).tolist()
        [5.0, 0.0]
    """
    there = known(values)
    ordered, n = np.sort(np.where(there[..., None], values, np.inf), axis=1), there.sum(1)
    middle = np.stack([(n - 1) // 2, n // 2])  # the same index twice where n is odd
    index = np.broadcast_to(middle[:, :, None, None], (2, len(n), 1, values.shape[2]))
    ends = [np.take_along_axis(ordered, at.clip(0), 1)[:, 0] for at in index]
    return np.where(n > 0, np.linalg.norm((ends[0] + ends[1]) / 2, axis=1), np.nan)


def shuffled_p(values: np.ndarray, shuffles: int, rng: np.random.Generator) -> np.ndarray:
    """p of each unit's effect: (1 + shuffles that give at least as much) / (1 + shuffles).

    Args:
        values: `[units, samples, columns]`, NaN where a sample has none.
        shuffles: how often the units are permuted, in each sample for itself.
        rng: random numbers.

    Returns:
        `[units]`; NaN with fewer than two units, and for a unit with fewer than two samples.
    """
    units = len(values)
    observed, count = effect(values), known(values).sum(1)
    if units < _LEAST:
        return np.full(units, np.nan)
    there, larger = known(values), np.zeros(units)
    for _ in range(shuffles):
        control = effect(shuffled(values, there, rng))
        larger += control >= observed - 1e-12  # the order itself counts, whatever the rounding
    return np.where(count < _LEAST, np.nan, (1 + larger) / (1 + shuffles))


def shuffled(values: np.ndarray, there: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """`values [units, samples, columns]` with the units permuted in each sample, among those that are `there`.

    Example:
        >>> values = np.array([[[1.0]], [[np.nan]], [[1.0]]])
        >>> shuffled(values, known(values), np.random.default_rng(0)).ravel().tolist()
        [1.0, nan, 1.0]
    """
    units = np.arange(len(values))[:, None]
    index = np.argsort(np.where(there, units, np.inf), axis=0, kind="stable")
    source = np.argsort(np.where(there, rng.random(there.shape), np.inf), axis=0, kind="stable")
    moved = np.empty_like(values)
    np.put_along_axis(moved, index[..., None], np.take_along_axis(values, source[..., None], 0), 0)
    return moved
