"""Which concept every unit of a layer agrees with, held against images of the same class (Bau et al. 2020)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast, get_args

import torch
from torch import Tensor, nn

from lis.classifiers.cut import layer_module
from lis.config.fields import choice, number
from lis.context import Context
from lis.dissection.activations import record_activations
from lis.dissection.agreement import MIN_IMAGES, MIN_IOU, AgreementCounts, label_units
from lis.dissection.annotated import annotated_pictures, folder_contents, validate_pictures
from lis.dissection.concepts import concept_set
from lis.dissection.dissect_shards import SIZE, Job, Thresholds, find_thresholds, permuted_rows, placed, score_units
from lis.dissection.dissect_tables import Scores, agreement_table, histogram_table, layers_table, units_table
from lis.dissection.permutation import PermutationCounts, PermutationTest, permutation_bytes, require_orders
from lis.dissection.room import require_bytes
from lis.dissection.scenes import Half, MaskSource, Scenes, finds_parts, folder_scenes, scenes_of
from lis.dissection.top_images import TopImages, thumbnails, top_mask
from lis.dissection.upsampling import Border, Placement
from lis.dissection.user_pictures import of_folder
from lis.dissection.work import dissect_work
from lis.linking.evaluation import TrueFactors
from lis.linking.pairs import test_pairs, train_pairs
from lis.peaks import Machine, at_once, picture_arrays, seen_images
from lis.segmentation.segmenter import segmenter
from lis.segmentation.training import part_bytes
from lis.stage import MODELS, stage
from lis.store import Artifact, Draft
from lis.streams import Stream
from lis.types import require_sight

PICTURE = 96
"""Largest height and width in pixels of the images of the atlas."""
FEWEST = 5
"""Activations of the map above its threshold below which a quantile is not trusted."""
_MORE = (
    "lower dissect.quantile, or give more images: raise dissect.samples, pairs.train and pairs.test, or add pictures "
    "to the folder"
)


@dataclass
class DissectConfig:
    """Dissection of the units of layers of the classifier."""

    layers: list[str] = field(default_factory=list)
    """Layers of the classifier that give a map; none: the last map of its convolutions (cam_layer)."""
    samples: int = number(100, low=2)
    """Samples per class of the train pairs (thresholds) and of the test pairs (scores), at most as there are."""
    quantile: float = number(0.99, low=0.5, high=1)
    """Level of the threshold of each unit among its own activations."""
    border: str = choice("fade", ("fade", "clamp"))
    """What maps are enlarged with beyond their outer centres: zeros, or the outermost values."""
    placement: str = choice("receptive_field", get_args(Placement))
    """Where the samples of a map lie: in the middle of the pixels that each sees (followed through the network), where
    it is sensitive to the image (the centre of its gradients on noise, an estimate), or evenly over the image."""
    masks: str = choice("auto", get_args(MaskSource))
    """Where parts are from: exact if the generator knows its parts, else the segmenter; or the segmenter, which shows
    on part world what dissection tells of a generator whose parts are not known. A user's pictures bring theirs."""
    min_iou: float = number(MIN_IOU, low=0, high=1)
    """IoU above which a unit counts as a detector."""
    permutations: int = number(1000, low=19)
    """Permutations of the images within their classes, the control."""
    permuted: int = number(500, low=4)
    """Images of the permutations, at most; the maps of a layer of those of one class are in memory at once."""


def of_generator(ctx: Context) -> bool:
    """Whether the images are the generator's, not a user's."""
    return not of_folder(ctx)


def _needs_segmenter(ctx: Context) -> bool:
    return of_generator(ctx) and finds_parts(ctx, vars(ctx.config)["dissect"].masks)


def _check(ctx: Context) -> None:
    require_sight(ctx.classifier, "maps of units are compared with the masks of an image")
    named_modules(ctx, vars(ctx.config)["dissect"].layers)
    _require_masks(ctx)
    if of_folder(ctx):
        validate_pictures(ctx.config)
    _require_maps(ctx, vars(ctx.config)["dissect"])
    require_orders(permuted_classes(ctx), vars(ctx.config)["dissect"].permutations)
    _require_room(ctx)


def _require_masks(ctx: Context) -> None:
    """Check that the masks of a segmenter can be had where they are asked for."""
    masks: MaskSource = vars(ctx.config)["dissect"].masks
    if masks == "segmenter" and of_folder(ctx):
        raise ValueError("dissect.masks=segmenter: expected auto, since the pictures of images=… bring their own masks")
    if masks == "segmenter" and not ctx.config.classes.labels:
        raise ValueError("dissect.masks=segmenter: expected parts that it finds, classes.labels=[…], which is empty")


