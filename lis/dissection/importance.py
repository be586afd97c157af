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
    Tail,
    ablation_values,
    removal_counts,
    shared_unit_classes,
    unit_class_importance,
)
from lis.dissection.activations import record_activations
from lis.dissection.dissect import require_images
from lis.dissection.dissect_shards import layer_placed, placement_of
from lis.dissection.room import map_bytes, map_shape, require_room
from lis.dissection.tables import curves_table, importance_table, shared_table, sign_facts
from lis.dissection.tails import PENULTIMATE, WHOLE_PASS, LayerTail, find_layer, head_tail, layer_tail
from lis.dissection.top_images import TOP, thumbnails, top_activating, top_mask
from lis.dissection.upsampling import EVEN, Upsampling
from lis.dissection.work import importance_work
from lis.linking.pairs import first_of_each_class, test_pairs, train_pairs
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
CHECKED = 4
"""Images on which a tail is checked."""
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


def _require_quantile(ctx: Context) -> None:
    """Check that constants of ablated units are quantiles of enough activations; extremes are no estimates."""
    config: ImportanceConfig = vars(ctx.config)["importance"]
    if config.value != "quantile" or config.quantile in (0, 1):
        return
    images = min(config.samples, ctx.config.pairs.train) * len(ctx.class_names)
    height, width = map_shape(ctx, "importance")[1:] or (1, 1)
    name = "importance.quantile" if config.quantile >= 0.5 else "1 − importance.quantile"
    require_images(images, height, width, max(config.quantile, 1 - config.quantile), name, _MORE)


def _images(ctx: Context) -> int:
    """Samples of a split, at most."""
    config: ImportanceConfig = vars(ctx.config)["importance"]
    return min(config.samples, max(ctx.config.pairs.train, ctx.config.pairs.test)) * len(ctx.class_names)


@dataclass(frozen=True)
class LayerData:
    """Activations of a layer over samples of a split, and what computes logits of the run's classes from them."""

    activations: Tensor
    """`[n, U, …]` float32."""
    class_index: Tensor
    """`[n]` int64 into the run's class names."""
    tail: Tail
    method: str
    w: Tensor
    """Style codes of the samples, `[n, w_dim]`."""


@stage(
    "importance",
    version=2,
    inputs=(train_pairs, test_pairs),
    config=ImportanceConfig,
    seed=True,
    models=MODELS,
    also=lambda ctx: {"classes": list(ctx.class_names), "placement": placement_of(ctx)},
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
    values, of_units, per_class = _ranked(layer_data(ctx, config, train.tensors("pairs")), config)
    data = layer_data(ctx, config, test.tensors("pairs"))
    test_importance = unit_class_importance(data.tail, data.activations, data.class_index, values)
    layer, names = config.layer or str(ctx.classifier.cam_layer), list(ctx.class_names)
    table = importance_table(layer, names, of_units, test_importance, data)
    counts = removal_counts(len(values))
    rng = Stream("importance", ctx.config.seed).rng()
    draft.table("importance", table)
    draft.table("curves", curves_table(layer, names, of_units, data, values, counts, config.draws, rng, RANGE))
    shared = shared_unit_classes(of_units)
    draft.table("shared", shared_table(names, shared))
    draft.tensors("shared_units", _pictures(ctx, data, shared[:PICTURED]))
    facts: dict[str, Any] = {"layer": layer, "units": len(values), "value": config.value, "tail": data.method}
    facts |= {"samples": len(data.class_index), "per_class": per_class, "draws": config.draws} | sign_facts(table)
    draft.json("facts", facts)


def _ranked(data: LayerData, config: ImportanceConfig) -> tuple[Tensor, Tensor, int]:
    """Constants of ablated units `[U]`, importances `[U, C]`, and the samples of the smallest class.

    A function of its own, so that the maps of one split are gone before those of the next are made.
    """
    values = ablation_values(data.activations, config.value, config.quantile)  # pyright: ignore[reportArgumentType]
    of_units = unit_class_importance(data.tail, data.activations, data.class_index, values)
    return values, of_units, int(data.class_index.bincount().min())


def _laid(ctx: Context) -> Upsampling:
    """How the map of the layer is laid over images."""
    layer = vars(ctx.config)["importance"].layer
    return EVEN if layer == PENULTIMATE else layer_placed(ctx, find_layer(ctx.classifier, layer))


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


def layer_data(ctx: Context, config: ImportanceConfig, pairs: dict[str, Tensor]) -> LayerData:
    """The first samples of each class of a split, through the layer."""
    classes = pairs["class_index"]
    rows = first_of_each_class(classes, len(ctx.class_names), config.samples)
    columns = torch.tensor([ctx.classifier.class_names.index(name) for name in ctx.class_names])
    w, r = pairs["w"][rows], pairs["r"][rows]
    if config.layer == PENULTIMATE:
        behind, activations = head_tail(ctx.classifier), r
    else:
        behind, activations = _convolutional(ctx, config.layer, w)

    whole = behind.method == WHOLE_PASS
    logits: Tail = _whole_passes(ctx, behind, w) if whole else lambda x, _: behind.logits(x.to(ctx.device), x)

    @torch.no_grad()
    def tail(x: Tensor, index: Tensor) -> Tensor:
        return logits(x, index)[:, columns].cpu()

    return LayerData(activations, classes[rows], tail, behind.method, w)


def _whole_passes(ctx: Context, behind: LayerTail, w: Tensor) -> Tail:
    """Logits from activations and the images of `w [n, w_dim]`, made anew, as many at once as there is room for."""
    batches = ctx.batches()

    def tail(x: Tensor, index: Tensor) -> Tensor:
        def logits(some: Tensor) -> Tensor:
            images = ctx.generator.synthesize(w[index[some]].to(ctx.device))
            return behind.logits(x[some].to(ctx.device), images)

        return torch.cat(list(batches.map(logits, torch.arange(len(index)))))

    return tail


@torch.no_grad()
def _convolutional(ctx: Context, layer: str | None, w: Tensor) -> tuple[LayerTail, Tensor]:
    """The tail of a layer of maps, and these `[n, U, h, w]` of the images of `w [n, w_dim]`."""
    module, name = find_layer(ctx.classifier, layer), layer or str(ctx.classifier.cam_layer)

    def maps(some: Tensor) -> Tensor:
        image = ctx.generator.synthesize(some.to(ctx.device))
        return record_activations(ctx.classifier.features, {name: module}, image)[name].cpu()

    activations = torch.cat(list(ctx.batches().map(maps, w)))
    return layer_tail(ctx.classifier, module, ctx.generator.synthesize(w[:CHECKED].to(ctx.device))), activations
