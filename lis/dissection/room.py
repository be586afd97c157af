"""Whether the maps of a layer find room in memory, said before the work starts."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from lis import memory
from lis.context import Context
from lis.dissection.activations import record_activations
from lis.dissection.tails import PENULTIMATE, find_layer

_FLOAT = 4
"""Bytes of an activation."""


def map_shape(ctx: Context, key: str) -> tuple[int, ...]:
    """Units of a layer, and height and width of its maps; of r its units alone.

    Args:
        ctx: the run; its models may be without weights.
        key: group of settings that has the layer, None for the last map of the convolutions, or "penultimate" for r.

    Raises:
        ValueError: an unknown layer, or one that gives no map.
    """
    layer = vars(ctx.config)[key].layer
    if layer == PENULTIMATE:
        return (ctx.classifier.units,)
    module = find_layer(ctx.classifier, layer, f"{key}.layer")
    blank = torch.zeros(1, 3, ctx.generator.resolution, ctx.generator.resolution, device=ctx.device)
    name = layer or str(ctx.classifier.cam_layer)
    return tuple(record_activations(ctx.classifier.features, {name: module}, blank)[name].shape[1:])


def map_bytes(ctx: Context, key: str, images: int, copies: int) -> int:
    """Bytes of the maps of a layer over images, `copies` of them at once; see `map_shape` for the others.

    Raises:
        ValueError: as `map_shape`.
    """
    return _FLOAT * copies * images * math.prod(map_shape(ctx, key))


def require_bytes(need: int, subject: str, remedy: Callable[[float], str]) -> None:
    """Check that what is held at once fits into memory.

    Args:
        need: bytes.
        subject: what takes them, with its setting.
        remedy: what there is to do, given the share of `need` that there is room for.

    Raises:
        ValueError: it does not fit.
    """
    room = memory.budget(torch.device("cpu"))
    if need > room:
        raise ValueError(
            f"{subject} {need / memory.GIB:.2g} GiB, expected at most {room / memory.GIB:.2g} GiB of free memory; "
            f"{remedy(room / need)}"
        )


def require_room(ctx: Context, key: str, images: int, copies: int) -> None:
    """Check that the maps of a layer fit into memory; arguments as of `map_bytes`.

    Raises:
        ValueError: they do not, or `map_bytes` raises.
    """
    samples = images // len(ctx.class_names)
    require_bytes(
        map_bytes(ctx, key, images, copies),
        f"{key}.samples={samples}: the maps of {images} images take",
        lambda share: f"{key}.samples={int(samples * share)} fits, or choose a later layer, {key}.layer=…",
    )
