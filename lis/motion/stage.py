"""Units as movement: samples along a unit's range, aligned image by image, and what moves (paper §3.2, S5.2)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from omegaconf import MISSING
from torch import Tensor

from lis import build, costs
from lis.config import RunConfig
from lis.config.fields import number
from lis.context import Context
from lis.images import LARGEST
from lis.linking.fit import link, load_link
from lis.linking.pairs import pairs, tuning_pairs
from lis.memory import Machine
from lis.motion.matchers import matched_side, own_matcher, vote_bytes
from lis.motion.shards import SHARDS, Block, Job
from lis.motion.shown import chosen, shown_table, shown_tensors
from lis.motion.tables import local_table, part_table, track_table, unit_table
from lis.motion.tuned import tuned_table
from lis.peaks import picture_arrays
from lis.segmentation.needs import part_layers
from lis.shards import joined
from lis.stage import stage
from lis.store import Artifact, Draft
from lis.streams import Stream
from lis.types import Classifier
from lis.units.direction import check_direction, direction_key, find_direction
from lis.units.parts import Parts, segmented
from lis.units.perturbation import Perturbation
from lis.units.selection import perturbations, select
from lis.units.view import of_direction, of_unit


@dataclass
class MotionConfig:
    """Units as movement (paper §3.2, S5.2): `analysis=motion`."""

    units: int = number(MISSING, low=1)
    """At most so many units are followed, those with the largest linked step; `unit` or `direction` asks for one."""
    seeds: int = number(MISSING, low=1)
    """Samples per class, of those that are tuned."""
    steps: int = number(5, low=2)
    """Images along the range, each aligned to the one before."""
    examples: int = number(4, low=0)
    """Units that are shown."""
    shuffles: int = number(2000, low=1)
    """Permutations of the units that their movement is held against (S15)."""


def validate_motion(settings: RunConfig, classifier: Classifier) -> None:
    """Checks, before any work, that there are as many samples as wanted, and that matcher, unit or direction exist.

    Raises:
        ValueError: says what is wrong.
    """
    if settings.motion.seeds > settings.tuning.seeds:
        raise ValueError(
            f"motion.seeds={settings.motion.seeds}: expected at most tuning.seeds={settings.tuning.seeds}, the samples "
            "per class that are tuned"
        )
    if settings.unit is not None and settings.unit not in range(classifier.units):
        raise ValueError(f"unit={settings.unit}: expected 0 to {classifier.units - 1}, the classifier's units")
    if settings.unit is None and settings.direction is not None:
        check_direction(settings.direction, settings.classes.names, classifier.units)
    build.matcher(settings.matcher, LARGEST, classifier)  # of whatever size


def _also(ctx: Context) -> dict[str, Any]:
    config = ctx.config
    direction = None
    if config.unit is None and config.direction is not None:
        direction = direction_key(config.direction, ctx.classifier.units)
    return {"unit": config.unit, "direction": direction, "matcher": own_matcher(ctx).fingerprint}


def _images(ctx: Context, machine: Machine) -> int:
    """Bytes of an image with its maps, and what the matcher makes of two: flow takes next to nothing beside it."""
    made = costs.generator_cost(ctx.generator, ctx.device, part_layers(ctx)).peak
    pump = "pump" in getattr(ctx.config.matcher, "_target_", "")
    return max(made, vote_bytes(ctx) if pump else 0)


@stage(
    "motion",
    version=2,
    inputs=(link, tuning_pairs, segmented),
    config=MotionConfig,
    seed=True,
    models=("generator",),
    also=_also,
    check=lambda ctx: validate_motion(ctx.config, ctx.classifier),
    images=_images,
    arrays=picture_arrays,
)
def motion(
    ctx: Context, config: MotionConfig, linked: Artifact, seeds: Artifact, trained: Artifact | None, draft: Draft
) -> None:
    """Movement along the range of units: of the whole figure, and of its parts once that is taken out.

    The units are `unit`, or the direction `direction`, or the `motion.units` with the largest linked step; the samples
    the first `motion.seeds` of each class that are tuned.

    Table "tracks", a row per unit and sample: name (`unit 3`, or a direction's), unit (−1 for a direction), class,
    sample_index, dx, dy, rotation, scale, shear (of the affine map from the first image to the last, see
    `lis.matching.affine.Motion`), figure (mean length of the local displacement after alignment, pixels), agreement (of
    the first image and the last one then, see `lis.motion.local.agreement`), reason (why there is no motion; else "").
    Table "local", a row per unit, sample and label: name, unit, class, sample_index, label, strength, x, y
    (`lis.motion.local.Local`). Medians over samples: table "units": name, unit, low, high, the numbers of "tracks", n;
    table "parts": name, unit, label, strength, x, y, n. Table "tuned": see `lis.motion.tuned`. Table and tensors
    "shown": see `lis.motion.shown`. Json "facts": names, height and width (of the images that are matched), matcher,
    labels, class_names.

    Raises:
        ValueError: as `validate_motion`; what the stages before refuse.
    """
    parts, matcher = Parts.of(ctx), own_matcher(ctx)
    samples = _first(seeds.tensors("pairs"), config.seeds)
    along = followed(ctx, linked, samples["r"])
    job = Job(ctx, load_link(linked), matcher, parts.masks, len(parts.labels), (linked.key, *parts.keys))
    _build(job, parts.labels, along, samples, draft)


def followed(ctx: Context, linked: Artifact, r: Tensor) -> list[Perturbation]:
    """The units or the direction whose motion is asked for, over samples `r [n, units]`."""
    config, table = ctx.config, linked.table("units")
    if config.unit is not None:
        return [of_unit(table, config.unit).along]
    if config.direction is not None:
        train = pairs(ctx, "train").tensors("pairs")
        found = find_direction(config.direction, train["r"], train["class_index"], ctx.class_names)
        return [of_direction(config.direction, found, train["r"]).along]
    units = select(table, load_link(linked), r, config.motion.units)
    return perturbations(pd.DataFrame(units.loc[units["tuned"]]))


def _first(samples: dict[str, Tensor], most: int) -> dict[str, Tensor]:
    """The first samples of each class, of rows that are ordered by class."""
    classes = samples["class_index"].unique().tolist()
    rows = torch.cat([(samples["class_index"] == c).nonzero()[:most, 0] for c in classes])
    return {name: values[rows] for name, values in samples.items()}


def _build(
    job: Job, labels: Sequence[str], along: Sequence[Perturbation], samples: dict[str, Tensor], draft: Draft
) -> None:
    ctx, config, names = job.ctx, job.ctx.config.motion, job.ctx.class_names
    blocks = list(_blocks(ctx, along, samples, config.steps))
    found = _joined(list(SHARDS.artifacts(job, blocks, "motion (blocks of samples)")))
    side = matched_side(ctx.generator)
    tracks = track_table(along, samples, found, (side, side), names)
    local = local_table(tracks, found, labels)
    draft.table("tracks", tracks)
    draft.table("local", local)
    draft.table("units", unit_table(along, tracks))
    draft.table("parts", part_table(local))
    draft.table("tuned", tuned_table(tracks, config.shuffles, Stream("motion", ctx.config.seed).rng()))
    figure, strength = (found[name].unflatten(0, (len(along), -1)) for name in ("figure", "strength"))
    rows = chosen(figure, strength, config.examples)
    draft.table("shown", shown_table(rows, along, samples, names))
    draft.tensors("shown", shown_tensors(job, rows, along, samples, config.steps))
    draft.json("facts", _facts(job, labels, along))


def _blocks(ctx: Context, along: Sequence[Perturbation], samples: dict[str, Tensor], steps: int) -> Iterator[Block]:
    """A block per unit and class."""
    for perturbation in along:
        for c, name in enumerate(ctx.class_names):
            own = samples["class_index"] == c
            yield Block(name, samples["sample_index"][own], samples["r"][own], perturbation, steps)


def _joined(shards: Sequence[Artifact]) -> dict[str, Any]:
    """What all shards hold, in their order: tensors, and `reasons`."""
    reasons = [reason for artifact in shards for reason in artifact.json("reasons")["reasons"]]
    return joined(shards, "tracks") | {"reasons": reasons}


def _facts(job: Job, labels: Sequence[str], along: Sequence[Perturbation]) -> dict[str, Any]:
    side = matched_side(job.ctx.generator)
    return {
        "names": [p.label for p in along],
        "height": side,
        "width": side,
        "matcher": type(job.matcher).__name__,
        "labels": list(labels),
        "class_names": list(job.ctx.class_names),
    }
