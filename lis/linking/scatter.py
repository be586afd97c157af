"""Sums over pairs of activations and style codes around the means of their classes, by folds that are held out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import torch
from torch import Tensor

from lis.linking.moments import CHUNK

FOLDS = 5
"""Parts of the samples, each of which is held out once."""
CUT = 1e-8
"""Axes of W whose variance is at most this share of the largest are rounding."""


@dataclass(frozen=True)
class Scatter:
    """Sums over some samples of what lies around the class means of all samples."""

    count: Tensor
    """Samples of each class, `[classes]`."""
    shift_r: Tensor
    """Σ (r − r̄_c), `[classes, units]`: 0 for all samples."""
    shift_w: Tensor
    """Σ (w − w̄_c), `[classes, w_dim]`."""
    squares: Tensor
    """Σ (r − r̄_c)², `[units]`."""
    cross: Tensor
    """Σ (r − r̄_c)(w − w̄_c)ᵀ, `[units, w_dim]`."""
    products: Tensor
    """Σ (w − w̄_c)(w − w̄_c)ᵀ, `[w_dim, w_dim]`."""

    @classmethod
    def of(cls, r: Tensor, w: Tensor, class_index: Tensor, mean_r: Tensor, mean_w: Tensor) -> Self:
        """Of samples `r [n, units]`, `w [n, w_dim]`, `class_index [n]`, around `mean_r` and `mean_w [classes, …]`."""
        classes, (units, w_dim) = len(mean_w), (r.shape[1], w.shape[1])
        sizes = (classes,), (classes, units), (classes, w_dim), (units,), (units, w_dim), (w_dim, w_dim)
        total = cls(*(torch.zeros(size, dtype=torch.float64, device=r.device) for size in sizes))
        for a, b, c in zip(r.split(CHUNK), w.split(CHUNK), class_index.split(CHUNK), strict=True):
            a, b = a.double() - mean_r[c], b.double() - mean_w[c]
            total.count.index_add_(0, c, torch.ones_like(c, dtype=torch.float64))
            total.shift_r.index_add_(0, c, a)
            total.shift_w.index_add_(0, c, b)
            total.squares.add_(a.square().sum(0))
            total.cross.addmm_(a.T, b)
            total.products.addmm_(b.T, b)
        return total

    @classmethod
    def sum(cls, parts: Sequence[Scatter]) -> Self:
        """Of the samples of all parts."""
        return cls(
            *(torch.stack(list(column)).sum(0) for column in zip(*(vars(p).values() for p in parts), strict=True))
        )

    @property
    def shifts(self) -> tuple[Tensor, Tensor]:
        """Where these samples' own class means lie, of r and of w."""
        return self.shift_r / self.count[:, None], self.shift_w / self.count[:, None]

    def around(self, r: Tensor, w: Tensor) -> Scatter:
        """The same around class means that lie at these shifts from those of all samples."""
        n = self.count[:, None]
        squares = self.squares + (n * r.square() - 2 * self.shift_r * r).sum(0)
        cross = self.cross + (n * r).T @ w - self.shift_r.T @ w - r.T @ self.shift_w
        products = self.products + (n * w).T @ w - self.shift_w.T @ w - w.T @ self.shift_w
        return Scatter(self.count, self.shift_r - n * r, self.shift_w - n * w, squares, cross, products)

    @property
    def axes(self) -> tuple[Tensor, Tensor]:
        """Principal axes of w `[w_dim, k]` and the variance along each `[k]`, without those that are rounding."""
        variance, axes = torch.linalg.eigh(self.products / self.count.sum())
        varies = variance > CUT * variance[-1]
        return axes[:, varies], variance[varies]

    def gain(self, ridge: float) -> Tensor:
        """F `[units, w_dim]`, within the span of w."""
        axes, variance = self.axes
        return (self.cross / self.count.sum()) @ (axes / (variance + ridge * variance.mean())) @ axes.T


@dataclass(frozen=True)
class Folds:
    """The samples of each fold, and all the others."""

    w: Tensor
    """`[n, w_dim]`."""
    fold: Tensor
    """Of each sample, `[n]`."""
    mean_w: Tensor
    """Mean of w of each class, `[classes, w_dim]` float64."""
    parts: list[Scatter]
    """The samples of each fold."""

    @classmethod
    def of(cls, r: Tensor, w: Tensor, class_index: Tensor) -> Self:
        """Of `r [n, units]`, `w [n, w_dim]` and `class_index [n]`, ascending; every class has a sample.

        Raises:
            ValueError: w does not vary within classes, or there are too few samples to hold any out.
        """
        count = class_index.bincount()
        if not bool((count > FOLDS).all()):
            raise ValueError(
                f"a class has {int(count.min())} training pairs: expected more than {FOLDS} of each, so that some can "
                "be held out to see what w tells, and how far it goes; raise pairs.train"
            )
        mean_r, mean_w = (class_means(x, class_index) for x in (r, w))
        fold = folds(class_index)
        parts = [Scatter.of(r[fold == k], w[fold == k], class_index[fold == k], mean_r, mean_w) for k in range(FOLDS)]
        result = cls(w, fold, mean_w, parts)
        if not result.total.products.diagonal().max() > 0:
            raise ValueError("w is the same for all samples of each class: expected a generator whose samples differ")
        return result

    @cached_property
    def total(self) -> Scatter:
        """Of all samples."""
        return Scatter.sum(self.parts)

    @cached_property
    def rests(self) -> list[Scatter]:
        """Of each fold, all samples but its own."""
        return [Scatter.sum(self.parts[:k] + self.parts[k + 1 :]) for k in range(FOLDS)]


def class_means(x: Tensor, class_index: Tensor) -> Tensor:
    """`[classes, width]` float64 of `x [n, width]`."""
    total = torch.zeros(int(class_index.max()) + 1, x.shape[1], dtype=torch.float64, device=x.device)
    for values, c in zip(x.split(CHUNK), class_index.split(CHUNK), strict=True):
        total.index_add_(0, c, values.double())
    return total / class_index.bincount()[:, None]


def folds(class_index: Tensor) -> Tensor:
    """Fold of each sample: the samples of a class take turns, `[n]`, of an ascending `class_index [n]`."""
    index = torch.arange(len(class_index), device=class_index.device)
    return (index - torch.searchsorted(class_index, class_index)) % FOLDS
