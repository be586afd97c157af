"""Counterfactuals in the generator: the same z in another class, and the way between in W (supplement S8, Fig. S20)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any

import numpy as np
import pandas as pd
import torch
from omegaconf import MISSING
from torch import Tensor

from lis.config.fields import number
from lis.context import Context
from lis.linking.link import link, load_link
from lis.linking.pairs import STREAMS, test_pairs
from lis.look import PICTURED, Looker
from lis.peaks import picture_arrays
from lis.quantify.averages import Average, unwrapped
from lis.quantify.change import change
from lis.quantify.measures import MEASURES, TOLD, interpreted
from lis.segmentation.segmenter import Masks, load_segmenter, segmenter
from lis.segmentation.training import part_images
from lis.shards import Shards
from lis.stage import MODELS, stage
from lis.store import Artifact, Draft
from lis.streams import Stream
from lis.types import Counterparts, Finder
from lis.units.pictures import style_codes
from lis.units.traversal import first
from lis.units.tuned import long_table
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
    version=2,
    inputs=(test_pairs, link, segmenter),
    config=GanCounterfactualsConfig,
    models=MODELS,
    also=lambda ctx: {"view": ctx.config.view.steps},
    check=validate_counterparts,
    images=part_images,
    arrays=picture_arrays,
)
def gan_counterfactuals(
    ctx: Context, config: GanCounterfactualsConfig, test: Artifact, linked: Artifact, parts: Artifact, draft: Draft
) -> None:
    """The first test samples of every class on their way to every other class.

    w(t) = (1 − t) w + t w', with w the style code of a sample and w' that of the same z in the other class. N ways (a
    row per ordered pair of classes and sample), in T steps.

    Tables "samples", "measures" and "units": see `sample_table`, `measure_table`, `unit_table`. Tensors "paths":
    position `[T]`, probability `[N, T, C]`, prediction `[N, T]`, measures `[N, T, K, 5]`, shift `[N, units]` (r of the
    last image − r of the first). Tables "examples" and "tuned", tensors "examples" and "tuned": see `pictures`. Json
    "facts": labels, class_names.

    Raises:
        ValueError: as `validate_counterparts`; what the stages before refuse.
    """
    model = load_segmenter(ctx, parts)
    masks = Masks(model)
    job = Job(ctx, Looker.tuned(ctx, masks, model.labels), (parts.key,))
    paths = _read(job, _blocks(ctx, first(test.tensors("pairs"), config.samples)))
    draft.table("samples", sample_table(paths))
    draft.table("measures", measure_table(paths))
    units = unit_table(paths, linked.table("units"))
    draft.table("units", units)
    tensors = {name: getattr(paths, name) for name in ("probability", "prediction", "measures", "shift")}
    draft.tensors("paths", tensors | {"position": torch.linspace(0, 1, config.steps)})
    pictures(ctx, paths, units, linked, masks, draft)
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


def pictures(ctx: Context, paths: Paths, units: pd.DataFrame, linked: Artifact, masks: Finder, draft: Draft) -> None:
    """Write the pictures of `gan_counterfactuals.examples` pairs of classes: each class towards the next.

    Shown is the way that `typical` chooses; of its first image those units are tuned, from their smallest to their
    largest activation over the training pairs, that change most on the ways of the pair: `gan_counterfactuals.units` of
    the live ones.

    Tensors "examples", a row per pair: image `[k, T, 3, H, W]` uint8, mask, measures, probability, prediction as in
    `lis.look.Look`. Table "examples": origin, target, sample_index, row (of the table "samples"). Tensors
    "tuned", a row per pair and unit: the same in `view.steps` steps. Table "tuned", the same rows: example (row of the
    table "examples"), unit, change (mean over the ways of the pair), standard, own (change on the way that is shown),
    minimum, maximum, label, measure (what the unit changes most of `TOLD`: each over its largest |change| among
    the units that are shown of the pair) and measured (that change); label "" where nothing changes.
    """
    config, looker, names = ctx.config.gan_counterfactuals, Looker.pictured(ctx, masks, paths.labels), paths.class_names
    pairs = [(o, t, typical(paths, rows)) for o, t, rows in paths.pairs if t == (o + 1) % len(names)]
    examples, images, tables, tuned = [], [], [], []
    for origin, target, row in pairs[: config.examples]:
        pair, sample = {"origin": names[origin], "target": names[target]}, int(paths.sample_index[row])
        subset = units[(units["origin"] == pair["origin"]) & (units["target"] == pair["target"])]
        chosen = _with_range(pd.DataFrame(subset), linked.table("units")).head(config.units)
        w = style_codes(
            load_link(linked), paths.r[row, :1], [(unit, 0) for unit in perturbations(chosen)], ctx.config.view.steps
        )
        tuned.append(looker(w).tensors(PICTURED))
        moved = paths.shift[row, torch.tensor(chosen["unit"].to_numpy())].numpy()
        chosen = chosen.assign(example=len(examples), own=moved)
        tables.append(with_largest_change(chosen, tuned[-1]["measures"], paths.labels))
        first, last = ends(ctx, Block(**pair, sample_index=(sample,)))
        images.append(looker(between(first, last, config.steps)[0].float()).tensors(PICTURED))
        examples.append(pair | {"sample_index": sample, "row": row})
    draft.table("examples", pd.DataFrame(examples))
    draft.tensors("examples", {name: torch.stack([path[name] for path in images]) for name in PICTURED})
    draft.table("tuned", pd.concat(tables, ignore_index=True))
    draft.tensors("tuned", {name: torch.cat([part[name] for part in tuned]) for name in PICTURED})


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


@dataclass(frozen=True)
class Paths:
    """N ways from a sample to its counterpart in T steps; K labels, C classes of the run."""

    origin: Tensor
    """`[N]` int64, an index among the classes of the run."""
    target: Tensor
    """`[N]` int64."""
    sample_index: Tensor
    """`[N]` int64, index in the stream of the test pairs."""
    w: Tensor
    """Of the first and the last image, `[N, 2, w_dim]` float32."""
    r: Tensor
    """Activations of the first and the last image, `[N, 2, units]` float32."""
    measures: Tensor
    """`[N, T, K, 5]` float32, NaN where a label is absent."""
    probability: Tensor
    """Softmax over all classes that the classifier knows, of those of the run: `[N, T, C]` float32."""
    prediction: Tensor
    """`[N, T]` int64: index into the classifier's classes."""
    known: tuple[str, ...]
    """The classes of the classifier."""
    class_names: tuple[str, ...]
    labels: tuple[str, ...]

    @property
    def change(self) -> Tensor:
        """Change of every measure from the first image to the last, `[N, K, 5]`."""
        return change(self.measures[:, 0], self.measures[:, -1])

    @property
    def shift(self) -> Tensor:
        """Change of every unit from the first image to the last, `[N, units]`."""
        return self.r[:, 1] - self.r[:, 0]

    @property
    def target_probability(self) -> Tensor:
        """Probability of each way's target, `[N, T]`."""
        return self.probability[torch.arange(len(self.target)), :, self.target]

    @property
    def at_target(self) -> Tensor:
        """Whether the classifier answers with the target, `[N, T]` bool."""
        indices = torch.tensor([self.known.index(name) for name in self.class_names])
        return self.prediction == indices[self.target][:, None]

    @property
    def pairs(self) -> list[tuple[int, int, Tensor]]:
        """Origin, target and the rows of each ordered pair of classes, in the order of the rows."""
        both = torch.stack([self.origin, self.target], 1)
        result = list(dict.fromkeys(map(tuple, both.tolist())))
        return [(o, t, (both == torch.tensor([o, t])).all(1).nonzero()[:, 0]) for o, t in result]


