"""The parts that a run looks for in its images: found by the segmenter, or none where the class set names none."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lis.context import Context
from lis.costs import layer_names
from lis.segmentation.segmenter import Masks, load_segmenter, segmenter
from lis.types import Finder


@dataclass(frozen=True)
class Background:
    """Finds nothing: everything is background."""

    layers: tuple[str, ...]
    """One layer, whose map tells how many images there are."""

    def __call__(self, maps: dict[str, Tensor]) -> Tensor:
        """Masks `[n, 1, 1]` of zeros."""
        first = next(iter(maps.values()))
        return torch.zeros(len(first), 1, 1, dtype=torch.int64, device=first.device)


@dataclass(frozen=True)
class Parts:
    """Finds the parts of images."""

    labels: tuple[str, ...]
    masks: Finder
    """Its masks hold k for `labels[k - 1]`."""
    keys: tuple[str, ...]
    """Of the artifacts that the masks follow from."""

    @classmethod
    def of(cls, ctx: Context) -> Parts:
        """The segmenter of the run, trained when needed; without labels everything is background."""
        if not ctx.config.classes.labels:
            return cls((), Background(layer_names(ctx.generator, ctx.device)[:1]), ())
        artifact = segmenter(ctx)
        model = load_segmenter(ctx, artifact)
        return cls(tuple(model.labels), Masks(model), (artifact.key,))


segmented = segmenter.when(lambda ctx: bool(ctx.config.classes.labels))
"""What a stage asks for that looks for parts only where the class set names some."""
