"""The loop w → image → parts and their measures, r → answers, once for all that read something off generated images.

A `Looker` is made once, from what is asked of the images; it takes as many at once as memory allows. `generated` is its
first half, for what needs the images themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, fields
from typing import Any, Literal, Self

import torch
from torch import Tensor

from lis.context import Context
from lis.generators.layers import image_and_maps
from lis.images import page_image
from lis.memory import Batches
from lis.quantify.measures import measure
from lis.types import Finder, encode

PICTURED = ("image", "mask", "measures", "probability", "prediction")
"""What the pages of a report need of an image: names for `Look.tensors`."""
_GENERATED = (
    "a generated image",
    "check the weights of the classifier and of the generator, or fit another link (link=ridge)",
)
_GIVEN = ("a picture", "check the weights of the classifier")


@dataclass(frozen=True, eq=False)
class Look:
    """What is read off n images, on the CPU; what is not asked for is empty, `[n, 0]`."""

    r: Tensor
    """Activations of the image, `[n, units]` float32."""
    logits: Tensor
    """Of all classes that the classifier knows: `[n, known]` float32."""
    probability: Tensor
    """The columns of `softmax` of the run's classes, `[n, classes]` float32."""
    image: Tensor
    """`[n, 3, H, W]` uint8."""
    mask: Tensor
    """`[n, h, w]` uint8: 0 background, then the labels."""
    measures: Tensor
    """`[n, labels, 5]` float32, NaN where a label is absent."""

    @property
    def softmax(self) -> Tensor:
        """Of the logits, over all classes that the classifier knows: `[n, known]` float32."""
        return self.logits.softmax(-1)

    @property
    def prediction(self) -> Tensor:
        """Index into the classifier's classes, `[n]` int64."""
        return self.softmax.argmax(-1)

    @classmethod
    def cat(cls, parts: Iterable[Look]) -> Self:
        """All parts, one after the other."""
        columns = zip(*(part._values for part in parts), strict=True)
        return cls(*(torch.cat(column) for column in columns))

    def unflatten(self, size: tuple[int, ...]) -> Look:
        """With `size` in place of n."""
        return Look(*(values.unflatten(0, size) for values in self._values))

    def __getitem__(self, index: Any) -> Look:
        """Some of the images, as tensors are indexed."""
        return Look(*(values[index] for values in self._values))

    def tensors(self, names: Iterable[str]) -> dict[str, Tensor]:
        """Fields, `prediction` too, by their names."""
        return {name: getattr(self, name) for name in names}

    @property
    def _values(self) -> list[Tensor]:
        return [getattr(self, field.name) for field in fields(self)]


@dataclass(frozen=True)
class Looker:
    """Style codes → `Look`."""

    ctx: Context
    batches: Batches
    """How many images at once."""
    masks: Finder | None = None
    """Finds the parts; None: nothing is measured."""
    labels: tuple[str, ...] = ()
    """Names of the parts, k in a mask being `labels[k - 1]`."""
    image: Callable[[Tensor], Tensor] | None = None
    """Images `[n, 3, H, W]` in [-1, 1] as they are returned (`to_uint8`, `page_image`); None: they are not."""
    mask: bool = False
    """Whether masks are returned."""

    @classmethod
    def tuned(cls, ctx: Context, masks: Finder | None = None, labels: Iterable[str] = ()) -> Self:
        """For very many images, of which neither picture nor mask is returned."""
        return cls(ctx, ctx.tuned_batches(masks), masks, tuple(labels))

    @classmethod
    def pictured(cls, ctx: Context, masks: Finder, labels: Iterable[str]) -> Self:
        """For images that a page shows, with their masks."""
        return cls(ctx, ctx.tuned_batches(masks), masks, tuple(labels), page_image, mask=True)

    def __call__(self, w: Tensor) -> Look:
        """What is read off the images of `w [..., w_dim]`, with its leading dimensions in place of n.

        Raises:
            ValueError: an activation or an answer is not finite, or memory runs out with a single image.
        """
        return Look.cat(self.batches.map(self._generated, w.flatten(0, -2))).unflatten(w.shape[:-1])

    def pictures(self, pictures: Tensor) -> Look:
        """What is read off pictures that nothing generated: they have no parts and no measures.

        Args:
            pictures: `[n, 3, H, W]`, uint8 or in [-1, 1].

        Raises:
            ValueError: as for generated images.
        """
        return Look.cat(self.batches.map(self._given, pictures))

    @torch.inference_mode()
    def _generated(self, w: Tensor) -> Look:
        image, mask = generated(self.ctx, w, self.masks)[:2]  # the maps are gone before the classifier needs room
        empty = torch.empty(len(w), 0)
        return self._read(
            encode(self.ctx.classifier, self.ctx.generator, w.to(self.ctx.device), image),
            image,
            _GENERATED,
            mask=mask.to(torch.uint8).cpu() if self.mask else empty,
            measures=measure(mask, image, len(self.labels)).float().cpu() if self.masks else empty,
        )

    @torch.inference_mode()
    def _given(self, pictures: Tensor) -> Look:
        empty = torch.empty(len(pictures), 0)
        image = pictures.to(self.ctx.device)
        image = image if image.is_floating_point() else image / 127.5 - 1
        return self._read(self.ctx.classifier.features(image), image, _GIVEN, mask=empty, measures=empty)

    def _read(self, r: Tensor, image: Tensor, source: tuple[str, str], mask: Tensor, measures: Tensor) -> Look:
        classifier = self.ctx.classifier
        r, logits = r.float().cpu(), classifier.head(r).float().cpu()
        softmax = logits.softmax(1)
        _require_finite(r, softmax, *source)
        columns = [classifier.class_names.index(name) for name in self.ctx.class_names]
        returned = self.image(image) if self.image else torch.empty(len(image), 0)
        return Look(r, logits, softmax[:, columns], returned, mask, measures)


def generated(
    ctx: Context, w: Tensor, masks: Finder | None = None, layers: Literal[True] | Collection[str] = ()
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Images `[n, 3, H, W]` of `w [n, w_dim]`, all at once, their masks and maps, on the run's device.

    Args:
        ctx: the run.
        w: style codes.
        masks: finds the parts, masks `[n, h, w]` int64; None: everything is background, `[n, 1, 1]`.
        layers: whose maps are wanted beside those that `masks` reads.
    """
    image, maps = image_and_maps(ctx.generator, w.to(ctx.device), layers, masks.layers if masks else ())
    if masks is None:
        return image, torch.zeros(len(w), 1, 1, dtype=torch.int64, device=image.device), maps
    return image, masks(maps), maps


def _require_finite(r: Tensor, softmax: Tensor, what: str, remedy: str) -> None:
    if not (r.isfinite().all() and softmax.isfinite().all()):
        raise ValueError(
            f"the classifier's answer to {what} is not finite: expected finite activations and logits; {remedy}"
        )
