"""What perturbations change on average: the numbers that every statistic over units starts from (paper §4.3)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Self

import torch
from torch import Tensor

from lis.quantify.change import change
from lis.quantify.measures import MEASURES, MINIMUM_AREA
from lis.units.tuned import Tuned

BLOCK = 64
"""Perturbations whose changes are computed at once: what bounds the memory."""


@dataclass(frozen=True)
class Effects:
    """Changes by P perturbations of S samples of C classes, in M measures of K labels."""

    tuned: Tuned
    change: Tensor
    """From the first to the last step, `[P, S, K, M]` float32, NaN where a label is absent at either."""
    mean_area: Tensor
    """Mean area of each label over all images that have it, `[K]`, a fraction of the frame; NaN: no image has it."""

    @classmethod
    def of(cls, tuned: Tuned) -> Self:
        """The effects of what was tuned."""
        steps = tuned.measures.split(BLOCK)
        changes = [change(block[:, :, 0], block[:, :, -1]) for block in steps]
        return cls(tuned, torch.cat(changes), label_area(tuned.measures))

    @property
    def interpreted(self) -> Tensor:
        """Which labels are large enough to be interpreted, `[K]` bool: a mean area of `MINIMUM_AREA` or more."""
        return self.mean_area >= MINIMUM_AREA

    @property
    def kept(self) -> list[int]:
        """Places of the labels that are interpreted."""
        return self.interpreted.nonzero()[:, 0].tolist()

    @property
    def kept_labels(self) -> list[str]:
        """Names of the labels that are interpreted."""
        return [self.tuned.labels[k] for k in self.kept]

    @cached_property
    def mean(self) -> Tensor:
        """Mean change over the samples of all classes, NaN dropped, `[P, K, M]`."""
        return mean_over_samples(self.change)

    @cached_property
    def by_class(self) -> Tensor:
        """Mean change over the samples of each class, NaN dropped, `[P, C, K, M]`."""
        return torch.stack([mean_over_samples(self.change[:, rows]) for rows in self.rows], 1)

    @cached_property
    def median_by_class(self) -> Tensor:
        """Median change over the samples of each class, NaN dropped, `[P, C, K, M]`."""
        return torch.stack([median_over_samples(self.change[:, rows]) for rows in self.rows], 1)

    @property
    def rows(self) -> list[Tensor]:
        """Places `[s]` of the samples of each class."""
        index = self.tuned.class_index
        return [(index == c).nonzero()[:, 0] for c in range(len(self.tuned.class_names))]


def per_length(values: Tensor, tuned: Tuned) -> Tensor:
    """What perturbations do, `[P, …]`, over their mean ‖Δw‖: this is how those of different lengths are compared."""
    length = tuned.step_norm.nanmean(1)
    return values / length.reshape(-1, *[1] * (values.ndim - 1))


def label_area(measures: Tensor) -> Tensor:
    """Mean area of each label over the images that have it, `[K]`, of `measures [P, S, T, K, M]`."""
    area = measures[..., MEASURES.index("area")].flatten(0, 2)
    return area.double().nanmean(0).float()


def mean_over_samples(values: Tensor) -> Tensor:
    """Mean over axis 1, NaN dropped: `[P, S, …]` → `[P, …]`, block by block."""
    return torch.cat([block.nanmean(1) for block in values.split(BLOCK)])


def median_over_samples(values: Tensor) -> Tensor:
    """Median over axis 1, NaN dropped, the mean of the middle two for an even number: `[P, S, …]` → `[P, …]`.

    Example:
        >>> median_over_samples(torch.tensor([[1.0, 2.0, 6.0, float("nan"), 4.0]]))
        tensor([3.])
    """
    if not values.shape[1]:
        return values.new_full((len(values), *values.shape[2:]), torch.nan)
    ordered = values.sort(1).values  # NaN is the largest
    known = (~values.isnan()).sum(1, keepdim=True)
    middle = [ordered.gather(1, ((known - 1 + odd) // 2).clamp(min=0)) for odd in (0, 1)]
    return ((middle[0] + middle[1]) / 2)[:, 0]
