"""What every stage is given: the configuration, the models and the places to work with."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from lis.config import RunConfig
from lis.engine import Engine
from lis.progress import Progress
from lis.store import Store
from lis.types import Classifier, Generator


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

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes that are analysed, in the order of every `class_index`."""
        return tuple(self.config.classes.names)
