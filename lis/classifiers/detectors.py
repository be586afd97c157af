"""Channels whose meaning is known: detectors of part world's parts, channels that carry a class, and noise.

What dissection says of such channels can be scored. The layer `detect` is one 1×1 convolution with fixed weights. Its
inputs are P(part | pixel) of the network that segments pictures, P(object | pixel) · P(class | image) of a trained
classifier, and smooth noise fields; channel u is g_u (s_u + σ ε_u), with s_u one of the former and ε_u a field of unit
variance, or g_u ε_u where nothing is planted. r is the mean of each channel, so that unit u of r is channel u.

The logit of class c is β times its critical unit, and a little of every other unit: what a class loses without them is
not nothing, but less. Fields depend on the image's bytes and on nothing in the picture.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lis.classifiers.cut import CutClassifier
from lis.classifiers.partnet import CLASSES, PartNet
from lis.classifiers.planted import noise_draws
from lis.classifiers.preprocessing import Preprocessing
from lis.config import DetectorsConfig
from lis.generators.partworld import PartWorld
from lis.generators.partworld.part_network import SIDE, load_part_network
from lis.generators.partworld.world import World
from lis.images import to_uint8
from lis.rounding import Conv2d
from lis.streams import Stream
from lis.types import Generator

KINDS = ("part", "critical", "unplanted")
"""Of channels: one answers to a part, one to the object in images of one class, one to nothing."""
MAP = 32
"""Height and width of the maps, in cells."""
_GRID = 8
"""Points along a side between which a noise field is smooth."""
_GAIN = (0.5, 2.0)
"""Smallest and largest g."""
_OWN, _OTHERS = 40.0, 2.0
"""β, and the standard deviation of the weights of all other units."""


@dataclass(frozen=True)
class ChannelPlanting:
    """What the channels answer to."""

    kind: tuple[str, ...]
    """One of `KINDS` for each channel."""
    target: tuple[str, ...]
    """Of each channel: the part, the class, or an empty text."""
    gain: Tensor
    """g `[channels]` float32."""
    noise: float
    """σ, in the largest value that s can have."""

    @classmethod
    def of(cls, world: World, per_part: int, unplanted: int, noise: float, seed: int) -> Self:
        """Channels of a world, in an order that is drawn.

        Args:
            world: whose parts and classes.
            per_part: channels of each part; of each class there is one.
            unplanted: channels that answer to nothing.
            noise: σ.
            seed: of order and gains.
        """
        channels = [("part", label) for label in world.figures.labels for _ in range(per_part)]
        channels += [("critical", name) for name in world.class_names] + [("unplanted", "")] * unplanted
        rng = Stream("detector channels", seed).rng()
        order = [channels[k] for k in rng.permutation(len(channels))]
        gain = torch.from_numpy(np.exp(rng.uniform(math.log(_GAIN[0]), math.log(_GAIN[1]), len(channels)))).float()
        return cls(tuple(kind for kind, _ in order), tuple(target for _, target in order), gain, noise)

    def of_kind(self, kind: str) -> Tensor:
        """Numbers of the channels of a kind, `[k]` int64."""
        return torch.tensor([k for k, each in enumerate(self.kind) if each == kind])

    def critical(self, class_name: str) -> int:
        """Number of the channel, and of the unit of r, that carries a class."""
        return next(k for k in self.of_kind("critical").tolist() if self.target[k] == class_name)

    def weights(self, labels: tuple[str, ...], class_names: tuple[str, ...]) -> Tensor:
        """Of the convolution, `[channels, parts + classes + channels]`: from its inputs, in this order."""
        inputs = [("part", label) for label in labels] + [("critical", name) for name in class_names]
        pairs = list(zip(self.kind, self.target, strict=True))
        planted = torch.tensor([[float(pair == each) for each in inputs] for pair in pairs])
        amount = torch.tensor([1.0 if kind == "unplanted" else self.noise for kind in self.kind])
        return self.gain[:, None] * torch.cat([planted, amount.diag()], 1)


class DetectorNetwork(nn.Module):
    """Image `[n, 3, 64, 64]` in [-1, 1] → maps of `detect` `[n, channels, 32, 32]` → r `[n, channels]` → logits.

    Args:
        world: the set.
        planting: its channels.
        seed: of the noise, and of the weights of units that are not critical.
    """

    seed: Tensor
    class_index: Tensor
    scale: Tensor

    def __init__(self, world: World, planting: ChannelPlanting, seed: int) -> None:
        super().__init__()
        channels, classes = len(planting.kind), world.class_names
        self.parts, self.classes = load_part_network(world.figures.name), PartNet()
        self.detect = Conv2d(len(world.figures.labels) + len(classes) + channels, channels, 1, bias=False)
        self.pool, self.flat = nn.AdaptiveAvgPool2d(1), nn.Flatten()
        self.last = nn.Linear(channels, len(classes))
        self.register_buffer("seed", torch.from_numpy(np.frombuffer(seed.to_bytes(8, "little"), np.uint8).copy()))
        self.register_buffer("class_index", torch.tensor([CLASSES.index(name) for name in classes]))
        self.register_buffer("scale", _field_scale())
        with torch.no_grad():
            self.detect.weight.copy_(planting.weights(world.figures.labels, classes)[..., None, None])
            self.last.weight.copy_(_head_weight(classes, planting, seed))
            self.last.bias.zero_()
        self.requires_grad_(False).eval()

    def forward(self, image: Tensor) -> Tensor:
        """Logits `[n, classes]`.

        Raises:
            ValueError: images that are not 64×64.
        """
        return self.last(self.flat(self.pool(self.maps(self.evidence(image), image))))

    def evidence(self, image: Tensor) -> Tensor:
        """What channels answer to without noise, `[n, parts + classes, 32, 32]` in [0, 1], whatever is planted."""
        part = self.parts(image).softmax(1)
        answer = self.classes(image)[:, self.class_index].softmax(1)
        critical = (1 - part[:, :1]) * answer[..., None, None]
        return F.avg_pool2d(torch.cat([part[:, 1:], critical], 1), SIDE // MAP)

    def maps(self, evidence: Tensor, image: Tensor) -> Tensor:
        """The maps of `detect` `[n, channels, 32, 32]` of images and their evidence."""
        return self.detect(torch.cat([evidence, self.fields(image)], 1))

    def fields(self, image: Tensor) -> Tensor:
        """Smooth noise `[n, channels, 32, 32]` of unit variance: normal draws on a grid, bicubic between its points.

        The draws are those of the image's bytes in 8 bits and of the seed (`lis.classifiers.planted.keyed_noise`).
        """
        read = to_uint8(image.detach()).flatten(1)
        keyed = torch.cat([read, self.seed.cpu().expand(len(read), -1)], 1)
        channels = self.detect.out_channels
        draws = noise_draws(keyed, channels * _GRID**2).to(image).unflatten(1, (channels, _GRID, _GRID))
        return _smooth(draws) * self.scale


class Detectors(CutClassifier):
    """A classifier whose channels are planted.

    Args:
        world: the set, whose classes are its classes.
        planting: its channels.
        seed: as of `DetectorNetwork`.
    """

    def __init__(self, world: World, planting: ChannelPlanting, seed: int) -> None:
        super().__init__(
            DetectorNetwork(world, planting, seed),
            Preprocessing.as_drawn(SIDE),
            world.class_names,
            name="detectors",
            weights="planted",
            domain="partworld",
        )
        self.planting = planting


def detectors(
    generator: Generator,
    per_part: int = DetectorsConfig.per_part,
    unplanted: int = DetectorsConfig.unplanted,
    noise: float = DetectorsConfig.noise,
    seed: int = DetectorsConfig.seed,
) -> Detectors:
    """The classifier that a `DetectorsConfig` asks for, on the CPU; its classes are all of part world's set.

    Args:
        generator: part world.
        per_part: channels of each part.
        unplanted: channels that answer to nothing.
        noise: σ, standard deviation of the noise of planted channels, in their largest value without.
        seed: of order, gains, noise, and of the weights of units that are not critical.

    Raises:
        ValueError: another generator than part world, or no network segments the parts of its set.

    Example:
        >>> model = detectors(PartWorld(["pug"]), per_part=2, unplanted=4)
        >>> model.units, model.cam_layer, model.planting.target[model.planting.critical("pug")]
        (27, 'detect', 'pug')
    """
    if not isinstance(generator, PartWorld):
        raise ValueError(
            f"classifier=detectors with {type(generator).__name__}: planted channels answer to the parts of part "
            "world; use gan=partworld, or another classifier"
        )
    world = generator.world
    return Detectors(world, ChannelPlanting.of(world, per_part, unplanted, noise, seed), seed)


def _head_weight(class_names: tuple[str, ...], planting: ChannelPlanting, seed: int) -> Tensor:
    """Weights `[classes, channels]`: β / g of a class's critical unit, 0 of the other classes', the rest drawn."""
    rng = Stream("detector channels", seed).rng(index=1)
    weight = torch.from_numpy(rng.normal(0, _OTHERS, (len(class_names), len(planting.kind)))).float()
    weight[:, planting.of_kind("critical")] = 0
    for row, name in zip(weight, class_names, strict=True):
        row[planting.critical(name)] = _OWN
    return weight / planting.gain


def _smooth(grid: Tensor) -> Tensor:
    return F.interpolate(grid, (MAP, MAP), mode="bicubic", align_corners=False)


def _field_scale() -> Tensor:
    """What makes the variance of `_smooth` 1 in every cell, `[32, 32]`: 1 / √Σ_k b_k² of its weights b."""
    weights = _smooth(torch.eye(_GRID**2).unflatten(1, (1, _GRID, _GRID)))
    return weights.square().sum((0, 1)).rsqrt()
