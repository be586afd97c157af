"""Where the style codes of samples lie: within the distance from their class's mean that 99 % of held-out ones keep."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
import torch
from torch import Tensor

from lis.linking.scatter import Folds, Scatter, class_means
from lis.rounding import linear

COVERED = 0.99
"""Share of held-out samples within the bound of w."""
STOPPED_BYTES = 2**28
"""Bytes of distances to the classes that are held at once."""


@dataclass(frozen=True)
class Region:
    """Means, axes and bound of w within classes; float64."""

    axes: Tensor
    """Orthonormal principal axes of w, as columns `[w_dim, k]`: its span."""
    variance: Tensor
    """Of w along each, `[k]`, above 0."""
    mean_w: Tensor
    """Mean of w of each class, `[classes, w_dim]`."""
    bound: Tensor
    """Mahalanobis distance of w to the nearest class that 99 % of held-out samples stay within, scalar."""

    @classmethod
    def around(cls, w: Tensor, class_index: Tensor) -> Self:
        """From training samples `w [n, w_dim]` of classes `class_index [n]`, ascending; raises as `Folds.of`."""
        return cls.of(Folds.of(w[:, :0], w, class_index))

    @classmethod
    def of(cls, folds: Folds) -> Self:
        """From training samples in folds."""
        held_out = [
            _held_out_distance(rest, folds.w[folds.fold == k], folds.mean_w) for k, rest in enumerate(folds.rests)
        ]
        bound = torch.from_numpy(np.quantile(torch.cat(held_out).cpu().numpy(), [COVERED]))[0]
        return cls(*folds.total.axes, folds.mean_w, bound.to(folds.w.device))

    def distance(self, w: Tensor) -> Tensor:
        """Mahalanobis distance `[...]` of `w [..., w_dim]` to the mean of the nearest class, float64."""
        return _nearest(w, self.mean_w, self.axes, self.variance)

    def beyond(self, w: Tensor) -> Tensor:
        """Which of `w [..., w_dim]` lie beyond the 99 % of held-out samples, or were stopped there: `[...]` bool."""
        return self.distance(w) >= self.bound * (1 - 1e-4)

    def stopped(self, base: Tensor, change: Tensor) -> Tensor:
        """How much of each change can be had before w leaves the 99 % of held-out samples of every class.

        Args:
            base: w `[n, w_dim]`.
            change: `[P, n, steps, w_dim]` of P units or directions, or of one without the first axis.

        Returns:
            Shares `[P, n, steps]` in [0, 1], float64; 0 where the base lies outside and the change does not lead
            inside.
        """
        if change.ndim == 3:
            return self.stopped(base, change[None])[0]
        numbers = self.mean_w.numel() + len(self.mean_w) * (self.axes.shape[1] + 8 * change.shape[2])
        at_once, root = max(1, STOPPED_BYTES // (8 * numbers)), self._scores  # what is held grows with the classes
        parts = []
        for some, changes in zip(base.split(at_once), change.split(at_once, 1), strict=True):
            start = (some.to(root)[:, None] - self.mean_w) @ root
            parts.append(torch.stack([self._stopped(start, each.to(root) @ root) for each in changes]))
        return torch.cat(parts, 1)

    def _stopped(self, start: Tensor, x: Tensor) -> Tensor:
        """The same of bases `[n, classes, k]`, from the mean of each class, and changes `[n, steps, k]`, in scores."""
        a, b = x.square().sum(-1, keepdim=True).clamp(min=1e-300), x @ start.mT
        inside = b.square() - a * (start.square().sum(-1)[:, None] - self.bound**2)
        root = inside.clamp(min=0).sqrt()
        enters, leaves = (-b - root) / a, (-b + root) / a
        last = leaves.clamp(max=1.0)
        return last.where((inside >= 0) & (leaves >= 0) & (enters <= last), 0.0).amax(-1).clamp(min=0)

    def slack(self, w: Tensor) -> Tensor:
        """1 − distance over the bound, `[...]`: below 0 beyond 99 % of held-out samples."""
        return 1 - self.distance(w) / self.bound

    @cached_property
    def _scores(self) -> Tensor:
        """What makes standard deviations along the axes of w, `[w_dim, k]`."""
        return self.axes / self.variance.sqrt()


@dataclass(frozen=True)
class ClassRegion:
    """Mean and scatter of w of one class alone; float64."""

    mean_w: Tensor
    """`[w_dim]`."""
    scores: Tensor
    """What makes uncorrelated standard deviations of w − mean, `[w_dim, rank]`."""

    @classmethod
    def of(cls, w: Tensor, name: str) -> Self:
        """From the training samples `w [n, w_dim]` of a class.

        Raises:
            ValueError: w varies along no axis, or along as many as so few samples can tell.
        """
        first = torch.zeros(len(w), dtype=torch.int64, device=w.device)
        mean = class_means(w, first)
        axes, variance = Scatter.of(w[:, :0], w, first, mean[:, :0], mean).axes
        if not 0 < len(variance) < len(w) - 1:
            raise ValueError(
                f"class {name!r}: w of its {len(w)} training pairs varies along {len(variance)} axes, expected at "
                f"least 1 and fewer than {len(w) - 1} for a distance by their scatter (counterfactuals.near); raise "
                "pairs.train, or leave counterfactuals.near alone"
            )
        return cls(mean[0], axes / variance.sqrt())

    def distance(self, w: Tensor) -> Tensor:
        """Squared Mahalanobis distance of `w [n, w_dim]` to the mean over the rank, `[n]`: 1 on average of the samples.

        It is that within the span of the samples: what lies across it does not count.
        """
        return linear(w - self.mean_w, self.scores.T).square().mean(1).to(w.dtype)


def _held_out_distance(rest: Scatter, w: Tensor, mean_w: Tensor) -> Tensor:
    """Distance of held-out `w [n, w_dim]` to the nearest class of the rest, `[n]`."""
    shifts = rest.shifts
    return _nearest(w, mean_w + shifts[1], *rest.around(*shifts).axes)


def _nearest(w: Tensor, mean_w: Tensor, axes: Tensor, variance: Tensor) -> Tensor:
    """Mahalanobis distance `[...]` of `w [..., w_dim]` to the nearest of `mean_w [classes, w_dim]`."""
    root = axes / variance.sqrt()
    scores, centres = w.to(root) @ root, mean_w @ root
    return torch.stack([(scores - centre).square().sum(-1) for centre in centres]).amin(0).sqrt()
