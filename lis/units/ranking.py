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
from lis.statistics import SIGNIFICANT, interval, percentiles, q_values, resample, rows_at_once
from lis.units.controls import Null
from lis.units.tuned import Tuned, average, long_table


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


def ranking(
    tuned: Tuned, null: Null, reached: Tensor, first: Tensor, most: int, rng: np.random.Generator
) -> pd.DataFrame:
    """Units by the size of their effect, for every label and measure: of the angle R·|mean|, of others |mean|.

    Args:
        tuned: the units.
        null: random directions.
        reached: which units are, `[P]` bool.
        first: which samples are in the first half, `[S]` bool: see `halves`.
        most: units at the head of a ranking.
        rng: of the bootstrap.

    Returns:
        label, measure, rank (1: largest effect; without a change last), unit, change (mean over the samples of all
        classes, see `Average`), low, high (95 % bootstrap over the samples), relative (of the area: mean of the paper's
        relative change; else NaN), resultant (of the angle: R; else NaN), n (samples that have the change; the others
        lack the label at one end), samples, p_control (how often a random direction has at least the same effect where
        it moves w as the unit does), q, q_by (over units × interpreted labels × measures; NaN for labels that are not),
        reached, larger (q ≤ 0.05, and reached), head, crossfit (see `crossfit`: not unbiased for a single unit),
        mean_area (fraction of the frame), interpreted; by rank within label and measure.
    """
    mean, interpreted = tuned.average, tuned.interpreted[:, None]
    known = ~mean.value.isnan()
    low, high = change_interval(tuned.change, resample(tuned.class_index, rng))
    p = _p(mean.effect, null, tuned.interpreted).where(known, torch.nan)
    columns = {"change": mean.value, "p_control": p, "low": low, "high": high}
    columns |= {"resultant": mean.resultants, "relative": _relative(tuned)}
    columns |= dict(zip(("q", "q_by"), q_values(p.where(interpreted, torch.nan)), strict=True))
    columns = {name: values.where(known, torch.nan) for name, values in columns.items()}
    columns |= {"n": mean.n, "reached": reached[:, None, None].expand(known.shape)}
    columns["larger"] = (columns["q"] <= SIGNIFICANT) & columns["reached"]
    columns |= dict(zip(("head", "crossfit"), crossfit(tuned, first, most), strict=True))
    order = by_size(mean.ranked.movedim(0, -1))
    ordered = {name: values.movedim(0, -1).gather(-1, order) for name, values in columns.items()}
    label = {"mean_area": tuned.mean_area[:, None, None], "interpreted": tuned.interpreted[:, None, None]}
    label |= {"samples": len(tuned.class_index)}
    axes = {"label": tuned.labels, "measure": MEASURES, "rank": range(1, len(tuned.unit) + 1)}
    return long_table(axes, {"unit": tuned.unit[order]} | ordered | label)


def _p(effect: Tensor, null: Null, interpreted: Tensor) -> Tensor:
    """`[P, K, M]`; labels that are not interpreted are a family of their own."""
    p = torch.empty(effect.shape, dtype=torch.float64)
    for family in (interpreted, ~interpreted):
        p[:, family] = null.p(effect[:, family], null.effect[:, :, family])
    return p


def crossfit(tuned: Tuned, first: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """In the heads of which halves units are, and what the samples that did not choose them say.

    A mean over the units of a head, each counted once for each half that chose it, is an unbiased size of that head;
    that of a single unit is not: chosen by both halves, it is the mean over all samples, as if nothing had been chosen.

    Args:
        tuned: the units.
        first: which samples are in the first half, `[S]` bool.
        most: units at the head.

    Returns:
        In the heads of how many of the two halves a unit is, `[P, K, M]` int64; and the size of its effect (see
        `Average.effect`) on the half that did not choose it, positive in the direction that it was chosen for; the mean
        of both where both did, NaN where none: `[P, K, M]`.
    """
    inside, outside = _by_half(tuned, first, most)
    return (~inside.isnan()).sum(0), outside.nanmean(0)


def heads(tuned: Tuned, first: Tensor, most: int) -> pd.DataFrame:
    """What is left of the size of a ranking's head on samples that did not choose it.

    The head of a ranking is chosen for its size, so that its size on the samples that chose it is too large.

    Args:
        tuned: the units.
        first: which samples are in the first half, `[S]` bool.
        most: units at the head.

    Returns:
        label (the interpreted ones), measure, units (of both heads together that have a change on both halves), chosen
        (mean over these of |effect| on the half that chose), crossfit (mean of the effect on the other half, positive
        in the direction that it was chosen for); NaN where there are no units.
    """
    inside, outside = (part[:, :, tuned.interpreted_index].flatten(0, 1) for part in _by_half(tuned, first, most))
    both = ~(inside + outside).isnan()
    sizes = (part.where(both, torch.nan).nanmean(0) for part in (inside, outside))
    columns = dict(zip(("chosen", "crossfit"), sizes, strict=True))
    return long_table({"label": tuned.interpreted_labels, "measure": MEASURES}, {"units": both.sum(0)} | columns)


def _by_half(tuned: Tuned, first: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """Sizes of effects on the half that chose a unit, and on the other; NaN where it is in no head: `[2, P, K, M]`."""
    parts = [average(tuned.change[:, half]) for half in (first, ~first)]
    inside, outside = [], []
    for part, other in zip(parts, parts[::-1], strict=True):
        head = top(part.ranked.movedim(0, -1), most).movedim(-1, 0)
        inside.append(part.effect.abs().where(head, torch.nan))
        outside.append((part.effect.sign() * other.effect).where(head, torch.nan))
    return torch.stack(inside), torch.stack(outside)


def halves(class_index: Tensor, rng: np.random.Generator) -> Tensor:
    """Which samples are in the first of two random halves of every class, `[S]` bool.

    A class with an odd number has one more in one of them, drawn for each.
    """
    first = torch.zeros(len(class_index), dtype=torch.bool)
    for c in class_index.unique().tolist():
        rows = (class_index == c).nonzero()[:, 0]
        order = torch.from_numpy(rng.permutation(len(rows)) + int(rng.integers(2)))
        first[rows] = order % 2 == 0
    return first


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