def sample_table(paths: Paths) -> pd.DataFrame:
    """A row per way.

    Columns: origin, target, sample_index, arrived (the last image is called the target), probability (of the target,
    last image), boundary (in [0, 1]: the middle between the last image before the target is answered and the first
    after; NaN without), w_distance and r_distance (from first to last).
    """
    names = np.asarray(paths.class_names)
    return pd.DataFrame(
        {
            "origin": names[paths.origin.numpy()],
            "target": names[paths.target.numpy()],
            "sample_index": paths.sample_index.numpy(),
            "arrived": paths.at_target[:, -1].numpy(),
            "probability": paths.target_probability[:, -1].numpy(),
            "boundary": boundary(paths.at_target).numpy(),
            "w_distance": (paths.w[:, 1] - paths.w[:, 0]).norm(dim=1).numpy(),
            "r_distance": paths.shift.norm(dim=1).numpy(),
        }
    )


def boundary(at_target: Tensor) -> Tensor:
    """Where a way enters the target for good, in [0, 1]: `[N, T]` bool → `[N]` float32.

    The middle between two images, as in the paper's supplement (S18); NaN where the last image is not the target's, or
    where the first one already is and all that follow.

    Example:
        >>> boundary(torch.tensor([[False, True, False, True, True], [False] * 5, [True] * 5])).tolist()
        [0.625, nan, nan]
    """
    steps = at_target.shape[1]
    stays = at_target.flip(1).to(torch.int64).cumprod(1).sum(1)  # images at the end that are all the target's
    middle = (steps - stays - 0.5) / (steps - 1)
    return torch.where((stays > 0) & (stays < steps), middle, torch.nan).float()


