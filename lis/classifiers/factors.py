"""A small network that reads part world's true factors off a picture: what `classifier.read=image` sees them with."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from lis.classifiers.partnet import ResidualBlock
from lis.generators.partworld.world import SETS, World
from lis.rounding import Conv2d, linear

WEIGHTS = Path(__file__).parent / "weights"
SIDE = 64
"""Height and width of the pictures, in pixels."""
_WIDTHS = (16, 24, 32, 64, 48)
"""Channels of the stem and of the four blocks, at 32, 32, 16, 8 and 4 px."""
_HIDDEN = 128


class FactorNetwork(nn.Module):
    """Image `[n, 3, 64, 64]` in [-1, 1] → factors in standard deviations around their mean, `[n, factors]`.

    The last maps are not averaged over the picture, as PartNet's are: where a part lies is a factor too.

    Args:
        factors: how many.
    """

    def __init__(self, factors: int) -> None:
        super().__init__()
        pairs = pairwise(_WIDTHS)
        blocks = [ResidualBlock(i, o, 1 if k == 0 else 2) for k, (i, o) in enumerate(pairs)]
        self.body = nn.Sequential(Conv2d(3, _WIDTHS[0], 3, 2, 1), nn.ReLU(), *blocks)
        self.hidden, self.answer = nn.Linear(_WIDTHS[-1] * 16, _HIDDEN), nn.Linear(_HIDDEN, factors)

    def forward(self, image: Tensor) -> Tensor:
        """The factors of images.

        Raises:
            ValueError: images that are not 64×64.
        """
        if image.shape[1:] != (3, SIDE, SIDE):
            raise ValueError(f"part world's factors are read off images [n, 3, 64, 64], got {tuple(image.shape)}")
        hidden, answer = self.hidden, self.answer
        seen = linear(self.body(image).flatten(1), hidden.weight, hidden.bias).relu()
        return linear(seen, answer.weight, answer.bias)


def standard(world: World) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of every factor over all classes alike, `[factors]` float32 each.

    Of a mixture of the classes' normal distributions: σ² = mean of the variances + variance of the means.

    Example:
        >>> from lis.generators.partworld.world import world
        >>> mean, std = standard(world("dogs"))
        >>> bool((std[:4] < 1).all())  # the pose, which no class sets
        True
    """
    return world.means.mean(0), covariance(world).diagonal().sqrt().float()


def covariance(world: World) -> Tensor:
    """Covariance `[factors, factors]` (float64) of the factors over all classes alike."""
    scales, offset = world.scales.double(), (world.means - world.means.mean(0)).double()
    return (scales @ scales.mT).mean(0) + offset.T @ offset / len(offset)


def weights_path(figures: str) -> Path:
    """Where the weights of a set lie."""
    return WEIGHTS / f"factors_{figures}.safetensors"


def load_factor_network(world: World) -> FactorNetwork:
    """The network of a world's set, with the weights that come with the package, in evaluation mode.

    Raises:
        ValueError: none come for this set.
    """
    network, path = FactorNetwork(len(world.figures.factor_names)), weights_path(world.figures.name)
    if not path.exists():
        there = ", ".join(name for name in SETS if weights_path(name).exists()) or "none"
        raise ValueError(
            f"classifier.read=image: no network sees the factors of {world.figures.name}, expected classes of "
            f"{there}; use classifier.read=w, or train one: python experiments/partworld/train_factors.py "
            f"{world.figures.name}"
        )
    state = load_file(path).items()
    network.load_state_dict({name: v.float() if v.is_floating_point() else v for name, v in state})
    return network.requires_grad_(False).eval()


@torch.inference_mode()
def determination(predicted: Tensor, true: Tensor) -> Tensor:
    """R² of every factor, 1 − Σ(û − u)² / Σ(u − ū)²: `[factors]`, at most 1, of `[n, factors]` each.

    Example:
        >>> determination(torch.tensor([[1.0], [2.0], [3.0]]), torch.tensor([[1.0], [2.0], [4.0]]))
        tensor([0.7857])
    """
    return 1 - (predicted - true).square().sum(0) / (true - true.mean(0)).square().sum(0)
