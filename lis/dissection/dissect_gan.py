"""What units of a layer of the generator agree with, and what they cause in its images (Bau et al. 2020)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from lis.config import RunConfig
from lis.config.fields import choice, number
from lis.context import Context
from lis.dissection.agreement import CURVE_LEVELS
from lis.dissection.dissect import PICTURE
from lis.dissection.gan_movies import IMAGES, Movie, growing_stroke, moving_cell, painted_movie, removal_movie
from lis.dissection.gan_order import OrderJob
from lis.dissection.gan_pixels import exact_iou, pixel_segmenter, require_parts
from lis.dissection.gan_tables import (
    Agreement,
    agreement_table,
    curves_table,
    histogram_table,
    insertion_table,
    layers_table,
    location_maps,
    removal_table,
    side_effects_table,
    units_table,
)
from lis.dissection.gan_units import (
    INSERTED,
    Edited,
    GanUnits,
    drawn_classes,
    drawn_codes,
    edited_layer,
    require_samples,
    unit_shape,
)
from lis.dissection.gan_work import dissect_gan_work
from lis.dissection.insertion import InsertionJob, Insertions, insert
from lis.dissection.painting import UnitEdit
from lis.dissection.permutation import permutation_test
from lis.dissection.removal import MIN_UNITS, TESTED, Removal, RemovalJob, layer_strata, remove
from lis.dissection.top_images import thumbnails
from lis.labels.labelled import TrueParts, exact_masks
from lis.stage import stage
from lis.store import Draft


@dataclass
class DissectGanConfig:
    """Dissection of the units of a layer of the generator."""

    concepts: str = choice("parts", ("parts", "brightness"))
    """What units are held against: parts, or the brightness of pixels, of any generator."""
    layer: str | None = None
    """A layer of the generator, as `synthesize(features=[…])` names it; null: the one in the middle."""
    segmenter: str | None = None
    """What sees parts by the pixels of images of any generator: a function, as module.function; null: part world's."""
    samples: int = number(40, low=2)
    """Samples per class of either half: thresholds and ranks are of the one, scores of the other."""
    quantile: float = number(0.99, low=0.5, high=1)
    """Level of the threshold of each unit among its own activations."""
    permutations: int = number(1000, low=19)
    """Permutations of the scored images within their classes, the control of the agreement."""
    edited: int = number(4, low=1)
    """Samples per class, of the half that is scored, whose images are edited."""
    value: str = choice("zero", ("zero", "mean", "quantile"))
    """What removed units are set to; behind a leaky ReLU zero is a value like others, and not "off"."""
    value_quantile: float = number(0.05, low=0, high=1)
    """The quantile of value=quantile."""
    most: int = number(30, low=min(TESTED))
    """Units that removal curves go to, at most half of the layer's; 4, 8 and 16 are held against random units."""
    draws: int = number(200, low=19)
    """Random sets of units, the control of each removal."""
    inserted: int = number(20, low=1)
    """Units that an insertion sets to their 0.995 quantile, at most half of the layer's."""
    insertions: int = number(512, low=1)
    """Images and cells of every part at which it is inserted."""
    min_count: int = number(20, low=2)
    """Insertions into a context below which there is no mean."""


def _config(ctx: Context) -> DissectGanConfig:
    return vars(ctx.config)["dissect_gan"]


def problems(config: RunConfig) -> Iterable[str]:
    """Says where more is to be edited than there is."""
    settings: DissectGanConfig = vars(config)["dissect_gan"]
    if settings.edited > settings.samples:
        yield (
            f"dissect_gan.edited={settings.edited}: expected at most dissect_gan.samples={settings.samples}, the "
            "samples of a class"
        )
    if settings.segmenter is not None and settings.concepts != "parts":
        yield (
            f"dissect_gan.segmenter={settings.segmenter} sees parts: expected dissect_gan.concepts=parts, not "
            f"{settings.concepts}"
        )


def _check(ctx: Context) -> None:
    config = _config(ctx)
    edited_layer(ctx, config.layer)
    segmenter = pixel_segmenter(ctx)
    if config.segmenter is not None:
        with torch.no_grad():
            require_parts(segmenter, ctx.generator.synthesize(drawn_codes(ctx, 0, 2)[:2].to(ctx.device)))
    classes = len(ctx.class_names) if ctx.generator.num_classes else 1
    if (orders := math.factorial(config.samples) ** classes) < config.permutations:
        raise ValueError(
            f"dissect_gan.permutations={config.permutations}: {config.samples} samples of each class have {orders} "
            "orders within their classes, expected at least as many; raise dissect_gan.samples"
        )


