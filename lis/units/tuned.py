"""What tuning leaves behind: tables of measures and answers for every (perturbation, sample, step)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pandas as pd
from torch import Tensor

from lis.quantify.change import change
from lis.store import Artifact


@dataclass(frozen=True)
class Tuned:
    """P perturbations (units or directions) of S samples in T steps; K labels, M measures, C classes of the run."""

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
    reencoded_share: Tensor
    """`[P, S]` float32: share of the asked change that arrives when the last and the first image are encoded again."""
    off_target: Tensor
    """`[P, S]` float32: root mean square change of the other units over the same, in their standard deviations."""
    step_norm: Tensor
    """`[P, S]` float32: ‖w̃(last) − w̃(first)‖."""
    class_index: Tensor
    """`[S]` int64: class of each sample, a place among the classes of the run; ordered."""
    sample_index: Tensor
    """`[S]` int64: index in the stream `tuning`."""
    labels: tuple[str, ...]
    class_names: tuple[str, ...]

    @classmethod
    def of(cls, artifact: Artifact, name: str = "tuning") -> Self:
        """Read tensors `name` ("tuning", or "control" for the random directions) of the artifact of
        `lis.units.tuning`."""
        facts = artifact.json("facts")
        return cls(
            **artifact.tensors(name),
            names=tuple(facts["names"][name]),
            labels=tuple(facts["labels"]),
            class_names=tuple(facts["class_names"]),
        )

    @property
    def change(self) -> Tensor:
        """Change of every measure from the first to the last step, `[P, S, K, M]`."""
        return change(self.measures[:, :, 0], self.measures[:, :, -1])

    @property
    def own_probability(self) -> Tensor:
        """Probability of each sample's own class, `[P, S, T]`."""
        index = self.class_index[None, :, None, None].expand(len(self.unit), -1, self.value.shape[1], 1)
        return self.probability.gather(3, index)[..., 0]

    @property
    def probability_change(self) -> Tensor:
        """Change of the probability of each sample's own class from the first to the last step, `[P, S]`."""
        return self.own_probability[..., -1] - self.own_probability[..., 0]

    @property
    def flipped(self) -> Tensor:
        """Whether the last step's prediction is another than the first's, `[P, S]` bool."""
        return self.prediction[..., -1] != self.prediction[..., 0]


def long_table(axes: Mapping[str, Sequence[Any] | Tensor], columns: Mapping[str, Any]) -> pd.DataFrame:
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
