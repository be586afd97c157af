"""Which units of a layer each class rests on: ablation of single units and of many (Bau et al. 2020, S.B)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lis.config import RunConfig
from lis.config.fields import choice, number
from lis.context import Context
from lis.dissection.ablation import (
    SharedUnits,
    ablation_values,
    random_orders,
    removal_counts,
    removal_orders,
    shared_unit_classes,
)
from lis.dissection.ablation_shards import AblationJob, removal_curves, unit_importance
from lis.dissection.dissect import require_images
from lis.dissection.dissect_shards import layer_placed, placement_of
from lis.dissection.layer_data import LayerData
from lis.dissection.room import map_bytes, map_shape, require_room
from lis.dissection.tables import curves_table, importance_table, shared_table, sign_facts
from lis.dissection.tails import PENULTIMATE, find_layer
from lis.dissection.top_images import TOP, thumbnails, top_activating, top_mask
from lis.dissection.upsampling import EVEN, Upsampling
from lis.dissection.work import importance_work
from lis.linking.pairs import test_pairs, train_pairs
from lis.peaks import picture_arrays
from lis.stage import MODELS, stage
from lis.statistics import RANGE
from lis.store import Artifact, Draft
from lis.streams import Stream
from lis.types import require_sight

_MORE = (
    "raise importance.samples and pairs.train, set importance.quantile closer to 0.5, or choose an earlier layer, "
    "importance.layer=…"
)
_COPIES = 2
"""Maps of a split in memory: from batches, and put together."""
PICTURED = 3
"""Triples of classes whose shared units are pictured."""
SIZE, ACTIVE = 64, 0.99
"""Largest side in pixels of the images of a shared unit, and the quantile above which it counts as active."""


@dataclass
class ImportanceConfig:
    """Class importance of the units of a layer."""

    layer: str | None = None
    """A layer of the classifier, "penultimate" for r; null: the last map of its convolutions (cam_layer)."""
    samples: int = number(30, low=2)
    """Samples per class of either split, at most as many as there are pairs."""
    value: str = choice("zero", ("zero", "mean", "quantile"))
    """What replaces the activations of an ablated unit; zero is "off" only behind a ReLU."""
    quantile: float = number(0.01, low=0, high=1)
    """The quantile of value=quantile."""
    draws: int = number(20, low=2)
    """Random orders of units, the control of the removal curves."""


def problems(config: RunConfig) -> Iterable[str]:
    """Says where there is nothing to tell a class from."""
    if len(config.classes.names) == 1:
        yield "importance tells a class from others: expected two classes or more in classes.names, got one"


def _check(ctx: Context) -> None:
    require_sight(ctx.classifier, "units of a layer are ablated while the classifier sees an image")
    require_room(ctx, "importance", _images(ctx), _COPIES)
    _require_quantile(ctx)
    _laid(ctx)


def _require_quantile(ctx: Context) -> None:
    """Check that constants of ablated units are quantiles of enough activations; extremes are no estimates."""
    config: ImportanceConfig = vars(ctx.config)["importance"]
    if config.value != "quantile" or config.quantile in (0, 1):
        return
    images = min(config.samples, ctx.config.pairs.train) * len(ctx.class_names)
    height, width = map_shape(ctx, "importance")[1:] or (1, 1)
    name = "importance.quantile" if config.quantile >= 0.5 else "1 − importance.quantile"
    require_images(images, height, width, max(config.quantile, 1 - config.quantile), name, _MORE)


def _also(ctx: Context) -> dict[str, Any]:
    of_maps = vars(ctx.config)["importance"].layer != PENULTIMATE
    return {"classes": list(ctx.class_names)} | ({"placement": placement_of(ctx)} if of_maps else {})


def _images(ctx: Context) -> int:
    """Samples of a split, at most."""
    config: ImportanceConfig = vars(ctx.config)["importance"]
    return min(config.samples, max(ctx.config.pairs.train, ctx.config.pairs.test)) * len(ctx.class_names)


@stage(
    "importance",
    version=2,
    inputs=(train_pairs, test_pairs),
    config=ImportanceConfig,
    seed=True,
    models=MODELS,
    also=_also,
    problems=problems,
    check=_check,
    arrays=lambda ctx: picture_arrays(ctx) + map_bytes(ctx, "importance", _images(ctx), _COPIES),
    work=importance_work,
)
def importance(ctx: Context, config: ImportanceConfig, train: Artifact, test: Artifact, draft: Draft) -> None:
    """Class importance of units of a layer (ranks: train pairs), and accuracy when many are removed (test pairs).

    Answers are the largest logit among the classes of the run. Table "importance": layer, unit, class, importance
    (balanced accuracy that ablating the unit costs, in [−1, 1]), test_importance (the same of the test pairs),
    correlation (Pearson's r of the spatial maximum with the softmax of the class, test pairs), rank (1: the most
    important of the class). Table "curves": layer, class, order (least, most, random), n, balanced_accuracy, low, high
    (95 % of the random orders, else NaN). Table "shared": class_a, class_b, class_c, unit_ab, unit_ac, unit_bc, of
    triples whose pairs share one of their 4 most important units while no unit serves all three; those of the largest
    importance first. Tensors "shared_units", of the units of the first 3 triples: unit `[m]`, image
    `[m, 5, 3, s, s]` uint8 (test pairs, by descending spatial maximum), mask `[m, 5, s, s]` bool (above the unit's own
    0.99 quantile; all of the image where the layer has no map). Json "facts": layer, units, samples, per_class (train
    samples of the smallest class), value, tail, draws, top_positive (share of positive correlations among the top 4),
    positive (among all others), and of both the 95 % Wilson interval (…_low, …_high) and the number (…_of).

    With `pairs.accept=correct` the whole network is right on every pair: its balanced accuracy is 1 by construction.

    Raises:
        ValueError: an unknown layer, one that gives no map, or too few samples for value=quantile.
    """
    values, of_units, per_class = _ranked(ctx, config, train)
    job = AblationJob(ctx, config, test.tensors("pairs"), (train.key, test.key), values)
    data, counts = job.data, removal_counts(len(values))
    layer, names = config.layer or str(ctx.classifier.cam_layer), list(ctx.class_names)
    table = importance_table(layer, names, of_units, unit_importance(job, "importance, test pairs (blocks)"), data)
    draft.table("importance", table)
    random = random_orders(len(values), config.draws, Stream("importance", ctx.config.seed).rng())
    curves = removal_curves(job, torch.cat([removal_orders(of_units), random]), counts, "removal curves")
    draft.table("curves", curves_table(layer, names, curves, counts, RANGE))
    shared = shared_unit_classes(of_units)
    draft.table("shared", shared_table(names, shared))
    draft.tensors("shared_units", _pictures(ctx, data, shared[:PICTURED]))
    facts: dict[str, Any] = {"layer": layer, "units": len(values), "value": config.value, "tail": data.method}
    facts |= {"samples": len(data.class_index), "per_class": per_class, "draws": config.draws} | sign_facts(table)
    draft.json("facts", facts)


def _ranked(ctx: Context, config: ImportanceConfig, train: Artifact) -> tuple[Tensor, Tensor, int]:
    """Constants of ablated units `[U]`, importances `[U, C]`, and the samples of the smallest class.

    A function of its own, so that the maps of one split are gone before those of the next are made.
    """
    job = AblationJob(ctx, config, train.tensors("pairs"), (train.key,))
    of_units = unit_importance(job, "importance, train pairs (blocks)")
    return job.values, of_units, int(job.data.class_index.bincount().min())


def _laid(ctx: Context) -> Upsampling:
    """How the map of the layer is laid over images."""
    layer = vars(ctx.config)["importance"].layer
    if layer == PENULTIMATE:
        return EVEN
    return layer_placed(ctx, layer or str(ctx.classifier.cam_layer), find_layer(ctx.classifier, layer))


@torch.no_grad()
def _pictures(ctx: Context, data: LayerData, triples: list[SharedUnits]) -> dict[str, Tensor]:
    """Tensors "shared_units" of the stage."""
    units = torch.tensor(sorted({unit for triple in triples for unit in triple.units}), dtype=torch.int64)
    size, maps = min(SIZE, ctx.generator.resolution), data.activations[:, units]
    maps = maps if maps.ndim == 4 else maps[..., None, None]
    _, index = top_activating(maps.amax((2, 3)), min(TOP, len(maps)))
    laid, w = _laid(ctx), data.w[index.flatten()]
    parts = ctx.batches().map(lambda some: thumbnails(ctx.generator.synthesize(some.to(ctx.device)), size), w)
    image = torch.cat([torch.empty(0, 3, size, size, dtype=torch.uint8), *parts])
    threshold = ablation_values(maps, "quantile", ACTIVE)
    mask = top_mask(maps[index, torch.arange(len(units))[:, None]], threshold, size, laid)
    mask = mask if data.activations.ndim == 4 else torch.ones_like(mask)
    return {"unit": units, "image": image.unflatten(0, index.shape), "mask": mask}
