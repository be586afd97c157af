"""Training a segmenter on few labelled images, whose maps stay in memory."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from lis import costs
from lis.config import FewShotConfig
from lis.context import Context
from lis.costs import Meter, batches
from lis.lightning import one_process
from lis.linking.training import Batches, Settings
from lis.memory import Machine, budget
from lis.peaks import HALF, at_once
from lis.segmentation.networks import FewShotSegmenter, read_layers, reduced
from lis.types import Generator

LABEL = "training the segmenter (epochs)"
SMALL = 2**22
"""Numbers in the maps of a batch below which one thread computes; part world's has a tenth of them."""


@dataclass(frozen=True)
class Examples:
    """What a segmenter is trained on."""

    maps: dict[str, Tensor]
    """Layer to `[n, channels, h, w]` float16, at most as large as they are read at."""
    masks: Tensor
    """`[n, size, size]` int64."""


@dataclass(frozen=True)
class Schedule:
    """How long and how fast a segmenter is trained."""

    epochs: int
    batch_size: int
    learning_rate: float
    """A tenth of it from half of the epochs on."""
    weight_decay: float


class Training(pl.LightningModule):
    """Adam on the cross-entropy."""

    def __init__(self, segmenter: FewShotSegmenter, schedule: Schedule, at_once: int) -> None:
        super().__init__()
        self.segmenter, self.schedule, self.at_once = segmenter, schedule, at_once

    def training_step(self, batch: tuple[Tensor, ...], _: int) -> Tensor:
        """Loss of a batch (a map per layer, masks); what does not fit into memory at once is computed part by part."""
        maps, masks = dict(zip(self.segmenter.layers, batch, strict=False)), batch[-1]
        if len(masks) <= self.at_once:
            return loss(self.segmenter, maps, masks)
        losses = []
        for rows in torch.arange(len(masks), device=masks.device).split(self.at_once):
            part = {name: x[rows] for name, x in maps.items()}, masks[rows]
            one = checkpoint(loss, self.segmenter, *part, use_reentrant=False)  # computed again for its gradient
            losses.append(one * len(rows) / len(masks))
        return torch.stack(losses).sum()

    def configure_optimizers(self) -> Any:
        """Adam and its schedule."""
        rate, decay = self.schedule.learning_rate, self.schedule.weight_decay
        optimizer = torch.optim.Adam(self.segmenter.parameters(), lr=rate, weight_decay=decay, fused=True)
        half = max(1, self.schedule.epochs // 2)
        return {"optimizer": optimizer, "lr_scheduler": torch.optim.lr_scheduler.MultiStepLR(optimizer, [half])}


def loss(segmenter: FewShotSegmenter, maps: Mapping[str, Tensor], masks: Tensor) -> Tensor:
    """Mean cross-entropy over the pixels of masks `[n, size, size]`, of maps `[n, channels, h, w]` by layer."""
    return F.cross_entropy(segmenter({name: x.float() for name, x in maps.items()}), masks)


class Curve(pl.Callback):
    """Keeps the mean loss of every epoch and moves the progress on."""

    def __init__(self, epochs: Iterator[int]) -> None:
        self.epochs = epochs
        self.points: list[tuple[int, float]] = []
        self._losses: list[Tensor] = []

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, *_: Any) -> None:
        """Notes the loss of one step."""
        self._losses.append(outputs["loss"].detach())

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Notes the loss of one epoch.

        Raises:
            ValueError: it is not finite.
        """
        next(self.epochs, None)
        loss = float(torch.stack(self._losses).mean())
        self._losses.clear()
        if not np.isfinite(loss):
            raise ValueError(
                f"the segmenter's training diverged in epoch {trainer.current_epoch} (loss {loss}): expected a finite "
                f"loss; lower segmenter.learning_rate (it was {pl_module.schedule.learning_rate:g})"
            )
        self.points.append((trainer.current_epoch, loss))


def images_at_once(segmenter: FewShotSegmenter, examples: Examples, device: torch.device) -> int:
    """Images of a step that there is room for at once, one at least."""
    shapes = {name: tuple(x.shape[1:]) for name, x in examples.maps.items()}
    return max(1, budget(device) // step_bytes(segmenter.settings, shapes))


def step_bytes(settings: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]], gradient: bool = True) -> int:
    """Bytes that one image takes in a step of the training, or in its use: measured on one without content.

    Args:
        settings: of the segmenter.
        shapes: `(channels, h, w)` of the maps that it reads.
        gradient: in the training.
    """
    return _step_bytes(json.dumps(settings), tuple(shapes.items()), gradient)


@lru_cache
def _step_bytes(settings: str, shapes: tuple[tuple[str, tuple[int, ...]], ...], gradient: bool) -> int:
    with torch.device("meta"):
        segmenter = FewShotSegmenter(**json.loads(settings))
        maps = {name: torch.empty(1, *shape, dtype=torch.float16) for name, shape in shapes}
        masks = torch.empty(1, segmenter.size, segmenter.size, dtype=torch.int64)
    with torch.inference_mode(False), torch.set_grad_enabled(gradient), Meter() as meter:
        error = loss(segmenter, maps, masks)
        if gradient:
            error.backward()
    return meter.peak


@contextmanager
def threads(examples: Examples, batch_size: int) -> Iterator[None]:
    """One thread of torch while batches are small.

    Such operations take microseconds: threads gain nothing on them, and where other programs use the cores, they wait
    for each other most of the time.
    """
    before, values = torch.get_num_threads(), sum(x[0].numel() for x in examples.maps.values())
    try:
        torch.set_num_threads(1 if values * batch_size < SMALL else before)
        yield
    finally:
        torch.set_num_threads(before)


@torch.no_grad()
def maps_of(
    generator: Generator, w: Tensor, layers: Sequence[str], size: int, batch_size: int, device: torch.device
) -> dict[str, Tensor]:
    """The maps of `w [n, w_dim]` that a segmenter reads, on the CPU, averaged down to at most `size` pixels.

    Half precision and the smaller size keep a generator of 256 px below 0.2 GB per image.
    """
    largest = torch.finfo(torch.float16).max

    def small(w: Tensor) -> list[Tensor]:
        maps = generator.synthesize(w.to(device), features=layers)[1]
        return [reduced(maps[name].float(), size).clamp(-largest, largest).half().cpu() for name in layers]

    result, done = dict[str, Tensor](), 0
    for maps in batches(generator, device, batch_size, layers=layers).map(small, w):
        for name, x in zip(layers, maps, strict=True):
            whole = result.setdefault(name, x.new_empty(len(w), *x.shape[1:]))  # at once: there is no room for two
            whole[done : done + len(x)] = x
        done += len(maps[0])
    return result


def train(
    segmenter: FewShotSegmenter, examples: Examples, schedule: Schedule, seed: int, run: Settings
) -> list[tuple[int, float]]:
    """Train a segmenter in place and leave it on the CPU, in evaluation mode and frozen.

    Args:
        segmenter: with its standardisation fitted.
        examples: what it is trained on.
        schedule: how long and how fast.
        seed: of the order of the examples.
        run: device and progress.

    Returns:
        Epoch and mean loss, a pair for each epoch.

    Raises:
        ValueError: the loss is not finite.
    """
    curve = Curve(iter(run.progress.track(range(schedule.epochs), label=LABEL)))
    with one_process(run.device) as options, threads(examples, schedule.batch_size):
        trainer = pl.Trainer(max_epochs=schedule.epochs, callbacks=[curve], **options)
        training = Training(segmenter, schedule, images_at_once(segmenter, examples, run.device))
        tensors, rows = [*examples.maps.values(), examples.masks], torch.arange(len(examples.masks))
        trainer.fit(training, Batches(tensors, rows, schedule.batch_size, seed))
    segmenter.cpu().eval().requires_grad_(False)
    return curve.points


def part_images(ctx: Context, machine: Machine) -> int:
    """Bytes of the images in which parts are looked for: on a GPU as many as there is room for."""
    grows = machine.device.type == "cuda" and ctx.config.tuning.batch_size is None
    return at_once(part_bytes(ctx), 10**9 if grows else ctx.config.tuning.batch_size or ctx.config.batch_size, machine)


def part_bytes(ctx: Context) -> int:
    """Bytes of an image in which parts are looked for, and which the classifier reads."""
    layers = part_layers(ctx)
    made = costs.image_bytes(ctx.generator, ctx.device, ctx.classifier, layers=layers)
    return max(made, costs.generator_cost(ctx.generator, ctx.device, layers).left + _segmenter_bytes(ctx))


def part_layers(ctx: Context) -> tuple[str, ...]:
    """The maps that the segmenter reads; those of all layers where it does not say so itself."""
    names = costs.layer_names(ctx.generator, ctx.device)
    if not ctx.config.classes.labels:
        return names[:1]
    return read_layers(names, getattr(ctx.config.segmenter, "every", 1))


def training_images(ctx: Context, machine: Machine) -> int:
    """Bytes of making the maps of the labelled images, or of one step of the training on them, whichever is more."""
    batch = getattr(ctx.config.segmenter, "batch_size", 5)
    made = costs.image_bytes(ctx.generator, ctx.device, layers=part_layers(ctx))
    return max(at_once(one, batch, machine) for one in (made, _segmenter_bytes(ctx, gradient=True)))


def labelled_maps(ctx: Context) -> int:
    """Bytes of the maps of all labelled images, in half precision and averaged down."""
    side = getattr(ctx.config.segmenter, "size", None) or ctx.generator.resolution // 2
    shapes = costs.generator_cost(ctx.generator, ctx.device, part_layers(ctx)).shapes
    one = HALF * sum(c * min(h, side) * min(w, side) for c, h, w in shapes.values())
    return one * ctx.config.labels.train * len(ctx.class_names)


def _segmenter_bytes(ctx: Context, gradient: bool = False) -> int:
    """Bytes that the segmenter takes for one image; 0 for one of the user's, which says nothing before its training."""
    config = ctx.config.segmenter
    shapes = dict(costs.generator_cost(ctx.generator, ctx.device, part_layers(ctx)).shapes)
    if not ctx.config.classes.labels or not isinstance(config, FewShotConfig):
        return 0
    settings = segmenter_settings(ctx, config)
    if gradient:  # the maps of a training are averaged down
        side = settings["size"]
        shapes = {name: (c, min(h, side), min(w, side)) for name, (c, h, w) in shapes.items()}
    return step_bytes(settings, shapes, gradient)


def segmenter_settings(ctx: Context, config: FewShotConfig) -> dict[str, Any]:
    """What `FewShotSegmenter` is made with, for the maps of the run's generator."""
    shapes = costs.generator_cost(ctx.generator, ctx.device, part_layers(ctx)).shapes
    settings = {"labels": list(ctx.config.classes.labels), "size": config.size or ctx.generator.resolution // 2}
    settings |= {"layers": list(shapes), "widths": [shape[0] for shape in shapes.values()]}
    return settings | {name: getattr(config, name) for name in ("network", "channels", "hidden", "enlarge")}
