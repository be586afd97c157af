"""Images whose contents are known pixel by pixel: one half for thresholds, the other for scores (Bau et al. 2020)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from lis.context import Context
from lis.labels.labelled import TrueParts, exact_masks
from lis.linking.evaluation import TrueFactors
from lis.store import Artifact
from lis.units.parts import Parts

Source = Literal["exact", "segmenter", "folder", "none"]
"""Where masks of parts are from: the generator, the run's segmenter, a user's folder, or nowhere."""


@dataclass(frozen=True)
class SceneBatch:
    """Some images and what they hold."""

    image: Tensor
    """`[n, 3, H, W]` float32 in [-1, 1], on the device of the run."""
    parts: Tensor
    """`[n, h, w]` int64: 0 background, k for `labels[k - 1]`; all 0 without labels."""
    class_index: Tensor
    """`[n]` int64 into the class names."""
    factors: Tensor | None
    """`[n, factors]` bool, above its median over the fit half; None where the factors are not known."""


class Half(Protocol):
    """Images that are made or read when they are asked for."""

    @property
    def class_index(self) -> Tensor:
        """`[n]` int64 into the class names, on the CPU."""
        ...

    def __len__(self) -> int:
        """How many images."""
        ...

    def batch(self, rows: Tensor) -> SceneBatch:
        """The images `rows [k]` (int64) of the half; the same whichever others are asked for beside them."""
        ...


@dataclass(frozen=True)
class Scenes:
    """Both halves, and the names of what they hold."""

    labels: tuple[str, ...]
    class_names: tuple[str, ...]
    factor_names: tuple[str, ...]
    source: Source
    fit: Half
    """What thresholds of units, and medians of factors, are taken from."""
    score: Half
    """What agreement is measured on."""


def scenes_of(ctx: Context, samples_per_class: int, train: Artifact, test: Artifact) -> Scenes:
    """The pairs of a run as images of its generator; the train pairs are the fit half.

    Masks are exact where the generator knows its parts, else those of the run's segmenter, which is trained when
    needed.

    Args:
        ctx: the run.
        samples_per_class: the first of each class are taken, at most as many as there are.
        train: artifact of `pairs/train`.
        test: artifact of `pairs/test`.

    Raises:
        ValueError: the generator knows its parts, but not all of `classes.labels`.
    """
    labels, generator = tuple(ctx.config.classes.labels), ctx.generator
    parts = Parts.of(ctx) if labels and not isinstance(generator, TrueParts) else None
    source: Source = "none" if not labels else "exact" if parts is None else "segmenter"
    fit, score = (_first(pairs.tensors("pairs"), len(ctx.class_names), samples_per_class) for pairs in (train, test))
    names = tuple(generator.factor_names) if isinstance(generator, TrueFactors) else ()
    medians = generator.true_factors(fit[0]).median(0).values if isinstance(generator, TrueFactors) else None
    halves = (PairScenes(ctx, *half, parts, medians) for half in (fit, score))
    return Scenes(labels, ctx.class_names, names, source, *halves)


def _first(pairs: dict[str, Tensor], classes: int, per_class: int) -> tuple[Tensor, Tensor]:
    """w and class index of the first samples of each class."""
    of = pairs["class_index"]
    rows = torch.cat([(of == c).nonzero()[:per_class, 0] for c in range(classes)])
    return pairs["w"][rows], of[rows]


@dataclass(frozen=True)
class PairScenes:
    """Images that the generator of a run makes of style codes: a `Half`."""

    ctx: Context
    w: Tensor
    """`[n, w_dim]` float32, on the CPU."""
    class_index: Tensor
    """`[n]` int64."""
    parts: Parts | None
    """What finds parts; None where the generator knows them, or there are no labels."""
    medians: Tensor | None
    """`[factors]`, of the fit half; None where the generator does not know its factors."""

    def __len__(self) -> int:
        return len(self.w)

    @torch.no_grad()
    def batch(self, rows: Tensor) -> SceneBatch:
        """See `Half`; masks of a segmenter have its size, others that of the image."""
        w = self.w[rows].to(self.ctx.device)
        image, parts = self._pictured(w)
        return SceneBatch(image, parts, self.class_index[rows].to(w.device), self._above(w))

    def _pictured(self, w: Tensor) -> tuple[Tensor, Tensor]:
        generator, labels = self.ctx.generator, self.ctx.config.classes.labels
        if self.parts is not None:
            image, maps = generator.synthesize(w, self.parts.masks.layers)
            return image, self.parts.masks(maps)
        image = generator.synthesize(w)
        if not labels:
            return image, torch.zeros_like(image[:, 0], dtype=torch.int64)
        return image, exact_masks(generator, w, labels, generator.resolution).long()

    def _above(self, w: Tensor) -> Tensor | None:
        if self.medians is None or not isinstance(self.ctx.generator, TrueFactors):
            return None
        return self.ctx.generator.true_factors(w) > self.medians.to(w.device)
