"""What parts take in memory: the images in which they are looked for, and the training of what finds them."""

from __future__ import annotations

from lis import costs
from lis.config import FewShotConfig
from lis.context import Context
from lis.memory import Machine
from lis.peaks import HALF, at_once
from lis.segmentation.networks import read_layers
from lis.segmentation.training import step_bytes


def part_images(ctx: Context, machine: Machine) -> int:
    """Bytes of the images in which parts are looked for: on a GPU as many as there is room for."""
    layers = part_layers(ctx)
    made = costs.image_bytes(ctx.generator, ctx.device, ctx.classifier, layers=layers)
    one = max(made, costs.generator_cost(ctx.generator, ctx.device, layers).left + _segmenter_bytes(ctx))
    grows = machine.device.type == "cuda" and ctx.config.tuning.batch_size is None
    return at_once(one, 10**9 if grows else ctx.config.tuning.batch_size or ctx.config.batch_size, machine)


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
    config, shapes = (
        ctx.config.segmenter,
        dict(costs.generator_cost(ctx.generator, ctx.device, part_layers(ctx)).shapes),
    )
    if not ctx.config.classes.labels or not isinstance(config, FewShotConfig):
        return 0
    side = config.size or ctx.generator.resolution // 2
    if gradient:  # the maps of a training are averaged down
        shapes = {name: (c, min(h, side), min(w, side)) for name, (c, h, w) in shapes.items()}
    settings = {"labels": list(ctx.config.classes.labels), "size": side, "layers": list(shapes)}
    settings |= {"widths": [shape[0] for shape in shapes.values()], "network": config.network}
    settings |= {"channels": config.channels, "hidden": config.hidden, "enlarge": config.enlarge}
    return step_bytes(settings, shapes, gradient)
