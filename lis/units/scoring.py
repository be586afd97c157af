"""How planted units are scored, from tables and arrays: their names, their order, and how often noise is reached.

A *name* is the part × measure that a unit changes most. Measures have units of their own, so that effects, true ones
too, are counted in standard deviations of the measure over random images: the root mean square change between two
images taken at random, over √2, which holds for all measures, also for an angle and for ratios.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from lis.classifiers.planted import KINDS, Planting
from lis.quantify.change import change
from lis.quantify.measures import MEASURES
from lis.quantify.sparsity import hoyer
from lis.statistics import RESAMPLES, TIED, pearson, percentile_ends, spearman, wilson

EFFECT = 0.5
"""Standard deviations by which ±1 standard deviation of a factor has to change the rendered measure of some part, for
the factor to be scored; a measure's sole cause would change it by 2."""
WAYS = ("std", "range", "correlation")
"""How a unit is named: from ±1 standard deviation of it, from its range, and from correlations over random images."""
SPARSITIES = ("factors", "parts", "correlation")
"""Hoyer's sparsity of what a unit moves: of the true factors, of parts × measures, and of its correlations with
these."""
_PARTNERS = 100
"""Other images that each is held against, to see how much measures vary."""
Array = NDArray[np.floating]


def random_change(measures: Tensor, rng: np.random.Generator) -> Tensor:
    """Standard deviation of every measure over random images, as changes are counted: `[K, M]`.

    The root mean square change between two of the images, over √2; of each with `_PARTNERS` others.

    Args:
        measures: of the images, `[n, K, M]`, NaN where a label is absent.
        rng: orders the images.
    """
    mixed = measures[torch.from_numpy(rng.permutation(len(measures)))]
    shifts = range(1, min(_PARTNERS, len(mixed) - 1) + 1)
    squares = [change(mixed, mixed.roll(shift, 0)).square() for shift in shifts]
    return torch.cat(squares).nanmean(0).sqrt() / 2**0.5


def has_effect(true: Tensor) -> Tensor:
    """Which factors move a rendered part by `EFFECT` or more: `[factors]` bool of effects `[factors, K, M]`."""
    return true.abs().nan_to_num(0).flatten(1).amax(1) >= EFFECT


def correlations(r: Tensor, measures: Tensor) -> Tensor:
    """Correlation of units with the measures of parts over images: `[units, K, M]`, 0 where there is none.

    Of the area its logarithm is taken, as its changes are ratios. Of the angle it is the multiple correlation with the
    cosine and the sine of the doubled angle, in [0, 1] (Mardia & Jupp 2000, Eq. 11.2.1).

    Args:
        r: activations `[n, units]`.
        measures: `[n, K, M]`, NaN where a label is absent.
    """
    area, angle = MEASURES.index("area"), MEASURES.index("angle")
    x = measures.double()
    doubled = torch.deg2rad(2 * x[..., angle])
    x[..., area] = x[..., area].log2()
    x = torch.cat([x[..., :angle], doubled.cos()[..., None], doubled.sin()[..., None]], -1)
    result = [_against(r.double().numpy(), part.numpy()) for part in x.unbind(1)]
    return torch.from_numpy(np.stack(result, 1)).float()


def _against(r: Array, x: Array) -> Array:
    """`[units, M]` of `r [n, units]` and `x [n, M + 1]`, the last two being cosine and sine."""
    columns = [np.broadcast_to(column[:, None], r.shape) for column in x.T]
    *linear, cos, sin = [np.nan_to_num(pearson(r, column)) for column in columns]
    both = np.nan_to_num(pearson(x[:, -2], x[:, -1]))
    squared = (cos**2 + sin**2 - 2 * cos * sin * both) / max(1 - both**2, 1e-12)
    return np.stack([*linear, np.sqrt(np.clip(squared, 0, 1))], 1)


def names_table(
    planting: Planting,
    units: Sequence[int],
    measured: Mapping[str, Tensor],
    true: Mapping[str, Tensor],
    cells: Sequence[tuple[str, str]],
) -> pd.DataFrame:
    """The table "names" of `planted`.

    Args:
        planting: what the units are functions of.
        units: numbers of the P single-factor units.
        measured: what they change, `[P, K, M]` for each of `WAYS`.
        true: what the factors change, `[factors, K, M]`, "std" and "range".
        cells: label and measure of each of the K × M.
    """
    names = [planting.factor[unit] for unit in units]
    factor = [planting.factor_names.index(name) for name in names]
    scored, tables = has_effect(true["std"])[factor].numpy(), []
    for way in WAYS:
        told = name_table(measured[way], true["range" if way == "range" else "std"][factor], cells)
        tables.append(pd.DataFrame({"unit": units, "factor": names, "way": way}).join(told).assign(scored=scored))
    return pd.concat(tables, ignore_index=True)


