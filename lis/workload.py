"""What a stage will do, counted before the work: operations, how often each, and what it writes.

A stage that is declared with `work=…` says so as a function of the run, of which nothing may have been computed yet.
`lis.planning` times each operation and makes a plan of it.
"""

from __future__ import annotations

import tempfile
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from lis.context import Context
from lis.memory import Batches
from lis.store import Draft, Recipe, Store
from lis.streams import Stream
from lis.types import ReadsStyle, encode

FLOAT = 4
"""Bytes of a number."""
_BACKWARD = 3.0
"""Time of a pass with a gradient over one without, assumed: behind a product y = Wx there are two such products, by x
and by W. Griewank & Walther (2008) bound the ratio by 4."""


@dataclass(frozen=True)
class Operation:
    """What is done over and over, and how some of it is done once to be timed."""

    name: str
    """In the plural, for the log."""
    prepare: Callable[[Context], Callable[[int], object]]
    """Gives, on the models of a run, what does this a number of times; random values stand for all that a run has not
    computed yet."""
    passes: int = 0
    """Images that the generator makes."""
    reads: int = 0
    """Images that the classifier reads."""
    backwards: int = 0
    """Images with a gradient."""
    constant: bool = False
    """Whether a call takes time of its own, whatever the number, which is then told apart."""
    fit: bool = False
    """Whether nearly all of a call is such a time, as where a matrix is decomposed, whatever the samples."""
    instead: tuple[tuple[Operation, float], ...] = ()
    """Other operations, and how many times the time of each is assumed where measuring takes too long."""
    most: int = 512
    """How often at most for a measurement."""


@dataclass(frozen=True)
class Load:
    """An operation and how often a stage does it."""

    operation: Operation
    count: float
    shared: bool = False
    """Whether it is spread over shards, which an engine gives to several devices."""
    calls: int = 1
    """In how many calls, where each takes time of its own."""
    scale: float = 1.0
    """Time of what is done over that of what is timed, where the latter is smaller."""


@dataclass(frozen=True)
class Blocks:
    """Shards of one kind."""

    stage: str
    """Their folder of the store."""
    count: int
    size: int
    """Bytes of all of them."""
    recipes: Callable[[], Iterable[Recipe]] | None = None
    """What they are made from, where that is known before the work."""


@dataclass(frozen=True)
class Workload:
    """What a stage will do, and write."""

    loads: tuple[Load, ...] = ()
    size: int = 0
    """Bytes of its artifact."""
    shards: tuple[Blocks, ...] = ()
    notes: tuple[str, ...] = ()
    """What of this is an assumption, or an upper bound."""


@dataclass(frozen=True)
class Expected:
    """What the work of a run depends on and only the work tells."""

    acceptance: float = 1.0
    """Share of the draws of a class that become pairs, in (0, 1]."""


def images(ctx: Context, count: float, shared: bool = True) -> tuple[Load, ...]:
    """Images that are made and read by the classifier; one that reads style codes needs none."""
    reads = Load(CLASSIFIER, count, shared)
    return (reads,) if isinstance(ctx.classifier, ReadsStyle) else (Load(GENERATOR, count, shared), reads)


def gradients(ctx: Context, count: float, shared: bool = True) -> tuple[Load, ...]:
    """Answers with their derivatives by the style codes."""
    return (Load(STYLE_GRADIENT if isinstance(ctx.classifier, ReadsStyle) else GRADIENT, count, shared),)


def repeated(at_once: Batches, function: Callable[[Tensor], object]) -> Callable[[int], object]:
    """Maps a function of row numbers over so many of them, in batches."""
    return lambda count: deque(at_once.map(function, torch.arange(count)), maxlen=0)


def style_codes(ctx: Context, count: int) -> Tensor:
    """A mean w on the run's device, `[count, w_dim]`."""
    return ctx.generator.mean_w[:1].to(ctx.device).repeat(count, 1)


def noise(ctx: Context, count: int) -> Tensor:
    """Random images of the generator's size on the run's device, `[count, 3, H, W]` in [-1, 1]."""
    side = ctx.generator.resolution
    image = torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(0))
    return (2 * image - 1).to(ctx.device)


def _samples(ctx: Context) -> Callable[[int], object]:
    generator, stream = ctx.generator, Stream("train pairs", ctx.config.seed)
    index = generator.class_names.index(ctx.class_names[0]) if generator.num_classes else None
    return repeated(
        ctx.images(), lambda rows: generator.sample(index, rows, stream, ctx.config.gan.truncation).to(ctx.device)
    )


def _generated(ctx: Context) -> Callable[[int], object]:
    return repeated(ctx.images(), lambda rows: ctx.generator.synthesize(style_codes(ctx, len(rows))).cpu())


def _read(ctx: Context) -> Callable[[int], object]:
    classifier, at_once = ctx.classifier, ctx.batches()
    if isinstance(classifier, ReadsStyle):
        return repeated(at_once, lambda rows: classifier.head(ctx.encode(style_codes(ctx, len(rows))).to(ctx.device)))
    image = noise(ctx, 1)
    return repeated(at_once, lambda rows: classifier.head(classifier.features(image.repeat(len(rows), 1, 1, 1))).cpu())


def _differentiated(ctx: Context) -> Callable[[int], object]:
    def gradient(rows: Tensor) -> Tensor:
        with torch.inference_mode(False), torch.enable_grad():
            w = style_codes(ctx, len(rows)).clone().requires_grad_()
            answers = ctx.classifier.head(encode(ctx.classifier, ctx.generator, w))
            return torch.autograd.grad(answers.sum(), w)[0].cpu()

    return repeated(ctx.batches(gradient=True), gradient)


def _stored(ctx: Context) -> Callable[[int], object]:
    def write(draft: Draft) -> None:
        draft.tensors("block", {"r": torch.zeros(64, 64)})

    def store(count: int) -> None:
        with tempfile.TemporaryDirectory() as folder:
            temporary = Store(Path(folder))
            for number in range(count):
                temporary.make(Recipe("planned-shard", 1, {"number": number}), write)

    return store


SAMPLES = Operation("samples", _samples)
GENERATOR = Operation("generator passes", _generated, passes=1)
CLASSIFIER = Operation("classifier passes", _read, reads=1)
GRADIENT = Operation(
    "generator and classifier passes with a gradient",
    _differentiated,
    passes=1,
    reads=1,
    backwards=1,
    instead=((GENERATOR, _BACKWARD), (CLASSIFIER, _BACKWARD)),
)
STYLE_GRADIENT = Operation("classifier passes with a gradient", _differentiated, reads=1, backwards=1)
STORED = Operation("artifacts written", _stored, constant=True, most=64)
