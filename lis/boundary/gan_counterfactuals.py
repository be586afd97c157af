"""Counterfactuals in the generator: the same z in another class, and the way between in W (supplement S8, Fig. S20)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any

import numpy as np
import pandas as pd
import torch
from omegaconf import MISSING
from torch import Tensor

from lis.boundary.gan_paths import Paths, measure_table, sample_table, typical, unit_table
from lis.boundary.judged import others_table, witnessed
from lis.boundary.work import gan_counterfactuals_work
from lis.config.fields import number
from lis.context import Context
from lis.linking.link import link
from lis.linking.pairs import STREAMS, test_pairs, train_pairs
from lis.linking.region import Region
from lis.look import PICTURED, Looker
from lis.peaks import picture_arrays
from lis.quantify.change import change
from lis.quantify.measures import MEASURES, TOLD, interpreted
from lis.segmentation.training import part_images
from lis.shards import Shards
from lis.stage import MODELS, WITNESS, stage
from lis.store import Artifact, Draft
from lis.streams import Stream
from lis.types import Counterparts, Finder
from lis.units.directions import Directions, directions, load_directions, mean_arrival
from lis.units.parts import Parts, segmented
from lis.units.perturbation import Perturbation
from lis.units.pictures import style_codes
from lis.units.traversal import first
from lis.units.tuning import perturbations

SHARD_VERSION = 2


@dataclass
class GanCounterfactualsConfig:
    """The same z in another class, and the way between in W (supplement S8)."""

    samples: int = number(MISSING, low=1)
    """Test samples per class that go to every other class."""
    steps: int = number(MISSING, low=2)
    """Images from a sample to its counterpart."""
    examples: int = number(MISSING, low=1)
    """Pairs of classes in pictures: each class to the next."""
    units: int = number(4, low=1)
    """Units that are shown of such a pair: those that change most."""


def validate_counterparts(ctx: Context) -> Counterparts:
    """The generator of a run, as one that can change the class of a sample.

    Raises:
        ValueError: it cannot, there is only one class, or more samples are asked for than there are test pairs.
    """
    generator, samples = ctx.generator, ctx.config.gan_counterfactuals.samples
    if not generator.num_classes or not isinstance(generator, Counterparts):
        what = "has no `counterpart`" if generator.num_classes else "has no classes"
        raise ValueError(
            f"{type(generator).__name__} {what}: the same z in another class needs a generator that takes the class; "
            "use gan=partworld or gan=imagenet256, or leave gan_counterfactuals out of analysis.stages"
        )
    if len(ctx.class_names) < 2:
        raise ValueError(f"classes.names is {list(ctx.class_names)}: expected two classes or more, to go between")
    if samples > ctx.config.pairs.test:
        raise ValueError(
            f"gan_counterfactuals.samples={samples}: expected at most pairs.test={ctx.config.pairs.test}, "
            "the samples per class that there are"
        )
    return generator


@stage(
    "gan_counterfactuals",
    version=6,
    inputs=(train_pairs, test_pairs, link, directions, segmented),
    config=GanCounterfactualsConfig,
    models=(*MODELS, WITNESS),
    also=lambda ctx: {"view": ctx.config.view.steps},
    check=validate_counterparts,
    images=part_images,
    arrays=picture_arrays,
    work=gan_counterfactuals_work,
)
def gan_counterfactuals(
    ctx: Context,
    config: GanCounterfactualsConfig,
    train: Artifact,
    test: Artifact,
    linked: Artifact,
    way: Artifact,
    trained: Artifact | None,
    draft: Draft,
) -> None:
    """The first test samples of every class on their way to every other class.

    w(t) = (1 − t) w + t w', with w the style code of a sample and w' that of the same z in the other class. N ways (a
    row per ordered pair of classes and sample), in T steps.

    Table "samples": see `sample_table` and `others_table`. Tables "measures", "units" and "witnessed": see
    `measure_table`, `unit_table` and `witnessed`. Tensors "paths":
    position `[T]`, probability `[N, T, C]`, prediction `[N, T]`, measures `[N, T, K, 5]`, shift `[N, units]` (r of the
    last image − r of the first). Tables "examples" and "tuned", tensors "examples" and "tuned": see `pictures`. Json
    "facts": labels, class_names.

    Raises:
        ValueError: as `validate_counterparts`; what the stages before refuse.
    """
    parts = Parts.of(ctx)
    job = Job(ctx, Looker.tuned(ctx, parts.masks, parts.labels), parts.keys)
    paths = _read(job, _blocks(ctx, first(test.tensors("pairs"), config.samples)))
    pairs, (first_w, last_w) = train.tensors("pairs"), paths.w.unbind(1)
    region = Region.around(pairs["w"], pairs["class_index"])
    samples = sample_table(paths, region).join(others_table(ctx, last_w, first_w))
    draft.table("samples", samples)
    draft.table("witnessed", witnessed(samples))
    draft.table("measures", measure_table(paths))
    units = unit_table(paths, linked.table("units"))
    draft.table("units", units)
    tensors = {name: getattr(paths, name) for name in ("probability", "prediction", "measures", "shift")}
    draft.tensors("paths", tensors | {"position": torch.linspace(0, 1, config.steps)})
    made = load_directions(ctx, linked, way)
    pictures(ctx, paths, units, linked.table("units"), made, region, parts.masks, draft)
    draft.json("facts", {"labels": list(paths.labels), "class_names": list(ctx.class_names)})


def _read(job: Job, blocks: Sequence[Block]) -> Paths:
    """All paths."""
    ctx, names = job.ctx, job.ctx.class_names
    rows = [(names.index(b.origin), names.index(b.target), sample) for b in blocks for sample in b.sample_index]
    return Paths(
        *torch.tensor(rows).unbind(1),
        **SHARDS.tensors(job, blocks, "the same z in other classes"),
        known=tuple(ctx.classifier.class_names),
        class_names=names,
        labels=job.looker.labels,
    )


def _blocks(ctx: Context, chosen: dict[str, Tensor]) -> list[Block]:
    """Ordered pairs of classes, each with its samples, at most `tuning.seed_block` at once."""
    blocks = []
    for origin, target in permutations(range(len(ctx.class_names)), 2):
        subset = chosen["sample_index"][chosen["class_index"] == origin]
        names = ctx.class_names[origin], ctx.class_names[target]
        blocks += [Block(*names, tuple(some.tolist())) for some in subset.split(ctx.config.tuning.seed_block)]
    return blocks


@dataclass(frozen=True)
class Job:
    """What all shards of a run share."""

    ctx: Context
    looker: Looker
    inputs: tuple[str, ...]
    """Key of the artifact of the segmenter."""


@dataclass(frozen=True)
class Block:
    """Test samples of one class, on their way to another."""

    origin: str
    target: str
    sample_index: tuple[int, ...]
    """Indices in the stream of the test pairs."""


def ends(ctx: Context, block: Block) -> tuple[Tensor, Tensor]:
    """w of the samples of a block and of their counterparts, `[n, w_dim]` each, on the run's device."""
    generator, names = validate_counterparts(ctx), ctx.generator.class_names
    stream, indices = Stream(STREAMS["test"], ctx.config.seed), torch.tensor(block.sample_index)
    origin, target, psi = names.index(block.origin), names.index(block.target), ctx.config.gan.truncation
    return (
        ctx.generator.sample(origin, indices, stream, psi).to(ctx.device),
        generator.counterpart(origin, indices, stream, target, psi).to(ctx.device),
    )


