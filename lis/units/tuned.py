"""What tuning measures of every (perturbation, sample, step), and what that is on average (paper §4.3)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lis.quantify.averages import Average, median_change
from lis.quantify.change import change
from lis.quantify.measures import interpreted, mean_area
from lis.store import Artifact

Axes = Mapping[str, Sequence[Any] | Tensor]
"""Values along each axis of a table, by name."""
BLOCK = 64
"""Perturbations whose changes are computed at once: what bounds the memory."""


@dataclass(frozen=True)
class Tuned:
    """P perturbations (units or directions) of S samples in T steps; K labels, M measures, C classes of the run.

    Averages over samples drop NaN, and treat the angle as what it is, an axis: see `lis.quantify.averages`.
    """

    names: tuple[str, ...]
    """Of the perturbations: a unit's number, or what a direction is called."""
    unit: Tensor
    """`[P]` int64; −1 for a direction."""
    value: Tensor
    """`[P, T]` float32: the activation that a unit is set to; what a random direction is moved by."""
    measures: Tensor
    """`[P, S, T, K, M]` float32, NaN where a label is absent."""
    probability: Tensor
    """`[P, S, T, C]` float32: softmax over all classes that the classifier knows, of those of the run."""
    prediction: Tensor
    """`[P, S, T]` int64: index into the classifier's classes."""
    position: Tensor
    """`[P, S, T]` float32: how far w really is from f(r), signed: `lis.units.controls.signed_distance`."""
    reencoded_share: Tensor
    """`[P, S]` float32: share of the asked change that arrives when the last and the first image are encoded again."""
    own: Tensor
    """`[P, S]` float32: change of the unit itself over the same, in its standard deviations; positive as asked."""
    others: Tensor
    """`[P, S]` float32: root mean square change of the other live units over the same, in theirs."""
    more: Tensor
    """`[P, S]` float32: share of the other live units that move more than the tuned one; NaN of a direction."""
    beyond: Tensor
    """`[P, S]` float32: 1 where the last w lies beyond 99 % of held-out training samples, or was stopped there."""
    step_norm: Tensor
    """`[P, S]` float32: ‖w̃(last) − w̃(first)‖."""
    class_index: Tensor
    """`[S]` int64: class of each sample, index into the classes of the run; ordered."""
    sample_index: Tensor
    """`[S]` int64: index in the stream `tuning`."""
    labels: tuple[str, ...]
    class_names: tuple[str, ...]

    @classmethod
    def of(cls, artifact: Artifact) -> Self:
        """The units of the artifact of `lis.units.tuning`."""
        facts = artifact.json("facts")
        return cls(
            **artifact.tensors("tuning"),
            names=tuple(facts["names"]["tuning"]),
            labels=tuple(facts["labels"]),
            class_names=tuple(facts["class_names"]),
        )

    @property
    def rows(self) -> list[Tensor]:
        """Indices `[s]` of the samples of each class."""
        return [(self.class_index == c).nonzero()[:, 0] for c in range(len(self.class_names))]

    @cached_property
    def change(self) -> Tensor:
        """From the first to the last step, `[P, S, K, M]` float32, NaN where a label is absent at either."""
        blocks = self.measures.split(BLOCK)
        return torch.cat([change(block[:, :, 0], block[:, :, -1]) for block in blocks])

    @cached_property
    def average(self) -> Average:
        """Change over the samples of all classes, `[P, K, M]`."""
        return average(self.change)

    @cached_property
    def by_class(self) -> Average:
        """Change over the samples of each class, `[P, C, K, M]`."""
        return _together([average(self.change[:, rows]) for rows in self.rows], partial(torch.stack, dim=1))

    @cached_property
    def median_by_class(self) -> Tensor:
        """Median change over the samples of each class, `[P, C, K, M]`: see `median_change`."""
        changes = [self.change[:, rows].split(BLOCK) for rows in self.rows]
        return torch.stack([torch.cat([median_change(block, dim=1) for block in blocks]) for blocks in changes], 1)

    @cached_property
    def mean_area(self) -> Tensor:
        """Mean area of each label over all images that have it, `[K]`, a fraction of the frame; NaN: no image has."""
        return mean_area(self.measures)

    @cached_property
    def interpreted(self) -> Tensor:
        """Which labels are large enough to be interpreted, `[K]` bool."""
        return interpreted(self.measures)

    @property
    def interpreted_index(self) -> list[int]:
        """Indices of the labels that are interpreted."""
        return self.interpreted.nonzero()[:, 0].tolist()

    @property
    def interpreted_labels(self) -> list[str]:
        """Names of the labels that are interpreted."""
        return [self.labels[k] for k in self.interpreted_index]

    @property
    def class_probability(self) -> Tensor:
        """Probability of each sample's own class, `[P, S, T]`."""
        index = self.class_index[None, :, None, None].expand(len(self.unit), -1, self.value.shape[1], 1)
        return self.probability.gather(3, index)[..., 0]

    @property
    def probability_change(self) -> Tensor:
        """Change of the probability of each sample's own class from the first to the last step, `[P, S]`."""
        return self.class_probability[..., -1] - self.class_probability[..., 0]

    @property
    def flipped(self) -> Tensor:
        """Whether the last step's prediction is another than the first's, `[P, S]` bool."""
        return self.prediction[..., -1] != self.prediction[..., 0]


def average(change: Tensor) -> Average:
    """Of `change [P, S, K, M]` over the samples, block by block: `[P, K, M]`."""
    return _together([Average.of(block, dim=1) for block in change.split(BLOCK)], torch.cat)


def _together(parts: Sequence[Average], join: Callable[[list[Tensor]], Tensor]) -> Average:
    return Average(*(join(list(columns)) for columns in zip(*(vars(part).values() for part in parts), strict=True)))


def long_table(axes: Axes, columns: Mapping[str, Any]) -> pd.DataFrame:
    """A column per axis and per array; the last axis runs fastest.

    Args:
        axes: values along each axis, by name.
        columns: arrays or CPU tensors that broadcast to the lengths of the axes, by name.

    Example:
        >>> long_table({"unit": [4, 7], "label": ["ear", "eye"]}, {"change": [[1, 2], [3, 4]]})
           unit label  change
        0     4   ear       1
        1     4   eye       2
        2     7   ear       3
        3     7   eye       4
    """
    size = tuple(len(values) for values in axes.values())
    indices = np.indices(size).reshape(len(size), -1)
    named = {name: np.asarray(values)[index] for (name, values), index in zip(axes.items(), indices, strict=True)}
    flat = {name: np.broadcast_to(np.asarray(values), size).reshape(-1) for name, values in columns.items()}
    return pd.DataFrame(named | flat)


def sample_table(
    samples: Mapping[str, Any], class_names: Sequence[str], axes: Axes, columns: Mapping[str, Any]
) -> pd.DataFrame:
    """A `long_table` in which class and sample_index say what the numbers of its axis "sample" stand for.

    Args:
        samples: class_index and sample_index, `[n]` int64 each.
        class_names: names that class_index points into.
        axes: as of `long_table`; "sample" is `range(n)`.
        columns: as of `long_table`.
    """
    table = long_table(axes, columns)
    column, index = list(table).index("sample"), table.pop("sample").to_numpy(dtype=int)
    table.insert(column, "class", np.asarray(class_names)[samples["class_index"].numpy()[index]])
    table.insert(column + 1, "sample_index", samples["sample_index"].numpy()[index])
    return table
