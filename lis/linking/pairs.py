"""Pairs (w, r): the first n accepted samples of each class of a stream (paper §3.1, §4.2).

The published code draws again with the same seed after a rejection; here one stream is drawn on until n samples of
each class are accepted, so that none comes twice and a hopeless class is named.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from lis.context import Context
from lis.linking.work import pairs_work
from lis.shards import Shards
from lis.stage import MODELS, Stage, stage
from lis.store import Artifact, Draft
from lis.streams import Stream
from lis.types import Classifier, Generator, encode

CHECK_EVERY = 500
"""Draws after which the acceptance rate of a class is judged, again and again."""
SHARD_VERSION = 2
STREAMS = {"train": "train pairs", "test": "test pairs", "tuning": "tuning"}
"""The stream that the samples of a split are drawn from."""


def validate_classes(
    names: Sequence[str], generator: Generator, classifier: Classifier, key: str = "classifier"
) -> None:
    """Checks that both models know every class; classes are matched by name. `key` is the classifier's name.

    Raises:
        ValueError: no class, one named twice, or one that a model does not know; lists what both know.
    """
    offered = ", ".join(generator.class_names) or "none (the class is drawn inside)"
    known = f"the generator has {offered}; the {key} has {', '.join(classifier.class_names)}"
    if not names:
        raise ValueError(f"classes.names is empty: expected at least one class; {known}")
    if twice := sorted({name for name in names if list(names).count(name) > 1}):
        raise ValueError(f"classes.names has {', '.join(twice)} more than once: expected each class once")
    models = {"generator": generator.class_names} if generator.num_classes else {}
    for model, classes in (models | {key: classifier.class_names}).items():
        if unknown := [name for name in names if name not in classes]:
            raise ValueError(f"classes.names: the {model} does not know {', '.join(unknown)}; {known}")


def validate_pairs(n: int, accept: str, generator: Generator) -> None:
    """Checks the number of pairs and the way to accept.

    Raises:
        ValueError: `n` below 1, an unknown `accept`, or `accept="any"` where only the classifier can name the class.
    """
    if n < 1:
        raise ValueError(f"{n} pairs per class: expected 1 or more; set pairs.train, pairs.test and tuning.seeds")
    if accept not in ("correct", "any"):
        raise ValueError(f"pairs.accept={accept!r}: expected 'correct' or 'any'")
    if accept == "any" and not generator.num_classes:
        raise ValueError(
            "pairs.accept='any' with a generator without classes: a sample's class is what the classifier calls it; "
            "use pairs.accept=correct"
        )


class HopelessClass(ValueError):
    """The classifier accepts too few samples of a class."""


@dataclass
class Tally:
    """Which samples of a class's source are of the class, as far as they are drawn."""

    name: str
    target: int
    """Index of the class in `classifier.class_names`."""
    source: Source
    hits: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.bool))
    """`[drawn]` bool, in index order."""

    def add(self, flags: dict[str, Tensor]) -> None:
        """Appends the flags of the source's next shard."""
        self.hits = torch.cat([self.hits, self.of(flags)])

    def of(self, flags: dict[str, Tensor]) -> Tensor:
        """Which samples of a shard are of the class: `[size]` bool."""
        return flags["prediction"] == self.target if self.source.name is None else flags["accepted"]

    def needed(self, n: int) -> int:
        """Draws up to and including the n-th hit; all that were drawn where there are fewer."""
        hits = self.hits.nonzero()[:, 0]
        return int(hits[n - 1]) + 1 if len(hits) >= n else len(self.hits)

    def missing(self, n: int) -> int:
        """Hits that are still to be found."""
        return max(0, n - int(self.hits.sum()))

    def shortfall(self, n: int, size: int) -> int:
        """Shards of `size` samples to draw next; 0 when n hits are found.

        An estimate from the rate so far, so that an engine gets many shards at once. Until the first check of the
        rate it goes no further than that check, so that a hopeless class is noticed early.
        """
        missing, drawn = self.missing(n), len(self.hits)
        rate = (int(self.hits.sum()) + 1) / (drawn + 1)
        blocks = math.ceil(missing / rate / size)
        return blocks if drawn >= CHECK_EVERY else min(blocks, math.ceil((CHECK_EVERY - drawn) / size))

    def check(self, n: int, lowest: float) -> None:
        """Raises HopelessClass if the rate was below `lowest` after any `CHECK_EVERY` draws that were needed.

        The draws where it looks are counted from the stream's start: the verdict is the same for any shard size.
        """
        last, accepted = len(self.hits) if self.missing(n) else self.needed(n) - 1, self.hits.cumsum(0)
        for drawn in range(CHECK_EVERY, last + 1, CHECK_EVERY):
            rate = int(accepted[drawn - 1]) / drawn
            if rate < lowest:
                every = "" if self.source.name is None else ", or take every sample (pairs.accept=any)"
                raise HopelessClass(
                    f"class {self.name!r}: the classifier accepts {rate:.2%} of {drawn} samples, expected at least "
                    f"{lowest:.2%} (pairs.min_acceptance); leave the class out of classes.names, use a classifier that "
                    f"knows it, lower gan.truncation or pairs.min_acceptance{every}"
                )