def between(first: Tensor, last: Tensor, steps: int) -> Tensor:
    """Evenly from one row to another: `[n, d]` twice → `[n, steps, d]`, both ends included.

    Example:
        >>> between(torch.tensor([[0.0, 4.0]]), torch.tensor([[2.0, 4.0]]), 3).tolist()
        [[[0.0, 4.0], [1.0, 4.0], [2.0, 4.0]]]
    """
    position = torch.linspace(0, 1, steps, device=first.device, dtype=first.dtype)[:, None]
    return (1 - position) * first[:, None] + position * last[:, None]


def _config(job: Job, block: Block) -> dict[str, Any]:
    ctx = job.ctx
    return {
        "seed": ctx.config.seed,
        "truncation": ctx.config.gan.truncation,
        "origin": block.origin,
        "target": block.target,
        "classes": list(ctx.class_names),
        "samples": list(block.sample_index),
        "steps": ctx.config.gan_counterfactuals.steps,
    }


@torch.inference_mode()
def _build_shard(job: Job, block: Block, draft: Draft) -> None:
    first, last = ends(job.ctx, block)
    w = between(first, last, job.ctx.config.gan_counterfactuals.steps)
    look = job.looker(w)
    both = {"w": w[:, [0, -1]].float().cpu(), "r": look.r[:, [0, -1]]}
    draft.tensors("block", both | look.tensors(("measures", "probability", "prediction")))


SHARDS = Shards("gan-counterfactuals-shard", SHARD_VERSION, _config, _build_shard)
"""Tensors "block" of n samples and T steps: w `[n, 2, w_dim]` and r `[n, 2, units]` of the first and the last image;
measures `[n, T, K, 5]`, probability `[n, T, C]` and prediction `[n, T]` of all of them. An answer that is not finite is
a ValueError."""


