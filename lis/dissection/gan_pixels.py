"""What sees a generator's images by their pixels alone: part world's parts, a user's own, or how bright they are."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor

from lis.build import build
from lis.context import Context
from lis.dissection.painting import PixelSegmenter
from lis.generators.partworld import PartWorld
from lis.generators.partworld.part_network import load_part_network, part_iou, weights_path
from lis.labels.manifest import BACKGROUND

BRIGHTNESS = ("dark", "medium", "bright")


def pixel_segmenter(ctx: Context) -> PixelSegmenter:
    """What segments the images of a run's generator by their pixels, as `dissect_gan` says.

    Raises:
        ValueError: parts are asked for of a generator other than part world, and no segmenter is named; or as
            `named_segmenter`.
    """
    config = vars(ctx.config)["dissect_gan"]
    if config.concepts == "brightness":
        return brightness_segmenter()
    if config.segmenter is not None:
        return named_segmenter(config.segmenter, ctx.device)
    if not isinstance(ctx.generator, PartWorld):
        raise ValueError(
            f"nothing segments the pixels of images of {type(ctx.generator).__name__} into parts, and its features "
            "cannot tell what an edit of them did: expected gan=partworld, dissect_gan.concepts=brightness, "
            "dissect_gan.segmenter=<module.function> of your own, or in Python a function of images, "
            "s.paint(…, segmenter=PixelSegmenter(labels, function))"
        )
    name = ctx.generator.world.figures.name
    network = load_part_network(name).to(ctx.device).to(memory_format=torch.channels_last)  # faster on a CPU
    digest = hashlib.sha256(weights_path(name).read_bytes()).hexdigest()
    return PixelSegmenter(network.labels, network.segment, digest)


@dataclass
class _Named:
    """As `build` takes it."""

    _target_: str


@lru_cache(maxsize=1)
def named_segmenter(path: str, device: torch.device) -> PixelSegmenter:
    """What a function of a user's gives, called once with the device of the run.

    Args:
        path: of the function, `module.function`.
        device: on which images will be.

    Raises:
        ValueError: there is no such function, it fails, or gives anything else than a `PixelSegmenter` with labels,
            each once, and a fingerprint.
    """
    asked = f"dissect_gan.segmenter={path}"
    try:
        made = build(_Named(path), device=device)
    except ValueError as error:
        raise ValueError(
            f"{asked}: {error}; expected module.function on Python's path (PYTHONPATH=.), which takes device and gives "
            "lis.PixelSegmenter(labels, function of images, fingerprint)"
        ) from error
    if not isinstance(made, PixelSegmenter):
        raise ValueError(
            f"{asked} gives {type(made).__name__}: expected lis.PixelSegmenter(labels, function of images, fingerprint)"
        )
    if isinstance(made.labels, str) or not made.labels or len({*made.labels, BACKGROUND}) <= len(made.labels):
        raise ValueError(
            f"{asked} has labels={made.labels!r}: expected names, each once, without {BACKGROUND!r}, whose number is 0"
        )
    if not made.fingerprint:
        raise ValueError(
            f"{asked} has no fingerprint: expected a text that follows its weights and settings, as of "
            "lis.fingerprint.Fingerprint, by which the store knows what was made with it"
        )
    return replace(made, labels=tuple(made.labels))


def require_parts(segmenter: PixelSegmenter, image: Tensor) -> None:
    """Check what a segmenter makes of images `[n, 3, H, W]`.

    Raises:
        ValueError: anything else than the numbers of its labels, `[n, H, W]` int64.
    """
    parts, (n, _, *size) = segmenter.segment(image), image.shape
    expected = f"expected int64 {[n, *size]} of images {list(image.shape)}"
    if not isinstance(parts, Tensor):
        raise ValueError(f"the segmenter gives {type(parts).__name__}: {expected}")
    if parts.dtype != torch.int64 or list(parts.shape) != [n, *size]:
        raise ValueError(
            f"the segmenter gives {str(parts.dtype).removeprefix('torch.')} {list(parts.shape)}: {expected}"
        )
    if not 0 <= int(parts.min()) <= int(parts.max()) <= len(segmenter.labels):
        raise ValueError(
            f"the segmenter gives values from {int(parts.min())} to {int(parts.max())}: expected 0 (background) to "
            f"{len(segmenter.labels)}, the labels being {', '.join(segmenter.labels)}"
        )


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