def permuted_classes(ctx: Context) -> Tensor:
    """Classes of the images of the permutations, known before the work; as many as there are at most."""
    config: DissectConfig = vars(ctx.config)["dissect"]
    sizes = [min(config.samples, ctx.config.pairs.test)] * len(ctx.class_names)
    if of_folder(ctx):
        names = sorted(one.picture.class_name for one in annotated_pictures(ctx.config))
        sizes = [names.count(name) // 2 for name in dict.fromkeys(names)]
    classes = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    return classes[permuted_rows(classes, config.permuted)]


def control_bytes(ctx: Context) -> int:
    """Bytes of the permutations of the layer that takes the most; the models may be without weights.

    Raises:
        ValueError: an unknown layer, or one that gives no map.
    """
    config: DissectConfig = vars(ctx.config)["dissect"]
    factors = ctx.generator.factor_names if isinstance(ctx.generator, TrueFactors) and not of_folder(ctx) else ()
    concepts = len(concept_set(ctx.config.classes.labels, factors).names)
    images = int(permuted_classes(ctx).bincount().max())
    shapes = map_shapes(ctx, config).values()
    return max(permutation_bytes(shape, images, concepts, SIZE, config.permutations) for shape in shapes)


def map_shapes(ctx: Context, config: DissectConfig) -> dict[str, tuple[int, int, int]]:
    """Units, height and width of the map of each layer; the models may be without weights.

    Raises:
        ValueError: an unknown layer, or one that gives no map.
    """
    blank = torch.zeros(1, 3, ctx.generator.resolution, ctx.generator.resolution, device=ctx.device)
    maps = record_activations(ctx.classifier.features, named_modules(ctx, config.layers), blank)
    return {name: (x.shape[1], x.shape[2], x.shape[3]) for name, x in maps.items()}


def half_sizes(ctx: Context) -> tuple[int, int]:
    """Images that thresholds, and that scores are taken from, at most; known before the work."""
    if of_folder(ctx):
        scenes = folder_scenes(ctx)
        return len(scenes.fit), len(scenes.score)
    samples, pairs = vars(ctx.config)["dissect"].samples, ctx.config.pairs
    fit, score = (len(ctx.class_names) * min(samples, n) for n in (pairs.train, pairs.test))
    return fit, score


def _require_maps(ctx: Context, config: DissectConfig) -> None:
    """Check that there are maps, with enough images for their quantiles, and that it is known where they lie."""
    for _, height, width in map_shapes(ctx, config).values():
        require_images(half_sizes(ctx)[0], height, width, config.quantile)
    placed(ctx, named_modules(ctx, config.layers), cast(Placement, config.placement))


def _require_room(ctx: Context) -> None:
    config: DissectConfig = vars(ctx.config)["dissect"]
    subject = f"dissect.permuted={config.permuted}, dissect.permutations={config.permutations}: the control takes"
    require_bytes(control_bytes(ctx), subject, lambda _: "lower them, or choose later layers, dissect.layers=[…]")


def _images(ctx: Context, machine: Machine) -> int:
    """Bytes of the images of a batch, where a segmenter looks for parts with the maps that it reads."""
    if not _needs_segmenter(ctx):
        return seen_images(ctx, machine)
    return at_once(part_bytes(ctx), ctx.config.batch_size, machine)


def _also(ctx: Context) -> dict[str, Any]:
    folder = {"folder": [list(each) for each in folder_contents(ctx.config)]} if of_folder(ctx) else {}
    return {"classes": list(ctx.class_names), "labels": list(ctx.config.classes.labels)} | folder


def named_modules(ctx: Context, layers: list[str]) -> dict[str, nn.Module]:
    """The layers that a run asks for, by name.

    Raises:
        ValueError: one is unknown, named twice, or, where none is asked for, the classifier has no `cam_layer`.
    """
    names = layers or [name for name in [ctx.classifier.cam_layer] if name is not None]
    if not names:
        known = ", ".join(ctx.classifier.layers) or "none"
        raise ValueError(
            f"{type(ctx.classifier).__name__} names no last map of its convolutions (cam_layer): expected a layer, as "
            f"dissect.layers=[…]; it has {known}"
        )
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"dissect.layers has {', '.join(twice)} more than once: expected each layer once")
    return {name: layer_module(ctx.classifier, name, "dissect.layers") for name in names}


