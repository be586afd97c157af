"""The classes of a set of figures and its W-space: where truth is exact.

A class is a Gaussian over latent factors, u = μ_c + L_c z with z standard normal. Style codes are w = A·φ(u): A has
orthonormal columns and φ is the identity, or (`hard`) two additive couplings with an exact inverse. Every w, perturbed
ones too, therefore has true factors φ⁻¹(Aᵀw), and with them a true picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from lis.generators.partworld.birds import BIRDS
from lis.generators.partworld.dogs import DOGS
from lis.generators.partworld.drawing import FigureSet
from lis.generators.partworld.fungi import FUNGI
from lis.rounding import linear

VERSION = 1
"""To be raised when a drawing, the scales or φ change: stored results then no longer count."""
W_DIM = 64
SETS: dict[str, FigureSet] = {figures.name: figures for figures in (DOGS, FUNGI, BIRDS)}
_STD = (0.65, 1.0)
"""Smallest and largest standard deviation of a factor within a class."""
_CORRELATION = 0.10
_POSE = 4
"""The first factors are the pose: independent of the class and of the other factors."""
_SLOPE, _WIDTH, _HEIGHT = 2.0, 0.8, 1.2
"""Steepness, half width and height of the bump that φ's couplings are made of."""


class World:
    """Classes, Bayes rule and W-space of one set.

    Args:
        figures: the set.
        hard: w is a nonlinear function of the factors.
    """

    def __init__(self, figures: FigureSet, hard: bool = False) -> None:
        self.figures, self.hard = figures, hard
        self.class_names = tuple(figures.classes)
        seed = int.from_bytes(figures.name.encode(), "big") % 2**32
        rng = np.random.default_rng(seed)
        n = len(figures.factor_names)
        self.means = _class_means(figures)
        self.scales = torch.stack([_scale(rng, n) for _ in self.class_names])
        basis = np.linalg.qr(rng.standard_normal((W_DIM, n)))[0]
        self.basis = torch.from_numpy(basis).float()
        self._order = torch.from_numpy(rng.permutation(n))
        half = n // 2
        self._mix = [torch.from_numpy(_rows(rng, *shape)).float() for shape in ((n - half, half), (half, n - half))]

    @property
    def identity(self) -> str:
        """Everything that the pictures, the classes and W follow from, as text."""
        figures = self.figures
        classes = {name: dict(means) for name, means in figures.classes.items()}
        return f"{VERSION}|{self.hard}|{figures.name}|{dict(figures.ranges)}|{classes}|{figures.separation}"

    def factors_of(self, z: Tensor, class_index: int | Tensor) -> Tensor:
        """u = μ_c + L_c z: latent factors `[n, factors]` of draws `z [n, factors]`."""
        scale, mean = self.scales[class_index].to(z), self.means[class_index].to(z)
        return (mean + (scale.double() @ z.double()[..., None])[..., 0]).to(z.dtype)

    def log_posterior(self, u: Tensor) -> Tensor:
        """Log probability `[n, classes]` of every class given the factors, for equal priors (Bayes' rule)."""
        normals = [
            torch.distributions.MultivariateNormal(mean.to(u), scale_tril=torch.linalg.cholesky(scale @ scale.T).to(u))
            for mean, scale in zip(self.means, self.scales, strict=True)
        ]
        return torch.log_softmax(torch.stack([normal.log_prob(u) for normal in normals], 1), 1)

    def bayes_class(self, u: Tensor) -> Tensor:
        """The most probable class `[n]` of factors `u [n, factors]`: no classifier does better on average."""
        return self.log_posterior(u).argmax(1)

    def to_w(self, u: Tensor) -> Tensor:
        """w = A·φ(u): `[n, factors]` → `[n, 64]`."""
        return linear(self._bend(u) if self.hard else u, self.basis.to(u))

    def to_factors(self, w: Tensor) -> Tensor:
        """u = φ⁻¹(Aᵀw): `[n, 64]` → `[n, factors]`; what lies outside the span of A has no effect."""
        u = linear(w, self.basis.T.to(w))
        return self._unbend(u) if self.hard else u

    def _bend(self, u: Tensor) -> Tensor:
        """φ: two additive couplings, b += bump(M a), a += bump(N b)."""
        a, b = self._split(u)
        b = b + _bump(linear(a, self._mix[0].to(u)))
        a = a + _bump(linear(b, self._mix[1].to(u)))
        return self._join(a, b)

    def _unbend(self, v: Tensor) -> Tensor:
        a, b = self._split(v)
        a = a - _bump(linear(b, self._mix[1].to(v)))
        b = b - _bump(linear(a, self._mix[0].to(v)))
        return self._join(a, b)

    def _split(self, u: Tensor) -> tuple[Tensor, Tensor]:
        half = u.shape[1] // 2
        mixed = u[:, self._order.to(u.device)]
        return mixed[:, :half], mixed[:, half:]

    def _join(self, a: Tensor, b: Tensor) -> Tensor:
        return torch.cat([a, b], 1)[:, torch.argsort(self._order).to(a.device)]


@lru_cache
def world(name: str, hard: bool = False) -> World:
    """The world of a set by name.

    Raises:
        ValueError: there is no such set.
    """
    if name not in SETS:
        raise ValueError(f"part world has no set {name!r}: expected one of {', '.join(SETS)}")
    return World(SETS[name], hard)


def set_of(class_names: Sequence[str]) -> str:
    """Name of the set that holds all the classes.

    Raises:
        ValueError: a class is unknown, or the classes come from different sets (each has a W-space of its own).
    """
    home = {name: figures.name for figures in SETS.values() for name in figures.classes}
    if unknown := [name for name in class_names if name not in home]:
        raise ValueError(f"part world has no class {unknown[0]!r}: expected some of {', '.join(home)}")
    if len(result := {home[name] for name in class_names}) != 1:
        raise ValueError(f"classes must come from one set of part world, got {', '.join(sorted(result)) or 'none'}")
    return result.pop()


def _class_means(figures: FigureSet) -> Tensor:
    means = torch.zeros(len(figures.classes), len(figures.factor_names))
    for row, centre in zip(means, figures.classes.values(), strict=True):
        for factor, value in centre.items():
            row[figures.factor_names.index(factor)] = figures.separation * value
    return means


def _scale(rng: np.random.Generator, n: int) -> Tensor:
    """L_c: diagonal scales times weak correlations; the pose stays independent."""
    mixing = rng.standard_normal((n, n)) * _CORRELATION
    mixing[:_POSE] = mixing[:, :_POSE] = 0
    return torch.from_numpy(np.diag(rng.uniform(*_STD, n)) @ (np.eye(n) + mixing)).float()


def _bump(x: Tensor) -> Tensor:
    """An even function of two tanh, high around 0 and low on both sides: no linear map comes near it."""
    return _HEIGHT * (torch.tanh(_SLOPE * (x + _WIDTH)) - torch.tanh(_SLOPE * (x - _WIDTH)) - 1)


def _rows(rng: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    """A matrix with orthonormal rows or columns, whichever fit."""
    q = np.linalg.qr(rng.standard_normal((max(rows, columns), min(rows, columns))))[0]
    return q if rows >= columns else q.T
