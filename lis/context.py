"""What every stage is given: the configuration, the models and the places to work with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lis.config import RunConfig
from lis.costs import batches, tuned_batches
from lis.engine import Engine
from lis.memory import Batches
from lis.progress import Progress
from lis.store import Store
from lis.types import Classifier, Finder, Generator, Layers, encode


@dataclass(frozen=True)
class Context:
    """One run. A stage is a function of it that returns an artifact, and pulls its inputs by calling other stages."""

    config: RunConfig
    store: Store
    engine: Engine
    generator: Generator
    classifier: Classifier
    device: torch.device
    progress: Progress
    witness: Classifier | None = None
    """Another network that is asked about counterfactuals of the first one."""
    opener: Callable[[str, int], Context] | None = None
    """Builds the same run in another process, on a device with so many CPU threads; None where a model is an object
    that no other process can build."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes that are analysed, in the order of every `class_index`."""
        return tuple(self.config.classes.names)

    @property
    def of_witness(self) -> Context | None:
        """The same run with the witness as its classifier; None where there is none."""
        if self.witness is None:
            return None
        settings = self.config.counterfactuals.witness or self.config.classifier
        return replace(self, config=replace(self.config, classifier=settings), classifier=self.witness, witness=None)

    def batches(self, masks: Finder | None = None, gradient: bool = False, beside: int = 0) -> Batches:
        """How many style codes at once are made images, searched for parts and shown to the classifier.

        `batch_size`, or as many as there is room for; with `gradient` also for that of the answers by the images, and
        for `beside` bytes more of each image.
        """
        size = self.config.batch_size
        return batches(self.generator, self.device, size, self.classifier, masks, gradient=gradient, beside=beside)

    def images(self, layers: Layers = False, beside: int = 0) -> Batches:
        """How many style codes at once are made images that no classifier sees.

        With the maps of these layers, and with room for `beside` bytes more of each image.
        """
        return batches(self.generator, self.device, self.config.batch_size, layers=layers, beside=beside)

    @torch.inference_mode()
    def encode(self, w: Tensor) -> Tensor:
        """r̃ `[n, units]` float32 on the CPU: what the classifier makes of the images of `w [n, w_dim]`, all at once."""
        return encode(self.classifier, self.generator, w.to(self.device)).float().cpu()

    def tuned_batches(self, masks: Finder | None = None, classified: bool = True) -> Batches:
        """The same for very many images: `tuning.batch_size`, or what suits the device."""
        sizes = (self.config.tuning.batch_size, self.config.batch_size)
        return tuned_batches(self.generator, self.device, *sizes, self.classifier if classified else None, masks)
