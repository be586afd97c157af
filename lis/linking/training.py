"""What a link is fitted to, and what a fit returns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import pandas as pd
import torch
from torch import Tensor

from lis.linking.linear import LeastSquares
from lis.linking.module import LinkModule
from lis.progress import Progress


@dataclass(frozen=True)
class TrainingPairs:
    """Pairs (r, w) and their moments; the pairs are read only when a fit asks for them.

    Args:
        moments: of exactly these pairs.
        read: returns `r [n, units]` and `w [n, w_dim]` float32.
    """

    moments: LeastSquares
    read: Callable[[], Mapping[str, Tensor]]

    @classmethod
    def of(cls, r: Tensor, w: Tensor, blocks: int = 1) -> TrainingPairs:
        """Pairs in memory."""
        moments = LeastSquares(blocks)
        moments.update(r, w)
        return cls(moments, lambda: {"r": r, "w": w})

    @property
    def r(self) -> Tensor:
        """`[n, units]`."""
        return self._pairs["r"]

    @property
    def w(self) -> Tensor:
        """`[n, w_dim]`."""
        return self._pairs["w"]

    @cached_property
    def _pairs(self) -> Mapping[str, Tensor]:
        return self.read()


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
