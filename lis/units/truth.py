"""Measured against true change, where the generator knows the true picture of any w (part world)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from lis.context import Context
from lis.linking.fit import link, load_link
from lis.quantify.measures import measure
from lis.stage import stage
from lis.store import Artifact, Draft, Recipe
from lis.types import Generator
from lis.units.effects import Effects
from lis.units.perturbation import with_unit
from lis.units.recovery import Recovery, compared, summary
from lis.units.screen import screen, tuned_arrays
from lis.units.tuned import Tuned

VERSION = 4


@runtime_checkable
class Renderer(Protocol):
    """A generator that knows the true picture of every style code."""

    labels: tuple[str, ...]
    """Names of the parts."""

    def render(self, w: Tensor) -> tuple[Tensor, Tensor]:
        """Image `[n, 3, H, W]` in [-1, 1] and the share of every pixel that each part covers `[n, labels, H, W]`."""
        ...


@dataclass(frozen=True)
class Block:
    """Some of the tuned units, with the ends of their ranges."""

    units: tuple[int, ...]
    first: tuple[float, ...]
    last: tuple[float, ...]

    @property
    def values(self) -> Tensor:
        """First and last activation, `[units, 2]`."""
        return torch.tensor([self.first, self.last]).T


def validate_truth(generator: Generator) -> Renderer:
    """The generator, as one that knows the truth.

    Raises:
        ValueError: it does not.
    """
    if not isinstance(generator, Renderer):
        raise ValueError(
            f"{type(generator).__name__} has no `render`: the truth behind a change is known only where the generator "
            "can draw every w exactly; use gan=partworld, or leave truth out of analysis.stages"
        )
    return generator


@stage(
    "truth",
    version=VERSION,
    inputs=(screen, link),
    models=("generator",),
    check=lambda ctx: validate_truth(ctx.generator),
    arrays=tuned_arrays,
)
def truth(ctx: Context, screened: Artifact, linked: Artifact, draft: Draft) -> None:
    """Part world: how far the measured changes of all tuned units are the true ones.

    For every unit and sample w̃ at the first and the last step is drawn exactly, and measured in the true masks (the
    part that covers most of a pixel) and the true image.

    Tables "agreement" and "units" (see `Recovery`), json "summary" ({measure: {spearman, overlap}}, means over the
    interpreted labels).

    Raises:
        ValueError: the generator does not know the truth, or knows none of the labels.
    """
    _build(ctx, validate_truth(ctx.generator), screened, draft)


@torch.inference_mode()
def true_measures(renderer: Renderer, w: Tensor) -> Tensor:
    """Measures `[n, labels, 5]` of the true pictures of `w [n, w_dim]`, in the order of the renderer's labels."""
    image, cover = renderer.render(w)
    background = 1 - cover.sum(1, keepdim=True)
    masks = torch.cat([background, cover], 1).argmax(1)
    return measure(masks, image, len(renderer.labels)).cpu()


def shard(ctx: Context, block: Block) -> Artifact:
    """The true changes of a block of units, from the store or computed now: tensors "change": `[U, S, labels, 7]`."""
    inputs = (screen(ctx).key, link(ctx).key)
    config = {"units": list(block.units), "first": list(block.first), "last": list(block.last)}
    recipe = Recipe("truth-shard", VERSION, config, inputs, {"generator": ctx.generator.fingerprint})
    return ctx.store.make(recipe, lambda draft: draft.tensors("change", {"change": _change(ctx, block)}))


def _change(ctx: Context, block: Block) -> Tensor:
    """True changes `[U, S, labels, 7]` of the units of a block, in the samples that were tuned."""
    renderer, model = validate_truth(ctx.generator), load_link(link(ctx))
    r = screen(ctx).tensors("seeds")["r"]
    changes, at_once = [], ctx.images()
    for unit, values in zip(block.units, block.values, strict=True):
        w = with_unit(model, r, unit, values)
        measured = torch.cat(
            list(at_once.map(lambda some: true_measures(renderer, some.to(ctx.device)), w.flatten(0, 1)))
        )
        first, last = measured.unflatten(0, w.shape[:2]).unbind(1)
        changes.append(compared(first, last))
    return torch.stack(changes)


def _build(ctx: Context, renderer: Renderer, screened: Artifact, draft: Draft) -> None:
    tuned = Tuned.of(screened, "tuning")
    known = [label for label in tuned.labels if label in renderer.labels]
    if not known:
        raise ValueError(
            f"the segmenter's labels ({', '.join(tuned.labels)}) are none of those whose truth is known: expected some "
            f"of {', '.join(renderer.labels)}; label these parts, or leave truth out of analysis.stages"
        )
    effects, own = Effects.of(tuned), [tuned.labels.index(label) for label in known]
    measured = compared(tuned.measures[:, :, 0], tuned.measures[:, :, -1])
    true = _true_change(ctx, tuned)[:, :, [renderer.labels.index(label) for label in known]]
    found = Recovery(tuned.unit, tuple(known), effects.interpreted[own], measured[:, :, own], true)
    agreement = found.agreement
    draft.table("agreement", agreement)
    draft.table("units", found.units)
    draft.json("summary", summary(agreement))


def _true_change(ctx: Context, tuned: Tuned) -> Tensor:
    """True changes of all tuned units `[P, S, labels, 7]`, shard by shard."""
    blocks = _blocks(tuned, ctx.config.tuning.unit_block)
    made = ctx.engine.map(partial(shard, ctx), blocks)
    tracked = ctx.progress.track(made, total=len(blocks), label="true changes")
    return torch.cat([artifact.tensors("change")["change"] for artifact in tracked])


def _blocks(tuned: Tuned, size: int) -> list[Block]:
    unit, first, last = (column.tolist() for column in (tuned.unit, tuned.value[:, 0], tuned.value[:, -1]))
    return [
        Block(*(tuple(column[start : start + size]) for column in (unit, first, last)))
        for start in range(0, len(unit), size)
    ]
