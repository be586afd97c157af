"""Whether a unit responds to texture or to shape: images beside restyled twins (Bau et al. 2020, Fig. S3)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lis.config.fields import number
from lis.context import Context
from lis.dissection.ablation import ablation_values
from lis.dissection.activations import record_activations
from lis.dissection.dissect import require_images
from lis.dissection.dissect_shards import layer_placed, placement_of
from lis.dissection.restyling import (
    ORDERS,
    FolderImages,
    GeneratedImages,
    Restylable,
    derangement,
    is_grey,
    require_pairings,
    style_factors,
)
from lis.dissection.room import map_bytes, map_shape, require_bytes, require_room
from lis.dissection.scenes import picture_size, visible
from lis.dissection.tails import find_layer
from lis.dissection.texture_scores import (
    CUT,
    LEVEL,
    extreme_units,
    paired_response_iou,
    same_class_iou,
    units_table,
)
from lis.dissection.top_images import TOP, thumbnails, top_activating, top_mask
from lis.dissection.upsampling import Upsampling
from lis.dissection.user_pictures import UserPicture, of_folder, refuse, user_pictures
from lis.dissection.work import texture_work
from lis.linking.pairs import first_of_each_class, test_pairs
from lis.peaks import picture_arrays
from lis.shards import Shards, joined
from lis.stage import MODELS, stage
from lis.store import Artifact, Draft
from lis.streams import Stream
from lis.types import require_sight

_MORE = "raise texture.samples and pairs.test, add pictures to the folder, or choose an earlier layer, texture.layer=…"
_COPIES = 3
"""Maps in memory: of the images, and of their twins, from batches and put together; scores take blocks of units."""
SIZE = 64
"""Largest side in pixels of the images of a unit."""


@dataclass
class TextureConfig:
    """Texture or shape: responses to images beside restyled twins."""

    layer: str | None = None
    """A layer of the classifier that gives a map; null: the last map of its convolutions (cam_layer)."""
    samples: int = number(100, low=2)
    """Test pairs, or pictures of `images`, per class: the first ones, at most as many as there are."""
    shuffles: int = number(999, low=19)
    """Draws of other images of the same class, the control; classes have to be large enough for as many."""


def _of_generator(ctx: Context) -> bool:
    return not of_folder(ctx)


def _check(ctx: Context) -> None:
    require_sight(ctx.classifier, "maps of an image are compared with those of a restyled one")
    layer = vars(ctx.config)["texture"].layer
    module = find_layer(ctx.classifier, layer, "texture.layer")
    layer_placed(ctx, layer or str(ctx.classifier.cam_layer), module)
    if of_folder(ctx):
        _require_pictures(ctx)
    elif ctx.config.pairs.test < 2:
        raise ValueError("pairs.test=1: expected 2 or more, so that each image stands beside another of its class")
    else:
        require_room(ctx, "texture", _images(ctx), _COPIES)
    _require_images(image_classes(ctx), map_shape(ctx, "texture"), vars(ctx.config)["texture"].shuffles)


def _require_images(class_index: Tensor, shape: tuple[int, ...], shuffles: int) -> None:
    """Check that images `[n]` are enough for the control, and their maps `[units, h, w]` for the quantile."""
    require_pairings(class_index, shuffles)
    require_images(len(class_index), shape[1], shape[2], LEVEL, "the quantile that responses exceed", _MORE)


def _require_pictures(ctx: Context) -> None:
    """Reads every picture of the folder that is used, and checks that there are enough, and not too many."""
    pictures, samples = used_pictures(ctx), vars(ctx.config)["texture"].samples
    refuse(_problems(pictures))
    require_bytes(
        map_bytes(ctx, "texture", len(pictures), _COPIES),
        f"texture.samples={samples}: the maps of {len(pictures)} pictures take",
        lambda share: f"fewer of each class, or a later layer, texture.layer=…; there is room for {share:.0%} of them",
    )


def _problems(pictures: Sequence[UserPicture]) -> Iterator[str]:
    """What is wrong with the pictures of a folder."""
    for picture in pictures:
        try:
            picture.read(1)
        except ValueError as error:
            yield str(error)
    for name, count in Counter(picture.class_name for picture in pictures).items():
        if count < 2:
            yield (
                f"images={pictures[0].folder}: class {name!r} has one picture: expected 2 or more, so that each stands "
                "beside another of its class"
            )


def used_pictures(ctx: Context) -> list[UserPicture]:
    """Those of the folder that are used, class by class."""
    pictures = sorted(user_pictures(ctx.config), key=lambda one: (one.class_name, one.name))
    class_index = _class_index(pictures)
    rows = first_of_each_class(class_index, int(class_index.max()) + 1, vars(ctx.config)["texture"].samples)
    return [pictures[k] for k in rows.tolist()]


def _class_index(pictures: Sequence[UserPicture]) -> Tensor:
    """`[n]` int64 into the sorted names of their classes."""
    names = sorted({one.class_name for one in pictures})
    return torch.tensor([names.index(one.class_name) for one in pictures])


def image_classes(ctx: Context) -> Tensor:
    """`[n]` int64, the class of every image; of a generator as many as there are at most."""
    if of_folder(ctx):
        return _class_index(used_pictures(ctx))
    each = min(vars(ctx.config)["texture"].samples, ctx.config.pairs.test)
    return torch.arange(len(ctx.class_names)).repeat_interleave(each)


def _images(ctx: Context) -> int:
    """Images, at most."""
    return len(image_classes(ctx))


def _subset(ctx: Context) -> dict[str, Any]:
    """Which images these are, beside the inputs and the settings."""
    folder = {"folder": [list(one.content) for one in used_pictures(ctx)]} if of_folder(ctx) else {}
    return {"classes": list(ctx.class_names)} | folder


def _also(ctx: Context) -> dict[str, Any]:
    return _subset(ctx) | {"placement": placement_of(ctx)}


@stage(
    "texture",
    version=5,
    inputs=(test_pairs.when(_of_generator),),
    config=TextureConfig,
    seed=True,
    models=MODELS,
    also=_also,
    check=_check,
    generates=_of_generator,
    arrays=lambda ctx: picture_arrays(ctx) + map_bytes(ctx, "texture", _images(ctx), _COPIES),
    work=texture_work,
)
def texture(ctx: Context, config: TextureConfig, test: Artifact | None, draft: Draft) -> None:
    """Paired-response IoU of the units of a layer between images (test pairs) and restyled twins of these.

    With `images` they are the pictures of that folder, cut to their centred square, whose classes are the folders
    inside, and there are no pairs.

    Restylings: "factors" (part world: the same geometry, colours and patterns of another sample), "texture" (the
    Fourier amplitudes of another sample, the own phases), "colour" (channels in another order; left out where all
    images are grey, which are the same then). Table "units", a row per unit and restyling: layer, restyling, unit, iou
    (NaN of a dead unit, which responds in no image, or in twins alone), control (mean score between an image and
    another of its class, the same for all restylings), low, high (95 % of its draws), p (of the draws to be as high:
    (1 + those of at least iou) / (1 + all)), q (Benjamini–Hochberg over the live units of a restyling), side
    ("texture": iou < 0.1, "shape", "" for a dead unit), dead. Table "extremes": restyling, side, rank, unit, iou, index
    (of the tensors). Tensors "extremes": image, restyled `[m, 5, 3, s, s]` uint8 (the images in which the unit is most
    active, and their twins), mask, restyled_mask `[m, 5, s, s]` bool (where it responds). Json "facts": layer, units,
    images, shuffles, cut, quantile, style (names of the factors that "factors" replaces; none elsewhere), source
    ("generator" or "folder"), grey (images that are).

    Raises:
        ValueError: an unknown layer, one that gives no map, more maps than memory has room for, pictures that cannot be
            read, classes of too few images for as many draws (`require_pairings`), or too few images for the quantile.
    """
    job = TextureJob.of(ctx, config, test)
    require_pairings(job.class_index, config.shuffles)
    recorded = CONTROL.tensors(job, [""], "control", "control")
    units, grey = recorded["control"].shape[1], recorded["grey"]
    names = [name for name in job.source.restylings if name != "colour" or not grey.all()]
    shards = list(RESTYLED.artifacts(job, names, "restylings"))
    draft.table("units", pd.concat([shard.table("units") for shard in shards], ignore_index=True))
    rows = pd.concat([shard.table("extremes") for shard in shards], ignore_index=True)
    draft.table("extremes", rows.assign(index=range(len(rows))))
    draft.tensors("extremes", joined(shards, "extremes"))
    factors = getattr(ctx.generator, "factor_names", ())
    style = [factors[k] for k in style_factors(factors)] if "factors" in job.source.restylings else []
    facts: dict[str, Any] = {"layer": job.layer, "units": units, "images": len(grey)}
    facts |= {"shuffles": config.shuffles, "source": "folder" if test is None else "generator"}
    draft.json("facts", facts | {"cut": CUT, "quantile": LEVEL, "style": style, "grey": int(grey.sum())})


@dataclass(frozen=True, eq=False)
class TextureJob:
    """What all shards share: samples of a run, what restyles them, and the layer that sees them."""

    ctx: Context
    config: TextureConfig
    layer: str
    inputs: tuple[str, ...]
    subset: dict[str, Any]
    """What says which images these are, beside the inputs and the settings."""
    source: Restylable
    class_index: Tensor
    """`[n]` int64."""
    donor: Tensor
    """Another sample of any class for each, `[n]` int64."""
    order: Tensor
    """Of the channels, `[n]` int64 in [0, 5)."""

    @classmethod
    def of(cls, ctx: Context, config: TextureConfig, test: Artifact | None) -> TextureJob:
        """The first samples of each class, of the folder of the run where there are no test pairs."""
        if test is None:
            pictures = used_pictures(ctx)
            source, classes = FolderImages(pictures, picture_size(ctx), ctx.device), _class_index(pictures)
        else:
            pairs = test.tensors("pairs")
            rows = first_of_each_class(pairs["class_index"], len(ctx.class_names), config.samples)
            source, classes = GeneratedImages(ctx.generator, pairs["w"][rows], ctx.device), pairs["class_index"][rows]
        rng = Stream("texture", ctx.config.seed).rng()
        donor = torch.from_numpy(derangement(np.zeros(len(classes)), rng))
        order = torch.from_numpy(rng.integers(len(ORDERS), size=len(classes)))
        layer, inputs = config.layer or str(ctx.classifier.cam_layer), () if test is None else (test.key,)
        return cls(ctx, config, layer, inputs, _subset(ctx), source, classes, donor, order)

    def __getstate__(self) -> dict[str, Any]:
        """Without the maps, which another process makes anew."""
        return {name: value for name, value in vars(self).items() if name != "original"}

    @cached_property
    def original(self) -> tuple[Tensor, Tensor]:
        """`maps` of the images as they are."""
        return self.maps("")

    @cached_property
    def control(self) -> Tensor:
        """`[shuffles, units]` float64, from the store or made now."""
        return CONTROL.shard(self, "").tensors("control")["control"]

    @cached_property
    def upsampling(self) -> Upsampling:
        """How maps are laid over images, in pictures."""
        return layer_placed(self.ctx, self.layer, find_layer(self.ctx.classifier, self.layer, "texture.layer"))

    def rng(self, index: int) -> np.random.Generator:
        """Draws of the stage, beside those of the donors."""
        return Stream("texture", self.ctx.config.seed).rng(index=index)

    @torch.no_grad()
    def images(self, rows: Tensor, restyling: str) -> Tensor:
        """Images `[k, 3, H, W]` of samples `rows [k]`, as they are where `restyling` is empty."""
        if not restyling:
            return self.source.images(rows)
        return self.source.restyled(restyling, rows, self.donor[rows], self.order[rows])

    def maps(self, restyling: str) -> tuple[Tensor, Tensor]:
        """`[n, units, h, w]` of all samples, and which of their images are grey, `[n]` bool."""
        module, features = find_layer(self.ctx.classifier, self.layer, "texture.layer"), self.ctx.classifier.features

        def recorded(rows: Tensor) -> tuple[Tensor, Tensor]:
            image = self.images(rows, restyling)
            return record_activations(features, {"map": module}, image)["map"].cpu(), is_grey(image).cpu()

        maps, grey = zip(*self.ctx.batches().map(recorded, torch.arange(len(self.class_index))), strict=True)
        return torch.cat(maps), torch.cat(grey)

    def pictures(self, restyling: str, original: Tensor, twins: Tensor) -> dict[str, Tensor]:
        """Tensors "extremes" of some units, of their maps `[n, units, h, w]`."""
        _, index = top_activating(original.amax((2, 3)), min(TOP, len(original)))
        size = min(SIZE, visible(self.images(torch.tensor([0]), ""), self.ctx.classifier).shape[-1])
        units, result = torch.arange(original.shape[1])[:, None], {}
        for name, kind, maps in (("", "", original), ("restyled", restyling, twins)):
            image = [self._thumbnails(rows, kind, size) for rows in index.flatten().split(TOP)]
            blank = torch.empty(0, 3, size, size, dtype=torch.uint8)
            threshold = ablation_values(maps, "quantile", LEVEL)
            result[name or "image"] = torch.cat([blank, *image]).unflatten(0, index.shape)
            result[f"{name}_mask".lstrip("_")] = top_mask(maps[index, units], threshold, size, self.upsampling)
        return result

    def _thumbnails(self, rows: Tensor, restyling: str, size: int) -> Tensor:
        """What the classifier sees of images `rows [k]`, `[k, 3, size, size]` uint8."""
        return thumbnails(visible(self.images(rows, restyling), self.ctx.classifier), size)


def _control_config(job: TextureJob, _: str) -> dict[str, Any]:
    settings = {"layer": job.layer, "samples": job.config.samples, "shuffles": job.config.shuffles}
    return {**job.subset, **settings, "seed": job.ctx.config.seed}


def _count_control(job: TextureJob, _: str, draft: Draft) -> None:
    maps, grey = job.original
    _require_images(job.class_index, maps.shape[1:], job.config.shuffles)
    control = same_class_iou(maps, job.class_index, job.config.shuffles, job.rng(1))
    draft.tensors("control", {"control": control, "grey": grey})


CONTROL = Shards("texture-control-shard", 1, _control_config, _count_control)
"""Of the images as they are. Tensors "control": `control [shuffles, units]` float64, `grey [n]` bool."""


def _restyled_config(job: TextureJob, name: str) -> dict[str, Any]:
    return _control_config(job, "") | {"restyling": name, "upsampling": job.upsampling.settings.tolist()}


def _score(job: TextureJob, name: str, draft: Draft) -> None:
    (original, _), (twins, _) = job.original, job.maps(name)
    table = units_table(job.layer, name, paired_response_iou(original, twins), job.control)
    rows = extreme_units(table)
    units = torch.tensor(rows["unit"].to_numpy(dtype=np.int64))
    draft.table("units", table)
    draft.table("extremes", rows)
    draft.tensors("extremes", job.pictures(name, original[:, units], twins[:, units]))


RESTYLED = Shards("texture-restyling-shard", 1, _restyled_config, _score)
"""Of one restyling, by its name: rows of the tables "units" and "extremes" of the stage, tensors "extremes"."""
