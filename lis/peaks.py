"""How much memory every stage of a run takes at its peak, computed before the work from what the stages declare."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from lis import costs, memory
from lis.context import Context
from lis.images import LARGEST
from lis.memory import Machine
from lis.stage import closure, requested

log = logging.getLogger(__name__)

GIB = 2**30
PROGRAM = GIB
"""Bytes of Python, torch and what they load, a GPU's context included."""
WARNED = 2 * GIB
"""A run whose stages take less says nothing of memory."""
FLOAT, DOUBLE, HALF = 4, 8, 2
"""Bytes of a number."""


@dataclass(frozen=True)
class Peak:
    """Bytes that a stage takes."""

    models: int
    """Program, and weights of generator and classifier."""
    images: int
    """Of the images that are worked on at once."""
    arrays: int
    """Of what the stage holds from its beginning to its end."""

    @property
    def total(self) -> int:
        """All of them."""
        return self.models + self.images + self.arrays


def peaks(ctx: Context, stages: Iterable[str], machine: Machine | None = None) -> dict[str, Peak]:
    """Peak of every stage, those included that the named ones ask for.

    Nothing is computed but one image of models that cannot tell what they take. The numbers are those of tensors; what
    a library takes for itself within an operation is not in them.

    Args:
        ctx: the run; its models may be without weights.
        stages: as in `analysis.stages`.
        machine: None: the run's device, with what it has free now.
    """
    machine = machine or Machine.of(ctx.device)
    models = PROGRAM + sum(_weights(model, machine.device) for model in (ctx.generator, ctx.classifier))
    result = {}
    for stage in closure(stages, ctx):
        if stage.listed:
            images, arrays = stage.images or seen_images, stage.arrays or pair_arrays
            result[stage.name] = Peak(models, images(ctx, machine), arrays(ctx))
    return result


def announce(ctx: Context) -> None:
    """Write the peaks of a run into its log; warn where one is more than there is.

    Said where a stage takes more than `WARNED`. A model of the user's on which this cannot be measured is no reason not
    to run.
    """
    try:
        result = peaks(ctx, requested(ctx))
    except Exception as error:
        log.warning("how much memory the stages will take is not known: %s", error, exc_info=log.isEnabledFor(10))
        return
    if max((peak.total for peak in result.values()), default=0) < WARNED:
        return
    parts = ", ".join(f"{stage} {peak.total / GIB:.1f}" for stage, peak in result.items())
    log.info("memory at the peak of each stage, in GiB on %s: %s", ctx.device, parts)
    for device, needs in _needs(ctx, result).items():
        room = memory.free(device)
        if over := [stage for stage, need in needs.items() if need > room]:
            log.warning(
                "%s may take more memory than the %.1f GiB that are free (%s): use a smaller generator (gan=…), "
                "segmenter=projected, gan.dtype=bf16, fewer samples (size=…), or another device",
                ", ".join(over),
                room / GIB,
                device,
            )


def _needs(ctx: Context, result: dict[str, Peak]) -> dict[torch.device, dict[str, int]]:
    """What every stage still needs on which device: the models are there already, and arrays are never on a GPU."""
    cpu = torch.device("cpu")
    if ctx.device.type == "cpu":
        return {cpu: {stage: peak.images + peak.arrays for stage, peak in result.items()}}
    on_device = {stage: peak.images for stage, peak in result.items()}
    return {ctx.device: on_device, cpu: {stage: peak.arrays for stage, peak in result.items()}}


def _weights(model: Any, device: torch.device) -> int:
    """Bytes of a model's parameters and buffers, and of the forms in which a device wants them."""
    if isinstance(model, costs.Priced):
        return model.weight_bytes(device)
    tensors = [*model.parameters(), *model.buffers()] if isinstance(model, nn.Module) else []
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def at_once(one: int, most: int, machine: Machine) -> int:
    """Bytes of as many images as a batch has room for, one at least: `one` is what each takes, `most` how many."""
    return one * max(1, min(most, machine.budget // max(one, 1)))


def seen_images(ctx: Context, machine: Machine) -> int:
    """Bytes of the images that the classifier sees, of a batch."""
    one = costs.image_bytes(ctx.generator, ctx.device, ctx.classifier)
    return at_once(one, ctx.config.batch_size, machine)


def no_images(ctx: Context, machine: Machine) -> int:
    """Of a stage that makes none."""
    return 0


def width(ctx: Context) -> int:
    """Numbers of a pair: of r and of w."""
    return ctx.classifier.units + ctx.generator.w_dim


def pair_arrays(ctx: Context) -> int:
    """Bytes of r and w of all samples, twice while they are put together."""
    n = max(ctx.config.pairs.train, ctx.config.pairs.test) * len(ctx.class_names)
    return 2 * n * width(ctx) * FLOAT


def picture_arrays(ctx: Context) -> int:
    """Some hundred pictures with their masks, as bytes."""
    side = min(ctx.generator.resolution, LARGEST)
    return 400 * 4 * side**2
