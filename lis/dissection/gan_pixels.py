"""What sees the images of a generator by their pixels alone: part world's parts, or how bright each pixel is."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from lis.context import Context
from lis.dissection.painting import PixelSegmenter
from lis.generators.partworld import PartWorld
from lis.generators.partworld.part_network import load_part_network, part_iou, weights_path

BRIGHTNESS = ("dark", "medium", "bright")


def pixel_segmenter(ctx: Context) -> PixelSegmenter:
    """What segments the images of a run's generator by their pixels, as `dissect_gan.concepts` says.

    Raises:
        ValueError: parts are asked for of a generator other than part world, for which nothing does.
    """
    if vars(ctx.config)["dissect_gan"].concepts == "brightness":
        return brightness_segmenter()
    if not isinstance(ctx.generator, PartWorld):
        raise ValueError(
            f"nothing segments the pixels of images of {type(ctx.generator).__name__} into parts, and its features "
            "cannot tell what an edit of them did: expected gan=partworld, dissect_gan.concepts=brightness, or in "
            "Python a function of images, s.paint(…, segmenter=PixelSegmenter(labels, function))"
        )
    name = ctx.generator.world.figures.name
    network = load_part_network(name).to(ctx.device).to(memory_format=torch.channels_last)  # faster on a CPU
    digest = hashlib.sha256(weights_path(name).read_bytes()).hexdigest()
    return PixelSegmenter(network.labels, network.segment, digest)


def brightness_segmenter() -> PixelSegmenter:
    """How bright each pixel is, the mean of red, green and blue in thirds of its range: a rule, which nothing learnt.

    Example:
        >>> image = torch.tensor([-1.0, -0.3, 0.3, 1.0]).expand(1, 3, 1, 4)
        >>> brightness_segmenter().segment(image).tolist()
        [[[1, 2, 2, 3]]]
    """
    return PixelSegmenter(BRIGHTNESS, _third, "thirds of the brightness")


def _third(image: Tensor) -> Tensor:
    thirds = len(BRIGHTNESS)
    return 1 + ((image.mean(1) + 1) * (thirds / 2)).long().clamp(0, thirds - 1)


def exact_iou(parts: Tensor, true: Tensor, labels: Sequence[str]) -> dict[str, float | None]:
    """`part_iou` of what a segmenter sees with exact masks, by label; None of a part that neither has.

    Args:
        parts: `[n, h, w]` int64, 0 background, k for `labels[k - 1]`.
        true: the same, exactly.
        labels: of the parts.

    Example:
        >>> exact_iou(torch.tensor([[[1, 1]]]), torch.tensor([[[1, 0]]]), ["ear", "tail"])
        {'ear': 0.5, 'tail': None}
    """
    values = part_iou(parts, true, len(labels))[1:].tolist()
    return {label: value if math.isfinite(value) else None for label, value in zip(labels, values, strict=True)}
