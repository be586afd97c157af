"""What a link is fitted to, in which batches, and what a fit returns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import pandas as pd
import torch
from torch import Tensor

from lis.linking.linear import LeastSquares, LinkModule
from lis.progress import Progress


@dataclass(frozen=True)
class TrainingPairs:
    """Pairs (r, w) and their moments."""

    r: Tensor
    """`[n, units]` float32."""
    w: Tensor
    """`[n, w_dim]` float32."""
    moments: LeastSquares
    """Of exactly these pairs."""
    r_projected: Tensor | None = None
    """r_U `[n, units]` float32 of the pairs, as `lis.linking.projection` makes it; None where the fit asks for none."""

    @classmethod
    def of(cls, r: Tensor, w: Tensor, blocks: int = 1, r_projected: Tensor | None = None) -> TrainingPairs:
        """Pairs with their moments in a number of blocks."""
        moments = LeastSquares(blocks)
        moments.update(r, w)
        return cls(r, w, moments, r_projected)


class Batches:
    """Batches sliced from tensors in memory: no worker, no collation, and no copy of the tensors.

    Args:
        tensors: of the same samples `[n, …]`.
        rows: the samples that are taken, `[m]` int64.
        size: samples per batch.
        seed: of a new order for each epoch; None keeps the order.
    """

    def __init__(self, tensors: Sequence[Tensor], rows: Tensor, size: int, seed: int | None = None) -> None:
        self.tensors, self.rows, self.size = tensors, rows, size
        self.generator = None if seed is None else torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        return -(-len(self.rows) // self.size)

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        n = len(self.rows)
        order = torch.arange(n) if self.generator is None else torch.randperm(n, generator=self.generator)
        for rows in self.rows[order].to(self.tensors[0].device).split(self.size):
            yield tuple(tensor[rows] for tensor in self.tensors)


@dataclass(frozen=True)
class Settings:
    """Where and how a fit runs."""

    seed: int = 0
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    progress: Progress = field(default_factory=Progress)


@dataclass(frozen=True)
class FittedLink:
    """A link and what is worth knowing about its fit."""

    kind: str
    """`lr`, `ridge`, `fc_l1` or `fc_l2`."""
    link: LinkModule
    facts: dict[str, Any]
    """Numbers by name: samples, units, ridge, …"""
    tables: dict[str, pd.DataFrame]
    """`path` of a linear link, `curve` of a trained one."""
    ridge: float | None = None
    """The ridge of a linear link; None for the others."""


class LinkFit(Protocol):
    """One way to fit a link."""

    def fit(self, training: TrainingPairs, settings: Settings) -> FittedLink:
        """Fits a link; the same seed gives the same link."""
        ...


@runtime_checkable
class ProjectedFit(Protocol):
    """What a fit may have beside `LinkFit`: it also reads r_U, of samples projected in W (supplement S2)."""

    @property
    def projected(self) -> int | None:
        """Principal components of W that the samples are projected onto; None where it does not read them after all."""
        ...