def _codes(ctx: Context) -> dict[str, Any]:
    """What style codes follow from beside the seed."""
    return {"classes": list(ctx.class_names), "truncation": ctx.config.gan.truncation}


def _also(ctx: Context) -> Mapping[str, Any]:
    segmenter = pixel_segmenter(ctx)
    return _codes(ctx) | {"segmenter_fingerprint": segmenter.fingerprint, "labels": list(segmenter.labels)}


@stage(
    "dissect_gan",
    version=5,
    config=DissectGanConfig,
    seed=True,
    models=("generator",),
    also=_also,
    problems=problems,
    check=_check,
    work=dissect_gan_work,
)
def dissect_gan(ctx: Context, config: DissectGanConfig, draft: Draft) -> None:
    """What units of a layer of the generator agree with, and what removing and inserting them does to its images.

    Parts are those that a segmenter of pixels sees, which knows nothing of the edited maps; with `concepts=brightness`
    the dark, medium and bright pixels, and no background. Thresholds and the order of units by IoU with each part are
    of one half of the samples, all results of the other. Random units are of the same layer, as many of each of 4
    strata of variance as the best units have there.

    Table "units": layer, unit, part (highest IoU of those that it meets on 5 images or more; empty: none), iou, control
    (mean IoU under permutations of the images within their classes), p (`p_label` of `PermutationTest`), q (over the
    units), auprc and pearson (average precision and Pearson's r of the map, without a threshold), share (of the pixels
    that are the part's: average precision at chance), above_chance (q ≤ 0.05), images_met, detector (iou > 0.04),
    threshold, variance, dead (never above its threshold). Table "agreement", a row per unit and part: unit, part, iou,
    control, p, q (of the part alone, over units and parts), auprc, pearson, share, images_met, iou_fit (of the half of
    the thresholds), rank (by iou_fit). Table "histogram", a row per part, and "layers", a single row: as of the stage
    "dissect", whose column concept is here called part; all scored images are permuted. Table "curves": part,
    units (removed, the best first), change (share of the part's area that is gone; negative: it grew), low, high (99
    %). Table "removal": part, units, change, control
    (mean of the random draws), low, high (95 % of them), p, q (share of draws that take as much; Benjamini–Hochberg
    over all rows), variance and control_variance (mean of the units), baseline (share of the images). Table
    "side_effects": part (whose units are removed), units, label, change, control, p (two-sided), q (over the rows of
    all other labels than the part, for which it is NaN). Table "insertion": part, context (label at the cell before),
    insertions, gained (mean pixels of the part; NaN below `min_count`), variance, control (random units). Tensors
    "location": gained and control (random units) `[parts, h, w]` by cell. Tensors "top", of the scored half: image `[n,
    3, s, s]` uint8; of each unit index `[U, 5]` into it by descending maximum of the map, and mask `[U, 5, s, s]` bool.
    Tensors "removal_movie", "insertion_movie", "painting_movie": image `[T, k, 3, H, W]` uint8, parts `[T, k, H, W]`
    uint8, mask `[T, h, w]`, refused `[T, k]` bool, gained `[T, k]`. Json "facts": concepts, layer, units, map, parts,
    samples, images, value, permutations, detectors_at_chance (mean, low, high: 95 %), draws, inserted, segmenter_iou
    (by part, with exact masks, where the generator knows them; null: neither has it), movies (the part of each).

    Raises:
        ValueError: a generator whose images nothing segments into parts; a layer that is unknown, cannot be edited or
            has fewer than 8 units; too few samples for the quantiles or permutations, or more than fit into memory.
    """
    measured = GanDissection.of(ctx, config)
    agreement = measured.agreement
    order_job(ctx, measured.layer, agreement).keep()
    removal, insertions = measured.removal(), measured.insertions()
    labels = agreement.labels
    draft.table("units", units_table(measured.layer, agreement))
    draft.table("agreement", agreement_table(agreement))
    draft.table("histogram", histogram_table(measured.layer, agreement))
    draft.table("layers", layers_table(measured.layer, agreement))
    draft.table("curves", curves_table(removal, labels))
    draft.table("removal", removal_table(removal, labels))
    draft.table("side_effects", side_effects_table(removal, labels))
    draft.table("insertion", insertion_table(insertions, labels, config.min_count))
    gains = {"gained": insertions.best, "control": insertions.random}
    draft.tensors("location", {name: location_maps(insertions, x, measured.size) for name, x in gains.items()})
    draft.tensors("top", measured.top_pictures())
    movies = measured.movies(removal, insertions)
    for name, (_, movie) in movies.items():
        draft.tensors(f"{name}_movie", movie.tensors())
    draft.json("facts", measured.facts | {"movies": {name: labels[part] for name, (part, _) in movies.items()}})


