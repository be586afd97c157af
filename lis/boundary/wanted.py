"""Which counterfactuals a run looks for: ordered pairs of classes, samples of the test pairs, starts."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lis.boundary.rules import OPTIMIZERS
from lis.config import RunConfig
from lis.streams import Stream
from lis.units.direction import class_pair

STARTS = 2**20
"""Starts that a sample can have."""


def validate_counterfactual(config: RunConfig) -> None:
    """Checks, before any work, that there are pairs of classes, and samples to begin with.

    Raises:
        ValueError: a single class, an unknown pair or one that is named twice, or too few test pairs.
    """
    class_pairs(config)
    for key in ("samples", "diversity_samples", "l1_samples"):
        value = getattr(config.counterfactual, key)
        if value > config.pairs.test:
            raise ValueError(
                f"counterfactual.{key}={value}: expected at most pairs.test={config.pairs.test}, the samples per class"
            )


def class_pairs(config: RunConfig) -> list[tuple[int, int]]:
    """Original and target, places among the classes of the run.

    Those that are named, or all: first every class and the next one, then every class and the one after that, ….

    Raises:
        ValueError: as `validate_counterfactual`.

    Example:
        >>> from lis.config import ClassesConfig
        >>> class_pairs(RunConfig(classes=ClassesConfig(name="three", names=["a", "b", "c"])))
        [(0, 1), (1, 2), (2, 0), (0, 2), (1, 0), (2, 1)]
    """
    names, wanted = config.classes.names, config.counterfactual.pairs
    if len(names) < 2:
        raise ValueError(f"a counterfactual needs two classes: classes.names has {len(names)} ({', '.join(names)})")
    if wanted is None:
        return [(k, (k + d) % len(names)) for d in range(1, len(names)) for k in range(len(names))]
    if not wanted:
        raise ValueError("counterfactual.pairs is empty: expected <from>-<to>, or null for every pair")
    found = [class_pair(text, names, key="counterfactual.pairs=") for text in wanted]
    if len(set(found)) < len(found):
        raise ValueError(f"counterfactual.pairs={','.join(wanted)}: expected every pair once")
    return found


def starts(
    seed: int, optimizer: str, bound: float, places: tuple[int, int], sample_index: Tensor, n: int, units: int
) -> Tensor:
    """Uniform starts in the coordinates of the optimizer's metric; one does not depend on the others.

    Args:
        seed: of the run.
        optimizer: says whether they may be negative.
        bound: below which they lie.
        places: original and target among the classifier's classes.
        sample_index: samples `[k]` in the stream of test pairs.
        n: starts per sample.
        units: of the classifier.

    Returns:
        `[k, n, units]` float32.
    """
    stream, (origin, target) = Stream("counterfactual starts", seed), places
    draws = torch.empty(len(sample_index), n, units)
    for row, sample in enumerate(sample_index.tolist()):
        for start in range(n):
            rng = stream.rng(origin * STARTS + target, sample * STARTS + start)
            draws[row, start] = torch.from_numpy(rng.random(units, dtype="float32"))
    return bound * (2 * draws - 1 if OPTIMIZERS[optimizer].signed else draws)


def names_of(config: RunConfig, pair: Sequence[int]) -> tuple[str, str]:
    """Names of original and target."""
    return config.classes.names[pair[0]], config.classes.names[pair[1]]
