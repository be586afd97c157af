"""A generator that knows its parts: a disc with a spot on it, painted where the factors say, and maps of every size."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from helpers.fakes import NAMES, FakeClassifier, FakeGenerator, make_context
from lis.config import FewShotConfig
from lis.context import Context
from lis.generators.layers import requested_layers

LABELS = ("disc", "spot")
SIZE = 32
COLOURS = torch.tensor([[-0.5, -0.4, -0.6], [0.7, -0.2, -0.6], [-0.3, 0.4, 0.9]])
"""Of the background, the disc and the spot."""
QUICK = {"network": "projected", "channels": 8, "hidden": 8, "epochs": 60, "learning_rate": 0.01}


class Painted(FakeGenerator):
    """The fake generator's style codes with images `[n, 3, 32, 32]`, maps of 8, 16 and 32 px, and exact masks."""

    labels = LABELS

    def __init__(self, **options: Any) -> None:
        super().__init__(resolution=SIZE, **options)
        self.fingerprint = f"painted-{self.fingerprint}"
        rng = torch.Generator().manual_seed(5)
        self.mixes = {f"b{8 << k}.{i}": torch.randn(5 + k, 3, generator=rng) for k in range(3) for i in range(2)}

    def render(self, w: Tensor) -> tuple[Tensor, Tensor]:
        """Image and masks `[n, 2, 32, 32]` in [0, 1]."""
        u = torch.tanh(self.true_factors(w))[:, :, None, None]
        line = (torch.arange(SIZE) + 0.5) / SIZE * 2 - 1
        x, y = line[None, None, :], line[None, :, None]
        disc = _round(x - 0.3 * u[:, 0], y - 0.3 * u[:, 1], 0.5 + 0.1 * u[:, 2])
        spot = _round(x - 0.3 * u[:, 0] - 0.2, y - 0.3 * u[:, 1], 0.25 + 0.05 * u[:, 3])
        masks = torch.stack([disc * (1 - spot), spot], 1)
        whole = torch.cat([1 - masks.sum(1, keepdim=True), masks], 1)
        return torch.einsum("nkhw,kc->nchw", whole, COLOURS), masks

    def synthesize(self, w: Tensor, features: bool | Collection[str] = False) -> Any:
        """The picture itself, and mixtures of its colours."""
        image = self.render(w)[0]
        if features is False:
            return image
        small = {size: F.adaptive_avg_pool2d(image, size) for size in (8, 16, 32)}
        maps = {name: torch.einsum("dc,nchw->ndhw", mix, small[_side(name)]) for name, mix in self.mixes.items()}
        wanted = requested_layers(features, list(maps))
        return image, {name: F.leaky_relu(maps[name], 0.2) for name in wanted}


def painted_context(root: Path, generator: Any = None, **overrides: Any) -> Context:
    """On `Painted`, for a quick segmenter; `overrides` as in `helpers.fakes.make_config`, `fit__…` of the segmenter."""
    fit = {key.removeprefix("fit__"): overrides.pop(key) for key in list(overrides) if key.startswith("fit__")}
    generator = generator or Painted()
    sizes = {"labels__train": 5, "labels__test": 4, "labels__exact": 30, "classes__labels": list(LABELS)}
    settings = sizes | {"segmenter": FewShotConfig(**QUICK | fit)} | overrides
    return make_context(root, generator, FakeClassifier(FakeGenerator()), **settings)


def _round(x: Tensor, y: Tensor, radius: Tensor) -> Tensor:
    return torch.sigmoid(30 * (radius - torch.sqrt(x**2 + y**2)))


def _side(name: str) -> int:
    return int(name[1:].split(".")[0])


__all__ = ["LABELS", "NAMES", "SIZE", "Painted", "painted_context"]
