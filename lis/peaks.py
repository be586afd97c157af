"""How much memory every stage of a run takes at its peak, computed before the work."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from lis import costs, memory
from lis.config import FewShotConfig
from lis.context import Context
from lis.images import LARGEST
from lis.matching.choice import usual_enlargement
from lis.segmentation.networks import read_layers
from lis.segmentation.training import step_bytes

log = logging.getLogger(__name__)

GIB = 2**30
PROGRAM = GIB
"""Bytes of Python, torch and what they load, a GPU's context included."""
WARNED = 2 * GIB
"""A run whose stages take less says nothing of memory."""
_FLOAT, _DOUBLE, _HALF = 4, 8, 2


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


@dataclass(frozen=True)
class Machine:
    """What a plan is made for."""

    device: torch.device
    budget: int
    """Bytes that a batch may take."""

    @classmethod
    def of(cls, device: torch.device) -> Machine:
        """This one, now."""
        return cls(device, memory.budget(device))


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
    for stage in _with_sources(stages):
        need = NEEDS.get(stage, NEEDS["pairs"])
        result[stage] = Peak(models, need.images(ctx, machine), need.arrays(ctx))
    return result


def announce(ctx: Context) -> None:
    """Write the peaks of a run into its log; warn where one is more than there is.

    Said where a stage takes more than `WARNED`. A model of the user's on which this cannot be measured is no reason not
    to run.
    """
    try:
        result = peaks(ctx, ctx.config.analysis.stages)
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


def _with_sources(stages: Iterable[str]) -> list[str]:
    """The stages behind those that they ask for."""
    result: list[str] = []
    for stage in stages:
        result += [name for name in (*SOURCES.get(stage, ()), stage) if name not in result]
    return result


LINKED = ("pairs/train", "link")
TUNED = (*LINKED, "segmenter", "tuning")
SOURCES = {
    "link": LINKED,
    "strips": (*LINKED, "pairs/test"),
    "evaluation": (*LINKED, "pairs/test"),
    "similarity": ("pairs/test",),
    "segmentation": ("segmenter",),
    "tuning": TUNED,
    "units": TUNED,
    "pictures": (*TUNED, "units"),
    "truth": TUNED,
    "motion": (*LINKED, "segmenter"),
    "counterfactuals": (*LINKED, "pairs/test"),
    "trajectories": (*LINKED, "pairs/test", "counterfactuals"),
    "initialisations": (*LINKED, "pairs/test"),
    "sparse_counterfactuals": (*LINKED, "pairs/test"),
    "boundary_truth": (*LINKED, "pairs/test", "counterfactuals", "trajectories"),
    "gradcam": (*LINKED, "pairs/test", "counterfactuals", "trajectories"),
    "adversarial": (*LINKED, "pairs/test", "segmenter", "counterfactuals"),
    "gan_counterfactuals": (*LINKED, "pairs/test", "segmenter"),
    "unit": (*LINKED, "pairs/test", "segmenter"),
    "direction": (*LINKED, "pairs/test", "segmenter"),
    "images": (*LINKED, "segmenter"),
}
"""What the stages ask for that takes memory."""


@dataclass(frozen=True)
class Need:
    """What a stage takes beside the models."""

    images: Callable[[Context, Machine], int]
    arrays: Callable[[Context], int]


