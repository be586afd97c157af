"""Statistics that several stages share: the bootstrap, intervals of shares, many tests at once, correlations."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.stats import binomtest, false_discovery_control, rankdata
from torch import Tensor
from torch.nn.functional import pad

RESAMPLES = 1000
SIGNIFICANT = 0.05
"""Largest p, or q where many are tested, at which something is called significant."""
HEAD = 10
"""Units at the head of a ranking."""
TIED = 0.8
"""An effect that is at least this share of the largest, in size, counts as tied with it."""
AT_ONCE = 2**22
"""Resampled means, or draws, in memory at once."""
EXCEEDED = 10
"""Draws of a null that must exceed a value before their share alone is its p."""
TAIL = 0.2
"""Share of the largest draws of a null that its tail is fitted to."""
FEWEST_IN_TAIL = 10
"""Independent draws in a tail below which none is fitted: 50 in all."""
MARGIN = 1.5
"""A tail is fitted where the squared coefficient of variation of its N excesses is at most 1 − `MARGIN` / √N: 1 is that
of an exponential tail, and from few draws a heavy tail often looks light."""
FAMILY_VARIATION = 0.8
"""Largest mean over all columns of a family at which any of its tails is fitted."""
RANGE = (0.025, 0.975)
"""Quantiles that bound the central 95 %."""
Array = NDArray[np.floating]


def resample(class_index: Tensor, rng: np.random.Generator, resamples: int = RESAMPLES) -> Tensor:
    """How often each sample is drawn in each bootstrap resample, `[resamples, samples]` float32.

    Each class is resampled by itself, since its number of samples is chosen and not drawn (stratified bootstrap,
    Davison & Hinkley 1997, §3.2).

    Args:
        class_index: class of each sample, `[samples]` int64.
        rng: draws.
        resamples: how many.

    Example:
        >>> counts = resample(torch.tensor([0, 0, 0, 1, 1]), np.random.default_rng(0), 3)
        >>> counts[:, :3].sum(1), counts[:, 3:].sum(1)
        (tensor([3., 3., 3.]), tensor([2., 2., 2.]))
    """
    strata = [np.flatnonzero(class_index.numpy() == c) for c in np.unique(class_index.numpy())]
    draws = (np.concatenate([s[rng.integers(len(s), size=len(s))] for s in strata]) for _ in range(resamples))
    counts = [np.bincount(drawn, minlength=len(class_index)).astype(np.float32) for drawn in draws]
    return torch.from_numpy(np.stack(counts))


def interval(values: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """95 % percentile bootstrap interval of the mean over the samples, NaN dropped (Efron 1979).

    All values see the same resamples: the intervals of paired values are paired too.

    Args:
        values: `[n, samples, …]` float32 or float64.
        counts: of `resample`, `[resamples, samples]`.

    Returns:
        Lower and upper end, `[n, …]` in the dtype of the values; NaN where fewer than two samples have a value.

    Example:
        >>> one_class = torch.zeros(5, dtype=torch.int64)
        >>> low, high = interval(torch.zeros(1, 5), resample(one_class, np.random.default_rng(0)))
        >>> low.tolist(), high.tolist()
        ([0.0], [0.0])
    """
    if not values.numel():
        return values.sum(1), values.sum(1)
    flat = values.reshape(*values.shape[:2], math.prod(values.shape[2:]))
    parts = flat.split(rows_at_once(flat.shape[2], len(counts)))
    ends = torch.cat([percentiles(_means(part, counts), ~part.isnan()) for part in parts])
    low, high = ends.reshape(len(values), *values.shape[2:], 2).unbind(-1)
    return low, high


def bootstrap(values: Tensor, rng: np.random.Generator, resamples: int = RESAMPLES) -> tuple[Tensor, Tensor]:
    """`interval` of one table `[samples, columns]` of one class, with any number of resamples: they are drawn in parts.

    Returns:
        Lower and upper end, `[columns]`.
    """
    part = max(1, AT_ONCE // len(values))
    sizes = [min(part, resamples - start) for start in range(0, resamples, part)]
    one_class = torch.zeros(len(values), dtype=torch.int64)
    means = [_means(values[None], resample(one_class, rng, size)) for size in sizes]
    low, high = percentiles(torch.cat(means, -1), ~values[None].isnan())[0].unbind(-1)
    return low, high


def rows_at_once(columns: int, resamples: int) -> int:
    """Of how many rows of values all resampled means are held at once."""
    return max(1, AT_ONCE // (columns * resamples))


def _means(values: Tensor, counts: Tensor) -> Tensor:
    """Mean of every resample, `[n, columns, resamples]`, of `values [n, samples, columns]`."""
    times = counts.to(values.dtype).T
    sums = values.nan_to_num(0.0).movedim(1, -1) @ times
    return sums / ((~values.isnan()).to(values.dtype).movedim(1, -1) @ times)


def percentiles(resampled: Tensor, known: Tensor) -> Tensor:
    """Both ends `[n, columns, 2]` of a 95 % interval; NaN where fewer than two samples are known.

    Args:
        resampled: a statistic of every resample, `[n, columns, resamples]`; NaN is dropped.
        known: which samples have a value, `[n, samples, columns]` bool.
    """
    return percentile_ends(resampled).where(known.sum(1)[..., None] > 1, torch.nan)


def percentile_ends(resampled: Tensor) -> Tensor:
    """Both ends `[…, 2]` of a 95 % interval, of a statistic of every resample `[…, resamples]`; NaN is dropped."""
    return resampled.nanquantile(resampled.new_tensor(RANGE), dim=-1).movedim(0, -1)


def fewest_called(tests: int, draws: int, sides: int = 1) -> int:
    """How many of some tests have to reach the smallest p, sides / (1 + draws), for any q to be `SIGNIFICANT`.

    Benjamini–Hochberg's q of k tests at the smallest p of all is p · tests / k.

    Example:
        >>> fewest_called(256, 1000), fewest_called(16, 1000), fewest_called(27, 59)
        (6, 1, 9)
    """
    return math.ceil(tests * sides / (SIGNIFICANT * (1 + draws)))


class ControlTest(NamedTuple):
    """How often draws of a null have at least the observed values, of a family of tests, and how that was computed."""

    p: Tensor
    """`[n, …]` float64 in (0, 1]; NaN where there is nothing observed, or nothing to compare with."""
    variation: Tensor
    """Of each column, `[…]` float64: squared coefficient of variation of the excesses of the largest fifth of the
    draws, a mean over the n; NaN where there are too few."""
    extrapolated: Tensor
    """In which columns p goes on below what can be counted, `[…]` bool."""

    @property
    def facts(self) -> dict[str, float]:
        """Of JSON: counted (share of the columns in which p is only counted), and of columns that have a tail the mean
        variation and the largest; where none has, counted alone, which is 1.
        """
        known = self.variation[~self.variation.isnan()]
        tail = {"variation": float(known.mean()), "largest": float(known.max())} if len(known) else {}
        return {"counted": float((~self.extrapolated).double().mean()) if self.extrapolated.numel() else 1.0} | tail


def p_control(observed: Tensor, control: Tensor, dependent: int = 1) -> Tensor:
    """How often a draw of the null has at least the observed absolute value: p of `control_test`.

    Example:
        >>> p_control(torch.tensor([2.5, -0.5]), torch.tensor([1.0, -2.0, 3.0]).expand(2, 3)).tolist()
        [0.5, 1.0]
    """
    return control_test(observed, control, dependent).p


def control_test(observed: Tensor, control: Tensor, dependent: int = 1) -> ControlTest:
    """How often a draw of the null has at least the observed absolute value, of a family of tests.

    Of n draws k are as large: p = (k + 1) / (n + 1) (Davison & Hinkley 1997, §4.2.5). Where fewer than `EXCEEDED` are,
    that says little of thousands of tests. There p goes on from the largest fifth of the draws with the predictive
    distribution of an exponential tail, p(t) (1 + x / (α m))^−α, t the threshold, x the excess over it and m the mean
    excess of the N draws beyond; α = N, the number that m rests on, and less where the excesses vary more than those of
    an exponential tail do: 2 c² / (c² − 1) for a coefficient of variation c > 1, the index of the generalised Pareto
    tail with this c (Hosking & Wallis 1987).

    That holds of light tails, and which a null has is decided for each column, such as a measure of a label, by c² as a
    mean over the n: at most 1 − `MARGIN` / √N, and at most `FAMILY_VARIATION` as a mean over all columns. In all
    others, and with fewer than `FEWEST_IN_TAIL` draws beyond, p is what is counted. (Of N draws in an exponential tail
    c² is N / (N + 1) on average, and of heavier ones too small by more: the draws of all n may be the same.)

    Of simulated draws, the same for all n, q ≤ 0.05 came in at most so many of 200 to 400 families, whether of normal,
    Laplace or Student's t draws (5 and 3 degrees of freedom), or a fifth of columns of the last among normal ones:
    45 columns × 64 tests 1.5 % of 64 draws and 0.5 % of 128; 5 × 128 tests 2.0 % and 1.5 %; 1 × 128 tests 3.8 % and
    3.0 %. Of normal columns 29 to 35 % and 42 to 46 % are extrapolated, of Laplace's at most 24 %. Of 32 none is.

    Args:
        observed: `[n, …]`: n tests of each column.
        control: draws for each, `[n, draws, …]`; NaN is left out.
        dependent: how many draws make one independent one, such as 2 for a direction and its opposite: they count in
            part.
    """
    columns = observed.shape[1:]
    if not observed.numel():
        unknown = torch.full(columns, torch.nan, dtype=torch.float64)
        return ControlTest(observed.double(), unknown, unknown.isfinite())
    rows = max(1, AT_ONCE // max(1, control[0].numel()))
    parts = zip(observed.split(rows), control.split(rows), strict=True)
    compared = [_compared(*part, dependent) for part in parts]
    counted, fitted, variation, most = (torch.cat(column) for column in zip(*compared, strict=True))
    of_column = variation.nanmean(0)
    light = (of_column <= most.nanmean(0)) & (of_column.nanmean() <= FAMILY_VARIATION)  # NaN is not
    return ControlTest(torch.where(light & ~fitted.isnan(), fitted, counted), of_column, light)


def _compared(observed: Tensor, control: Tensor, dependent: int) -> tuple[Tensor, ...]:
    """Of some tests `[n, …]` each: p as it is counted, as the tail says (NaN where it does not), the tail's variation,
    and the largest one at which it is fitted.
    """
    size, null = observed.abs().double(), _ordered(control)
    n, known = (null >= 0).sum(-1).double(), ~size.isnan()
    larger = (null >= size[..., None]).sum(-1).double() / dependent
    counted = ((larger + 1) / (n / dependent + 1)).where(known & (n > 0), torch.nan)
    tail = _tail(null, dependent)
    heavier = torch.where(tail.variation > 1, 2 * tail.variation / (tail.variation - 1), torch.inf)
    index, over = heavier.clamp(max=tail.size / dependent), size - tail.threshold
    p = (tail.size / dependent + 1) / (n / dependent + 1) * (1 + over / (index * tail.mean)) ** -index
    fitted = p.where(tail.fits & (over > 0) & (larger < EXCEEDED), torch.nan)
    most = 1 - MARGIN / (tail.size.double() / dependent).sqrt()
    return counted, fitted, *(each.where(tail.fits & known, torch.nan) for each in (tail.variation, most))


def _ordered(control: Tensor) -> Tensor:
    """Absolute values `[n, …, draws + 1]` of draws `[n, draws, …]`, the largest first; −1 for NaN and at the end."""
    null = pad(control.abs().double().movedim(1, -1), (0, 1), value=torch.nan)
    return null.where(~null.isnan(), -1.0).sort(-1, descending=True).values


class _Tail(NamedTuple):
    """Of the largest fifth of each null, `[n, …]` each."""

    threshold: Tensor
    size: Tensor
    """How many draws lie beyond the threshold."""
    mean: Tensor
    """Excess over it."""
    variation: Tensor
    """Squared coefficient of variation of the excesses."""
    fits: Tensor
    """Whether these are enough, finite, and not all 0."""


def _tail(null: Tensor, dependent: int) -> _Tail:
    """Of nulls as `_ordered` gives them."""
    size = (TAIL * (null >= 0).sum(-1).double()).long()
    threshold = null.gather(-1, size[..., None])
    excess = torch.where(torch.arange(null.shape[-1]) < size[..., None], null - threshold, 0.0)
    mean = excess.sum(-1) / size
    variation = (excess.square().sum(-1) / size / mean.square() - 1) * size / (size - dependent)
    fits = (mean > 0) & mean.isfinite() & (size >= FEWEST_IN_TAIL * dependent)
    return _Tail(threshold[..., 0], size, mean, variation, fits)


def benjamini_hochberg(p: np.ndarray) -> np.ndarray:
    """q of many tests, `[n]`: p adjusted for the false discovery rate (Benjamini & Hochberg 1995); NaN stays.

    Example:
        >>> benjamini_hochberg(np.array([0.01, np.nan, 0.04])).tolist()
        [0.02, nan, 0.04]
    """
    return _adjusted(p, "bh")


def benjamini_yekutieli(p: np.ndarray) -> np.ndarray:
    """The same whatever the tests have to do with each other (Benjamini & Yekutieli 2001): larger by Σ 1/k.

    Example:
        >>> benjamini_yekutieli(np.array([0.01, np.nan, 0.04])).round(3).tolist()
        [0.03, nan, 0.06]
    """
    return _adjusted(p, "by")


def q_values(p: Tensor) -> tuple[Tensor, Tensor]:
    """`benjamini_hochberg` and `benjamini_yekutieli` over all of `p`, in its shape, float64; NaN is no test."""
    flat = p.double().flatten().numpy()
    hochberg, yekutieli = (
        torch.from_numpy(f(flat)).reshape(p.shape) for f in (benjamini_hochberg, benjamini_yekutieli)
    )
    return hochberg, yekutieli


def _adjusted(p: np.ndarray, method: Literal["bh", "by"]) -> np.ndarray:
    q, known = np.full(len(p), np.nan), ~np.isnan(p)
    if known.any():
        q[known] = false_discovery_control(p[known], method=method)
    return q


def wilson(retained: int, n: int) -> tuple[float, float]:
    """95 % Wilson interval of the share `retained / n`.

    Example:
        >>> [round(bound, 3) for bound in wilson(9, 10)]
        [0.596, 0.982]
    """
    interval = binomtest(retained, n).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)


def retention(names: tuple[str, ...], class_index: np.ndarray, retained: np.ndarray) -> pd.DataFrame:
    """Share of samples that keep their class, by class and for "all": class, kept, low, high, n (Wilson 95 %)."""
    groups = [(name, retained[class_index == c]) for c, name in enumerate(names)] + [("all", retained)]
    rows = [(name, subset.mean(), *wilson(int(subset.sum()), len(subset)), len(subset)) for name, subset in groups]
    return pd.DataFrame(rows, columns=["class", "kept", "low", "high", "n"])


def pearson(a: Array, b: Array) -> Array:
    """Pearson's r along the first axis of `a` and `b [n, …]`, over the rows that both have.

    Returns:
        `[…]` in [-1, 1]; NaN for fewer than three rows, or where one side does not vary.

    Example:
        >>> pearson(np.array([1.0, 2.0, 3.0, np.nan]), np.array([2.0, 4.0, 6.0, 0.0])).round(6).item()
        1.0
    """
    a, b = _centred(a, b), _centred(b, a)
    scale = np.sqrt((a**2).sum(0) * (b**2).sum(0))
    return np.divide((a * b).sum(0), scale, out=np.full(scale.shape, np.nan), where=scale > 0)


def spearman(a: Array, b: Array) -> Array:
    """Spearman's rank correlation, in the manner of `pearson`; ties share their mean rank."""
    return pearson(_ranks(a, b), _ranks(b, a))


def _centred(a: Array, b: Array) -> Array:
    """`a` around its mean over the rows that both have, 0 in the others; all 0 where it does not vary."""
    a = np.asarray(a, np.float64)
    both = ~(np.isnan(a) | np.isnan(b))
    count = both.sum(0)
    a = np.where(both, a, 0.0)
    centred = np.where(both, a - a.sum(0) / np.maximum(count, 1), 0.0)
    flat = np.abs(centred).max(0, initial=0) <= 1e-12 * np.abs(a).max(0, initial=0)
    return np.where(flat | (count < 3), 0.0, centred)


def _ranks(a: Array, b: Array) -> Array:
    """Ranks of `a` among the rows that both have; NaN in the others."""
    missing = np.isnan(a) | np.isnan(b)
    return np.where(missing, np.nan, rankdata(np.where(missing, np.inf, a), axis=0))
