"""Units whose meaning is known: functions of part world's true factors, and noise that means nothing.

What an analysis says of such units can be scored. Unit k is r_k = softplus(a_k·ũ), with ũ the factors in standard
deviations around their mean over all classes, and a_k scaled so that a_k·ũ has variance 1. Softplus is smooth and rises
everywhere, so that neither the factors that a unit responds to nor their order depend on it, and r ≥ 0 as a network's
penultimate activations are. Noise is the softplus of standard normal draws that depend on neither w nor the image, and
yet are the same whenever the same input is read: of a Philox generator whose key is a hash of the input's bytes.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lis.classifiers.factors import covariance, load_factor_network, standard, weights_path
from lis.config import PlantedConfig
from lis.generators.partworld import PartWorld
from lis.generators.partworld.world import World
from lis.images import to_uint8
from lis.rounding import linear, one_thread
from lis.streams import Stream
from lis.types import Generator, require_sight

VERSION = 1
"""To be raised when the same settings give other units."""
READ = ("w", "image")
KINDS = ("single", "two", "four", "eight", "all", "noise")
"""Of units, in the order of their numbers: functions of so many factors."""
_FACTORS = (1, 2, 4, 8, None, 0)
"""How many, None being all."""
_SIZE = (0.75, 1.25)
"""Smallest and largest |weight| of a factor in a mixture, before the mixture is scaled."""
_FITTED = 1000
"""Figures per class that the head is fitted to."""
_RIDGE = 1e-2
"""Of the head, in mean variances of a unit within classes."""


@dataclass(frozen=True)
class Planting:
    """What the units are functions of."""

    factor_names: tuple[str, ...]
    weights: Tensor
    """a `[units, factors]` float32; all 0 for noise."""
    kind: tuple[str, ...]
    """One of `KINDS` for each unit."""

    @classmethod
    def of(cls, world: World, per_kind: int, seed: int) -> Self:
        """Units of a world, drawn from the stream "planted units".

        Single factors are taken in turn, so that each has as many units as any other; mixtures draw theirs. Signs are
        drawn, and the sizes of a mixture's weights from `_SIZE`.

        Args:
            world: whose factors.
            per_kind: units of each kind.
            seed: of the draws.
        """
        rng, n = Stream("planted units", seed).rng(), len(world.figures.factor_names)
        turns = np.concatenate([rng.permutation(n) for _ in range(-(-per_kind // n))])
        rows = [_row(rng, n, turns[k : k + 1]) for k in range(per_kind)]
        for count in _FACTORS[1:]:
            rows += [_row(rng, n, rng.permutation(n)[:count]) for _ in range(per_kind)]
        weights = torch.from_numpy(np.stack(rows))
        std = covariance(world).diagonal().sqrt()
        variance = ((weights / std) @ covariance(world) * (weights / std)).sum(1, keepdim=True)
        weights = torch.where(variance > 0, weights / variance.sqrt(), 0.0)
        names = tuple(name for name in KINDS for _ in range(per_kind))
        return cls(world.figures.factor_names, weights.float(), names)

    @property
    def factor(self) -> tuple[str, ...]:
        """The factor with the largest |weight| of each unit; of noise none, an empty text."""
        largest = self.weights.abs().argmax(1).tolist()
        return tuple(self.factor_names[k] if n else "" for k, n in zip(largest, self.count.tolist(), strict=True))

    @property
    def noise(self) -> Tensor:
        """Numbers of the noise units, `[k]` int64."""
        return (self.count == 0).nonzero()[:, 0]

    @property
    def count(self) -> Tensor:
        """How many factors each unit is a function of, `[units]` int64; 0 for noise."""
        return (self.weights != 0).sum(1)


def _row(rng: np.random.Generator, factors: int, chosen: np.ndarray) -> np.ndarray:
    """Weights `[factors]` (float64) of the chosen factors, 0 of the others."""
    row = np.zeros(factors)
    row[chosen] = rng.choice((-1.0, 1.0), len(chosen)) * rng.uniform(*_SIZE, len(chosen))
    return row


def planted(
    generator: Generator,
    read: str = PlantedConfig.read,
    per_kind: int = PlantedConfig.per_kind,
    seed: int = PlantedConfig.seed,
) -> ReadFromStyle | ReadFromImages:
    """The classifier that a `PlantedConfig` asks for, on the CPU; its classes are all of part world's set.

    Args:
        generator: part world.
        read: what units are read from: `w`, exactly, or `image`, as a network sees the factors in the picture.
        per_kind: units of each of the six kinds.
        seed: of the units that are drawn.

    Raises:
        ValueError: another generator than part world, or an unknown `read`.

    Example:
        >>> generator = PartWorld(["pug"])
        >>> model = planted(generator, per_kind=3)
        >>> w = generator.sample(1, torch.arange(4), Stream("test pairs"))
        >>> model.units, tuple(model.features_of_style(w).shape), model.planting.kind[3]
        (18, (4, 18), 'two')
    """
    if not isinstance(generator, PartWorld):
        raise ValueError(
            f"classifier=planted with {type(generator).__name__}: planted units are functions of true factors, which "
            "part world alone has; use gan=partworld, or another classifier"
        )
    if read not in READ:
        raise ValueError(f"classifier.read={read}: expected one of {', '.join(READ)}")
    kind = ReadFromStyle if read == "w" else ReadFromImages
    return kind(generator.world, per_kind, seed)


class PlantedUnits(nn.Module):
    """Planted units and a head that names the classes: all of a `Classifier` but how the factors are read.

    The head is linear discriminant analysis on r of `_FITTED` figures of each class, of their true factors.

    Args:
        world: the set, in whose W-space the units live.
        per_kind: units of each kind.
        seed: of the units.
        identity: what r follows from beside these.
    """

    domain = "partworld"
    cam_layer: str | None = None
    weights: Tensor
    head_weight: Tensor
    head_bias: Tensor

    def __init__(self, world: World, per_kind: int, seed: int, identity: str) -> None:
        super().__init__()
        self.world, self.planting = world, Planting.of(world, per_kind, seed)
        self.class_names, self.units = world.class_names, len(self.planting.kind)
        self.layers: dict[str, nn.Module] = {}
        settings = f"planted {VERSION}|{per_kind}|{seed}|{identity}|{world.identity}"
        self.fingerprint = hashlib.sha256(settings.encode()).hexdigest()
        self.register_buffer("weights", self.planting.weights)
        examples = standardised(world, draw(world, _FITTED, Stream("planted units", seed)))
        weight, bias = discriminant(self.responses(examples).unflatten(0, (len(self.class_names), -1)))
        self.register_buffer("head_weight", weight)
        self.register_buffer("head_bias", bias)
        self.requires_grad_(False).eval()

    def responses(self, factors: Tensor) -> Tensor:
        """r `[n, units]` of standardised factors `[n, factors]`, without the noise: its units are log 2."""
        return F.softplus(linear(factors.double(), self.weights)).to(self.weights.dtype)

    def with_noise(self, r: Tensor, read: Tensor) -> Tensor:
        """r `[n, units]` with the noise of what was read, `[n, …]`, in its units."""
        noise = self.planting.noise.to(r.device)
        draws = noise_draws(read.detach(), len(noise))
        return r.index_copy(1, noise, F.softplus(draws.double()).to(r))

    def head(self, r: Tensor) -> Tensor:
        """Logits `[n, classes]` of `r [n, units]`."""
        return linear(r, self.head_weight, self.head_bias)


class ReadFromStyle(PlantedUnits):
    """Planted units of the true factors of w: a classifier that `ReadsStyle`.

    Args:
        world: the set.
        per_kind: units of each kind.
        seed: of the units.
    """

    def __init__(self, world: World, per_kind: int, seed: int) -> None:
        super().__init__(world, per_kind, seed, "w")

    def features_of_style(self, w: Tensor) -> Tensor:
        """r `[n, units]`, ≥ 0, of style codes `w [n, w_dim]`."""
        return self.with_noise(self.responses(standardised(self.world, self.world.to_factors(w))), w.float())

    def features(self, image: Tensor) -> Tensor:
        """There are none.

        Raises:
            ValueError: always.
        """
        require_sight(self, f"images {list(image.shape)} were to be read")
        return image


class ReadFromImages(PlantedUnits):
    """Planted units of the factors that a network sees in a picture.

    Args:
        world: the set.
        per_kind: units of each kind.
        seed: of the units.
    """

    def __init__(self, world: World, per_kind: int, seed: int) -> None:
        network, path = load_factor_network(world), weights_path(world.figures.name)
        super().__init__(world, per_kind, seed, hashlib.sha256(path.read_bytes()).hexdigest())
        self.network = network

    def features(self, image: Tensor) -> Tensor:
        """r `[n, units]`, ≥ 0, of images `[n, 3, 64, 64]` in [-1, 1]; noise is that of the image in 8 bits.

        Raises:
            ValueError: images that are not 64×64.
        """
        return self.with_noise(self.responses(self.network(image)), to_uint8(image.detach()))

    def forward(self, image: Tensor) -> Tensor:
        """Logits `[n, classes]` of images."""
        return self.head(self.features(image))


def standardised(world: World, u: Tensor) -> Tensor:
    """Factors `u [n, factors]` in standard deviations around their mean over all classes."""
    mean, std = standard(world)
    return (u - mean.to(u)) / std.to(u)


def draw(world: World, per_class: int, stream: Stream) -> Tensor:
    """Factors `[classes · per_class, factors]` of as many figures of every class, in turn, from a stream."""
    factors = len(world.figures.factor_names)
    classes = range(len(world.class_names))
    return torch.cat([world.factors_of(stream.normal(c, torch.arange(per_class), factors), c) for c in classes])


def keyed_noise(read: Tensor, count: int) -> Tensor:
    """Standard normal draws `[n, count]` float32 on the CPU: the same for the same row, without relation otherwise.

    The key of the Philox generator of a row is a hash of the row's bytes (Salmon et al. 2011).

    Args:
        read: `[n, …]`, the rows.
        count: draws for each.

    Example:
        >>> same = keyed_noise(torch.tensor([[1.0, 2.0], [1.0, 2.0], [1.0, 2.5]]), 4)
        >>> bool((same[0] == same[1]).all()), bool((same[0] == same[2]).any())
        (True, False)
    """
    rows = read.detach().cpu().contiguous().flatten(1).numpy()
    draws = [np.random.Generator(np.random.Philox(key=_key(row.tobytes()))).standard_normal(count) for row in rows]
    return torch.from_numpy(np.array(draws, np.float32).reshape(len(rows), count))


def noise_draws(read: Tensor, count: int) -> Tensor:
    """`keyed_noise`, under the transforms of `torch.func` too."""
    draws = _Draws.apply(read, count)
    assert isinstance(draws, Tensor)
    return draws


class _Draws(torch.autograd.Function):
    """`keyed_noise` without a derivative, for derivatives of the other units in forward mode, which no hash has."""

    @staticmethod
    def forward(read: Tensor, count: int) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return keyed_noise(read, count)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, int], output: Tensor) -> None:
        ctx.save_for_forward(output)

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return torch.zeros_like(ctx.saved_tensors[0])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, None]:
        return None, None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, None], read: Tensor, count: int) -> tuple[Tensor, int]:
        rows = read.movedim(in_dims[0] or 0, 0)
        return keyed_noise(rows.flatten(0, 1), count).unflatten(0, rows.shape[:2]), 0


def _key(content: bytes) -> np.ndarray:
    return np.frombuffer(hashlib.blake2b(content, digest_size=16).digest(), dtype=np.uint64)


def discriminant(r: Tensor) -> tuple[Tensor, Tensor]:
    """Linear discriminant analysis with a ridge: weight `[classes, units]` and bias `[classes]`, float32.

    The logit of class c is μ_c Σ⁻¹ r − μ_c Σ⁻¹ μ_c / 2, the classes being equally frequent, with Σ the covariance
    within them and a ridge of `_RIDGE` mean variances on its diagonal (Hastie et al. 2009, Eqs. 4.10 and 18.5).

    Args:
        r: activations of as many samples of each class, `[classes, n, units]`; a unit that does not vary has no weight.
    """
    x = r.double()
    means = x.mean(1)
    within, offset = (x - means[:, None]).flatten(0, 1), means - means.mean(0)
    with one_thread():
        covariance = within.T @ within / len(within)
        ridge = _RIDGE * covariance.diagonal().mean()
        weight = torch.linalg.solve(covariance + ridge * torch.eye(len(covariance)).double(), offset.T).T
    return weight.float(), (-(weight * (means + means.mean(0))).sum(1) / 2).float()
