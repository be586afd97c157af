"""The segmenter of a run: trained on few labelled images (supplement S4), loaded again, and applied."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import pandas as pd
import torch
from torch import Tensor

from lis.build import build
from lis.config import FewShotConfig
from lis.context import Context
from lis.costs import layer_names
from lis.labels.labelled import folder_digest, labelled, reduced_masks, validate_labels, without_parts
from lis.labels.reading import Labelled
from lis.linking.training import Settings
from lis.segmentation.networks import FewShotSegmenter, read_layers
from lis.segmentation.training import Examples, Schedule, labelled_maps, maps_of, train, training_images
from lis.segmentation.work import segmenter_work
from lis.stage import stage
from lis.store import Artifact, Draft
from lis.streams import Stream
from lis.types import Generator, Segmenter


def validate_segmenter(ctx: Context) -> SegmenterFit:
    """Checks, before any work, that a segmenter can learn the parts; returns what trains it.

    Raises:
        ValueError: as `validate_labels`, or its masks would be larger than the images.
    """
    validate_labels(ctx)
    fit: SegmenterFit = build(ctx.config.segmenter)
    fit.mask_size(ctx.generator.resolution)
    return fit


def load_segmenter(ctx: Context, artifact: Artifact) -> FewShotSegmenter:
    """The segmenter of an artifact of the stage `segmenter`, on the run's device, in evaluation mode and frozen."""
    model = FewShotSegmenter(**artifact.json("segmenter"))
    model.load_state_dict(artifact.tensors("segmenter"))
    return model.to(ctx.device).eval().requires_grad_(False)


def segment(model: Segmenter, maps: Mapping[str, Tensor]) -> Tensor:
    """Masks `[n, size, size]` int64 of the maps of a segmenter's layers: 0 background, k for `labels[k - 1]`."""
    return model(dict(maps)).max(1).indices  # faster than argmax where channels lie innermost


@dataclass(frozen=True)
class Masks:
    """`segment` with its segmenter, and the layers whose maps it wants."""

    segmenter: Segmenter

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the generator's layers."""
        return self.segmenter.layers

    def __call__(self, maps: Mapping[str, Tensor]) -> Tensor:
        """Masks `[n, size, size]` int64."""
        return segment(self.segmenter, maps)


def _also(ctx: Context) -> dict[str, Any]:
    config = ctx.config
    digest = folder_digest(config.labels.folder)
    return {
        "segmenter": asdict(config.segmenter),
        "train": config.labels.train if digest is None else None,  # a folder says itself how many
        "folder": digest,
        "left_out": config.labels.left_out,
        "classes": list(ctx.class_names),
        "labels": list(config.classes.labels),
        "truncation": config.gan.truncation,
    }


@stage(
    "segmenter",
    version=3,
    seed=True,
    models=("generator",),
    also=_also,
    check=validate_segmenter,
    omitted=without_parts,
    images=training_images,
    arrays=labelled_maps,
    work=segmenter_work,
    folders=("labels.folder",),
)
def segmenter(ctx: Context, draft: Draft) -> None:
    """The segmenter alone: trained on the labelled images of every class but `labels.left_out`.

    Tensors "segmenter" and json "segmenter" (its settings; see `load_segmenter`); table "curve": epoch, loss; json
    "fit": images, layers, channels, parameters, seconds.

    Raises:
        ValueError: there are no labels to learn from, a setting or the folder is refused, or the training diverges.
    """
    fit, settings = validate_segmenter(ctx), Settings(ctx.config.seed, ctx.device, ctx.progress)
    fitted = fit.fit(_training_images(ctx, fit), ctx.config.classes.labels, ctx.generator, settings)
    draft.tensors("segmenter", fitted.segmenter.state_dict())
    draft.json("segmenter", fitted.segmenter.settings)
    draft.table("curve", fitted.curve)
    draft.json("fit", fitted.facts)


def _training_images(ctx: Context, fit: SegmenterFit) -> Labelled:
    images = labelled(ctx, "train", fit.mask_size(ctx.generator.resolution))
    if ctx.config.labels.left_out is None:
        return images
    return images.rows(images.class_index != ctx.class_names.index(ctx.config.labels.left_out))


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
        size, layers = (
            self.map_size(generator.resolution),
            read_layers(layer_names(generator, settings.device), self.every),
        )
        masks = reduced_masks(images.masks, len(labels), self.mask_size(generator.resolution)).long()
        maps = maps_of(generator, images.w, layers, size, self.batch_size, settings.device)
        widths, network = [x.shape[1] for x in maps.values()], (self.network, self.channels, self.hidden, self.enlarge)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(stream.torch_seed)
            segmenter = FewShotSegmenter(labels, size, list(maps), widths, *network)
        segmenter.reader.standardisation.fit(maps.values())
        schedule = Schedule(self.epochs, self.batch_size, self.learning_rate, self.weight_decay)
        curve = train(segmenter, Examples(maps, masks), schedule, stream.torch_seed, settings)
        facts = {"images": len(images), "seconds": time.perf_counter() - start, "layers": len(segmenter.layers)}
        facts["channels"] = sum(segmenter.settings["widths"])
        facts["parameters"] = sum(p.numel() for p in segmenter.parameters())
        return FittedSegmenter(segmenter, pd.DataFrame(curve, columns=["epoch", "loss"]), facts)

    def map_size(self, resolution: int) -> int:
        """Height and width in pixels that the maps are read at: as asked for, or half of the image's."""
        return self.size or resolution // 2
