"""Images whose contents are known pixel by pixel: one half for thresholds, the other for scores (Bau et al. 2020)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, Self

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from lis.classifiers.preprocessing import Preprocessing
from lis.context import Context
from lis.dissection.annotated import Annotated, annotated_pictures
from lis.labels.labelled import TrueParts, exact_masks
from lis.linking.evaluation import TrueFactors
from lis.linking.pairs import first_of_each_class
from lis.store import Artifact
from lis.streams import Stream
from lis.types import Classifier, Finder
from lis.units.parts import Parts

Source = Literal["exact", "segmenter", "folder", "none"]
"""Where masks of parts are from: the generator, the run's segmenter, a user's folder, or nowhere."""
MaskSource = Literal["auto", "segmenter"]
"""What a run asks for, of its generator's images."""


@dataclass(frozen=True)
class SceneBatch:
    """Some images and what they hold."""

    image: Tensor
    """`[n, 3, H, H]` float32 in [-1, 1], on the device of the run, for the classifier."""
    visible: Tensor
    """`[n, 3, s, s]`: what the classifier's centre crop leaves of it, as its maps show it."""
    parts: Tensor
    """`[n, h, h]` int64, of the visible image: 0 background, k for `labels[k - 1]`; all 0 without labels."""
    class_index: Tensor
    """`[n]` int64 into the class names."""
    factors: Tensor | None
    """`[n, factors]` bool, above its median over the fit half; None where the factors are not known."""

    @classmethod
    def of(
        cls, classifier: Classifier, image: Tensor, parts: Tensor, class_index: Tensor, factors: Tensor | None
    ) -> Self:
        """Of whole images and masks of a common device; see the fields."""
        seen = visible(image, classifier), visible(parts, classifier)
        return cls(image, *seen, class_index.to(image.device), factors)


class Half(Protocol):
    """Images that are made or read when they are asked for."""

    @property
    def class_index(self) -> Tensor:
        """`[n]` int64 into the class names, on the CPU."""
        ...

    @property
    def finder(self) -> Finder | None:
        """What finds the parts of images that are made; None where nothing has to."""
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


def finds_parts(ctx: Context, masks: MaskSource) -> bool:
    """Whether parts of the generator's images are found by the run's segmenter: where these are asked for, or the
    generator does not know its parts.
    """
    return bool(ctx.config.classes.labels) and (masks == "segmenter" or not isinstance(ctx.generator, TrueParts))


def scenes_of(
    ctx: Context, samples_per_class: int, train: Artifact, test: Artifact, masks: MaskSource = "auto"
) -> Scenes:
    """The pairs of a run as images of its generator; the train pairs are the fit half.

    Masks are those of the run's segmenter, which is trained when needed, where `finds_parts`, else exact.

    Args:
        ctx: the run.
        samples_per_class: the first of each class are taken, at most as many as there are.
        train: artifact of `pairs/train`.
        test: artifact of `pairs/test`.
        masks: which are asked for.

    Raises:
        ValueError: the generator knows its parts, but not all of `classes.labels`.
    """
    labels, generator = tuple(ctx.config.classes.labels), ctx.generator
    parts = Parts.of(ctx) if finds_parts(ctx, masks) else None
    source: Source = "none" if not labels else "exact" if parts is None else "segmenter"
    fit, score = (_first(pairs.tensors("pairs"), len(ctx.class_names), samples_per_class) for pairs in (train, test))
    names = tuple(generator.factor_names) if isinstance(generator, TrueFactors) else ()
    medians = generator.true_factors(fit[0]).median(0).values if isinstance(generator, TrueFactors) else None
    halves = (PairScenes(ctx, *half, parts, medians) for half in (fit, score))
    return Scenes(labels, ctx.class_names, names, source, *halves)


def _first(pairs: dict[str, Tensor], classes: int, per_class: int) -> tuple[Tensor, Tensor]:
    """w and class index of the first samples of each class."""
    rows = first_of_each_class(pairs["class_index"], classes, per_class)
    return pairs["w"][rows], pairs["class_index"][rows]


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

    @property
    def finder(self) -> Finder | None:
        """See `Half`."""
        return None if self.parts is None else self.parts.masks

    def __len__(self) -> int:
        return len(self.w)

    @torch.no_grad()
    def batch(self, rows: Tensor) -> SceneBatch:
        """See `Half`; masks of a segmenter have its size, others that of the image."""
        w = self.w[rows].to(self.ctx.device)
        image, parts = self._pictured(w)
        return SceneBatch.of(self.ctx.classifier, image, parts, self.class_index[rows], self._above(w))

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


