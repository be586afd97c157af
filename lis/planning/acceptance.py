"""How many draws become pairs: estimated from some images, or assumed."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from lis.context import Context
from lis.planning.calibration import Calibration
from lis.streams import Stream
from lis.workload import CLASSIFIER, GENERATOR, Expected

ASSUMED = 0.5
"""Acceptance where no image can tell it."""
_SECONDS = 2.0
"""That may be spent on images."""
_FEWEST, _MOST = 20, 100
"""Images that tell something, and that are enough."""


def expected(ctx: Context, calibration: Calibration, trained: bool) -> tuple[Expected, str]:
    """What is expected of the draws of pairs, and where that comes from.

    Args:
        ctx: the run.
        calibration: tells what an image takes.
        trained: whether the models have the weights that they will be used with.
    """
    if ctx.config.pairs.accept == "any":
        return Expected(), ""
    count = min(_MOST, int(_SECONDS / _seconds(calibration))) if trained else 0
    if count < _FEWEST:
        return Expected(ASSUMED), f"assumed: {ASSUMED:.0%} of the samples are accepted as pairs"
    counts = _accepted(ctx, count)
    rate, accepted, drawn = _harmonic_mean(counts), *(sum(column) for column in zip(*counts, strict=True))
    of_classes = f"the harmonic mean over classes, {accepted} of {drawn}"
    return Expected(rate), f"{rate:.0%} of the samples are accepted as pairs: {of_classes}"


def _harmonic_mean(counts: Sequence[tuple[int, int]]) -> float:
    """The mean rate over classes of which each is to have as many: a class with few costs the more draws.

    Each class counts with one draw more, which has the rate of all by Laplace's rule of succession: no rate is 0.

    Args:
        counts: accepted and all draws of each class.

    Example:
        >>> round(_harmonic_mean([(20, 20), (5, 20)]), 2)
        0.42
    """
    accepted, drawn = (sum(column) for column in zip(*counts, strict=True))
    of_all = (accepted + 1) / (drawn + 2)
    return len(counts) / sum((drawn + 1) / (accepted + of_all) for accepted, drawn in counts)


def _seconds(calibration: Calibration) -> float:
    """Of an image that is made and read; infinite where that is not known."""
    timings = [calibration.timing(operation) for operation in (GENERATOR, CLASSIFIER)]
    return sum(timing.each if timing else float("inf") for timing in timings)


@torch.inference_mode()
def _accepted(ctx: Context, count: int) -> list[tuple[int, int]]:
    """Accepted and all draws of each class; without classes, of the one that has the fewest."""
    stream, generator, known = Stream("train pairs", ctx.config.seed), ctx.generator, ctx.classifier.class_names
    names = ctx.class_names
    targets = [known.index(name) for name in names]
    if not generator.num_classes:
        answers = _answers(ctx, None, torch.arange(count), stream)
        return [(min(int((answers == target).sum()) for target in targets), count)]
    rows = torch.arange(-(-count // len(names)))
    hits = [
        int((_answers(ctx, generator.class_names.index(name), rows, stream) == target).sum())
        for name, target in zip(names, targets, strict=True)
    ]
    return [(hit, len(rows)) for hit in hits]


def _answers(ctx: Context, index: int | None, rows: torch.Tensor, stream: Stream) -> torch.Tensor:
    """What the classifier calls the samples `rows` of a class: indices among its classes."""
    w = ctx.generator.sample(index, rows, stream, ctx.config.gan.truncation)
    parts = ctx.batches().map(lambda some: ctx.classifier.head(ctx.encode(some).to(ctx.device)).argmax(1).cpu(), w)
    return torch.cat(list(parts))