def pictures(
    ctx: Context,
    paths: Paths,
    units: pd.DataFrame,
    ranges: pd.DataFrame,
    made: Directions,
    region: Region,
    masks: Finder,
    draft: Draft,
) -> None:
    """Write the pictures of `gan_counterfactuals.examples` pairs of classes: each class towards the next.

    Shown is the way that `typical` chooses; of its first image those units are tuned, from their smallest to their
    largest activation over the training pairs, that change most on the ways of the pair: `gan_counterfactuals.units` of
    the live ones that w can move.

    Tensors "examples", a row per pair: image `[k, T, 3, H, W]` uint8, mask, measures, probability, prediction as in
    `lis.look.Look`, and beyond `[k, T]` (1 where w lies beyond 99 % of held-out training samples). Table "examples":
    origin, target, sample_index, row (of the table "samples"). Tensors "tuned", a row per pair and unit: the same in
    `view.steps` steps. Table "tuned", the same rows: example (row of the table "examples"), unit, change (mean over the
    ways of the pair), standard, shift (change on the way that is shown), activation (in the first image of that way),
    what arrives of the unit in that image (own, others, more, beyond, step_norm: `mean_arrival`), minimum, maximum,
    label, measure (what the unit changes most of `TOLD`: each over its largest |change| among the units that are shown
    of the pair) and measured (that change); label "" where nothing changes.
    """
    config, looker, names = ctx.config.gan_counterfactuals, Looker.pictured(ctx, masks, paths.labels), paths.class_names
    pairs = [(o, t, typical(paths, rows)) for o, t, rows in paths.pairs if t == (o + 1) % len(names)]
    examples, images, tables, tuned = [], [], [], []
    for origin, target, row in pairs[: config.examples]:
        pair, sample = {"origin": names[origin], "target": names[target]}, int(paths.sample_index[row])
        subset = units[(units["origin"] == pair["origin"]) & (units["target"] == pair["target"])]
        ranged = _with_range(pd.DataFrame(subset), ranges)
        movable = [made.step_norm(paths.r[row, :1], unit) < np.inf for unit in perturbations(ranged)]
        chosen = pd.DataFrame(ranged[movable]).head(config.units)
        selected = [(unit, 0) for unit in perturbations(chosen)]
        w = style_codes(made, paths.r[row, :1], selected, ctx.config.view.steps)
        look = looker(w)
        tuned.append(look.tensors(PICTURED) | {"beyond": made.beyond(w)})
        arrived = [_arrived(made, unit, *ends) for (unit, _), *ends in zip(selected, w, look.r, strict=True)]
        index = torch.tensor(chosen["unit"].tolist(), dtype=torch.int64)
        moved, own = paths.shift[row, index].numpy(), paths.r[row, 0, index].numpy()
        chosen = chosen.assign(
            example=len(examples), shift=moved, activation=own, **pd.DataFrame(arrived).to_dict("list")
        )
        tables.append(with_largest_change(chosen, tuned[-1]["measures"], paths.labels))
        first, last = ends(ctx, Block(**pair, sample_index=(sample,)))
        between_them = between(first, last, config.steps)[0].float()
        images.append(looker(between_them).tensors(PICTURED) | {"beyond": region.beyond(between_them.cpu()).float()})
        examples.append(pair | {"sample_index": sample, "row": row})
    draft.table("examples", pd.DataFrame(examples))
    draft.tensors("examples", {name: torch.stack([path[name] for path in images]) for name in images[0]})
    draft.table("tuned", pd.concat(tables, ignore_index=True))
    draft.tensors("tuned", {name: torch.cat([part[name] for part in tuned]) for name in tuned[0]})


def _arrived(made: Directions, unit: Perturbation, w: Tensor, r: Tensor) -> dict[str, float]:
    """What arrives in one sample, `w [steps, w_dim]` and `r [steps, units]`."""
    return mean_arrival(made, unit, w[None], r[None], float(made.model.std[unit.unit]))


def _with_range(units: pd.DataFrame, known: pd.DataFrame) -> pd.DataFrame:
    """The live units, in their order: unit, change, standard, minimum, maximum."""
    live = pd.DataFrame(known[known["status"] == "live"])[["unit", "minimum", "maximum"]]
    return units[["unit", "change", "standard"]].merge(live, on="unit", how="inner")


def with_largest_change(units: pd.DataFrame, measures: Tensor, labels: tuple[str, ...]) -> pd.DataFrame:
    """The units with what each changes most: label, measure and measured.

    Args:
        units: a row per unit.
        measures: `[units, steps, K, 5]`; labels that are not `interpreted` are passed over.
        labels: K names.
    """
    moved = change(measures[:, 0], measures[:, -1]).numpy()
    counts = interpreted(measures).numpy()[:, None] & np.isin(MEASURES, TOLD)
    size = np.where(counts, np.nan_to_num(np.abs(moved)), 0)
    size = size / np.maximum(size.max((0, 1), initial=0), 1e-12)
    rows = []
    for values, sizes in zip(moved, size, strict=True):
        label, measure = np.unravel_index(int(sizes.argmax()), sizes.shape) if sizes.any() else (0, 0)
        some = (labels[label], values[label, measure]) if sizes.any() else ("", np.nan)
        rows.append((some[0], MEASURES[measure], some[1]))
    return units.join(pd.DataFrame(rows, units.index, pd.Index(["label", "measure", "measured"])))