@stage(
    "dissect",
    version=6,
    inputs=(train_pairs.when(of_generator), test_pairs.when(of_generator), segmenter.when(_needs_segmenter)),
    config=DissectConfig,
    seed=True,
    models=MODELS,
    also=_also,
    check=_check,
    generates=of_generator,
    images=_images,
    arrays=lambda ctx: picture_arrays(ctx) + control_bytes(ctx),
    work=dissect_work,
)
def dissect(
    ctx: Context,
    config: DissectConfig,
    train: Artifact | None,
    test: Artifact | None,
    trained: Artifact | None,
    draft: Draft,
) -> None:
    """The concept that each unit of a layer agrees with most (thresholds: train pairs; scores: test pairs).

    With `images` and `labels.folder` these are the halves of the pictures in the folders, and there are no pairs. Masks
    are those of the folder, or of the segmenter, or exact (`dissect.masks`).

    Table "units", the layers one behind the other: layer, unit, concept (of the highest IoU; empty: none), kind,
    iou, control (mean IoU under permutations of the images within their classes), p (of the label, the best of all
    concepts: `p_label` of `PermutationTest`), q (over the units of the layer), same_images_iou, threshold, active
    (share of the scored pixels above it), detector (iou > min_iou), auprc, pearson, images_met; specific (the
    concept whose IoU exceeds its control by the most standard deviations; empty: none), specific_iou,
    specific_control, specific_q (as q), above_chance (specific_q ≤ 0.05: the unit agrees with some concept),
    correlated (the concept of the highest Pearson's r), dead. Table "agreement", a row per unit and concept: layer,
    unit, concept, kind, iou, control, p, q (of the concept alone, over the units and concepts of the layer),
    same_images_iou, auprc, pearson, auc, images_met. Table "histogram", a row per layer and concept: layer,
    concept, kind, detectors, same_images_detectors, control (mean number of detectors in the permutations), low,
    high (95 % of these), above_chance (units above chance whose specific concept it is), both (detectors with q ≤
    0.05); NaN of a concept without a pixel. Table "layers": layer, units, dead, concepts (distinct ones of the
    detectors), detectors, same_images_detectors, control, low, high, above_chance, both. Tensors "top": image `[n,
    3, s, s]` uint8; of each row of "units" index `[rows, 5]` into it by descending maximum of the map, and mask
    `[rows, 5, s, s]` bool; of each unit of r penultimate `[units, 5]`. Json "facts": layers (name to units, height
    and width), fields (name to scale, offset and image of its `ReceptiveField`, where there is one),
    threshold_images, images, permuted_images, concepts (how many have a pixel), absent (names of the others),
    classes, masks ("exact", "segmenter", "folder" or "none"), size (height and width of the masks in pixels, which
    maps are resized to), min_iou, quantile, permutations, border, placement.

    A concept labels no unit that it meets on fewer than 5 images, and the background none. Values of dead units and of
    absent concepts are NaN. Control, p and q are of `permuted` of the scored images. On these alone are also
    same_images_iou of "units" and "agreement" and same_images_detectors of "histogram" and "layers": what is held
    against the control.

    IoU, thresholds and top images are the same for any batch and shard size where networks, the segmenter among them,
    give the same maps, as those of part world do; others round by the batch (1e-6 of a DenseNet's maps), which can move
    a pixel across a threshold. Pearson's r is the same to rounding.

    Raises:
        ValueError: an unknown layer, one that gives no map, too few images for the quantile or for the permutations, no
            room for these, or masks of a segmenter where there is nothing to find.
    """
    scenes = folder_scenes(ctx) if train is None or test is None else _generated(ctx, config, train, test)
    inputs = tuple(artifact.key for artifact in (train, test, trained) if artifact is not None)
    concepts, modules = concept_set(scenes.labels, scenes.factor_names), named_modules(ctx, config.layers)
    subset = {**_also(ctx), "samples": config.samples, "seed": ctx.config.seed}
    job = Job(ctx, scenes, concepts, modules, *_laid(config), subset, inputs)
    tested = permuted_rows(scenes.score.class_index, config.permuted)
    require_orders(scenes.score.class_index[tested], config.permutations)
    for _, height, width in job.shapes.values():
        require_images(len(scenes.fit), height, width, config.quantile)
    thresholds = find_thresholds(job, config.quantile)
    counts, top = score_units(job, thresholds)
    tests = permutation_tests(job, config, thresholds, tested)
    scores = [_scores(job, config, name, counts[name], tests[name]) for name in modules]
    draft.table("units", units_table(scores))
    draft.table("agreement", agreement_table(scores))
    draft.table("histogram", histogram_table(scores))
    draft.table("layers", layers_table(scores))
    draft.tensors("top", top_pictures(job, top, [thresholds[name].level for name in modules]))
    draft.json("facts", {**_facts(job, config, next(iter(counts.values()))), "permuted_images": len(tested)})


def _generated(ctx: Context, config: DissectConfig, train: Artifact, test: Artifact) -> Scenes:
    return scenes_of(ctx, config.samples, train, test, cast(MaskSource, config.masks))


