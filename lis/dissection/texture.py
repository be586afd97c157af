"""Whether a unit responds to texture or to shape: images beside restyled twins (Bau et al. 2020, Fig. S3)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lis.config.fields import number
from lis.context import Context
from lis.dissection.ablation import ablation_values, unit_blocks
from lis.dissection.activations import record_activations
from lis.dissection.restyling import ORDERS, derangement, restyled_images, restylings, style_factors
from lis.dissection.room import map_bytes, require_room
from lis.dissection.tails import find_layer
from lis.dissection.top_images import TOP, thumbnails, top_activating, top_mask
from lis.linking.pairs import first_of_each_class, test_pairs
from lis.peaks import picture_arrays
from lis.stage import MODELS, stage
from lis.statistics import RANGE, benjamini_hochberg
from lis.store import Artifact, Draft
from lis.streams import Stream
from lis.types import require_sight

CUT = 0.1
"""Score below which a unit is on the side of texture (Bau et al. 2020)."""
LEVEL = 0.99
"""Quantile of a unit's own activations above which it responds."""
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
        other = torch.searchsorted(rows, others[:, rows].contiguous())
        intersection += overlap[:, torch.arange(len(rows)), other].double().sum(2)
    area = active.sum((0, 2, 3))  # of either side: each image is another's exactly once
    return _iou(intersection.T, 2 * area - intersection.T)


@dataclass
class TextureConfig:
    """Texture or shape: responses to images beside restyled twins."""

    layer: str | None = None
    """A layer of the classifier that gives a map; null: the last map of its convolutions (cam_layer)."""
    samples: int = number(100, low=2)
    """Test pairs per class, at most as many as there are."""
    shuffles: int = number(999, low=19)
    """Draws of other images of the same class, the control."""


def _check(ctx: Context) -> None:
    require_sight(ctx.classifier, "maps of an image are compared with those of a restyled one")
    if ctx.config.pairs.test < 2:
        raise ValueError("pairs.test=1: expected 2 or more, so that each image stands beside another of its class")
    require_room(ctx, "texture", _images(ctx), _COPIES)


def _images(ctx: Context) -> int:
    """Samples, at most."""
    config: TextureConfig = vars(ctx.config)["texture"]
    return min(config.samples, ctx.config.pairs.test) * len(ctx.class_names)


@stage(
    "texture",
    version=2,
    inputs=(test_pairs,),
    config=TextureConfig,
    seed=True,
    models=MODELS,
    also=lambda ctx: {"classes": list(ctx.class_names)},
    check=_check,
    arrays=lambda ctx: picture_arrays(ctx) + map_bytes(ctx, "texture", _images(ctx), _COPIES),
)
def texture(ctx: Context, config: TextureConfig, test: Artifact, draft: Draft) -> None:
    """Paired-response IoU of the units of a layer between images (test pairs) and restyled twins of these.

    Restylings: "factors" (part world: the same geometry, colours and patterns of another sample), "colour" (channels in
    another order), "texture" (the Fourier amplitudes of another sample, the own phases). Table "units", a row per unit
    and restyling: layer, restyling, unit, iou (NaN of a dead unit), control (mean score between an image and another of
    its class, the same for all restylings), low, high (95 % of its draws), p (of the draws to be as high: (1 + those of
    at least iou) / (1 + all)), q (Benjamini–Hochberg over the live units of a restyling), side ("texture": iou < 0.1,
    "shape", "" for a dead unit), dead. Table "extremes": restyling, side, rank, unit, iou, index (of the tensors).
    Tensors "extremes": image, restyled `[m, 5, 3, s, s]` uint8 (the images in which the unit is most active, and their
    twins), mask, restyled_mask `[m, 5, s, s]` bool (where it responds). Json "facts": layer, units, images, shuffles,
    cut, quantile, style (names of the factors that "factors" replaces; none elsewhere).

    Raises:
        ValueError: an unknown layer, one that gives no map, or more maps than memory has room for.
    """
    data = _Samples.of(ctx, config, test.tensors("pairs"))
    original = data.maps("")
    control = same_class_iou(original, data.class_index, config.shuffles, data.rng(1))
    tables, extremes, pictures = [], [], []
    for name in restylings(ctx.generator):
        twins = data.maps(name)
        tables.append(units_table(data.layer, name, paired_response_iou(original, twins), control))
        extremes.append(extreme_units(tables[-1]))
        units = torch.tensor(extremes[-1]["unit"].to_numpy(dtype=np.int64))
        pictures.append(data.pictures(name, original[:, units], twins[:, units]))
    draft.table("units", pd.concat(tables, ignore_index=True))
    rows = pd.concat(extremes, ignore_index=True)
    draft.table("extremes", rows.assign(index=range(len(rows))))
    draft.tensors("extremes", {key: torch.cat([part[key] for part in pictures]) for key in pictures[0]})
    factors = getattr(ctx.generator, "factor_names", ())
    style = [factors[k] for k in style_factors(factors)] if "factors" in restylings(ctx.generator) else []
    facts = {"layer": data.layer, "units": original.shape[1], "images": len(original), "shuffles": config.shuffles}
    draft.json("facts", facts | {"cut": CUT, "quantile": LEVEL, "style": style})