def folder_scenes(ctx: Context) -> Scenes:
    """A user's own pictures, `images`, with the masks of `labels.folder`; the generator is not asked.

    Classes are the folders inside, else there is one; half of each class, drawn with the run's seed, is the fit half.
    Pictures and masks are cut to the centred square and resized to what the classifier's preprocessing resizes to. See
    `annotated_pictures` for the names of masks; `validate_pictures` reads them all before.

    Raises:
        ValueError: as `annotated_pictures`, or a class of a single picture.
    """
    pictures = annotated_pictures(ctx.config)
    names = sorted({one.picture.class_name for one in pictures})
    halves = ([], [])
    for index, name in enumerate(names):
        of_class = [one for one in pictures if one.picture.class_name == name]
        if len(of_class) < 2:
            raise ValueError(
                f"class {name!r} has one picture with a mask ({of_class[0].picture.name}): expected two, for "
                "thresholds and for scores; add one, or move it to another folder"
            )
        order = Stream("dissection halves", ctx.config.seed).rng(index).permutation(len(of_class))
        for half, rows in zip(halves, np.array_split(order, 2), strict=True):
            half += [(of_class[k], index) for k in sorted(rows)]
    fit, score = (FolderScenes.of(ctx, half) for half in halves)
    return Scenes(tuple(ctx.config.classes.labels), tuple(names), (), "folder", fit, score)


@dataclass(frozen=True)
class FolderScenes:
    """Pictures and masks of a user, read when they are asked for: a `Half`."""

    ctx: Context
    pictures: tuple[Annotated, ...]
    class_index: Tensor
    """`[n]` int64."""

    @classmethod
    def of(cls, ctx: Context, pictures: Sequence[tuple[Annotated, int]]) -> Self:
        """Of pictures and their classes."""
        return cls(ctx, tuple(one for one, _ in pictures), torch.tensor([index for _, index in pictures]))

    @property
    def finder(self) -> None:
        """See `Half`: masks are read."""

    def __len__(self) -> int:
        return len(self.pictures)

    def batch(self, rows: Tensor) -> SceneBatch:
        """See `Half`."""
        ctx, size = self.ctx, picture_size(self.ctx)
        columns = zip(*(self.pictures[k].read(size) for k in rows.tolist()), strict=True)
        image, parts = (torch.stack(column).to(ctx.device) for column in columns)
        return SceneBatch.of(ctx.classifier, image.float() / 127.5 - 1, parts.long(), self.class_index[rows], None)


def picture_size(ctx: Context) -> int:
    """Height and width that a user's pictures are resized to: that of the classifier's preprocessing, if it has one."""
    preprocessing = _preprocessing(ctx.classifier)
    return ctx.generator.resolution if preprocessing is None else preprocessing.resize


def visible(x: Tensor, classifier: Classifier) -> Tensor:
    """What a classifier's centre crop leaves of images `[n, 3, H, H]`, or of integer masks `[n, h, h]`.

    They are resized as the classifier does, masks to the nearest pixel, and cut; unchanged where it crops nothing.
    """
    preprocessing = _preprocessing(classifier)
    if preprocessing is None or preprocessing.size == preprocessing.resize:
        return x
    size = (preprocessing.resize,) * 2
    if x.is_floating_point():
        return preprocessing.cropped(F.interpolate(x, size, mode="bilinear", align_corners=False, antialias=True))
    return preprocessing.cropped(F.interpolate(x[:, None].float(), size, mode="nearest-exact")[:, 0].to(x.dtype))


def _preprocessing(classifier: Classifier) -> Preprocessing | None:
    """What a classifier does with images first; None where it says nothing about it."""
    preprocessing = getattr(classifier, "preprocessing", None)
    return preprocessing if isinstance(preprocessing, Preprocessing) else None
