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
from lis.dissection.ablation import ablation_values, unit_blocks
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
from lis.dissection.top_images import TOP, thumbnails, top_activating, top_mask
from lis.dissection.upsampling import Upsampling
from lis.dissection.user_pictures import UserPicture, of_folder, refuse, user_pictures
from lis.dissection.work import texture_work
from lis.linking.pairs import first_of_each_class, test_pairs
from lis.peaks import picture_arrays
from lis.stage import MODELS, stage
from lis.statistics import RANGE, benjamini_hochberg
from lis.store import Artifact, Draft
from lis.streams import Stream
from lis.types import require_sight

_MORE = "raise texture.samples and pairs.test, add pictures to the folder, or choose an earlier layer, texture.layer=…"
CUT = 0.1
"""Score below which a unit is on the side of texture (Bau et al. 2020)."""
LEVEL = 0.99
"""Quantile of a unit's own activations above which it responds."""
_AT_ONCE = 2**22
"""Overlaps of pairs of images that are summed at once, over units and draws of the control."""
_COPIES = 3
"""Maps in memory: of the images, and of their twins, from batches and put together; scores take blocks of units."""
EXTREMES, SIZE = 4, 64
"""Units of either end that are pictured, and the largest side of their images in pixels."""


def paired_response_iou(original: Tensor, restyled: Tensor, q: float = LEVEL) -> Tensor:
    """Set IoU of where a unit responds in images and in their restyled twins: I / (A + B − I), at native resolution.

    Each set has its own threshold, the quantile of the unit over all its images and positions; a response lies strictly
    above it. The published score holds thresholds of upsampled maps against native ones and takes both areas to be
    1 %: it is not computed here.

    Args:
        original: maps `[n, U, h, w]`.
        restyled: of the same images in the same order, `[n, U, h, w]`.
        q: the quantile, in [0, 1].

    Returns:
        `[U]` float64 in [0, 1]; NaN for a unit that responds in neither set.

    Raises:
        ValueError: the shapes differ.

    Example:
        >>> maps = torch.arange(8.0).reshape(2, 1, 2, 2)
        >>> paired_response_iou(maps, maps.flip(0), q=0.75).tolist()
        [0.0]
    """
    if original.shape != restyled.shape:
        raise ValueError(
            f"maps {tuple(original.shape)} and {tuple(restyled.shape)}: expected pairs of the same layer and images"
        )
    blocks = zip(unit_blocks(original), unit_blocks(restyled), strict=True)
    return torch.cat([_iou(*_areas(responses(a, q), responses(b, q))) for a, b in blocks])


def responses(maps: Tensor, q: float = LEVEL) -> Tensor:
    """Where units lie strictly above their own quantile: bool, of the shape of `maps [n, U, h, w]`."""
    return maps > ablation_values(maps, "quantile", q)[:, None, None].to(maps)


