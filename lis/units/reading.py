"""What is read off generated images in one pass: parts and their measures, the classifier's activations and answers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from typing import Self

import torch
from torch import Tensor

from lis.types import Classifier, Finder, Generator


@dataclass(frozen=True)
class Reading:
    """Of n images, on the CPU."""

    measures: Tensor
    """`[n, labels, measures]` float32, NaN where a label is absent."""
    probability: Tensor
    """Softmax over all classes that the classifier knows, of those of the run: `[n, classes]` float32."""
    prediction: Tensor
    """Index into the classifier's classes, `[n]` int64."""
    r: Tensor
    """Activations of the image, `[n, units]` float32."""

    @classmethod
    def cat(cls, parts: Iterable[Reading]) -> Self:
        """All parts, one after the other."""
        parts = list(parts)
        return cls(*(torch.cat([getattr(part, field.name) for part in parts]) for field in fields(cls)))

    def unflatten(self, size: tuple[int, ...]) -> Reading:
        """With `size` in place of n."""
        return Reading(*(getattr(self, field.name).unflatten(0, size) for field in fields(self)))


@dataclass(frozen=True)
class Reader:
    """Style codes → what is read off their images; no image is kept."""

    generator: Generator
    classifier: Classifier
    masks: Finder
    measure: Callable[[Tensor, Tensor, int], Tensor]
    """Masks, images and the number of labels → `[n, labels, measures]`."""
    labels: tuple[str, ...]
    classes: list[int]
    """Places of the run's classes among the classifier's."""
    device: torch.device

    @torch.inference_mode()
    def __call__(self, w: Tensor) -> Reading:
        """Of the images of `w [n, w_dim]`, in one forward of each model.

        Raises:
            ValueError: an answer is not finite.
        """
        image, maps = self.generator.synthesize(w.to(self.device), features=self.masks.layers)
        measures = self.measure(self.masks(maps), image, len(self.labels))
        del maps
        r = self.classifier.features(image)
        probability = self.classifier.head(r).float().softmax(1)
        if not probability.isfinite().all():
            raise ValueError(
                "the classifier's answer to a generated image is not finite: expected finite logits; check the "
                "weights of the classifier and of the generator, or fit another link (link=ridge)"
            )
        ours = probability[:, self.classes].cpu()
        return Reading(measures.float().cpu(), ours, probability.argmax(1).cpu(), r.float().cpu())
