"""Painting with units of the generator: what a study is asked, and what it gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lis.api import notebook
from lis.api.ablation import unit_numbers
from lis.api.inputs import Rows, numbers
from lis.context import Context
from lis.dissection.gan_pixels import pixel_segmenter
from lis.dissection.gan_units import INSERTED, edited_images, edited_layer, measured_levels, unit_shape
from lis.dissection.painting import Painted, PixelSegmenter, UnitEdit, paint
from lis.generators.editing import edited
from lis.images import to_uint8
from lis.labels.manifest import BACKGROUND
from lis.memory import Batches
from lis.names import nearest
from lis.report.wording import counted, share, words
from lis.units.tuned import long_table


@dataclass(frozen=True, eq=False, repr=False)
class PaintResult:
    """Images before and after units of the generator were set under a mask; `…` are the leading dimensions of w.

    Example:
        >>> import lis, torch
        >>> s = lis.study(size="smoke")
        >>> mask = torch.zeros(64, 64)
        >>> mask[8:24, 8:24] = 1
        >>> painted = s.paint(s.pairs("test").w[:2], units=range(8), mask=mask, label="ear")
        >>> painted.after.shape, painted.inside.shape, painted.layer
        (torch.Size([2, 3, 64, 64]), torch.Size([2, 10]), 'b16.1')
        >>> painted.table.columns.tolist()
        ['sample', 'label', 'covered', 'inside', 'outside']
    """

    w: Tensor
    """Style codes `[…, w_dim]` float32."""
    before: Tensor
    """`[…, 3, H, W]` uint8."""
    after: Tensor
    """`[…, 3, H, W]` uint8."""
    parts_before: Tensor
    """`[…, h, w]` uint8: 0 background, then the labels, as a segmenter sees them that knows pixels alone."""
    parts_after: Tensor
    """`[…, h, w]` uint8."""
    covered: Tensor
    """Share of the mask that each label, the background first, has after the edit, `[…, 1 + labels]`."""
    inside: Tensor
    """What each label gains of it, `[…, 1 + labels]`: 0 of a label that was there before and still is."""
    outside: Tensor
    """The same outside of it; NaN where nothing lies outside."""
    refused: Tensor
    """Whether the generator refuses, `[…]` bool: the label covers less than 5 % of the mask after the edit; without a
    label, less than 5 % of the mask has another label than before."""
    mask: Tensor
    """`[h, w]` in [0, 1]."""
    layer: str
    units: tuple[int, ...]
    value: Tensor
    """What the units were set to, `[units]`."""
    label: str | None
    """What was painted; None: whatever the units bring."""
    labels: tuple[str, ...]
    """Names of the parts."""

    @cached_property
    def table(self) -> pd.DataFrame:
        """A row per image and label: sample (over all leading dimensions), label, covered, inside, outside."""
        names = (BACKGROUND, *self.labels)
        columns = {name: getattr(self, name).reshape(-1, len(names)) for name in ("covered", "inside", "outside")}
        return long_table({"sample": range(self.refused.numel()), "label": names}, columns)

    def __repr__(self) -> str:
        n, refused = self.refused.numel(), int(self.refused.sum())
        outcome = f"{words(self.label)} under the mask" if self.label else "another label under the mask"
        return (
            f"PaintResult of {counted(n, 'image')}, {counted(len(self.units), 'unit')} of {self.layer}: "
            f"{outcome} in {n - refused}, refused in {refused}{self._gain()}"
        )

    def _gain(self) -> str:
        """What a painted label gains on average, in words."""
        if self.label is None:
            return ""
        gained = self.inside[..., (BACKGROUND, *self.labels).index(self.label)].mean()
        return f"; it gains {share(float(gained))} of the mask"

    def _repr_html_(self) -> str:
        few = range(min(self.refused.numel(), notebook.STEPS))
        refused = ["refused" if self.refused.reshape(-1)[k] else "" for k in few]
        rows = [
            self._row("before", self.before, self.parts_before, [""] * len(few)),
            self._row("after", self.after, self.parts_after, refused),
        ]
        parts = notebook.gallery(rows), notebook.legend(self.labels, self.labels)
        more = notebook.more(self.refused.numel(), len(few), "images")
        return notebook.page(repr(self), *parts, more, notebook.table(self.table))

    def _row(
        self, name: str, image: Tensor, parts: Tensor, texts: list[str]
    ) -> tuple[str, list[np.ndarray], list[str]]:
        image, parts = image.reshape(-1, *image.shape[-3:]), parts.reshape(-1, *parts.shape[-2:])
        pairs = zip(image[: len(texts)], parts[: len(texts)].long(), strict=True)
        return name, [notebook.outlined(*pair, self.labels, self.labels) for pair in pairs], texts


def painted(
    ctx: Context,
    rows: Rows,
    units: Any,
    mask: Any,
    layer: str | None,
    value: Any,
    label: str | None,
    segmenter: PixelSegmenter | None,
) -> PaintResult:
    """What `Study.paint` gives, of checked style codes."""
    name, sees = edited_layer(ctx, layer), _segmenter(ctx, segmenter)
    generator, (count, *size) = edited(ctx.generator), unit_shape(ctx, name)
    chosen, where = unit_numbers(units, count), _mask(mask, ctx.generator.resolution, size, name)
    number = _label_number(label, sees.labels)
    level = _levels(ctx, name, sees, chosen, value)
    edit = UnitEdit(name, chosen, level)

    def made(codes: Tensor) -> dict[str, Tensor]:
        return _tensors(paint(generator, codes.to(ctx.device), edit, where, sees, number))

    batches = list(Batches(max(1, edited_images(ctx).size // 2)).map(made, rows.values))  # before and after
    joined = {key: torch.cat([batch[key] for batch in batches]) for key in batches[0]}
    shaped = {key: x.reshape((*rows.leading, *x.shape[1:])) for key, x in joined.items()}
    w = rows.values.reshape((*rows.leading, -1))
    return PaintResult(
        w=w, **shaped, mask=where, layer=name, units=tuple(chosen), value=level, label=label, labels=sees.labels
    )


def _segmenter(ctx: Context, segmenter: Any) -> PixelSegmenter:
    """What is passed, or else that of the run."""
    if segmenter is None:
        return pixel_segmenter(ctx)
    if not isinstance(segmenter, PixelSegmenter):
        raise ValueError(
            f"segmenter={type(segmenter).__name__}: expected lis.PixelSegmenter(labels, function of images). What "
            "reads the generator's maps is circular: it finds there what the edit put there"
        )
    return segmenter


def _mask(mask: Any, resolution: int, size: Sequence[int], layer: str) -> Tensor:
    """`[h, w]` float32: of the picture, or of the map of a layer of `size` (height and width)."""
    if mask is None:
        return torch.ones(resolution, resolution)
    result, picture = numbers(mask, "mask"), [resolution, resolution]
    if list(result.shape) not in (picture, list(size)):
        raise ValueError(
            f"mask has shape {list(result.shape)}: expected {picture}, the size of the picture, or {list(size)}, that "
            f"of the map of {layer}"
        )
    return result


def _levels(ctx: Context, layer: str, segmenter: PixelSegmenter, units: Sequence[int], value: Any) -> Tensor:
    """What each unit is set to, `[units]`."""
    if value is None:
        return measured_levels(ctx, layer, segmenter, INSERTED)[list(units)]
    try:
        level = numbers(value, "value")
    except ValueError as error:
        raise ValueError(_wrong_value(value, units)) from error
    if level.dim() > 1 or (level.dim() == 1 and len(level) != len(units)):
        raise ValueError(_wrong_value(value, units))
    return level.expand(len(units)).clone()


def _wrong_value(value: Any, units: Sequence[int]) -> str:
    return (
        f"value={value!r:.80}: expected one finite number, one for each of {counted(len(units), 'unit')}, or None, the "
        f"{INSERTED} quantile of each"
    )


def _label_number(label: str | None, labels: tuple[str, ...]) -> int | None:
    """Its number in the segmentation."""
    names = (BACKGROUND, *labels)
    if label is not None and label not in names:
        raise ValueError(f"label={label!r}: expected one of {', '.join(names)}{nearest(str(label), names)}")
    return None if label is None else names.index(label)


def _tensors(result: Painted) -> dict[str, Tensor]:
    """The fields on the CPU, images and parts as bytes."""
    tensors = {name: x.cpu() for name, x in vars(result).items()}
    for name in ("before", "after"):
        tensors[name] = to_uint8(tensors[name])
        tensors[f"parts_{name}"] = tensors[f"parts_{name}"].to(torch.uint8)
    return tensors
