"""One way to get a segmenter: from few labelled images (paper §3.2, supplement S4)."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import pandas as pd
import torch

from lis.config import FewShotConfig
from lis.costs import layer_names
from lis.labels.masks import reduced_masks
from lis.labels.reading import Labelled
from lis.linking.training import Settings
from lis.segmentation.networks import read_layers
from lis.segmentation.segmenter import FewShotSegmenter
from lis.segmentation.training import Examples, Schedule, maps_of, train
from lis.streams import Stream
from lis.types import Generator


@dataclass(frozen=True)
class FittedSegmenter:
    """A segmenter and what is worth knowing about its training."""

    segmenter: FewShotSegmenter
    curve: pd.DataFrame
    """epoch, loss."""
    facts: dict[str, Any]
    """images, parameters, layers, channels (all that the maps have), seconds."""


class SegmenterFit(Protocol):
    """One way to get a segmenter."""

    def mask_size(self, resolution: int) -> int:
        """Height and width of a mask in pixels, for images of a resolution."""
        ...

    def fit(self, images: Labelled, labels: Sequence[str], generator: Generator, settings: Settings) -> FittedSegmenter:
        """Learns from labelled images; the same seed gives the same segmenter."""
        ...


@dataclass(frozen=True)
class FewShotFit:
    """Trains convolutions on the maps of labelled images; the arguments are those of `lis.config.FewShotConfig`."""

    network: str = "projected"
    size: int | None = FewShotConfig.size
    every: int = FewShotConfig.every
    channels: int = FewShotConfig.channels
    hidden: int = FewShotConfig.hidden
    enlarge: int = FewShotConfig.enlarge
    epochs: int = FewShotConfig.epochs
    batch_size: int = FewShotConfig.batch_size
    learning_rate: float = FewShotConfig.learning_rate
    weight_decay: float = FewShotConfig.weight_decay

    def mask_size(self, resolution: int) -> int:
        """Height and width of a mask in pixels: `enlarge` times that of the maps as they are read.

        Raises:
            ValueError: larger than the image.
        """
        size = self.map_size(resolution)
        if size * self.enlarge > resolution:
            raise ValueError(
                f"segmenter.size={size} segmenter.enlarge={self.enlarge}: masks of {size * self.enlarge} pixels, "
                f"expected at most {resolution}, the size of the generator's images"
            )
        return size * self.enlarge

    def fit(self, images: Labelled, labels: Sequence[str], generator: Generator, settings: Settings) -> FittedSegmenter:
        """Trains a segmenter.

        Raises:
            ValueError: masks that are larger than the images, or a loss that is not finite.
        """
        start, stream = time.perf_counter(), Stream("segmenter", settings.seed)
        size = self.map_size(generator.resolution)
        examples = self._examples(images, len(labels), generator, size, settings.device)
        segmenter = self._initial(examples, labels, size, stream)
        schedule = Schedule(self.epochs, self.batch_size, self.learning_rate, self.weight_decay)
        curve = train(segmenter, examples, schedule, stream.torch_seed, settings)
        facts = {"images": len(images), "seconds": time.perf_counter() - start, "layers": len(segmenter.layers)}
        facts["channels"] = sum(segmenter.settings["widths"])
        facts["parameters"] = sum(p.numel() for p in segmenter.parameters())
        return FittedSegmenter(segmenter, pd.DataFrame(curve, columns=["epoch", "loss"]), facts)

    def _examples(
        self, images: Labelled, labels: int, generator: Generator, size: int, device: torch.device
    ) -> Examples:
        layers = read_layers(layer_names(generator, device), self.every)
        maps = maps_of(generator, images.w, layers, size, self.batch_size, device)
        return Examples(maps, reduced_masks(images.masks, labels, self.mask_size(generator.resolution)).long())

    def map_size(self, resolution: int) -> int:
        """Height and width in pixels that the maps are read at: as asked for, or half of the image's."""
        return self.size or resolution // 2

    def _initial(self, examples: Examples, labels: Sequence[str], size: int, stream: Stream) -> FewShotSegmenter:
        widths = [x.shape[1] for x in examples.maps.values()]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(stream.torch_seed)
            segmenter = FewShotSegmenter(
                labels, size, list(examples.maps), widths, self.network, self.channels, self.hidden, self.enlarge
            )
        segmenter.reader.standardisation.fit(examples.maps.values())
        return segmenter