def measure_table(paths: Paths) -> pd.DataFrame:
    """What becomes of every label, a row per pair of classes, label and measure.

    Columns: origin, target, label, measure, change (mean over the samples that have the label in both images, see
    `Average`), low, high (quartiles), resultant (R of the angles; NaN for other measures), n, interpreted (the label is
    not too small over all images), rank (by |change|, of the angle R·|change|, among the interpreted labels of a pair
    and measure; 1 the largest, 0 without).
    """
    seen = interpreted(paths.measures)[:, None]

    def table(rows: Tensor) -> pd.DataFrame:
        average, columns = _over_samples(paths.change[rows])
        table = long_table({"label": paths.labels, "measure": MEASURES}, columns | {"interpreted": seen})
        size = pd.Series(average.ranked.abs().flatten().numpy()).where(table["interpreted"])
        rank = size.groupby(table["measure"]).rank(ascending=False, method="first")
        return table.assign(rank=rank.fillna(0).astype(int))

    return _by_pair(paths, table)


def _over_samples(change: Tensor) -> tuple[Average, dict[str, Tensor]]:
    """Mean, quartiles and number of known values of `change [n, K, 5]`."""
    average, values = Average.of(change), unwrapped(change)
    known = ~average.value.isnan()
    quartiles = [values.nanquantile(share, 0) if values.numel() else average.value for share in (0.25, 0.75)]
    low, high = (x.where(known, torch.nan) for x in quartiles)
    columns = {"change": average.value, "low": low, "high": high}
    return average, columns | {"resultant": average.resultants, "n": average.n}


def unit_table(paths: Paths, units: pd.DataFrame) -> pd.DataFrame:
    """How much every unit changes, a row per pair of classes and unit, the largest change of a pair first.

    Columns: origin, target, unit, change (mean over the samples), standard (the same in standard deviations over the
    training pairs; NaN for units that are not live), agree (share of the samples whose change has the mean's sign),
    rank (by |change|, from 1).

    Args:
        paths: all ways.
        units: table "units" of the link: std, status.
    """
    std = np.where(units["status"] == "live", units["std"], np.nan)

    def table(rows: Tensor) -> pd.DataFrame:
        subset = paths.shift[rows].double().numpy()
        mean = subset.mean(0)
        columns = {"unit": range(len(mean)), "change": mean, "standard": mean / std}
        table = pd.DataFrame(columns | {"agree": (np.sign(subset) == np.sign(mean)).mean(0)})
        return table.iloc[np.argsort(-np.abs(mean), kind="stable")].assign(rank=range(1, len(mean) + 1))

    return _by_pair(paths, table)


def _by_pair(paths: Paths, table: Callable[[Tensor], pd.DataFrame]) -> pd.DataFrame:
    """What `table` makes of the rows of every pair of classes, with the pair's origin and target in front."""
    tables = [
        (paths.class_names[origin], paths.class_names[target], table(rows)) for origin, target, rows in paths.pairs
    ]
    for origin, target, part in tables:
        part.insert(0, "origin", origin)
        part.insert(1, "target", target)
    return pd.concat([part for *_, part in tables], ignore_index=True)


def typical(paths: Paths, rows: Tensor) -> int:
    """The row that stands for a pair: of the ways that arrive, the one whose change in R is nearest to their mean.

    Where none arrives, of all.
    """
    arrived = rows[paths.at_target[rows, -1]]
    among = arrived if len(arrived) else rows
    shift = paths.shift[among]
    return int(among[(shift - shift.mean(0)).norm(dim=1).argmin()])