def _weights(model: Any, device: torch.device) -> int:
    """Bytes of a model's parameters and buffers, and of the forms in which a device wants them."""
    if isinstance(model, costs.Priced):
        return model.weight_bytes(device)
    tensors = [*model.parameters(), *model.buffers()] if isinstance(model, nn.Module) else []
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _at_once(one: int, most: int, machine: Machine) -> int:
    return one * max(1, min(most, machine.budget // max(one, 1)))


def _shown(ctx: Context, machine: Machine) -> int:
    """Images that the classifier sees."""
    one = costs.image_bytes(ctx.generator, ctx.device, ctx.classifier)
    return _at_once(one, ctx.config.batch_size, machine)


def _compared(ctx: Context, machine: Machine) -> int:
    """As `_shown`, with gradients of the classifier and the maps that parts are result in."""
    layers = _layers(ctx)
    one = costs.image_bytes(ctx.generator, ctx.device, ctx.classifier, layers=layers, gradient=True)
    return _at_once(one, ctx.config.batch_size, machine)


def _heated(ctx: Context, machine: Machine) -> int:
    """The four images of a trajectory, with gradients of the classifier."""
    return 4 * costs.image_bytes(ctx.generator, ctx.device, ctx.classifier, gradient=True)


def _linked(ctx: Context, machine: Machine) -> int:
    """FC-L2 generates the training samples once more, projected."""
    config = ctx.config.link
    projects = getattr(config, "pc_weight", 0) and getattr(config, "pc_target", "") == "projection"
    return _shown(ctx, machine) if projects else 0


def _parts(ctx: Context, machine: Machine) -> int:
    """Images whose parts are result: on a GPU as many as there is room for."""
    made = costs.image_bytes(ctx.generator, ctx.device, ctx.classifier, layers=_layers(ctx))
    one = max(made, costs.generator_cost(ctx.generator, ctx.device, _layers(ctx)).left + _segmenter_bytes(ctx))
    grows = machine.device.type == "cuda" and ctx.config.tuning.batch_size is None
    return _at_once(one, 10**9 if grows else ctx.config.tuning.batch_size or ctx.config.batch_size, machine)


def _layers(ctx: Context) -> tuple[str, ...]:
    """The maps that the segmenter reads; those of all layers where it does not say so itself."""
    names = costs.layer_names(ctx.generator, ctx.device)
    if not ctx.config.classes.labels:
        return names[:1]
    return read_layers(names, getattr(ctx.config.segmenter, "every", 1))


def _segmenter_bytes(ctx: Context, gradient: bool = False) -> int:
    """Bytes that the segmenter takes for one image; 0 for one of the user's, which says nothing before its training."""
    config, shapes = ctx.config.segmenter, dict(costs.generator_cost(ctx.generator, ctx.device, _layers(ctx)).shapes)
    if not ctx.config.classes.labels or not isinstance(config, FewShotConfig):
        return 0
    side = config.size or ctx.generator.resolution // 2
    if gradient:  # the maps of a training are averaged down
        shapes = {name: (c, min(h, side), min(w, side)) for name, (c, h, w) in shapes.items()}
    settings = {"labels": list(ctx.config.classes.labels), "size": side, "layers": list(shapes)}
    settings |= {"widths": [shape[0] for shape in shapes.values()], "network": config.network}
    settings |= {"channels": config.channels, "hidden": config.hidden, "enlarge": config.enlarge}
    return step_bytes(settings, shapes, gradient)


def _segmented(ctx: Context, machine: Machine) -> int:
    """Making the maps of the labelled images, or one step of the training on them, whichever is more."""
    batch = getattr(ctx.config.segmenter, "batch_size", 5)
    made = costs.image_bytes(ctx.generator, ctx.device, layers=_layers(ctx))
    return max(_at_once(one, batch, machine) for one in (made, _segmenter_bytes(ctx, gradient=True)))


def _labelled(ctx: Context) -> int:
    """Maps of all labelled images, in half precision and averaged down."""
    side = getattr(ctx.config.segmenter, "size", None) or ctx.generator.resolution // 2
    shapes = costs.generator_cost(ctx.generator, ctx.device, _layers(ctx)).shapes
    one = _HALF * sum(c * min(h, side) * min(w, side) for c, h, w in shapes.values())
    return one * ctx.config.labels.train * len(ctx.class_names)


def _width(ctx: Context) -> int:
    return ctx.classifier.units + ctx.generator.w_dim


def _pairs(ctx: Context) -> int:
    """r and w of all samples, twice while they are put together."""
    n = max(ctx.config.pairs.train, ctx.config.pairs.test) * len(ctx.class_names)
    return 2 * n * _width(ctx) * _FLOAT


def _fit(ctx: Context) -> int:
    """r and w as they are and in double precision, and some matrices of their products."""
    n, width = ctx.config.pairs.train * len(ctx.class_names), _width(ctx)
    return n * width * (_FLOAT + _DOUBLE) + 4 * width**2 * _DOUBLE


def _screened(ctx: Context) -> int:
    """Measures and answers of all perturbations, samples and steps, twice while they are written."""
    config, classes = ctx.config.tuning, len(ctx.class_names)
    moves = min(config.units or ctx.classifier.units, ctx.classifier.units) + config.null_directions
    per_image = len(ctx.config.classes.labels) * 5 + classes
    return 2 * moves * config.seeds * classes * (config.steps * (per_image * _FLOAT + _DOUBLE) + 3 * _FLOAT)


def _pictures(ctx: Context) -> int:
    """Some hundred pictures with their masks, as bytes."""
    side = min(ctx.generator.resolution, LARGEST)
    return 400 * 4 * side**2


def _searched(ctx: Context) -> int:
    """A block of searches and its gradients, and what is kept of all of them."""
    config, classes = ctx.config.counterfactual, len(ctx.class_names)
    every = classes * max(classes - 1, 1) * config.samples
    return (16 * config.sample_block * config.initialisations + 6 * every) * _width(ctx) * _FLOAT


def _one_by_one(ctx: Context, machine: Machine) -> int:
    """An image with its maps, and what the matcher makes of two: flow takes next to nothing beside it."""
    made = costs.generator_cost(ctx.generator, ctx.device, _layers(ctx)).peak
    pump = "pump" in getattr(ctx.config.matcher, "_target_", "")
    return max(made, _votes(ctx) if pump else 0)


def _compared_matchers(ctx: Context, machine: Machine) -> int:
    """All matchers are compared, whatever is that of the run."""
    made = costs.image_bytes(ctx.generator, ctx.device, layers=True)
    return max(made * ctx.config.motion.steps, _votes(ctx))


def _votes(ctx: Context) -> int:
    """Bytes of PUMP's votes, every cell of 4 × 4 pixels for every window of 2 × 2, ten times for all levels.

    Measured: 8 to 13 times at 64, 96 and 128 px.
    """
    side = min(ctx.generator.resolution, LARGEST)
    side *= getattr(ctx.config.matcher, "enlarge", None) or usual_enlargement(side)
    return _VOTES * (side // 4) ** 2 * (side // 2) ** 2 * _FLOAT


_VOTES = 10
NEEDS = {
    "pairs": Need(_shown, _pairs),
    "link": Need(_linked, _fit),
    "similarity": Need(lambda *_: 0, _pairs),
    "segmenter": Need(_segmented, _labelled),
    "segmentation": Need(_parts, _pictures),
    "tuning": Need(_parts, _screened),
    "units": Need(lambda *_: 0, lambda ctx: 3 * _screened(ctx)),
    "pictures": Need(_parts, _pictures),
    "truth": Need(_shown, _screened),
    "motion": Need(_one_by_one, _pictures),
    "matching": Need(_compared_matchers, _pictures),
    "counterfactuals": Need(_shown, _searched),
    "initialisations": Need(_shown, _searched),
    "sparse_counterfactuals": Need(_shown, _searched),
    "trajectories": Need(_parts, _pictures),
    "gradcam": Need(_heated, _pictures),
    "adversarial": Need(_compared, _pictures),
    "gan_counterfactuals": Need(_parts, _pictures),
    "unit": Need(_parts, _pictures),
    "direction": Need(_parts, _pictures),
    "images": Need(_parts, _pictures),
}
"""Of every stage; those that are not here show images to the classifier and hold pairs."""
