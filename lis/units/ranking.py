"""Which units change a label most, measure by measure, and whether the measures agree (Fig. 4A; S9–S11)."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lis.quantify.averages import axial_mean
from lis.quantify.change import relative
from lis.quantify.ellipse import half_circle
from lis.quantify.measures import MEASURES
from lis.statistics import interval, percentiles, resample, rows_at_once
from lis.units.tuned import Tuned, long_table


def by_size(values: Tensor) -> Tensor:
    """Indices along the last axis, the largest absolute value first, NaN last.

    Example:
        >>> by_size(torch.tensor([0.5, float("nan"), -2.0])).tolist()
        [2, 0, 1]
    """
    return values.abs().nan_to_num(-1.0).argsort(dim=-1, descending=True, stable=True)


def top(values: Tensor, most: int) -> Tensor:
    """Which along the last axis are among the `most` largest absolute values, bool; NaN never is."""
    head = by_size(values)[..., :most]
    return torch.zeros_like(values, dtype=torch.bool).scatter(-1, head, True) & ~values.isnan()


def ranking(tuned: Tuned, control: Tuned, rng: np.random.Generator) -> pd.DataFrame:
    """Units by the size of their effect, for every label and measure: of the angle R·|mean|, of others |mean|.

    Args:
        tuned: the units.
        control: random directions.
        rng: of the bootstrap.

    Returns:
        label, measure, rank (1: largest effect; without a change last), unit, change (mean over the samples of all
        classes, see `Average`), low, high (95 % bootstrap over the samples), relative (of the area: mean of the paper's
        relative change; else NaN), resultant (of the angle: R; else NaN), n (samples that have the change; the others
        lack the label at one end), samples, p_control (share of random directions with at least the same effect at
        equal ‖Δw‖), mean_area (fraction of the frame), interpreted; by rank within label and measure.
    """
    average = tuned.average
    known = ~average.value.isnan()
    low, high = change_interval(tuned.change, resample(len(tuned.class_index), rng))
    p = p_control(tuned.per_length(average.effect), control.per_length(control.average.effect))
    columns = {"change": average.value, "p_control": p, "low": low, "high": high}
    columns |= {"resultant": average.resultants, "relative": _relative(tuned)}
    columns = {name: values.where(known, torch.nan) for name, values in columns.items()} | {"n": average.n}
    order = by_size(average.ranked.movedim(0, -1))
    ordered = {name: values.movedim(0, -1).gather(-1, order) for name, values in columns.items()}
    label = {"mean_area": tuned.mean_area[:, None, None], "interpreted": tuned.interpreted[:, None, None]}
    label |= {"samples": len(tuned.class_index)}
    axes = {"label": tuned.labels, "measure": MEASURES, "rank": range(1, len(tuned.unit) + 1)}
    return long_table(axes, {"unit": tuned.unit[order]} | ordered | label)


def _relative(tuned: Tuned) -> Tensor:
    """Mean of the paper's relative change of areas; NaN for the other measures, `[P, K, M]`."""
    columns, area = torch.full_like(tuned.average.value, torch.nan), MEASURES.index("area")
    columns[..., area] = relative(tuned.change[..., area]).nanmean(1)
    return columns


def overlap(tuned: Tuned, most: int) -> pd.DataFrame:
    """How many units the heads of two measures' rankings share: label, measure_a, measure_b, overlap.

    Args:
        tuned: the units.
        most: units at the head of a ranking.
    """
    heads = top(tuned.average.ranked[:, tuned.interpreted_index].movedim(0, -1), most).float()
    shared = torch.einsum("kap,kbp->kab", heads, heads).long()
    rows = [
        (label, MEASURES[a], MEASURES[b], int(shared[k, a, b]))
        for k, label in enumerate(tuned.interpreted_labels)
        for a, b in combinations(range(len(MEASURES)), 2)
    ]
    return pd.DataFrame(rows, columns=["label", "measure_a", "measure_b", "overlap"])


def change_interval(change: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """`interval` of mean changes `[n, samples, …, M]`, the angle last, whose ends `axial_interval` gives."""
    linear, angle = interval(change[..., :-1], counts), axial_interval(change[..., -1], counts)
    low, high = (torch.cat([a, b[..., None]], -1) for a, b in zip(linear, angle, strict=True))
    return low, high


def axial_interval(degrees: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """95 % bootstrap interval of the mean direction of axes over the samples, NaN dropped.

    The deviations of the resamples' mean directions from the mean, on the half circle, have these percentiles (Fisher
    1993, §8.3). The ends lie on both sides of the mean, and may leave (−90, 90].

    Args:
        degrees: `[n, samples, …]`.
        counts: of `lis.statistics.resample`, `[resamples, samples]`.

    Returns:
        Lower and upper end, `[n, …]` float32; NaN where fewer than two samples have a value.
    """
    mean = axial_mean(degrees, 1)[0]
    if not degrees.numel():
        return mean, mean
    flat = degrees.reshape(*degrees.shape[:2], math.prod(degrees.shape[2:]))
    block = rows_at_once(flat.shape[2], len(counts))
    blocks = zip(flat.split(block), mean.reshape(len(flat), -1).split(block), strict=True)
    deviations = torch.cat([_axial_deviations(part, around, counts) for part, around in blocks])
    low, high = (deviations.reshape(*mean.shape, 2) + mean[..., None]).unbind(-1)
    return low, high


def _axial_deviations(degrees: Tensor, mean: Tensor, counts: Tensor) -> Tensor:
    """Percentiles `[n, columns, 2]` of how far resampled means lie from `mean [n, columns]`, in degrees."""
    known, doubled = ~degrees.isnan(), torch.deg2rad(2 * degrees)
    x, y = (f(doubled).nan_to_num(0.0).movedim(1, -1) @ counts.T for f in (torch.cos, torch.sin))
    turned = half_circle(torch.rad2deg(torch.atan2(y, x)) / 2 - mean[..., None])
    empty = known.float().movedim(1, -1) @ counts.T == 0
    return percentiles(turned.where(~empty, torch.nan), known)


def p_control(observed: Tensor, control: Tensor) -> Tensor:
    """How often a random direction does at least as much: (k + 1) / (n + 1) (Davison & Hinkley 1997, §4.2.5).

    k of n random directions have an absolute value of at least the observed one's; NaN is left out.

    Args:
        observed: `[n, …]`.
        control: `[directions, …]`, the other axes as in `observed`.

    Returns:
        `[n, …]` in (0, 1]; NaN where there is nothing observed, or nothing to compare with.

    Example:
        >>> p_control(torch.tensor([2.5, -0.5]), torch.tensor([1.0, -2.0, 3.0]))
        tensor([0.5000, 1.0000])
    """
    known = ~control.isnan()
    ordered = control.abs().where(known, -1.0).movedim(0, -1).contiguous().sort(-1).values
    size = observed.abs().movedim(0, -1).contiguous()
    larger = len(control) - torch.searchsorted(ordered, size)
    total = known.sum(0)[..., None]
    p = (larger + 1) / (total + 1)
    return p.where(~size.isnan() & (total > 0), torch.nan).movedim(-1, 0)
