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
from lis.dissection.ablation import Tail, ablation_values, removal_counts, shared_unit_classes, unit_class_importance
from lis.dissection.activations import record_activations
from lis.dissection.tables import curves_table, importance_table, shared_table, sign_facts
from lis.dissection.tails import PENULTIMATE, LayerTail, find_layer, layer_tail
from lis.linking.pairs import test_pairs, train_pairs
from lis.peaks import picture_arrays
from lis.stage import MODELS, stage
from lis.store import Artifact, Draft
from lis.streams import Stream
from lis.types import require_sight

RANGE = (0.025, 0.975)
"""Quantiles of the random orders that are told."""


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
    config: ImportanceConfig = vars(ctx.config)["importance"]
    if config.layer != PENULTIMATE:
        find_layer(ctx.classifier, config.layer)


@dataclass(frozen=True)
class LayerData:
    """Activations of a layer over samples of a split, and what computes logits of the run's classes from them."""

    activations: Tensor
    """`[n, U, …]` float32."""
    class_index: Tensor
    """`[n]` int64 into the run's class names."""
    tail: Tail
    method: str


@stage(
    "importance",
    version=1,
    inputs=(train_pairs, test_pairs),
    config=ImportanceConfig,
    seed=True,
    models=MODELS,
    also=lambda ctx: {"classes": list(ctx.class_names)},
    problems=problems,
    check=_check,
    arrays=picture_arrays,
)
def importance(ctx: Context, config: ImportanceConfig, train: Artifact, test: Artifact, draft: Draft) -> None:
    """Class importance of units of a layer (ranks: train pairs), and accuracy when many are removed (test pairs).

    Answers are the largest logit among the classes of the run. Table "importance": layer, unit, class, importance
    (balanced accuracy that ablating the unit costs, in [−1, 1]), test_importance (the same of the test pairs),
    correlation (Pearson's r of the spatial maximum with the softmax of the class, test pairs), rank (1: the most
    important of the class). Table "curves": layer, class, order (least, most, random), n, balanced_accuracy, low, high
    (95 % of the random orders, else NaN). Table "shared": class_a, class_b, class_c, unit_ab, unit_ac, unit_bc, of
    triples whose pairs share one of their 4 most important units while no unit serves all three. Json "facts": layer,
    units, samples, value, tail, draws, top_positive (share of positive correlations among the top 4), positive (among
    all others).

    With `pairs.accept=correct` the whole network is right on every pair: its balanced accuracy is 1 by construction.

    Raises:
        ValueError: an unknown layer, or one that gives no map.
    """
    of_train, of_test = (_layer_data(ctx, config, pairs.tensors("pairs")) for pairs in (train, test))
    values = ablation_values(of_train.activations, config.value, config.quantile)  # pyright: ignore[reportArgumentType]
    each = [unit_class_importance(d.tail, d.activations, d.class_index, values) for d in (of_train, of_test)]
    layer, names = config.layer or str(ctx.classifier.cam_layer), list(ctx.class_names)
    table = importance_table(layer, names, each[0], each[1], of_test)
    counts = removal_counts(len(values))
    rng = Stream("importance", ctx.config.seed).rng()
    draft.table("importance", table)
    draft.table("curves", curves_table(layer, names, each[0], of_test, values, counts, config.draws, rng, RANGE))
    draft.table("shared", shared_table(names, shared_unit_classes(each[0])))
    facts: dict[str, Any] = {"layer": layer, "units": len(values), "value": config.value, "tail": of_test.method}
    facts |= {"samples": len(of_test.class_index), "draws": config.draws} | sign_facts(table)
    draft.json("facts", facts)


def _layer_data(ctx: Context, config: ImportanceConfig, pairs: dict[str, Tensor]) -> LayerData:
    """The first samples of each class of a split, through the layer."""
    classes = pairs["class_index"]
    rows = torch.cat([(classes == c).nonzero()[: config.samples, 0] for c in range(len(ctx.class_names))])
    columns = torch.tensor([ctx.classifier.class_names.index(name) for name in ctx.class_names])
    w, r = pairs["w"][rows], pairs["r"][rows]
    if config.layer == PENULTIMATE:
        behind, activations = LayerTail(lambda x, _: ctx.classifier.head(x), "head"), r
    else:
        behind, activations = _convolutional(ctx, config.layer, w)

    @torch.no_grad()
    def tail(x: Tensor, index: Tensor) -> Tensor:
        images = ctx.generator.synthesize(w[index].to(ctx.device)) if behind.method == "whole pass" else x
        return behind.logits(x.to(ctx.device), images)[:, columns].cpu()

    return LayerData(activations, classes[rows], tail, behind.method)


@torch.no_grad()
def _convolutional(ctx: Context, layer: str | None, w: Tensor) -> tuple[LayerTail, Tensor]:
    """The tail of a layer of maps, and these `[n, U, h, w]` of the images of `w [n, w_dim]`."""
    module, name = find_layer(ctx.classifier, layer), layer or str(ctx.classifier.cam_layer)

    def maps(some: Tensor) -> Tensor:
        image = ctx.generator.synthesize(some.to(ctx.device))
        return record_activations(ctx.classifier.features, {name: module}, image)[name].cpu()

    activations = torch.cat(list(ctx.batches().map(maps, w)))
    return layer_tail(ctx.classifier, module, ctx.generator.synthesize(w[:4].to(ctx.device))), activations
