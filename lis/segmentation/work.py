"""What the stages of this package will do, and images whose parts others measure, with a segmenter before training."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lis.config import FewShotConfig
from lis.context import Context
from lis.workload import (
    CLASSIFIER,
    FLOAT,
    GENERATOR,
    Expected,
    Load,
    Operation,
    Workload,
    images,
    noise,
    repeated,
    style_codes,
)

if TYPE_CHECKING:
    from lis.segmentation.networks import FewShotSegmenter
    from lis.segmentation.segmenter import Masks


def segmenter_work(ctx: Context, expected: Expected) -> Workload:
    """Of the labelled images, their maps, and the training on these."""
    n = ctx.config.labels.train * len(ctx.class_names)
    drawn = () if ctx.config.labels.folder else (Load(GENERATOR, n), Load(RENDERED, n))
    parameters = sum(p.numel() for p in untrained(ctx).parameters())
    steps = _epochs(ctx) * math.ceil(_trained_on(ctx) / _batch(ctx))
    return Workload((*drawn, Load(GENERATOR, _trained_on(ctx)), Load(STEPS, steps)), FLOAT * parameters)


def _trained_on(ctx: Context) -> int:
    """Labelled images whose maps are made."""
    return ctx.config.labels.train * (len(ctx.class_names) - (ctx.config.labels.left_out is not None))


def _epochs(ctx: Context) -> int:
    return getattr(ctx.config.segmenter, "epochs", FewShotConfig.epochs)


def _batch(ctx: Context) -> int:
    return getattr(ctx.config.segmenter, "batch_size", FewShotConfig.batch_size)


def segmentation_work(ctx: Context, expected: Expected) -> Workload:
    """Of labelled test images, and of images whose parts are known."""
    from lis.labels.labelled import TrueParts

    labelled = ctx.config.labels.test * len(ctx.class_names)
    exact = ctx.config.labels.exact if isinstance(ctx.generator, TrueParts) else 0
    drawn = () if ctx.config.labels.folder else (Load(GENERATOR, labelled), Load(RENDERED, labelled))
    side = ctx.generator.resolution
    loads = (*drawn, Load(RENDERED, exact), Load(SEGMENTED, labelled + exact))
    return Workload(loads, size=3 * len(ctx.class_names) * 5 * side**2)


def looked(ctx: Context, count: float, shared: bool = True) -> tuple[Load, ...]:
    """Images that are made, whose parts are measured where there are any, and that the classifier reads."""
    return (Load(LOOKED, count, shared),) if ctx.config.classes.labels else images(ctx, count, shared)


def untrained(ctx: Context) -> FewShotSegmenter:
    """The run's segmenter before its training, on the run's device.

    Raises:
        ValueError: it is one of the user's, which is not known before.
    """
    from lis.segmentation.networks import FewShotSegmenter
    from lis.segmentation.training import segmenter_settings

    config = ctx.config.segmenter
    if not isinstance(config, FewShotConfig):
        raise ValueError(f"segmenter {config._target_}: expected one of lis, whose shape is known before its training")
    return FewShotSegmenter(**segmenter_settings(ctx, config)).to(ctx.device).eval().requires_grad_(False)


def finder(ctx: Context) -> Masks:
    """What looks for parts in a run, untrained."""
    from lis.segmentation.segmenter import Masks

    return Masks(untrained(ctx))


def _looked(ctx: Context) -> Callable[[int], object]:
    from lis.look import Looker

    looker = Looker.tuned(ctx, finder(ctx), ctx.config.classes.labels)
    return lambda count: looker(style_codes(ctx, count))


def _maps(ctx: Context, layers: Sequence[str]) -> dict[str, Tensor]:
    """Random maps of layers of the generator on the run's device, `[1, channels, h, w]` each."""
    from lis.costs import generator_cost

    shapes, numbers = generator_cost(ctx.generator, ctx.device, layers).shapes, torch.Generator().manual_seed(0)
    return {name: torch.randn(1, *shapes[name], generator=numbers).to(ctx.device) for name in layers}


def _masked(ctx: Context) -> Callable[[int], object]:
    from lis.quantify.measures import measure

    masks, labels = finder(ctx), len(ctx.config.classes.labels)
    image, maps = noise(ctx, 1), _maps(ctx, masks.layers)

    def measured(rows: Tensor) -> Tensor:
        some = {name: x.repeat(len(rows), 1, 1, 1) for name, x in maps.items()}
        return measure(masks(some), image.repeat(len(rows), 1, 1, 1), labels).cpu()

    return repeated(ctx.tuned_batches(masks), measured)


def _segmented(ctx: Context) -> Callable[[int], object]:
    masks = finder(ctx)
    w = style_codes(ctx, 1)

    def segmented(rows: Tensor) -> Tensor:
        return masks(ctx.generator.synthesize(w.repeat(len(rows), 1), features=masks.layers)[1]).cpu()

    return repeated(ctx.tuned_batches(masks, classified=False), segmented)


def _rendered(ctx: Context) -> Callable[[int], object]:
    from lis.labels.labelled import exact_masks
    from lis.segmentation.segmenter import validate_segmenter

    size = validate_segmenter(ctx).mask_size(ctx.generator.resolution)
    labels, w = ctx.config.classes.labels, style_codes(ctx, 1)
    return repeated(ctx.images(), lambda rows: exact_masks(ctx.generator, w.repeat(len(rows), 1), labels, size).cpu())


def _trained(ctx: Context) -> Callable[[int], object]:
    """Steps on random maps and masks without a part, as many of them as a batch has."""
    from lis import build
    from lis.linking.training import Settings
    from lis.segmentation.networks import reduced
    from lis.segmentation.training import Examples, Schedule, train

    fit, n = build.build(ctx.config.segmenter), min(_batch(ctx), _trained_on(ctx))
    shape = untrained(ctx)
    maps = {name: reduced(x, shape.settings["size"]).half().cpu() for name, x in _maps(ctx, shape.layers).items()}
    masks = torch.zeros(n, shape.size, shape.size, dtype=torch.int64)
    examples = Examples({name: x.repeat(n, 1, 1, 1) for name, x in maps.items()}, masks)

    def run(count: int) -> None:
        with torch.inference_mode(False):
            segmenter = untrained(ctx).train().requires_grad_(True)
            schedule = Schedule(count, fit.batch_size, fit.learning_rate, fit.weight_decay)
            train(segmenter, examples, schedule, 0, Settings(ctx.config.seed, ctx.device, ctx.progress))

    return run


RENDERED = Operation("exact masks", _rendered)
MASKS = Operation("images whose parts are measured", _masked)
SEGMENTED = Operation("images that are segmented", _segmented, passes=1, instead=((GENERATOR, 1.0), (MASKS, 1.0)))
LOOKED = Operation(
    "images that are made, measured and classified",
    _looked,
    passes=1,
    reads=1,
    instead=((GENERATOR, 1.0), (CLASSIFIER, 1.0), (MASKS, 1.0)),
)
STEPS = Operation("steps of the segmenter", _trained, constant=True, most=128)
