"""Classes drawn at random from those that generator and classifier know, with pairs of each: a base rate for a run's.

A class of which the classifier accepts too few samples is passed over: another one takes its place in the draw.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lis.context import Context
from lis.linking.pairs import HopelessClass, known_classes, pairs_of_class


@dataclass(frozen=True)
class Drawn:
    """Pairs of some classes."""

    classes: tuple[str, ...]
    r: NDArray[np.floating[Any]]
    """`[n, units]` float32, by class."""
    w: NDArray[np.floating[Any]]
    """`[n, w_dim]` float32."""
    labels: NDArray[np.integer[Any]]
    """`[n]`: index into `classes`."""


@dataclass
class RandomClasses:
    """Draws as many classes as a run has; the pairs of each are made once."""

    ctx: Context
    examples: int
    """Pairs of each class: the first that are accepted, of the stream of the test pairs."""
    refused: list[str] = field(default_factory=list)
    """Classes that were passed over."""
    _pairs: dict[str, tuple[NDArray[Any], NDArray[Any]]] = field(default_factory=dict)

    def draw(self, rng: np.random.Generator) -> Drawn:
        """Some classes, without replacement.

        Raises:
            ValueError: of too many classes the classifier accepts too few samples.
        """
        count, classes, known = len(self.ctx.class_names), list[str](), known_classes(self.ctx)
        for name in rng.permutation(known).tolist():
            if len(classes) < count and self._accepted(name):
                classes.append(name)
        if len(classes) < count:
            raise ValueError(
                f"similarity.random_classes: of {len(known)} classes the classifier accepts enough samples of "
                f"{len(classes)}, expected {count} as in the run; lower pairs.min_acceptance, or set "
                "similarity.random_classes=0"
            )
        r, w = (np.concatenate(columns) for columns in zip(*(self._pairs[name] for name in classes), strict=True))
        return Drawn(tuple(classes), r, w, np.arange(count).repeat(self.examples))

    def _accepted(self, name: str) -> bool:
        """Whether there are pairs of a class, which are made where nobody has asked for it."""
        if name not in self._pairs and name not in self.refused:
            try:
                pairs = pairs_of_class(self.ctx, "test", name, self.examples)
                self._pairs[name] = pairs["r"].numpy(), pairs["w"].numpy()
            except HopelessClass:
                self.refused.append(name)
        return name in self._pairs