def _tallies(ctx: Context, names: Sequence[str]) -> list[Tally]:
    """One empty tally per class; without classes in the generator all share one source."""
    generator, tallies = ctx.generator, list[Tally]()
    for name in names:
        target = ctx.classifier.class_names.index(name)
        named = generator.num_classes and Source(name, generator.class_names.index(name), target)
        tallies.append(Tally(name, target, named or Source(None, None, None)))
    return tallies


def sources(ctx: Context, names: Sequence[str]) -> list[Source]:
    """Where the samples of some classes come from; one source where the generator draws the class inside."""
    return list(dict.fromkeys(tally.source for tally in _tallies(ctx, names)))


def _collect(ctx: Context, split: str, n: int, tallies: list[Tally]) -> dict[Source, list[Artifact]]:
    """Draws shards until every class has n hits; the shards of each source in order."""
    shards: dict[Source, list[Artifact]] = {tally.source: [] for tally in tallies}
    size = min(ctx.config.shard_size, 2 * n)  # few samples need no long shards
    while requested := _missing_blocks(shards, tallies, n, size):
        made = SHARDS.artifacts(Job(ctx, split), requested, f"{split} pairs")
        for block, artifact in zip(requested, made, strict=True):
            shards[block.source].append(artifact)
            flags = artifact.tensors("flags")
            for tally in tallies:
                if tally.source == block.source:
                    tally.add(flags)
                    tally.check(n, ctx.config.pairs.min_acceptance)
    return shards


def _missing_blocks(shards: dict[Source, list[Artifact]], tallies: list[Tally], n: int, size: int) -> list[Block]:
    blocks = []
    for source, done in shards.items():
        more = max(tally.shortfall(n, size) for tally in tallies if tally.source == source)
        blocks += [Block(source, number, size) for number in range(len(done), len(done) + more)]
    return blocks


def _chunks(tally: Tally, shards: list[Artifact], n: int) -> Iterator[dict[str, Tensor]]:
    """The first n pairs of a class, shard by shard: one shard is in memory at a time."""
    start = 0
    for artifact in shards:
        flags = artifact.tensors("flags")
        hits = tally.of(flags)
        index = hits.nonzero()[:, 0][:n]
        if len(index):
            stored = artifact.tensors("pairs")
            rows = hits[flags["accepted"]].nonzero()[:, 0][:n]
            yield {"r": stored["r"][rows], "w": stored["w"][rows], "sample_index": start + index}
        start, n = start + len(hits), n - len(index)
        if not n:
            return


