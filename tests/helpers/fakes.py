"""The smallest models that fulfil `lis.types`: linear, exact, and made from a seed.

The generator's image is a linear map of w without noise; the classifier's head names the nearest class mean, so that
nearly every sample is accepted, and a linear link from its features to w is exact when it has enough units.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from lis.config import (
    AnalysisConfig,
    ClassesConfig,
    ClassifierConfig,
    EngineConfig,
    GanConfig,
    LeastSquaresConfig,
    LoggerConfig,
    PairsConfig,
    TuningConfig,
)
from lis.context import Context
from lis.engine import InProcess
from lis.generators.layers import requested_layers
from lis.linking.evaluation import EvaluationConfig
from lis.linking.similarity import SimilarityConfig
from lis.progress import Progress
from lis.stage import REGISTRY
from lis.stages import RunConfig
from lis.store import Store
from lis.streams import Stream

NAMES = ("ant", "bee", "cat")


def _random(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class FakeGenerator:
    """w = A·u; the image is a linear map of w.

    Args:
        class_names: classes that can be asked for, or (`conditional` false) that are drawn inside.
        spread: standard deviation of the factors inside a class; the class means lie about 3 apart.
    """

    def __init__(
        self,
        class_names: tuple[str, ...] = NAMES,
        resolution: int = 8,
        w_dim: int = 6,
        factors: int = 4,
        spread: float = 0.5,
        conditional: bool = True,
    ) -> None:
        self.domain = "fake"
        self.inside = class_names
        self.class_names = tuple(class_names) if conditional else ()
        self.num_classes = len(self.class_names)
        self.resolution, self.w_dim, self.spread = resolution, w_dim, spread
        self.factor_names = tuple(f"factor {k}" for k in range(factors))
        self.basis = torch.linalg.qr(_random(1, w_dim, factors))[0]
        self.means = 2 * torch.nn.functional.normalize(_random(2, len(class_names), factors))
        self.decoder = 0.1 * torch.linalg.qr(_random(3, 3 * resolution**2, w_dim))[0] * resolution
        means = self.means @ self.basis.T
        self.mean_w = means if conditional else means.mean(0, keepdim=True)
        self.fingerprint = f"fake-generator-{class_names}-{resolution}-{w_dim}-{factors}-{spread}-{conditional}"

    def sample(self, class_index: int | None, indices: Tensor, stream: Stream, truncation: float = 1.0) -> Tensor:
        """Style codes `[n, w_dim]`."""
        if class_index not in (range(self.num_classes) if self.num_classes else (None,)):
            raise ValueError(f"class {class_index}: expected one of {self.num_classes}, or None without classes")
        z = stream.normal(class_index, indices, len(self.factor_names))
        drawn = torch.full((len(z),), class_index or 0)
        if class_index is None:
            drawn = torch.tensor(
                [int(stream.rng(None, 10**6 + k).integers(len(self.inside))) for k in indices.tolist()]
            )
        w = (self.means[drawn] + self.spread * z) @ self.basis.T
        mean = self.mean_w[drawn] if self.num_classes else self.mean_w
        return mean + truncation * (w - mean)

    def counterpart(
        self, class_index: int, indices: Tensor, stream: Stream, target: int, truncation: float = 1.0
    ) -> Tensor:
        """Style codes `[n, w_dim]` with the z of a class and the mean of another."""
        own = self.sample(class_index, indices, stream) - self.mean_w[class_index]
        return self.mean_w[target] + truncation * own

    def synthesize(self, w: Tensor, features: bool | Collection[str] = False) -> Any:
        """Images `[n, 3, H, W]`."""
        image = (w @ self.decoder.T).unflatten(1, (3, self.resolution, self.resolution)).clamp(-1, 1)
        return image if features is False else (image, dict.fromkeys(requested_layers(features, ["only"]), image))

    def true_factors(self, w: Tensor) -> Tensor:
        """Factors `[n, factors]`."""
        return w @ self.basis


class FakeClassifier:
    """Features relu([Mx, −Mx]) of the pixels x; the head is linear discriminant analysis with the true class means.

    Args:
        generator: whose classes it is made for.
        class_names: what it calls them, in the generator's order; others of its names are never predicted.
    """

    def __init__(self, generator: FakeGenerator, units: int = 16, class_names: tuple[str, ...] | None = None) -> None:
        self.class_names = tuple(class_names or generator.inside)
        self.units = units
        self.layers: dict[str, torch.nn.Module] = {}
        self.cam_layer: str | None = None
        self.projection = _random(4, units // 2, 3 * generator.resolution**2) / generator.resolution
        images = generator.synthesize(generator.means @ generator.basis.T)
        self.prototypes = images.flatten(1) @ self.projection.T
        self.fingerprint = f"fake-classifier-{units}-{self.class_names}-{generator.fingerprint}"

    def features(self, image: Tensor) -> Tensor:
        """`r [n, units]`."""
        projected = image.flatten(1) @ self.projection.T
        return torch.cat([projected, -projected], 1).relu()

    def head(self, r: Tensor) -> Tensor:
        """Logits `[n, classes]`."""
        projected = r[:, : self.units // 2] - r[:, self.units // 2 :]
        logits = projected @ self.prototypes.T - self.prototypes.square().sum(1) / 2
        unused = torch.full((len(r), len(self.class_names) - logits.shape[1]), -torch.inf)
        return torch.cat([logits, unused], 1)


class StandIn:
    """In the place of a stage: gives what a function of the context gives, asks for nothing and refuses nothing."""

    inputs = ()
    listed = True
    omitted = None
    generates = None
    seed = False

    def __init__(self, name: str, artifact: Callable[[Any], Any]) -> None:
        self.name, self.artifact = name, artifact

    def require(self, ctx: Any) -> None:
        """Nothing."""


def stand_in(patch: pytest.MonkeyPatch, name: str, artifact: Callable[[Any], Any]) -> None:
    """Give all stages that ask for the stage of this name what a function gives."""
    patch.setitem(REGISTRY, name, cast(Any, StandIn(name, artifact)))


def make_config(root: Path, class_names: tuple[str, ...] = NAMES, **overrides: Any) -> RunConfig:
    """A small run with its store in `root`; `overrides` replace fields by dotted name (`pairs__train=…`).

    Units move along the rows of the link, which plain steps can follow.
    """
    owned: dict[str, Any] = {
        "evaluation": EvaluationConfig(lpips=False, examples=2, resamples=50),
        "similarity": SimilarityConfig(repetitions=2, examples=10),
    }
    config = RunConfig(
        gan=GanConfig(_target_="helpers.fakes.FakeGenerator"),
        classifier=ClassifierConfig(_target_="helpers.fakes.FakeClassifier"),
        classes=ClassesConfig(name="fake", names=list(class_names)),
        link=LeastSquaresConfig(),
        analysis=AnalysisConfig(name="fake", stages=["evaluation"]),
        engine=EngineConfig(_target_="lis.engine.InProcess"),
        logger=LoggerConfig(_target_="lis.tracking.CsvTracker"),
        pairs=PairsConfig(train=40, test=20),
        tuning=TuningConfig(along="link"),
        device="cpu",
        batch_size=7,
        shard_size=16,
        store=str(root / "store"),
        svg=False,
        **owned,
    )
    for name, value in overrides.items():
        *groups, key = name.split("__")
        owner: Any = config
        for group in groups:
            owner = getattr(owner, group)
        if not hasattr(owner, key):
            raise ValueError(f"no field {name} in the configuration")
        setattr(owner, key, value)
    return config


def make_context(root: Path, generator: Any = None, classifier: Any = None, **overrides: Any) -> Context:
    """A context on the fakes, with a store in `root`; other arguments as in `make_config`."""
    generator = generator or FakeGenerator()
    config = make_config(root, **overrides)
    classifier = classifier or FakeClassifier(generator)
    store = Store(Path(config.store))
    return Context(config, store, InProcess(), generator, classifier, torch.device("cpu"), Progress())
