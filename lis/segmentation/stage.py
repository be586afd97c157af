"""The stage that learns to find the parts, and the way to load what it learned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

from lis.build import build
from lis.context import Context
from lis.labels.labelled import folder_digest, labelled, validate_labels
from lis.labels.reading import Labelled
from lis.linking.training import Settings
from lis.segmentation.fewshot import FittedSegmenter, SegmenterFit
from lis.segmentation.needs import labelled_maps, training_images
from lis.segmentation.segmenter import FewShotSegmenter
from lis.stage import stage
from lis.store import Artifact, Draft
from lis.types import Segmenter


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
    images=training_images,
    arrays=labelled_maps,
)
def segmenter(ctx: Context, draft: Draft) -> None:
    """The segmenter, trained on the labelled images of every class but `labels.left_out`.

    Tensors "segmenter" and json "segmenter" (its settings; see `load_segmenter`); table "curve": epoch, loss; json
    "fit": images, layers, channels, parameters, seconds.

    Raises:
        ValueError: there are no labels to learn from, a setting or the folder is refused, or the training diverges.
    """
    fit, settings = validate_segmenter(ctx), Settings(ctx.config.seed, ctx.device, ctx.progress)
    fitted = fit.fit(_training_images(ctx, fit), ctx.config.classes.labels, ctx.generator, settings)
    _save(draft, fitted)


def _training_images(ctx: Context, fit: SegmenterFit) -> Labelled:
    images = labelled(ctx, "train", fit.mask_size(ctx.generator.resolution))
    if ctx.config.labels.left_out is None:
        return images
    return images.rows(images.class_index != ctx.class_names.index(ctx.config.labels.left_out))


def _save(draft: Draft, fitted: FittedSegmenter) -> None:
    draft.tensors("segmenter", fitted.segmenter.state_dict())
    draft.json("segmenter", fitted.segmenter.settings)
    draft.table("curve", fitted.curve)
    draft.json("fit", fitted.facts)
