"""What a classifier loses without single units: class importance, removal curves, correlation (Bau et al. 2020, S.B).

A unit is ablated by writing a constant into its map; what lies behind the layer is computed again, by a `Tail`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from lis.dissection.activations import edited
from lis.statistics import pearson

Tail = Callable[[Tensor, Tensor], Tensor]
"""Logits `[n, C]` from activations `[n, U, …]` of a layer and the indices `[n]` of their samples."""
AblationValue = Literal["zero", "mean", "quantile"]
BATCH = 256
"""Samples at once."""
_AT_ONCE = 2**22
"""Activations of a block of units."""
LEADING = 4
"""The most important units of a class that are set apart from the others (Bau et al. 2020)."""


def balanced_class_accuracy(logits: Tensor, y: Tensor) -> Tensor:
    """Balanced accuracy of each class against all others: (recall_c + true negative rate_c) / 2, of the argmax.

    Args:
        logits: `[n, C]`.
        y: classes `[n]` int64 in [0, C).

    Returns:
        `[C]` float64 in [0, 1]; NaN for a class without samples, or without samples of others.

    Example:
        >>> balanced_class_accuracy(torch.eye(2)[[0, 0, 1, 0]], torch.tensor([0, 0, 1, 1])).tolist()
        [0.75, 0.75]
    """
    classes = torch.arange(logits.shape[1], device=logits.device)
    truth, answer = (x[:, None] == classes for x in (y.to(logits.device), logits.argmax(1)))
    recall = (truth & answer).sum(0).double() / truth.sum(0)
    negative = (~truth & ~answer).sum(0).double() / (~truth).sum(0)
    return ((recall + negative) / 2).cpu()


def ablation_values(activations: Tensor, value: AblationValue, quantile: float = 0.01) -> Tensor:
    """The constant that replaces each unit's activations: `[U]`.

    Args:
        activations: `[n, U, …]`.
        value: "zero"; "mean" or "quantile" over samples and positions. Zero is "off" only behind a ReLU.
        quantile: in [0, 1], of "quantile" (Hazen's).

    Raises:
        ValueError: another `value`.
    """
    require_value(value)
    if value == "zero":
        return torch.zeros(activations.shape[1])
    result = []
    for block in unit_blocks(activations):
        flat = block.transpose(0, 1).flatten(1).cpu()
        if value == "mean":
            result.append(flat.double().mean(1).float())
        else:
            result.append(torch.from_numpy(np.quantile(flat.numpy(), quantile, axis=1, method="hazen")).float())
    return torch.cat(result)


def require_value(value: object) -> None:
    """Check that there is such a value of `ablation_values`.

    Raises:
        ValueError: there is not.
    """
    if value not in get_args(AblationValue):
        raise ValueError(f"ablation value {value!r}: expected 'zero', 'mean' or 'quantile'")


def unit_blocks(activations: Tensor) -> tuple[Tensor, ...]:
    """Views of `[n, U, …]` with as many units each as are copied at once, so that memory holds no second whole."""
    return activations.split(max(1, _AT_ONCE // max(1, activations[:, :1].numel())), dim=1)


def ablated_accuracy(tail: Tail, activations: Tensor, y: Tensor, units: Tensor, values: Tensor) -> Tensor:
    """Balanced accuracies `[C]` with `units [k]` ablated, none where k is 0."""
    return balanced_class_accuracy(ablated_logits(tail, activations, units, values), y.cpu())


@torch.no_grad()
def ablated_logits(tail: Tail, activations: Tensor, units: Tensor, values: Tensor) -> Tensor:
    """Logits `[n, C]` with `units [k]` ablated, none where k is 0; `values [U]`, the constant of each."""
    parts = torch.arange(len(activations)).split(BATCH)
    logits = [tail(edited(activations[rows], units, values[units].to(activations)), rows).cpu() for rows in parts]
    return torch.cat(logits)


def unit_class_importance(tail: Tail, activations: Tensor, y: Tensor, values: Tensor) -> Tensor:
    """Importance[u, c] = BA_c of the network − BA_c with unit u ablated.

    Args:
        tail: logits of activations.
        activations: of the train split, `[n, U, …]`.
        y: classes `[n]` int64.
        values: constant of each ablated unit, `[U]`.

    Returns:
        `[U, C]` float64 in [−1, 1].
    """
    base = ablated_accuracy(tail, activations, y, torch.empty(0, dtype=torch.int64), values)
    return base - unit_accuracies(tail, activations, y, torch.arange(activations.shape[1]), values)


def unit_accuracies(tail: Tail, activations: Tensor, y: Tensor, units: Tensor, values: Tensor) -> Tensor:
    """Balanced accuracies `[k, C]` with each of `units [k]` ablated alone; the others as of `unit_class_importance`."""
    return torch.stack([ablated_accuracy(tail, activations, y, unit, values) for unit in units.split(1)])


def importance_order(importance: Tensor) -> Tensor:
    """Units of each class from the most to the least important, `[C, U]`; of equals the first one comes first."""
    return importance.T.argsort(dim=1, descending=True, stable=True)


def unit_removal_curve(
    tail: Tail, activations: Tensor, y: Tensor, order: Tensor, counts: Sequence[int], values: Tensor
) -> Tensor:
    """Balanced accuracies after the first n units of an order are ablated together.

    Args:
        tail: logits of activations.
        activations: of the test split, `[n, U, …]`.
        y: classes `[n]` int64.
        order: of the units, `[U]`: from the train split, reversed for the least important, or random.
        counts: numbers of removed units n.
        values: constant of each ablated unit, `[U]`.

    Returns:
        `[counts, C]` float64.

    Raises:
        ValueError: a count beyond the number of units.
    """
    if wrong := [n for n in counts if not 0 <= n <= len(order)]:
        raise ValueError(f"counts has {wrong}: expected numbers of removed units in [0, {len(order)}]")
    return torch.stack([ablated_accuracy(tail, activations, y, order[:n], values) for n in counts])


def removal_orders(importance: Tensor) -> Tensor:
    """Orders of units `[2 C, U]` of `importance [U, C]`: of each class from the least important on, then from the most.

    Example:
        >>> removal_orders(torch.tensor([[0.1], [0.3], [0.2]])).tolist()
        [[0, 2, 1], [1, 2, 0]]
    """
    order = importance_order(importance)
    return torch.stack([order.flip(1), order], 1).flatten(0, 1)


def random_orders(units: int, draws: int, rng: np.random.Generator) -> Tensor:
    """Those of the control, `[draws, units]`."""
    return torch.stack([torch.from_numpy(rng.permutation(units)) for _ in range(draws)])


def removal_counts(units: int) -> list[int]:
    """0, then the published 1, 2, 3, 4, 5, 20, 64, 128, 256, … below the number of units, and all.

    Example:
        >>> removal_counts(100)
        [0, 1, 2, 3, 4, 5, 20, 64, 100]
    """
    powers = [2**k for k in range(6, max(7, units.bit_length()))]
    return [n for n in (0, 1, 2, 3, 4, 5, 20, *powers) if n < units] + [units]


@torch.no_grad()
def activation_class_correlation(tail: Tail, activations: Tensor, batch: int = BATCH) -> Tensor:
    """Pearson's r of each unit's spatial maximum with the softmax of each class, `[U, C]` (Fig. S4h).

    Args:
        tail: logits of activations.
        activations: `[n, U, …]`.
        batch: samples at once, on which nothing but the memory depends.

    Returns:
        float64 in [−1, 1]; NaN where a unit's maximum or the softmax does not vary.
    """
    peaks = activations.flatten(2).amax(2) if activations.ndim > 2 else activations
    parts = torch.arange(len(activations)).split(batch)
    softmax = torch.cat([tail(activations[rows].clone(), rows).softmax(1) for rows in parts])
    r = [pearson(peaks.cpu().numpy(), column[:, None].cpu().numpy()) for column in softmax.T]
    return torch.from_numpy(np.stack(r, 1))


@dataclass(frozen=True)
class SharedUnits:
    """Three classes, each two of which share a leading unit that the third does not use (Fig. S5)."""

    classes: tuple[int, int, int]
    units: tuple[int, int, int]
    """Of (first, second), (first, third) and (second, third); of several the one most important to both."""


def shared_unit_classes(importance: Tensor, k: int = LEADING) -> list[SharedUnits]:
    """Class triples whose pairs share a unit of their top k, while no unit is in the top k of all three.

    Args:
        importance: `[U, C]`; only units with a positive importance count.
        k: leading units of each class.

    Returns:
        by descending importance of the shared unit that matters least.
    """
    leading = torch.zeros_like(importance, dtype=torch.bool)
    leading.scatter_(0, importance_order(importance)[:, :k].T, True)
    leading &= importance > 0
    pairs = (leading.T.double() @ leading.double()) > 0
    result = []
    for a, b, c in combinations(range(importance.shape[1]), 3):
        if pairs[a, b] and pairs[a, c] and pairs[b, c] and not leading[:, [a, b, c]].all(1).any():
            units = [_best_shared(importance, leading, *pair) for pair in ((a, b), (a, c), (b, c))]
            result.append(SharedUnits((a, b, c), (units[0], units[1], units[2])))
    return sorted(result, key=lambda triple: -_least(importance, triple))


def _least(importance: Tensor, triple: SharedUnits) -> float:
    """The smallest importance of a shared unit to one of its two classes."""
    pairs = zip(triple.units, combinations(triple.classes, 2), strict=True)
    return min(float(importance[unit, list(pair)].min()) for unit, pair in pairs)


def _best_shared(importance: Tensor, leading: Tensor, a: int, b: int) -> int:
    both = leading[:, [a, b]].all(1)
    return int(importance[:, [a, b]].amin(1).where(both, -torch.inf).argmax())
