"""What the cycle is compared with: pairs of unrelated samples, and tests against them.

The random pair of a sample is another test sample, of any class; its within-class random pair another of its own
class. Both compare original with original, so that they say how far apart unrelated images are.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy.stats import wilcoxon
from torch import Tensor

from lis.statistics import bootstrap
from lis.streams import Stream

PAIRINGS = ("cycle", "random", "within-class")


def tour(n: int, rng: np.random.Generator) -> Tensor:
    """A random order `[n]` (int64) of n samples."""
    return torch.from_numpy(rng.permutation(n))


def within_class_tour(class_index: Tensor, stream: Stream) -> Tensor:
    """A random order `[n]` of samples of `class_index [n]`: class after class, random inside each."""
    own = [(class_index == c).nonzero()[:, 0] for c in class_index.unique().tolist()]
    return torch.cat([members[tour(len(members), stream.rng(c))] for c, members in enumerate(own)])


def partners(order: Tensor, group: Tensor | None = None) -> Tensor:
    """The partner `[n]` of each sample: the next one in `order`, the last one's being the first.

    A permutation without fixed points. With `group [n]` (equal members adjacent in `order`) each group is a round of
    its own. That partners are neighbours lets a pass in this order draw each image once, not twice.

    Raises:
        ValueError: a sample has no other one to be paired with.

    Example:
        >>> partners(torch.tensor([2, 0, 1]))
        tensor([1, 2, 0])
    """
    group = torch.zeros_like(order) if group is None else group
    partner = torch.empty_like(order)
    for members in torch.split(order, torch.unique_consecutive(group[order], return_counts=True)[1].tolist()):
        if len(members) < 2:
            raise ValueError("1 test sample in a class: a random pair needs 2 or more; raise pairs.test")
        partner[members] = members.roll(-1)
    return partner


def paired_test(cycle: np.ndarray, baseline: np.ndarray) -> float:
    """p of the two-sided Wilcoxon signed-rank test of paired values `[n]`; 1 where all are equal."""
    if np.array_equal(cycle, baseline):
        return 1.0
    result: Any = wilcoxon(cycle, baseline)
    return float(result.pvalue)


def summarise(values: dict[str, np.ndarray], resamples: int, rng: np.random.Generator) -> dict[str, float]:
    """Means, 95 % bootstrap intervals, ratios and tests of one metric.

    Args:
        values: `[n]` of each of `PAIRINGS`, paired by sample.

    Returns:
        The columns of the summary table, `metric` and `unit` left out.
    """
    table = np.stack([values[pairing] for pairing in PAIRINGS], axis=1)
    low, high = bootstrap(torch.from_numpy(table), rng, resamples)
    row: dict[str, float] = {}
    for k, name in enumerate(pairing.replace("-", "_") for pairing in PAIRINGS):
        row |= {name: table[:, k].mean(), f"{name}_low": float(low[k]), f"{name}_high": float(high[k])}
    for name in ("random", "within_class"):
        row[f"ratio_{name}"] = row["cycle"] / row[name] if row[name] > 0 else float("nan")
        row[f"p_{name}"] = paired_test(values["cycle"], values[name.replace("_", "-")])
    return row | {"n": len(table)}