def _pairs_stage(split: str, count: Callable[[Context], int]) -> Stage:
    """The stage of a split, of `count` samples of each class."""

    def check(ctx: Context) -> None:
        validate_pairs(count(ctx), ctx.config.pairs.accept, ctx.generator)
        if not ctx.config.classifier.probe:  # which brings the classes of the run
            validate_classes(ctx.class_names, ctx.generator, ctx.classifier)

    def also(ctx: Context) -> dict[str, Any]:
        return {
            "stream": STREAMS[split],
            "n": count(ctx),
            "classes": list(ctx.class_names),
            "truncation": ctx.config.gan.truncation,
            "accept": ctx.config.pairs.accept,
        }

    @stage(
        f"pairs/{split}",
        version=3,
        models=MODELS,
        seed=True,
        also=also,
        check=check,
        listed=split != "tuning",
        work=lambda ctx, expected: pairs_work(ctx, split, count(ctx), expected),
    )
    def build(ctx: Context, draft: Draft) -> None:
        """`r`, `w`, class and sample index of the first n accepted samples per class; acceptance.

        The same for any batch size and any split into shards.

        Tensors "pairs": `r [n, units]` and `w [n, w_dim]` float32, `class_index [n]` int64 into the run's class names,
        `sample_index [n]` int64 into the stream, ordered by class and then by sample. Table "acceptance": class, drawn
        (up to and including the last accepted sample that was needed), accepted, rate.

        Raises:
            ValueError: an unknown class or way to accept; fewer than one sample wanted; a class whose acceptance rate
                is below `pairs.min_acceptance`; a sample that is not finite.
        """
        _write_pairs(ctx, split, count(ctx), draft)

    return build


def _write_pairs(ctx: Context, split: str, n: int, draft: Draft) -> None:
    tallies = _tallies(ctx, ctx.class_names)
    shards, total = _collect(ctx, split, n, tallies), n * len(tallies)
    tensors = {
        "r": torch.empty(total, ctx.classifier.units),
        "w": torch.empty(total, ctx.generator.w_dim),
        "class_index": torch.arange(len(tallies)).repeat_interleave(n),
        "sample_index": torch.empty(total, dtype=torch.int64),
    }
    row = 0
    for chunk in (chunk for tally in tallies for chunk in _chunks(tally, shards[tally.source], n)):
        for name, values in chunk.items():
            tensors[name][row : row + len(values)] = values
        row += len(chunk["r"])
    draft.tensors("pairs", tensors)
    rows = [(tally.name, drawn := tally.needed(n), n, n / drawn) for tally in tallies]
    draft.table("acceptance", pd.DataFrame(rows, columns=["class", "drawn", "accepted", "rate"]))


def known_classes(ctx: Context) -> list[str]:
    """The classes that both models know, in the classifier's order; of a probe, which learns no others, the run's."""
    if ctx.config.classifier.probe:
        return list(ctx.class_names)
    drawn = ctx.generator.class_names if ctx.generator.num_classes else ctx.classifier.class_names
    return [name for name in ctx.classifier.class_names if name in drawn]


def first_of_each_class(class_index: Tensor, classes: int, n: int) -> Tensor:
    """Rows of the first n samples of each class, at most as many as there are, class by class: `[k]` int64.

    Example:
        >>> first_of_each_class(torch.tensor([1, 0, 1, 1, 0]), 2, 2).tolist()
        [1, 4, 0, 2]
    """
    return torch.cat([(class_index == c).nonzero()[:n, 0] for c in range(classes)])


def pairs_of_class(ctx: Context, split: str, name: str, n: int) -> dict[str, Tensor]:
    """The first n accepted pairs of any class that both models know, drawn now where no shard holds them.

    Args:
        ctx: the run.
        split: whose stream they are drawn from.
        name: of the class.
        n: how many.

    Returns:
        r `[n, units]`, w `[n, w_dim]` float32 and sample_index `[n]` int64.

    Raises:
        HopelessClass: its acceptance rate is below `pairs.min_acceptance`.
        ValueError: a sample that is not finite.
    """
    (tally,) = tallies = _tallies(ctx, [name])
    chunks = list(_chunks(tally, _collect(ctx, split, n, tallies)[tally.source], n))
    return {key: torch.cat([chunk[key] for chunk in chunks]) for key in chunks[0]}