def name_table(effect: Tensor, true: Tensor, cells: Sequence[tuple[str, str]]) -> pd.DataFrame:
    """What each unit is called, and whether that is right.

    Args:
        effect: of the units, `[n, K, M]`, NaN where there is none.
        true: of their factors, likewise.
        cells: label and measure of each of the K × M.

    Returns:
        label, measure, effect, true_label, true_measure, true_effect, right.
    """
    size = true.abs().nan_to_num(0).flatten(1)
    told, best = effect.abs().nan_to_num(0).flatten(1).argmax(1, keepdim=True), size.argmax(1, keepdim=True)
    right = size.gather(1, told) >= TIED * size.gather(1, best)
    columns = {"effect": effect.flatten(1).gather(1, told), "true_effect": true.flatten(1).gather(1, best)}
    label, measure = np.asarray(cells, dtype=str).reshape(-1, 2).T
    named = {"label": label[told[:, 0]], "measure": measure[told[:, 0]]}
    named |= {"true_label": label[best[:, 0]], "true_measure": measure[best[:, 0]], "right": right[:, 0]}
    return pd.DataFrame(named | {name: values[:, 0] for name, values in columns.items()})


def named(names: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """The table "named" of `planted`, from its table "names"; a way without scored units has no row.

    The units of a factor are alike, so that the difference to the correlations is resampled by factor.
    """
    scored = names[names["scored"]]
    by_way = {way: pd.DataFrame(scored[scored["way"] == way]) for way in WAYS}
    plain, rows = np.asarray(by_way["correlation"]["right"], float), []
    for way, table in by_way.items():
        if not (n := len(table)):
            continue
        right = np.asarray(table["right"], float)
        kinds, group = np.unique(np.asarray(table["factor"], str), return_inverse=True)
        gains, sizes = np.bincount(group, right - plain), np.bincount(group)
        drawn = rng.integers(len(kinds), size=(RESAMPLES, len(kinds)))
        ends = _ends(gains[drawn].sum(1) / sizes[drawn].sum(1))
        hits = int(right.sum())
        rows.append((way, hits, hits / n, *wilson(hits, n), n, len(kinds), (right - plain).mean(), *ends))
    columns = ["way", "right", "share", "low", "high", "n", "factors", "gain", "gain_low", "gain_high"]
    return pd.DataFrame(rows, columns=columns)


def unit_table(planting: Planting, units: Sequence[int], moves: Mapping[str, Tensor]) -> pd.DataFrame:
    """The table "units" of `planted`.

    Args:
        planting: what the units are functions of.
        units: numbers of the P units.
        moves: what they move, `[P, …]` for each of `SPARSITIES`; NaN counts as nothing.
    """
    sparsity = {f"sparsity_{name}": hoyer(values.nan_to_num(0).flatten(1)) for name, values in moves.items()}
    kinds = [planting.kind[unit] for unit in units]
    return pd.DataFrame({"unit": units, "kind": kinds, "factors": planting.count[list(units)], **sparsity})


def order(units: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """The table "order" of `planted`, from its table "units"; noise, which has no factors, is left out.

    Spearman's correlation of sparsity with fewer factors: 1 where units of fewer factors are always the sparser ones.
    """
    planted_units = units[units["factors"] > 0]
    few, n = -np.asarray(planted_units["factors"], float), len(planted_units)
    drawn = rng.integers(n, size=(RESAMPLES, n)).T if n else np.empty((0, RESAMPLES), int)
    values = {name: np.asarray(planted_units[f"sparsity_{name}"], float) for name in SPARSITIES}
    whole = {name: float(spearman(few, x)) for name, x in values.items()}
    resampled = {name: spearman(few[drawn], x[drawn]) for name, x in values.items()}
    rows = []
    for name in SPARSITIES:
        gain = resampled[name] - resampled["correlation"]
        ends = [_ends(x) for x in (resampled[name], gain)]
        rows.append((name, whole[name], *ends[0], whole[name] - whole["correlation"], *ends[1], n))
    columns = ["sparsity", "spearman", "low", "high", "gain", "gain_low", "gain_high", "n"]
    return pd.DataFrame(rows, columns=columns)


def reached_table(planting: Planting, units: Sequence[int], reached: NDArray[np.bool_]) -> pd.DataFrame:
    """The table "reached" of `planted`; a kind without units has no row.

    Args:
        planting: what the units are functions of.
        units: numbers of the P units that were judged.
        reached: whether each is called so, `[P]`.

    Example:
        >>> planting = Planting(("x",), torch.tensor([[1.0], [0.0], [0.0]]), ("single", "noise", "noise"))
        >>> reached_table(planting, [0, 1, 2], np.array([True, True, False]))[["kind", "reached", "share", "n"]]
             kind  reached  share  n
        0  single        1    1.0  1
        1   noise        1    0.5  2
    """
    by_kind = {name: reached[[planting.kind[unit] == name for unit in units]] for name in KINDS}
    rows = [
        (name, int(each.sum()), each.mean(), *wilson(int(each.sum()), len(each)), len(each))
        for name, each in by_kind.items()
        if len(each)
    ]
    return pd.DataFrame(rows, columns=["kind", "reached", "share", "low", "high", "n"])


def _ends(resampled: Array) -> list[float]:
    """`percentile_ends` of resamples `[n]`."""
    return percentile_ends(torch.from_numpy(np.asarray(resampled, np.float64))).tolist()
