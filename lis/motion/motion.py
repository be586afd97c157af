"""Units as movement: samples along a unit's range, aligned image by image, and what moves (paper §3.2, S5.2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import torch
from omegaconf import MISSING
from torch import Tensor

from lis import build, costs
from lis.config import RunConfig
from lis.config.fields import number
from lis.context import Context
from lis.images import LARGEST, smaller, to_uint8
from lis.linking.link import link
from lis.linking.pairs import pairs, tuning_pairs
from lis.look import Looker, generated
from lis.matching.affine import decompose
from lis.matching.align import Alignment, align
from lis.memory import Machine
from lis.motion.local import AGREEMENT, agreement, local_motion, whole_field
from lis.motion.matchers import matched_side, run_matcher, vote_bytes
from lis.motion.tuned import tuned_table
from lis.motion.work import motion_work
from lis.peaks import picture_arrays
from lis.quantify.averages import axial_median
from lis.segmentation.training import part_layers
from lis.shards import Shards, joined
from lis.stage import stage
from lis.store import Artifact, Draft
from lis.streams import Stream
from lis.types import Classifier, Matcher
from lis.units.direction import check_direction, direction_key, find_direction, of_direction
from lis.units.directions import Directions, directions, load_directions, mean_arrival
from lis.units.parts import Finder, Parts, segmented
from lis.units.perturbation import Perturbation
from lis.units.pictures import MOST, typical
from lis.units.traversal import first
from lis.units.tuned import long_table, sample_table
from lis.units.tuning import Block, perturbations, select
from lis.units.unit import check_unit, of_unit

SHARD_VERSION = 2
LOST = "lost: the last image is too unlike the first to say where anything went"
"""Why a sample has no motion whose images could be aligned, but do not agree then."""
GLOBAL = ("dx", "dy", "rotation", "scale", "shear")
"""Columns that tell what an affine map does."""
FAR = 3.0
"""A unit under which the figure moves locally so many times as far as under the median unit is not shown: its field
says less than those of the others. Samples that are lost altogether have no field to begin with (`LOST`)."""


@dataclass
class MotionConfig:
    """Units as movement (paper §3.2, S5.2): `analysis=motion`."""

    units: int = number(MISSING, low=1)
    """At most so many units are followed: those with the largest linked step, or that w expresses best; `unit` or
    `direction` asks for one."""
    seeds: int = number(MISSING, low=1)
    """Samples per class, of those that are tuned."""
    steps: int = number(5, low=2)
    """Images along the range, each aligned to the one before."""
    examples: int = number(4, low=0)
    """Units that are shown."""
    shuffles: int = number(2000, low=1)
    """Permutations of the units that their movement is held against (S15)."""


def validate_motion(settings: RunConfig, classifier: Classifier) -> None:
    """Checks, before any work, that there are as many samples as asked for, and that matcher, unit or direction exist.

    Raises:
        ValueError: says what is wrong.
    """
    if settings.motion.seeds > settings.tuning.seeds:
        raise ValueError(
            f"motion.seeds={settings.motion.seeds}: expected at most tuning.seeds={settings.tuning.seeds}, the samples "
            "per class that are tuned"
        )
    if settings.unit is not None:
        check_unit(settings.unit, classifier.units)
    elif settings.direction is not None:
        check_direction(settings.direction, settings.classes.names, classifier.units)
    build.matcher(settings.matcher, LARGEST, classifier)  # of whatever size


def _also(ctx: Context) -> dict[str, Any]:
    unit, text = ctx.config.unit, ctx.config.direction
    direction = None if unit is not None or text is None else direction_key(text, ctx.classifier.units)
    return {"unit": unit, "direction": direction, "matcher": run_matcher(ctx).fingerprint}


def _images(ctx: Context, machine: Machine) -> int:
    """Bytes of an image with its maps, and what the matcher makes of two: flow takes next to nothing beside it."""
    made = costs.generator_cost(ctx.generator, ctx.device, part_layers(ctx)).peak
    pump = "pump" in getattr(ctx.config.matcher, "_target_", "")
    return max(made, vote_bytes(ctx) if pump else 0)


@stage(
    "motion",
    version=5,
    inputs=(link, directions, tuning_pairs, segmented),
    config=MotionConfig,
    seed=True,
    models=("generator",),
    also=_also,
    check=lambda ctx: validate_motion(ctx.config, ctx.classifier),
    images=_images,
    arrays=picture_arrays,
    work=motion_work,
)
def motion(
    ctx: Context,
    config: MotionConfig,
    linked: Artifact,
    way: Artifact,
    seeds: Artifact,
    trained: Artifact | None,
    draft: Draft,
) -> None:
    """Movement along the range of units: of the whole figure, and of its parts once that is taken out.

    The units are `unit`, or the direction `direction`, or the `motion.units` that `lis.units.tuning.select` takes; the
    samples the first `motion.seeds` of each class that are tuned.

    Table "tracks", a row per unit and sample: name (`unit 3`, or a direction's), unit (−1 for a direction), class,
    sample_index, dx, dy, rotation, scale, shear (of the affine map from the first image to the last, see
    `lis.matching.affine.Motion`), figure (mean length of the local displacement after alignment, pixels), agreement (of
    the first image and the last one then, see `lis.motion.local.agreement`), reason (why there is no motion; else "").
    Table "local", a row per unit, sample and label: name, unit, class, sample_index, label, strength, x, y
    (`lis.motion.local.Local`). Medians over samples: table "units": name, unit, low, high, the numbers of "tracks", n;
    table "parts": name, unit, label, strength, x, y, n. Table "tuned": see `lis.motion.tuned`. Table and tensors
    "examples": see `example_table`. Json "facts": names, height and width (of the images that are matched), matcher,
    labels, class_names.

    Raises:
        ValueError: as `validate_motion`; what the stages before refuse.
    """
    parts, samples = Parts.of(ctx), first(seeds.tensors("pairs"), config.seeds)
    made = load_directions(ctx, linked, way)
    along, side = followed(ctx, linked, made, samples["r"]), matched_side(ctx.generator)
    inputs = (linked.key, way.key, *parts.keys)
    job = Job(ctx, made, run_matcher(ctx), parts.masks, len(parts.labels), inputs)
    shards = list(SHARDS.artifacts(job, _blocks(ctx, along, samples), "motion (blocks of samples)"))
    result = joined(shards, "tracks")
    reasons = [reason for artifact in shards for reason in artifact.json("reasons")["reasons"]]
    tracks = track_table(along, samples, result, reasons, (side, side), ctx.class_names)
    local = local_table(tracks, result, parts.labels)
    draft.table("tracks", tracks)
    draft.table("local", local)
    draft.table("units", unit_table(along, tracks))
    draft.table("arrival", arrival_table(ctx, made, along, samples["r"]))
    draft.table("parts", _medians(local, ["name", "unit", "label"], ["strength", "x", "y"]))
    draft.table("tuned", tuned_table(tracks, config.shuffles, Stream("motion", ctx.config.seed).rng()))
    figure, strength = (result[name].unflatten(0, (len(along), -1)) for name in ("figure", "strength"))
    rows = chosen(figure, strength, config.examples)
    draft.table("examples", example_table(rows, along, samples, ctx.class_names))
    draft.tensors("examples", example_tensors(job, rows, along, samples, config.steps))
    names = {"names": [p.label for p in along], "labels": list(parts.labels), "class_names": list(ctx.class_names)}
    draft.json("facts", {"height": side, "width": side, "matcher": type(job.matcher).__name__, **names})


def followed(ctx: Context, linked: Artifact, made: Directions, r: Tensor) -> list[Perturbation]:
    """The units or the direction whose motion is asked for, over samples `r [n, units]`."""
    config, table = ctx.config, linked.table("units")
    if config.unit is not None:
        return [of_unit(table, config.unit)[0]]
    if config.direction is not None:
        train = pairs(ctx, "train").tensors("pairs")
        result = find_direction(config.direction, train["r"], train["class_index"], ctx.class_names)
        return [of_direction(config.direction, result, train["r"])[0]]
    units = select(table, made, r, config.motion.units)
    return perturbations(pd.DataFrame(units.loc[units["tuned"]]))


@torch.inference_mode()
def arrival_table(ctx: Context, made: Directions, along: Sequence[Perturbation], r: Tensor) -> pd.DataFrame:
    """Table "arrival" of the stage "motion", a row per unit or direction followed: name, unit, and what arrives in the
    samples `r [n, units]` (own, others, more, beyond, step_norm: `mean_arrival`).
    """
    looker, train, rows = Looker(ctx, ctx.tuned_batches()), pairs(ctx, "train").tensors("pairs")["r"], []
    for asked in along:
        w = made.moved(r, asked, asked.values(2))
        std = float(asked.project(train).std(correction=0))
        rows.append({"name": asked.label, "unit": asked.unit} | mean_arrival(made, asked, w, looker(w).r, std))
    return pd.DataFrame(rows)


def _blocks(ctx: Context, along: Sequence[Perturbation], samples: dict[str, Tensor]) -> list[Block]:
    """A block per unit and class."""
    blocks = []
    for perturbation, (c, name) in product(along, enumerate(ctx.class_names)):
        rows = samples["class_index"] == c
        r, steps = samples["r"][rows], ctx.config.motion.steps
        blocks.append(Block(name, samples["sample_index"][rows], r, (perturbation,), steps))
    return blocks


@dataclass(frozen=True)
class Job:
    """What all shards of a run share."""

    ctx: Context
    directions: Directions
    matcher: Matcher
    masks: Finder
    labels: int
    inputs: tuple[str, ...]
    """Keys of the artifacts of the link, of the directions and of the segmenter."""


def _config(job: Job, block: Block) -> dict[str, Any]:
    moves = [
        [p.unit, None if p.direction is None else p.direction.tolist(), p.low, p.high, p.relative]
        for p in block.perturbations
    ]
    return block.config(job.ctx) | {"perturbations": moves, "labels": job.labels}


def _weights(job: Job, block: Block) -> dict[str, str]:
    return {"generator": job.ctx.generator.fingerprint, "matcher": job.matcher.fingerprint}


def _build_shard(job: Job, block: Block, draft: Draft) -> None:
    tracks = [sample_track(job, r[None], block.perturbations[0], block.steps) for r in block.r]
    names = ("total", "figure", "strength", "drift", "agreement")
    draft.tensors("tracks", {name: torch.stack([track[name] for track, _ in tracks]) for name in names})
    draft.json("reasons", {"reasons": [reason for _, reason in tracks]})


SHARDS = Shards("motion-shard", SHARD_VERSION, _config, _build_shard, _weights)
"""Tensors "tracks" of n samples in T steps: total `[n, T, 2, 3]` float64 (the affine map from the first image to each),
figure `[n]`, strength `[n, K]` and drift `[n, K, 2]` float32 (`Local`, of the last step), agreement `[n]` (of the first
image and the last one, aligned); all but the last NaN where that is below `AGREEMENT`. Json "reasons": why a sample has
none. A style code that is not finite is a ValueError."""


def sample_track(job: Job, r: Tensor, along: Perturbation, steps: int) -> tuple[dict[str, Tensor], str]:
    """What a shard holds of a sample `r [1, units]`, and why it has no motion, if so."""
    result, views, masks = follow(job, r, along, steps, [steps - 1])
    local = local_motion(result.local[-1], masks[0], job.labels)
    track = {"total": result.total, "figure": local.figure, "strength": local.strength, "drift": local.drift}
    agrees = agreement(views[0, :3], result.aligned[-1, :3], result.local[-1])
    reason = next(filter(None, result.reason), "" if agrees >= AGREEMENT else LOST)
    if reason == LOST:
        track = {name: torch.full_like(values, torch.nan) for name, values in track.items()}
    return track | {"agreement": torch.tensor(agrees)}, reason


@torch.inference_mode()
def follow(
    job: Job, r: Tensor, along: Perturbation, steps: int, fields: Sequence[int] | None = None
) -> tuple[Alignment, Tensor, Tensor]:
    """One sample `r [1, units]` along its range: aligned, its views `[T, 3 + c, H, W]`, and their masks `[T, h, w]`.

    The views stay on the run's device, where they are matched; all else lies on the CPU.
    `fields` are the steps whose local field is made; None: all.
    """
    w = job.directions.moved(r, along, along.values(steps))
    seen = [_view(job, code[None]) for code in w[0]]  # one by one: the same images come out whatever the batch
    views, masks = (torch.cat(parts) for parts in zip(*seen, strict=True))
    return align(job.matcher, views, fields=fields), views, masks


def _view(job: Job, w: Tensor) -> tuple[Tensor, Tensor]:
    """What is matched of the image of `w [1, w_dim]`, on the run's device, and its mask, on the CPU."""
    image, mask, maps = generated(job.ctx, w, job.masks if job.labels else None, job.matcher.layers)
    return job.matcher.view(smaller(image), maps), mask.cpu()


def track_table(
    along: Sequence[Perturbation],
    samples: Mapping[str, Tensor],
    result: Mapping[str, Tensor],
    reasons: Sequence[str],
    size: tuple[int, int],
    class_names: Sequence[str],
) -> pd.DataFrame:
    """Table "tracks" of the stage "motion", a row per unit and sample.

    Args:
        along: what was followed.
        samples: class_index and sample_index, `[n]` each.
        result: total `[along · n, T, 2, 3]`, figure and agreement `[along · n]`, samples running fastest.
        reasons: why there is no motion, or "", as many.
        size: height and width of the images that were matched.
        class_names: the classes of the run.
    """
    moved, count = decompose(result["total"][:, -1], size), (len(along), len(samples["class_index"]))
    columns = {name: getattr(moved, name) for name in GLOBAL} | {name: result[name] for name in ("figure", "agreement")}
    columns = {name: values.reshape(count) for name, values in columns.items()}
    axes = {"name": [p.label for p in along], "sample": range(count[1])}
    table = sample_table(samples, class_names, axes, columns | {"reason": np.reshape(reasons, count)})
    table.insert(1, "unit", np.repeat([p.unit for p in along], count[1]))
    return table


def local_table(tracks: pd.DataFrame, result: Mapping[str, Tensor], labels: Sequence[str]) -> pd.DataFrame:
    """Table "local" of the stage "motion", a row per unit, sample and label.

    Args:
        tracks: table "tracks".
        result: strength `[rows, K]` and drift `[rows, K, 2]`, in the order of "tracks".
        labels: K names.
    """
    columns = {"strength": result["strength"], "x": result["drift"][..., 0], "y": result["drift"][..., 1]}
    known = {name: tracks[name].to_numpy()[:, None] for name in ("name", "unit", "class", "sample_index")}
    table = long_table({"row": range(len(tracks)), "label": labels}, known | columns)
    return table.drop(columns="row")


def unit_table(along: Sequence[Perturbation], tracks: pd.DataFrame) -> pd.DataFrame:
    """Table "units" of the stage "motion": ranges, and medians over the samples that have a motion (n).

    Rotations by 170° and −170° have a median of 180°: that of directions.
    """
    table = _medians(tracks, ["name"], [*GLOBAL, "figure"])
    turns = [torch.tensor(subset["rotation"].to_numpy(float)) for _, subset in tracks.groupby("name", sort=False)]
    table["rotation"] = [2 * float(axial_median(degrees / 2)) for degrees in turns]
    ranges = {p.label: (p.unit, p.low, p.high) for p in along}
    for index, name in enumerate(("unit", "low", "high")):
        table.insert(1 + index, name, [ranges[label][index] for label in table["name"]])
    return table


def _medians(table: pd.DataFrame, by: list[str], columns: list[str]) -> pd.DataFrame:
    """Medians of the columns in each group, in the order of the table, and n: the rows where the first one is known."""
    grouped = table.groupby(by, sort=False)
    medians = pd.DataFrame(grouped[columns].median())
    return medians.assign(n=grouped[columns[0]].count()).reset_index()


@dataclass(frozen=True)
class Example:
    """A row of a figure: which unit and which sample, by their indices."""

    figure: str
    """`fields` (all units on one sample, Fig. 4C) or `trajectories` (each on one of its own, S14)."""
    index: int
    sample: int


def chosen(figure: Tensor, strength: Tensor, most: int) -> list[Example]:
    """Units that move one part more than the others, each another part, on samples that are typical for them.

    A unit's part is the one with the largest median over samples, of those that most samples with a motion have; units
    come in the order of that median relative to the mean over parts. When all parts have a unit, the next round begins.
    Units that go too `FAR`, or are lost in most samples, are passed over. A sample is typical for a unit when its
    strength is nearest to the mean over samples, for several units when the distances, relative to the means, have the
    smallest sum. Without parts the whole figure counts.

    Args:
        figure: mean length of the local displacement `[units, samples]`, NaN where there is none.
        strength: of each part, `[units, samples, K]`.
        most: units.

    Example:
        >>> strength = torch.tensor([[[9.0, 8.0]], [[4.0, 1.0]], [[3.0, 1.0]], [[1.0, 2.0]]])
        >>> [(row.figure, row.index) for row in chosen(strength.mean(2), strength, 2)]
        [('fields', 1), ('fields', 3), ('trajectories', 1), ('trajectories', 3)]
    """
    parts = strength if strength.shape[2] else figure[..., None]
    moves = figure.isfinite()
    often = parts[moves].isfinite().float().mean(0) >= MOST
    median = parts.nanmedian(1).values.where(often, torch.nan)
    size, part = median.nan_to_num(-1.0).max(1)
    contrast = size / median.nanmean(1) if parts.shape[2] > 1 else size
    whole = figure.nanmedian(1).values
    contrast = contrast.where((size > 0) & (whole <= FAR * whole.nanmedian()) & (moves.float().mean(1) >= MOST), -1.0)
    order = [int(index) for index in contrast.argsort(descending=True, stable=True) if contrast[index] > 0]
    units = _by_turns(order, part.tolist())[:most]
    if not units:
        return []
    rows = {index: parts[index, :, part[index]] for index in units}
    common = typical(torch.stack(list(rows.values())))
    fields = [Example("fields", index, common) for index, row in rows.items() if row[common].isfinite()]
    return fields + [Example("trajectories", index, typical(row[None])) for index, row in rows.items()]


def _by_turns(order: Sequence[int], part: Sequence[int]) -> list[int]:
    """Units in an order in which each part comes once before one comes twice."""
    turn = {index: sum(part[other] == part[index] for other in order[:k]) for k, index in enumerate(order)}
    return sorted(order, key=lambda index: turn[index])


def example_table(
    rows: Sequence[Example], along: Sequence[Perturbation], samples: Mapping[str, Tensor], class_names: Sequence[str]
) -> pd.DataFrame:
    """Table "examples" of the stage "motion": figure, name, unit, class, sample_index; a row per row of the tensors."""
    units, index = [along[row.index] for row in rows], [row.sample for row in rows]
    names = {"figure": [row.figure for row in rows], "name": [unit.label for unit in units]}
    numbers = {"unit": np.array([unit.unit for unit in units], dtype=np.int64)}
    classes = {"class": [class_names[c] for c in samples["class_index"][index].tolist()]}
    return pd.DataFrame({**names, **numbers, **classes, "sample_index": samples["sample_index"][index].numpy()})


def example_tensors(
    job: Job, rows: Sequence[Example], along: Sequence[Perturbation], samples: Mapping[str, Tensor], steps: int
) -> dict[str, Tensor]:
    """Tensors "examples" of the stage "motion", E rows in T steps.

    image and aligned `[E, T, 3, H, W]` uint8, valid `[E, T, H, W]` bool (where an aligned image has pixels of its own),
    local `[E, T, H, W, 2]` float32 (displacement from the first image to each aligned one, pixels, NaN where unknown),
    whole `[E, H, W, 2]` (the same and the affine map: from the first image to the last as it is), mask `[E, h, w]`
    uint8 (parts of the first image), total `[E, T, 2, 3]` (affine map from the first image to each), value `[E, T]` (of
    the unit or the projection).
    """
    result = []
    for row in rows:
        unit = along[row.index]
        alignment, views, masks = follow(job, samples["r"][row.sample, None], unit, steps)
        result.append(
            {
                "image": to_uint8(views[:, :3]),
                "aligned": to_uint8(alignment.aligned[:, :3]),
                "valid": alignment.valid,
                "local": alignment.local,
                "whole": whole_field(alignment),
                "mask": masks[0].to(torch.uint8),
                "total": alignment.total,
                "value": unit.values(steps),
            }
        )
    return {name: torch.stack([one[name] for one in result]) for name in result[0]} if result else {}