train_pairs = _pairs_stage("train", lambda ctx: ctx.config.pairs.train)
test_pairs = _pairs_stage("test", lambda ctx: ctx.config.pairs.test)
tuning_pairs = _pairs_stage("tuning", lambda ctx: ctx.config.tuning.seeds)
_SPLITS = {"train": train_pairs, "test": test_pairs, "tuning": tuning_pairs}


def pairs(ctx: Context, split: str) -> Artifact:
    """The pairs of a split ("train", "test" or "tuning").

    Raises:
        ValueError: an unknown split; as its stage.
    """
    if split not in _SPLITS:
        raise ValueError(f"unknown split {split!r}: expected 'tuning', 'train' or 'test'")
    return _SPLITS[split](ctx)


@dataclass(frozen=True)
class Source:
    """Where the samples of a class come from, and what the classifier has to call them."""

    name: str | None
    """Class of the samples; None where the generator draws the class inside."""
    index: int | None
    """Index of the class in `generator.class_names`."""
    target: int | None
    """Index of the class in `classifier.class_names`."""


@dataclass(frozen=True)
class Block:
    """Samples `[number · size, (number + 1) · size)` of a source."""

    source: Source
    number: int
    size: int


@dataclass(frozen=True)
class Job:
    """What all shards of a split share."""

    ctx: Context
    split: str
    inputs: tuple[str, ...] = ()


def _config(job: Job, block: Block) -> dict[str, Any]:
    """The number of pairs that a run wants is not part of it."""
    ctx, source = job.ctx, block.source
    return {
        "stream": STREAMS[job.split],
        "seed": ctx.config.seed,
        "class": source.name,
        "class_index": source.index,
        "target": source.target,
        "start": block.number * block.size,
        "size": block.size,
        "truncation": ctx.config.gan.truncation,
        "accept": ctx.config.pairs.accept,
    }


def _build_shard(job: Job, block: Block, draft: Draft) -> None:
    ctx, start = job.ctx, block.number * block.size
    indices = torch.arange(start, start + block.size)
    parts = ctx.batches().map(lambda some: _encoded(ctx, job.split, block.source, some), indices)
    w, r, prediction = (torch.cat(column) for column in zip(*parts, strict=True))
    accepted = torch.ones_like(prediction, dtype=torch.bool)
    if ctx.config.pairs.accept == "correct" and block.source.target is not None:
        accepted = prediction == block.source.target
    draft.tensors("flags", {"accepted": accepted, "prediction": prediction})
    draft.tensors("pairs", {"r": r[accepted], "w": w[accepted]})


SHARDS = Shards("pairs-shard", SHARD_VERSION, _config, _build_shard)
"""Tensors "flags": `accepted [size]` bool, `prediction [size]` int64 (index into the classifier's classes); tensors
"pairs": `r [accepted, units]` and `w [accepted, w_dim]` float32 of the accepted samples, in index order. From a
generator without classes every sample is kept, since its class is only known from the prediction. A style code or an
activation that is not finite is a ValueError, which names the class and the index of the sample."""


@torch.inference_mode()
def _encoded(ctx: Context, split: str, source: Source, indices: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """w, r and prediction of samples `indices [n]` of a source, on the CPU."""
    stream = Stream(STREAMS[split], ctx.config.seed)
    w = ctx.generator.sample(source.index, indices, stream, ctx.config.gan.truncation).to(ctx.device)
    r = encode(ctx.classifier, ctx.generator, w)
    _require_finite(w, "style code", source, indices, stream)
    _require_finite(r, "activation of the classifier", source, indices, stream)
    return w.float().cpu(), r.float().cpu(), ctx.classifier.head(r).argmax(1).cpu()


def _require_finite(values: Tensor, what: str, source: Source, indices: Tensor, stream: Stream) -> None:
    bad = (~values.isfinite()).any(1).cpu()
    if bad.any():
        owner = "a generator without classes" if source.name is None else f"class {source.name!r}"
        raise ValueError(
            f"the {what} of sample {int(indices[bad][0])} of {owner} (stream {stream.name!r}, seed {stream.seed}) is "
            f"not finite: expected finite numbers; check the weights and gan.truncation, or take another seed"
        )
