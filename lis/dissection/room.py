"""Whether the maps of a layer find room in memory, said before the work starts."""

from __future__ import annotations

import torch

from lis import memory
from lis.context import Context
from lis.dissection.activations import record_activations
from lis.dissection.tails import PENULTIMATE, find_layer

_FLOAT = 4
"""Bytes of an activation."""


def map_bytes(ctx: Context, key: str, images: int, copies: int) -> int:
    """Bytes of the maps of a layer over images.

    Args:
        ctx: the run; its models may be without weights.
        key: group of settings that has the layer, None for the last map of the convolutions, or "penultimate" for r.
        images: how many.
        copies: how often the maps are in memory at once.

    Raises:
        ValueError: an unknown layer, or one that gives no map.
    """
    layer = vars(ctx.config)[key].layer
    if layer == PENULTIMATE:
        return _FLOAT * copies * images * ctx.classifier.units
    module = find_layer(ctx.classifier, layer, f"{key}.layer")
    blank = torch.zeros(1, 3, ctx.generator.resolution, ctx.generator.resolution, device=ctx.device)
    one = record_activations(ctx.classifier.features, {layer or str(ctx.classifier.cam_layer): module}, blank)
    return _FLOAT * copies * images * sum(x.numel() for x in one.values())


def require_room(ctx: Context, key: str, images: int, copies: int) -> None:
    """Check that the maps of a layer fit into memory; arguments as of `map_bytes`.

    Raises:
        ValueError: they do not, or `map_bytes` raises.
    """
    need, room = map_bytes(ctx, key, images, copies), memory.budget(torch.device("cpu"))
    if need > room:
        samples = images // len(ctx.class_names)
        raise ValueError(
            f"{key}.samples={samples}: the maps of {images} images take {need / memory.GIB:.2g} GiB, expected at most "
            f"{room / memory.GIB:.2g} GiB of free memory; {key}.samples={samples * room // need} fits, or choose a "
            f"later layer, {key}.layer=…"
        )