def _areas(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Positions `[U]` of the intersection and of the union of responses `[n, U, h, w]`."""
    return (a & b).sum((0, 2, 3)), (a | b).sum((0, 2, 3))


def _iou(intersection: Tensor, union: Tensor) -> Tensor:
    """Their ratio, float64; NaN where there is no response."""
    return torch.where(union > 0, intersection.double() / union, torch.nan)


def same_class_iou(maps: Tensor, class_index: Tensor, shuffles: int, rng: np.random.Generator) -> Tensor:
    """The control: the score between each image and another one of its class, `[shuffles, U]`.

    Args:
        maps: of the images as they are, `[n, U, h, w]`.
        class_index: `[n]`, two samples or more of every class.
        shuffles: draws of the others.
        rng: draws.
    """
    others = torch.from_numpy(np.stack([derangement(class_index.numpy(), rng) for _ in range(shuffles)]))
    return torch.cat([_shuffled_iou(responses(block), class_index, others) for block in unit_blocks(maps)], 1)


def _shuffled_iou(active: Tensor, class_index: Tensor, others: Tensor) -> Tensor:
    """IoU of responses `[n, U, h, w]` with those of other images of the class, `others [shuffles, n]`: `[shuffles, U]`.

    Every pair of images of a class is intersected once, whatever the number of draws.
    """
    flat, intersection = active.transpose(0, 1).flatten(2).float(), torch.zeros(active.shape[1], len(others)).double()
    for c in class_index.unique():
        rows = (class_index == c).nonzero()[:, 0]
        overlap = flat[:, rows] @ flat[:, rows].mT
        some = max(1, _AT_ONCE // (len(flat) * len(rows)))
        for sums, draws in zip(intersection.split(some, 1), others[:, rows].split(some), strict=True):
            other = torch.searchsorted(rows, draws.contiguous())
            sums += overlap[:, torch.arange(len(rows)), other].double().sum(2)
    area = active.sum((0, 2, 3))  # of either side: each image is another's exactly once
    return _iou(intersection.T, 2 * area - intersection.T)


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
    find_layer(ctx.classifier, vars(ctx.config)["texture"].layer, "texture.layer")
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


def _also(ctx: Context) -> dict[str, Any]:
    folder = {"folder": [list(one.content) for one in used_pictures(ctx)]} if of_folder(ctx) else {}
    return {"classes": list(ctx.class_names), "placement": placement_of(ctx)} | folder


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
    data = _Samples.of(ctx, config, None if test is None else test.tensors("pairs"))
    original, grey = data.maps("")
    _require_images(data.class_index, original.shape[1:], config.shuffles)
    control = same_class_iou(original, data.class_index, config.shuffles, data.rng(1))
    tables, extremes, pictures = [], [], []
    for name in (name for name in data.source.restylings if name != "colour" or not grey.all()):
        twins, _ = data.maps(name)
        tables.append(units_table(data.layer, name, paired_response_iou(original, twins), control))
        extremes.append(extreme_units(tables[-1]))
        units = torch.tensor(extremes[-1]["unit"].to_numpy(dtype=np.int64))
        pictures.append(data.pictures(name, original[:, units], twins[:, units]))
    draft.table("units", pd.concat(tables, ignore_index=True))
    rows = pd.concat(extremes, ignore_index=True)
    draft.table("extremes", rows.assign(index=range(len(rows))))
    draft.tensors("extremes", {key: torch.cat([part[key] for part in pictures]) for key in pictures[0]})
    factors = getattr(ctx.generator, "factor_names", ())
    style = [factors[k] for k in style_factors(factors)] if "factors" in data.source.restylings else []
    facts: dict[str, Any] = {"layer": data.layer, "units": original.shape[1], "images": len(original)}
    facts |= {"shuffles": config.shuffles, "source": "folder" if test is None else "generator"}
    draft.json("facts", facts | {"cut": CUT, "quantile": LEVEL, "style": style, "grey": int(grey.sum())})


def units_table(layer: str, restyling: str, iou: Tensor, control: Tensor) -> pd.DataFrame:
    """Rows of the table "units", of scores `[units]` and of the control `[shuffles, units]`.

    A unit without a control, which never varies on the originals, is dead, whatever it does on their twins.
    """
    iou = iou.where(~control.isnan().any(0), torch.nan)
    low, high = control.quantile(torch.tensor(RANGE, dtype=control.dtype), dim=0)
    sides = np.where(iou < CUT, "texture", "shape")
    p = ((1 + (control >= iou).sum(0)).double() / (1 + len(control))).where(~iou.isnan(), torch.nan).numpy()
    columns = {
        "layer": layer,
        "restyling": restyling,
        "unit": np.arange(len(iou)),
        "iou": iou.numpy(),
        "control": control.mean(0).numpy(),
        "low": low.numpy(),
        "high": high.numpy(),
        "p": p,
        "q": benjamini_hochberg(p),
        "side": np.where(iou.isnan(), "", sides),
        "dead": iou.isnan().numpy(),
    }
    return pd.DataFrame(columns)


def extreme_units(units: pd.DataFrame) -> pd.DataFrame:
    """The units of the lowest scores on the side of texture, and of the highest on that of shape.

    Of rows of the table "units"; those of the same score are in the order of their numbers.
    """
    columns = ["restyling", "side", "rank", "unit", "iou"]
    result = []
    for side, sign in (("texture", 1), ("shape", -1)):
        subset = pd.DataFrame(units[units["side"] == side])
        order = np.argsort(sign * subset["iou"].to_numpy(), kind="stable")[:EXTREMES]
        result.append(subset.iloc[order].assign(rank=range(1, len(order) + 1))[columns])
    return pd.concat(result, ignore_index=True)


@dataclass(frozen=True)
class _Samples:
    """Samples of a run, what restyles them, and the layer that sees them."""

    ctx: Context
    layer: str
    source: Restylable
    class_index: Tensor
    """`[n]` int64."""
    donor: Tensor
    """Another sample of any class for each, `[n]` int64."""
    order: Tensor
    """Of the channels, `[n]` int64 in [0, 5)."""

    @classmethod
    def of(cls, ctx: Context, config: TextureConfig, pairs: dict[str, Tensor] | None) -> _Samples:
        """The first samples of each class, of the folder of the run where there are no pairs."""
        if pairs is None:
            pictures = used_pictures(ctx)
            source, classes = FolderImages(pictures, picture_size(ctx), ctx.device), _class_index(pictures)
        else:
            rows = first_of_each_class(pairs["class_index"], len(ctx.class_names), config.samples)
            source, classes = GeneratedImages(ctx.generator, pairs["w"][rows], ctx.device), pairs["class_index"][rows]
        rng = Stream("texture", ctx.config.seed).rng()
        donor = torch.from_numpy(derangement(np.zeros(len(classes)), rng))
        order = torch.from_numpy(rng.integers(len(ORDERS), size=len(classes)))
        return cls(ctx, config.layer or str(ctx.classifier.cam_layer), source, classes, donor, order)

    @cached_property
    def upsampling(self) -> Upsampling:
        """How maps are laid over images, in pictures."""
        return layer_placed(self.ctx, find_layer(self.ctx.classifier, self.layer, "texture.layer"))

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