def edit_settings(ctx: Context, layer: str) -> dict[str, Any]:
    """What the shards of edits follow from beside their block."""
    names = ("samples", "edited", "value", "value_quantile")
    settings = {name: value for name, value in asdict(_config(ctx)).items() if name in names}
    return settings | {"layer": layer, "seed": ctx.config.seed} | dict(_also(ctx))


def order_job(ctx: Context, layer: str, agreement: Agreement | None = None) -> OrderJob:
    """The order in which units of a layer are edited; without `agreement` it is looked for, not measured."""
    measured = None if agreement is None else {"order": agreement.order, "variance": agreement.variance}
    return OrderJob(ctx, pixel_segmenter(ctx), edit_settings(ctx, layer), _config(ctx).quantile, measured)


def removed_counts(config: DissectGanConfig, units: int) -> tuple[int, ...]:
    """Numbers of units that are removed of a layer of so many, from 0."""
    return tuple(range(min(config.most, units // 2) + 1))


def tested_counts(config: DissectGanConfig, units: int) -> tuple[int, ...]:
    """Those of them that are held against random units."""
    return tuple(n for n in TESTED if n in removed_counts(config, units))


def inserted_count(config: DissectGanConfig, units: int) -> int:
    """How many units are inserted, of a layer of so many."""
    return min(config.inserted, units // 2)


@dataclass(frozen=True)
class GanDissection:
    """A layer of a run's generator, measured, with codes whose images are edited."""

    ctx: Context
    config: DissectGanConfig
    fit: GanUnits
    score: GanUnits
    codes: Tensor
    """Style codes of the scored half, `[n, w_dim]`."""
    edited: Edited
    rows: Tensor
    """Of the scored half, those that are edited: `[n]` int64."""
    agreement: Agreement

    @classmethod
    def of(cls, ctx: Context, config: DissectGanConfig) -> GanDissection:
        """Measure the units on both halves of the samples.

        Raises:
            ValueError: the layer has fewer than `MIN_UNITS` units, a single image is edited, or as `require_samples`.
        """
        layer, segmenter, n = edited_layer(ctx, config.layer), pixel_segmenter(ctx), config.samples
        codes = [drawn_codes(ctx, first, n) for first in (0, n)]
        if (units := unit_shape(ctx, layer)[0]) < MIN_UNITS:
            raise ValueError(
                f"dissect_gan.layer={layer} has {units} units: expected {MIN_UNITS} or more, so that half of them can "
                "be removed"
            )
        rows = (torch.arange(len(codes[1])) % n < config.edited).nonzero()[:, 0]
        if len(rows) < 2:
            raise ValueError("1 image is edited: expected two or more, which have a variance; raise dissect_gan.edited")
        require_samples(ctx, layer, segmenter, max(config.quantile, INSERTED), 2)
        fit, score = (GanUnits.of(ctx, layer, segmenter, w) for w in codes)
        agreement = _agreement(fit, score, config, drawn_classes(ctx, n), ctx.config.seed)
        return cls(ctx, config, fit, score, codes[1], Edited.of(ctx, segmenter, codes[1][rows]), rows, agreement)

    @property
    def layer(self) -> str:
        """Name of the layer."""
        return self.fit.layer

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of its maps."""
        return self.fit.maps.shape[2], self.fit.maps.shape[3]

    @property
    def units(self) -> int:
        """How many it has."""
        return self.fit.maps.shape[1]

    @property
    def counts(self) -> tuple[int, ...]:
        """Numbers of units that are removed."""
        return removed_counts(self.config, self.units)

    @property
    def removed_levels(self) -> Tensor:
        """What removed units are set to, `[U]`."""
        return self.fit.levels(self.config.value, self.config.value_quantile)

    @property
    def settings(self) -> dict[str, Any]:
        """As of `edit_settings`."""
        return edit_settings(self.ctx, self.layer)

    @torch.no_grad()
    def top_pictures(self) -> dict[str, Tensor]:
        """Tensors "top" of the stage."""
        size = min(PICTURE, self.ctx.generator.resolution)
        index, mask = self.score.top(self.agreement.counts.thresholds, size)
        rows, inverse = index.unique(return_inverse=True)

        def made(w: Tensor) -> Tensor:
            return thumbnails(self.ctx.generator.synthesize(w.to(self.ctx.device)), size)

        image = torch.cat(list(self.ctx.images().map(made, self.codes[rows])))
        return {"image": image, "index": inverse, "mask": mask}

    def removal(self) -> Removal:
        """Remove the best units of each part, and random ones."""
        job = RemovalJob(self.ctx, self.edited, self.layer, self.removed_levels, self.settings)
        order, variance = self.agreement.order, self.agreement.variance
        tested = tested_counts(self.config, self.units)
        return remove(job, order, variance, self.counts, tested, self.config.draws)

    def insertions(self) -> Insertions:
        """Insert each part at single cells."""
        job = InsertionJob(
            self.ctx,
            self.edited,
            self.score.parts[self.rows],
            self.layer,
            self.size,
            self.inserted_levels,
            self.settings,
        )
        units = self.agreement.order[:, : self.inserted].tolist()
        return insert(job, units, layer_strata(self.agreement.variance), self.config.insertions)

    @property
    def inserted_levels(self) -> Tensor:
        """What inserted units are set to, `[U]`."""
        return self.fit.quantiles(INSERTED)

    @property
    def inserted(self) -> int:
        """How many units are inserted."""
        return inserted_count(self.config, self.units)

    def movies(self, removal: Removal, insertions: Insertions) -> dict[str, tuple[int, Movie]]:
        """By name the part of each movie, and its frames.

        Removed is the part that loses most beyond random units with the largest number of tested ones, in the images of
        each class that show most of it; inserted and painted that which gains most pixels, in the first of each class.
        """
        parts = torch.arange(len(self.agreement.labels))
        gain = removal.change[parts, -1, parts + 1] - removal.control[parts, -1, :, parts + 1].mean(1)
        removed = int(gain.nan_to_num(-torch.inf).argmax())
        inserted = int(insertions.best[parts, :, parts + 1].double().mean(1).argmax())
        per_class = self.config.edited
        area = removal.base[:, removed + 1].view(-1, per_class)
        first = torch.arange(len(area))[:IMAGES] * per_class
        edits = {
            "removal": self._edit(removed, self.counts[-1], self.removed_levels),
            "insertion": self._edit(inserted, self.inserted, self.inserted_levels),
        }
        masks = {"insertion": moving_cell(self.size), "painting": growing_stroke(self.size)}
        taken = removal_movie(self.edited, first + area.argmax(1)[:IMAGES], edits["removal"], self.counts, self.size)
        painted = {
            name: (inserted, painted_movie(self.edited, first, edits["insertion"], mask, inserted + 1))
            for name, mask in masks.items()
        }
        return {"removal": (removed, taken)} | painted

    def _edit(self, part: int, count: int, levels: Tensor) -> UnitEdit:
        units = self.agreement.order[part, :count]
        return UnitEdit(self.layer, units, levels[units])

    @property
    def facts(self) -> dict[str, Any]:
        """Json "facts" of the stage, but for its movies."""
        names = ("concepts", "value", "value_quantile", "draws", "min_count", "quantile", "permutations")
        facts = {name: getattr(self.config, name) for name in names}
        facts |= {"layer": self.layer, "units": self.units, "map": list(self.size)}
        facts |= {"samples": len(self.score.parts), "images": len(self.rows), "inserted": self.inserted}
        facts |= {"detectors_at_chance": self.agreement.detectors_at_chance}
        return facts | {"parts": list(self.agreement.labels), "segmenter_iou": self._segmenter_iou()}

    def _segmenter_iou(self) -> dict[str, float | None]:
        """`exact_iou` of the segmenter of pixels on the images that are edited, before any edit."""
        labels, generator = self.agreement.labels, self.ctx.generator
        if not isinstance(generator, TrueParts) or not set(labels) <= set(generator.labels):
            return {}
        parts = self.score.parts[self.rows]
        true = exact_masks(generator, self.edited.w.to(self.ctx.device), labels, parts.shape[-1]).long().cpu()
        return exact_iou(parts, true, labels)


def _agreement(fit: GanUnits, score: GanUnits, config: DissectGanConfig, class_index: Tensor, seed: int) -> Agreement:
    """Thresholds of the one half, agreement of both, and the control of the other."""
    levels = fit.quantiles((config.quantile, *CURVE_LEVELS))
    thresholds, edges = levels[:, 0].contiguous(), levels[:, 1:].contiguous()
    control = permutation_test(score.maps, thresholds, score.masks, class_index, config.permutations, seed)
    iou_fit = fit.agreement(thresholds).iou
    return Agreement(score.labels, iou_fit, score.agreement(thresholds, edges), control, fit.variance)