def units_table(layer: str, restyling: str, iou: Tensor, control: Tensor) -> pd.DataFrame:
    """Rows of the table "units", of scores `[units]` and of the control `[shuffles, units]`."""
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
    w: Tensor
    """`[n, w_dim]`."""
    class_index: Tensor
    """`[n]` int64."""
    donor: Tensor
    """Another sample of any class for each, `[n]` int64."""
    order: Tensor
    """Of the channels, `[n]` int64 in [0, 5)."""

    @classmethod
    def of(cls, ctx: Context, config: TextureConfig, pairs: dict[str, Tensor]) -> _Samples:
        """The first samples of each class."""
        classes = pairs["class_index"]
        rows = first_of_each_class(classes, len(ctx.class_names), config.samples)
        rng = Stream("texture", ctx.config.seed).rng()
        donor = torch.from_numpy(derangement(np.zeros(len(rows)), rng))
        order = torch.from_numpy(rng.integers(len(ORDERS), size=len(rows)))
        return cls(ctx, config.layer or str(ctx.classifier.cam_layer), pairs["w"][rows], classes[rows], donor, order)

    def rng(self, index: int) -> np.random.Generator:
        """Draws of the stage, beside those of the donors."""
        return Stream("texture", self.ctx.config.seed).rng(index=index)

    @torch.no_grad()
    def images(self, rows: Tensor, restyling: str) -> Tensor:
        """Images `[k, 3, H, W]` of samples `rows [k]`, as they are where `restyling` is empty."""
        device, generator = self.ctx.device, self.ctx.generator
        w = self.w[rows].to(device)
        if not restyling:
            return generator.synthesize(w)
        return restyled_images(restyling, generator, w, self.w[self.donor[rows]].to(device), self.order[rows])

    def maps(self, restyling: str) -> Tensor:
        """`[n, units, h, w]` of all samples."""
        module, features = find_layer(self.ctx.classifier, self.layer, "texture.layer"), self.ctx.classifier.features

        def recorded(rows: Tensor) -> Tensor:
            return record_activations(features, {"map": module}, self.images(rows, restyling))["map"].cpu()

        return torch.cat(list(self.ctx.batches().map(recorded, torch.arange(len(self.w)))))

    def pictures(self, restyling: str, original: Tensor, twins: Tensor) -> dict[str, Tensor]:
        """Tensors "extremes" of some units, of their maps `[n, units, h, w]`."""
        _, index = top_activating(original.amax((2, 3)), min(TOP, len(original)))
        size, units = min(SIZE, self.ctx.generator.resolution), torch.arange(original.shape[1])[:, None]
        result = {}
        for name, kind, maps in (("", "", original), ("restyled", restyling, twins)):
            image = [thumbnails(self.images(rows, kind), size) for rows in index.flatten().split(TOP)]
            blank = torch.empty(0, 3, size, size, dtype=torch.uint8)
            threshold = ablation_values(maps, "quantile", LEVEL)
            result[name or "image"] = torch.cat([blank, *image]).unflatten(0, index.shape)
            result[f"{name}_mask".lstrip("_")] = top_mask(maps[index, units], threshold, size)
        return result