def _ignored(job: Job) -> list[int]:
    """Concepts that label no unit."""
    return [k for k, kind in enumerate(job.concepts.kinds) if kind == "background"]


def _scores(job: Job, config: DissectConfig, name: str, counts: AgreementCounts, test: PermutationTest) -> Scores:
    values = counts.iou, test.excess, counts.pearson
    labels = (label_units(x, config.min_iou, counts.images_met, MIN_IMAGES, _ignored(job)) for x in values)
    return Scores(name, job.concepts, counts, test, *labels)


def _laid(config: DissectConfig) -> tuple[Border, Placement]:
    return cast(Border, config.border), cast(Placement, config.placement)


def _facts(job: Job, config: DissectConfig, counts: AgreementCounts) -> dict[str, Any]:
    scenes, ignored = job.scenes, _ignored(job)
    absent = [name for k, name in enumerate(job.concepts.names) if not counts.area_concept[k] and k not in ignored]
    facts: dict[str, Any] = {"layers": {name: list(shape) for name, shape in job.shapes.items()}}
    facts |= {
        "threshold_images": len(scenes.fit),
        "images": len(scenes.score),
        "masks": scenes.source,
        "size": job.size,
    }
    facts |= {"concepts": len(job.concepts.names) - len(ignored) - len(absent), "absent": absent}
    fields = {name: each.field for name, each in job.upsamplings.items()}
    facts["fields"] = {name: [field.scale, field.offset, field.image] for name, field in fields.items() if field}
    facts["classes"] = list(scenes.class_names)
    names = ("min_iou", "quantile", "permutations", "border", "placement")
    return facts | {name: getattr(config, name) for name in names}


def require_images(
    images: int, height: int, width: int, quantile: float, name: str = "dissect.quantile", remedy: str = _MORE
) -> None:
    """Check that maps of a layer are enough for a quantile.

    Args:
        images: how many.
        height: of the map.
        width: of the map.
        quantile: in [0, 1].
        name: of the quantile, for the message.
        remedy: what there is to do, for the message.

    Raises:
        ValueError: fewer than `FEWEST` activations of a unit are expected above it.
    """
    if images * height * width * (1 - quantile) < FEWEST:
        needed = math.ceil(FEWEST / (height * width * (1 - quantile))) if quantile < 1 else "∞"
        raise ValueError(
            f"{name}={quantile} of {images} maps of {height}×{width}: expected {FEWEST} activations above it, so "
            f"{needed} images in all; {remedy}"
        )


def permutation_tests(
    job: Job, config: DissectConfig, thresholds: Mapping[str, Thresholds], rows: Tensor
) -> dict[str, PermutationTest]:
    """The control of each layer, on the images `rows [n]` of the scored half, a class after the other.

    All layers have the same permutations.
    """
    classes, stream = job.scenes.score.class_index[rows], Stream("dissect", job.ctx.config.seed)
    result = {}
    for name in job.modules:
        single, concepts = job.of_layer(name), len(job.concepts.names)
        upsampling, level = job.upsamplings[name], thresholds[name].level
        counts = PermutationCounts(level, concepts, config.permutations, stream.rng(), upsampling)
        for k in classes.unique():
            maps, masks = single.gathered(rows[classes == k])
            counts.add(maps[name], masks)
        result[name] = counts.test(config.min_iou, _ignored(job))
    return result


def top_pictures(job: Job, top: Iterable[TopImages], thresholds: list[Tensor]) -> dict[str, Tensor]:
    """Tensors "top" of the stage.

    Args:
        job: what is dissected.
        top: of each layer, and of the penultimate one.
        thresholds: of each layer, `[units]`.
    """
    *layers, penultimate = top
    rows, inverse = torch.cat([each.row for each in (*layers, penultimate)]).unique(return_inverse=True)
    image = _pictures(job.ctx, job.scenes.score, rows)
    size = image.shape[-1]
    triples = zip(layers, thresholds, job.upsamplings.values(), strict=True)
    masks = [top_mask(each.maps, levels, size, upsampling) for each, levels, upsampling in triples]
    index, last = inverse.split([len(inverse) - len(penultimate.row), len(penultimate.row)])
    return {"image": image, "index": index, "mask": torch.cat(masks), "penultimate": last}


def _pictures(ctx: Context, half: Half, rows: Tensor) -> Tensor:
    """`[n, 3, s, s]` uint8 on the CPU."""

    def made(some: Tensor) -> Tensor:
        return thumbnails(half.batch(some).visible, PICTURE)

    return torch.cat(list(ctx.batches(half.finder).map(made, rows)))
