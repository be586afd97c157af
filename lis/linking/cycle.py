"""The full cycle w → I → r → w̃ → Ĩ → r̃ (paper §3.1), measured sample by sample beside unrelated pairs of images.

Images live for one batch; what is kept of a sample are its distances and what the classifier calls its cycled image.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Self

import torch
from torch import Tensor

from lis.context import Context
from lis.costs import Meter
from lis.linking.baselines import PAIRINGS, partners, tour, within_class_tour
from lis.linking.distances import ImageDistance
from lis.memory import Batches
from lis.streams import Stream


@dataclass(frozen=True)
class Samples:
    """Test samples and what a link makes of them; ordered by class."""

    w: Tensor
    """`[n, w_dim]`."""
    r: Tensor
    """`[n, units]`, the activations of the images of `w`."""
    w_cycled: Tensor
    """`w̃ [n, w_dim]`, what the link predicts from `r`."""
    class_index: Tensor
    """`[n]` int64, ascending."""

    @property
    def rank(self) -> Tensor:
        """Place `[n]` of each sample in its class, from 0."""
        return torch.arange(len(self.w)) - torch.searchsorted(self.class_index, self.class_index)

    def first(self, per_class: int) -> Tensor:
        """Whether a sample is one of the first of its class: `[n]` bool."""
        return self.rank < per_class


@dataclass(frozen=True)
class Measured:
    """Distances of the samples and the classes of their cycled images."""

    values: dict[str, dict[str, Tensor]]
    """Metric → pairing → `[n]` float32; NaN where a metric was not computed on a sample."""
    prediction: Tensor
    """What the classifier calls the cycled image: `[n]` int64 into its classes."""


def measure(ctx: Context, samples: Samples, distances: list[ImageDistance]) -> Measured:
    """Every distance of every sample: cycled against original, and original against a random partner's original.

    The partners come from the stream "baselines". Samples are visited in the partners' order, so that the partner of
    a sample is in the same batch and no image is kept.
    """
    stream, n = Stream("baselines", ctx.config.seed), len(samples.w)
    tours = {
        "random": Tour.through(tour(n, stream.rng())),
        "within-class": Tour.through(within_class_tour(samples.class_index, stream), samples.class_index),
    }
    book = _Book(distances, {d.name: samples.first(_share(d, samples)) for d in distances}, n)
    r_moved, prediction = torch.empty(n), torch.empty(n, dtype=torch.int64)

    def cycle(ids: Tensor, image: Tensor, other: Tensor) -> None:
        cycled = ctx.generator.synthesize(samples.w_cycled[ids].to(ctx.device))
        r = ctx.classifier.features(cycled)
        r_moved[ids] = (r.cpu() - samples.r[ids]).norm(dim=1)
        prediction[ids] = ctx.classifier.head(r).argmax(1).cpu()
        book.enter("cycle", ids, image, cycled)
        book.enter("within-class", ids, image, other)

    at_once = ctx.batches(beside=_compared(ctx, distances))
    tours["within-class"].visit(ctx, samples, at_once, cycle, "cycle")
    tours["random"].visit(ctx, samples, at_once, partial(book.enter, "random"), "random pairs")
    mse_w = {name: (samples.w - samples.w[way.partner]).square().mean(1) for name, way in tours.items()}
    features = {name: (samples.r - samples.r[way.partner]).norm(dim=1) for name, way in tours.items()}
    mse_w["cycle"], features["cycle"] = (samples.w - samples.w_cycled).square().mean(1), r_moved
    return Measured({"mse_w": mse_w} | book.values | {"features": features}, prediction)


@torch.inference_mode()
def _compared(ctx: Context, distances: list[ImageDistance]) -> int:
    """Bytes that the distances take for one pair of images."""
    image = torch.zeros(1, 3, ctx.generator.resolution, ctx.generator.resolution, device=ctx.device)
    with Meter() as meter:
        for distance in distances:
            distance(image, image.clone())
    return meter.peak


def _share(distance: ImageDistance, samples: Samples) -> int:
    """Samples per class that a distance is computed on."""
    classes = len(samples.class_index.unique())
    return len(samples.w) if distance.limit is None else max(2, distance.limit // classes)


class _Book:
    """Where the image distances are written down: metric → pairing → `[n]`, NaN where not wanted."""

    def __init__(self, distances: list[ImageDistance], wanted: dict[str, Tensor], n: int) -> None:
        self.distances, self.wanted = distances, wanted
        self.values = {d.name: {pairing: torch.full((n,), torch.nan) for pairing in PAIRINGS} for d in distances}

    def enter(self, pairing: str, ids: Tensor, image: Tensor, other: Tensor) -> None:
        """Measures a batch, every distance on the samples that it is wanted for."""
        for distance in self.distances:
            rows = self.wanted[distance.name][ids]
            if rows.any():
                on_device = rows.to(image.device)
                self.values[distance.name][pairing][ids[rows]] = distance(image[on_device], other[on_device]).cpu()


@dataclass(frozen=True)
class Tour:
    """A way through all samples on which each one's partner is the next."""

    order: Tensor
    """`[n]` int64."""
    partner: Tensor
    """`[n]` int64: the partner of each sample."""

    @classmethod
    def through(cls, order: Tensor, group: Tensor | None = None) -> Self:
        """The tour in an order; a round of its own through each group."""
        return cls(order, partners(order, group))

    @torch.inference_mode()
    def visit(
        self,
        ctx: Context,
        samples: Samples,
        at_once: Batches,
        enter: Callable[[Tensor, Tensor, Tensor], None],
        label: str,
    ) -> None:
        """Call `enter` with ids, images and partners' images, batch by batch; an image is drawn once per batch."""

        def show(ids: Tensor) -> None:
            drawn, rows = torch.unique(torch.cat([ids, self.partner[ids]]), return_inverse=True)
            images = ctx.generator.synthesize(samples.w[drawn].to(ctx.device))
            image, other = (images[some] for some in rows.to(ctx.device).split(len(ids)))
            enter(ids, image, other)

        for ids in ctx.progress.track(self.order.split(ctx.config.batch_size), label=label):
            deque(at_once.map(show, ids), maxlen=0)
