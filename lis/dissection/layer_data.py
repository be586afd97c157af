"""Activations of a layer of the classifier over samples of a split, and what computes answers from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lis.context import Context
from lis.dissection.ablation import Tail
from lis.dissection.activations import record_activations
from lis.dissection.tails import PENULTIMATE, WHOLE_PASS, LayerTail, find_layer, head_tail, layer_tail
from lis.linking.pairs import first_of_each_class

if TYPE_CHECKING:
    from lis.dissection.importance import ImportanceConfig

CHECKED = 4
"""Images on which a tail is checked."""


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
