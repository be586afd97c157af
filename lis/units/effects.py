"""What perturbations change on average: the numbers that every statistic over units starts from (paper §4.3)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import torch
from torch import Tensor

from lis.quantify.averages import Average, median_change
from lis.quantify.change import change
from lis.quantify.measures import MINIMUM_AREA, mean_area
from lis.units.tuned import Tuned

BLOCK = 64
"""Perturbations whose changes are computed at once: what bounds the memory."""


@dataclass(frozen=True)
class Effects:
    """Changes by P perturbations of S samples of C classes, in M measures of K labels.

    Averages over samples drop NaN, and treat the angle as what it is, an axis: see `lis.quantify.averages`.
    """

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
        return cls(tuned, torch.cat(changes), mean_area(tuned.measures))

    @property
    def interpreted(self) -> Tensor:
        """Which labels are large enough to be interpreted, `[K]` bool: as `lis.quantify.measures.interpreted`."""
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
    def average(self) -> Average:
        """Over the samples of all classes, `[P, K, M]`."""
        return average(self.change)

    @cached_property
    def by_class(self) -> Average:
        """Over the samples of each class, `[P, C, K, M]`."""
        classes = [average(self.change[:, rows]) for rows in self.rows]
        return Average(*(torch.stack([vars(c)[name] for c in classes], 1) for name in vars(classes[0])))

    @cached_property
    def median_by_class(self) -> Tensor:
        """Median change over the samples of each class, `[P, C, K, M]`: see `median_change`."""
        return torch.stack([in_blocks(median_change, self.change[:, rows]) for rows in self.rows], 1)

    @property
    def rows(self) -> list[Tensor]:
        """Places `[s]` of the samples of each class."""
        index = self.tuned.class_index
        return [(index == c).nonzero()[:, 0] for c in range(len(self.tuned.class_names))]


def per_length(values: Tensor, tuned: Tuned) -> Tensor:
    """What perturbations do, `[P, …]`, over their mean ‖Δw‖: this is how those of different lengths are compared."""
    length = tuned.step_norm.nanmean(1)
    return values / length.reshape(-1, *[1] * (values.ndim - 1))


def average(change: Tensor) -> Average:
    """Of `change [P, S, K, M]` over the samples, block by block: `[P, K, M]`."""
    blocks = [Average.of(block, dim=1) for block in change.split(BLOCK)]
    return Average(*(torch.cat([vars(block)[name] for block in blocks]) for name in vars(blocks[0])))


def in_blocks(statistic: Callable[..., Tensor], change: Tensor) -> Tensor:
    """A statistic over the samples of `change [P, S, K, M]`, block by block: `[P, K, M]`."""
    return torch.cat([statistic(block, dim=1) for block in change.split(BLOCK)])
