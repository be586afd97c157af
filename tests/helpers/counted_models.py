"""Small models that know what stages ask of part world, with layers whose units can be ablated and edited."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from helpers.fakes import FakeGenerator
from helpers.fakes_units import FakeSegmenter
from lis.classifiers.cut import CutClassifier
from lis.classifiers.preprocessing import Preprocessing


class Known(FakeGenerator):
    """Knows its factors and its classes, and can set the factors."""

    def of_factors(self, u: Tensor) -> Tensor:
        """Style codes `[n, w_dim]`."""
        return u @ self.basis.T

    def log_posterior(self, w: Tensor) -> Tensor:
        """Of equal normal distributions about the means, `[n, classes]`."""
        distance = torch.cdist(self.true_factors(w), self.means)
        return (-(distance**2) / (2 * self.spread**2)).log_softmax(1)

    def class_factors(self, class_index: int) -> Tensor:
        """Mean factors of a class."""
        return self.means[class_index]


class Layered(FakeGenerator):
    """Its image is made of 16 units of a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.to_units = torch.randn(self.w_dim, 16 * 64, generator=torch.Generator().manual_seed(6))

    def synthesize(self, w: Tensor, features: Any = False) -> Any:
        """Images `[n, 3, 8, 8]`."""
        maps = (w @ self.to_units).unflatten(1, (16, 8, 8)).relu()
        image = torch.tanh(maps[:, :15].unflatten(1, (3, 5)).mean(2) - 0.5 * maps[:, 15:])
        return image if features is False else (image, {"units": maps})


class Shortcut(nn.Module):
    """Behind "last" there is the head; "second" adds to what it reads."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 6, 3, padding=1), nn.Conv2d(6, 6, 1)
        self.fc = nn.Linear(6, classes)

    def forward(self, image: Tensor) -> Tensor:
        """Logits `[n, classes]`."""
        x = self.first(image).relu()
        x = self.last((x + self.second(x)).relu()).relu()
        return self.fc(x.mean((2, 3)))


class Halves(FakeSegmenter):
    """Parts of part world: where a map is above its mean, and where below."""

    labels, layers = ("head", "ear"), ("b64.1",)

    def __call__(self, maps: dict[str, Tensor]) -> Tensor:
        """Logits `[n, 3, 64, 64]`."""
        x = maps["b64.1"].mean(1)
        x = x - x.mean((1, 2), keepdim=True)
        return torch.stack([torch.full_like(x, -torch.inf), x, -x], 1)


def network(names: tuple[str, ...], side: int, **how: Any) -> CutClassifier:
    """`Shortcut` as a classifier, random and the same every time."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = Shortcut(len(names)).eval()
    how = {"name": "shortcut", "weights": "random"} | how
    return CutClassifier(module, Preprocessing.as_drawn(side), names, **how).eval().requires_grad_(False)
