"""Every unit through its range on many samples: parts, measures and answers, beside random directions (paper §3.3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, product
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lis.config.fields import keyed
from lis.context import Context
from lis.linking.link import link
from lis.linking.pairs import tuning_pairs
from lis.look import Looker
from lis.peaks import DOUBLE, FLOAT
from lis.quantify.measures import MEASURES
from lis.segmentation.training import part_images
from lis.shards import Shards
from lis.stage import MODELS, stage
from lis.store import Artifact, Draft
from lis.units.arrival import Arrival
from lis.units.controls import control_directions, control_values, positions, signed_distance
from lis.units.directions import Directions, directions, load_directions
from lis.units.parts import Parts, segmented
from lis.units.perturbation import Perturbation
from lis.units.tuned import sample_table
from lis.units.work import tuning_work

SHARD_VERSION = 6
ARRIVED = ("reencoded_share", "own", "others", "more")
"""Fields of `Arrival`."""
WAYS = ("beyond", "step_norm")
"""What is read off w."""
ENCODED = "reencoded"
"""What is kept of r̃ of random directions."""
ENDS = "ends"
"""First and last w, which are kept along `closed` alone: there they take hundreds of passes (`lis.units.ends`)."""


def tuned_arrays(ctx: Context) -> int:
    """Bytes of the measures and answers of all perturbations, samples and steps, twice while they are written."""
    config, classes, known = ctx.config.tuning, len(ctx.class_names), ctx.classifier.units
    units, positions = min(config.units or known, known), config.control_directions * (2 * config.control_lengths + 1)
    per_image = (len(ctx.config.classes.labels) * 5 + classes + 1) * FLOAT + DOUBLE
    arrived = units * config.seeds * classes * (len(ARRIVED) + 2) * FLOAT + positions * classes * known * FLOAT
    if config.along == "closed":
        arrived += units * config.seeds * classes * 2 * ctx.generator.w_dim * FLOAT
    return 2 * (arrived + (units * config.steps + positions) * config.seeds * classes * per_image)


@stage(
    "tuning",
    version=6,
    inputs=(link, directions, tuning_pairs, segmented),
    seed=True,
    models=MODELS,
    also=lambda ctx: keyed(ctx.config.tuning),
    images=part_images,
    arrays=tuned_arrays,
    work=tuning_work,
)
def tuning(
    ctx: Context, linked: Artifact, way: Artifact, seeds: Artifact, trained: Artifact | None, draft: Draft
) -> None:
    """Every unit tuned: from its minimum to its maximum over the training pairs, on accepted samples of every class.

    Tensors "tuning" (units, by number), to be read with `lis.units.tuned.Tuned`, and "control" (random directions, each
    asked to go as far to both sides of every sample as w of any unit went), with `lis.units.controls.Controls`.
    Tensors "seeds", of the S samples themselves: r `[S, units]`, w `[S, w_dim]` (the w̃ of r, unperturbed), measures
    `[S, labels, measures]` and probability `[S, classes]` of its image. Table "seeds": class, class_index,
    sample_index. Table "units", a row per unit of the classifier: unit, minimum, maximum, step_norm, tuned, and the
    reason why it is not (`dead`, `near-dead`, `no range`, `not in w`, `small step`, `little in w`). Json "facts": names
    of the perturbations in "tuning" and "control", labels, measures, class_names. With `tuning.along=closed` tensors
    "ends", to be read with `lis.units.ends.Ends`.

    Raises:
        ValueError: no unit is live or moves w, a style code or an answer is not finite, memory runs out with a single
            image, or what the stages before refuse.
    """
    config, samples, table = ctx.config.tuning, seeds.tensors("pairs"), linked.table("units")
    parts, made = Parts.of(ctx), load_directions(ctx, linked, way)
    std = made.live_std
    job = Job(ctx, made, Looker.tuned(ctx, parts.masks, parts.labels), std, (linked.key, way.key, *parts.keys))
    r, varying = samples["r"], std.where(std.isfinite(), 0)
    units = select(table, made, r, config.units)
    tuned = units.loc[units["tuned"]]
    moves, controls = perturbations(tuned), control_directions(varying, config.control_directions, ctx.config.seed)
    size, known = (len(r), len(parts.labels), len(ctx.class_names)), len(table)
    units_group = Group.of(moves, config.steps, *size)
    if made.along == "closed":
        units_group.results[ENDS] = torch.empty(len(moves), len(r), 2, ctx.generator.w_dim)
    still = replace(moves[0], name="unmoved", low=0.0, high=0.0, relative=True)
    unmoved = Group.trajectories([still], [torch.zeros(1)], 1, known, *size)
    _fill(job, samples, [unmoved, units_group], "tuning (blocks of units and samples)")
    if made.along == "closed":
        draft.tensors(ENDS, {"w": units_group.results.pop(ENDS)})
    beside = _positions(units_group.results, config.control_lengths)
    values = [control_values(made, r, direction, beside) for direction in controls]
    control = Group.trajectories(controls, values, len(beside), known, *size)
    _fill(job, samples, [control], "tuning (blocks of random directions and samples)")
    draft.tensors("tuning", units_group.tensors(samples))
    draft.tensors("control", trajectories(control, unmoved, samples))
    images = {name: unmoved.results[name][0, :, 0] for name in ("measures", "probability")}
    with torch.inference_mode():
        draft.tensors("seeds", {"r": r, "w": made.link(r)} | images)
    class_index = {"class_index": samples["class_index"]}
    draft.table("seeds", sample_table(samples, ctx.class_names, {"sample": range(len(r))}, class_index))
    draft.table("units", units.drop(columns="order"))
    names = {"tuning": [p.name for p in moves], "control": [p.name for p in controls]}
    facts = {"labels": list(parts.labels), "measures": list(MEASURES), "class_names": list(ctx.class_names)}
    draft.json("facts", {"names": names, **facts})


def _positions(units: dict[str, Tensor], count: int) -> Tensor:
    """What is asked of random directions, beside 0: as far as w of the unit and sample that went farthest.

    Where no w moved at all there is nothing to be compared, and any distance will do.

    Args:
        units: results of all tuned units.
        count: how many to each side.
    """
    far = float(units["position"].abs().max()) or 1.0
    asked = positions(far, units["step_norm"].mean(1), count)
    return asked[asked != 0]


@dataclass(frozen=True)
class Group:
    """Perturbations that all samples are tuned along, and where the results go."""

    perturbations: tuple[Perturbation, ...]
    steps: int
    results: dict[str, Tensor]
    """As in `lis.units.tuned.Tuned`, or of random directions in `lis.units.controls.Controls`, to be filled."""
    values: Tensor | None = None
    """Of random directions, `[P, steps]`; None: evenly over the range of each."""

    @classmethod
    def of(cls, perturbations: Sequence[Perturbation], steps: int, samples: int, labels: int, classes: int) -> Group:
        """Without results yet."""
        size = (len(perturbations), samples)
        results = _read(*size, steps, labels, classes) | {name: torch.empty(size) for name in (*ARRIVED, *WAYS)}
        return cls(tuple(perturbations), steps, results)

    @classmethod
    def trajectories(
        cls,
        perturbations: Sequence[Perturbation],
        values: Sequence[Tensor],
        steps: int,
        units: int,
        samples: int,
        labels: int,
        classes: int,
    ) -> Group:
        """Of random directions, at values `[steps]` each; sums over the samples of a class of r̃ / σ are added up."""
        results = _read(len(perturbations), samples, steps, labels, classes)
        results[ENCODED] = torch.zeros(len(perturbations), classes, steps, units, dtype=torch.float64)
        stacked = torch.stack(list(values)) if values else torch.empty(0, steps)
        return cls(tuple(perturbations), steps, results, stacked)

    def tensors(self, samples: dict[str, Tensor]) -> dict[str, Tensor]:
        """The fields of `Tuned` that are tensors."""
        values = [p.values(self.steps) for p in self.perturbations]
        return self.results | {
            "unit": torch.tensor([p.unit for p in self.perturbations], dtype=torch.int64),
            "value": torch.stack(values) if values else torch.empty(0, self.steps),
            "class_index": samples["class_index"],
            "sample_index": samples["sample_index"],
        }


def _read(count: int, samples: int, steps: int, labels: int, classes: int) -> dict[str, Tensor]:
    """Room for what is read off every image, and for how far its w is from f(r)."""
    size = (count, samples, steps)
    return {
        "measures": torch.empty(*size, labels, len(MEASURES)),
        "probability": torch.empty(*size, classes),
        "prediction": torch.empty(*size, dtype=torch.int64),
        "position": torch.empty(size),
    }


def trajectories(control: Group, unmoved: Group, samples: dict[str, Tensor]) -> dict[str, Tensor]:
    """The fields of `Controls` that are tensors: between both sides every direction has the unmoved samples.

    Args:
        control: directions, as many values below 0 as above.
        unmoved: the samples themselves.
        samples: class_index and sample_index, `[S]` each.
    """
    count, half = len(control.perturbations), control.steps // 2
    size = samples["class_index"].bincount(minlength=unmoved.results[ENCODED].shape[1])[:, None, None].clamp(min=1)
    tensors = {}
    for name, values in control.results.items():
        at_zero = unmoved.results[name].expand(count, *unmoved.results[name].shape[1:])
        tensors[name] = torch.cat([values[:, :, :half], at_zero, values[:, :, half:]], 2)
    encoded = tensors[ENCODED] / size
    tensors[ENCODED] = (encoded - encoded[:, :, half, None]).half()
    return tensors | {name: samples[name] for name in ("class_index", "sample_index")}


def _fill(job: Job, samples: dict[str, Tensor], groups: Sequence[Group], label: str) -> None:
    """Makes all shards, whatever is there already, and puts the results of each where it belongs."""
    config, names = job.ctx.config.tuning, job.ctx.class_names
    indices, blocks = [], []
    for group, rows in product(groups, _rows(samples["class_index"], config.seed_block)):
        class_index = int(samples["class_index"][rows.start])
        for first in range(0, len(group.perturbations), config.unit_block):
            columns = slice(first, first + config.unit_block)
            indices.append((group, columns, rows, class_index))
            moved, values = group.perturbations[columns], None if group.values is None else group.values[columns]
            of_samples = (names[class_index], samples["sample_index"][rows], samples["r"][rows])
            blocks.append(Block(*of_samples, moved, group.steps, values))
    made = SHARDS.artifacts(job, blocks, label)
    for (group, columns, rows, class_index), artifact in zip(indices, made, strict=True):
        for name, values in artifact.tensors("block").items():
            if name == ENCODED:
                group.results[name][columns, class_index] += values
            else:
                group.results[name][columns, rows] = values


def _rows(class_index: Tensor, most: int) -> list[slice]:
    """Consecutive samples of one class, at most so many: of an ascending `class_index [S]`."""
    ends = pairwise([0, *class_index.bincount().cumsum(0).tolist()])
    return [slice(k, min(k + most, end)) for start, end in ends for k in range(start, end, most)]


@dataclass(frozen=True)
class Job:
    """What all shards of a run share."""

    ctx: Context
    directions: Directions
    looker: Looker
    std: Tensor
    """Standard deviation of each unit, infinite for units that are not live: `[units]` on the CPU."""
    inputs: tuple[str, ...]
    """Keys of the artifacts of the link, of the directions and of the segmenter."""


@dataclass(frozen=True, eq=False)
class Block:
    """Samples of one class and perturbations."""

    class_name: str
    sample_index: Tensor
    """`[n]` int64."""
    r: Tensor
    """`[n, units]`."""
    perturbations: tuple[Perturbation, ...]
    steps: int
    values: Tensor | None = None
    """Of random directions, `[P, steps]`; None: evenly over the range of each."""

    def config(self, ctx: Context) -> dict[str, Any]:
        """What follows from samples and steps in the recipe of a shard."""
        config = ctx.config
        samples = {"seed": config.seed, "truncation": config.gan.truncation, "samples": self.sample_index.tolist()}
        return samples | {"class": self.class_name, "steps": self.steps}


def _config(job: Job, block: Block) -> dict[str, Any]:
    moves = [[p.name, p.low, p.high, p.relative] for p in block.perturbations]
    values = {} if block.values is None else {"values": block.values.tolist()}
    return block.config(job.ctx) | {"classes": list(job.ctx.class_names), "perturbations": moves} | values


@torch.inference_mode()
def _build_shard(job: Job, block: Block, draft: Draft) -> None:
    moves = block.perturbations
    values = [p.values(block.steps) for p in moves] if block.values is None else block.values
    w = job.directions.moved_each(block.r, moves, torch.stack(list(values)))
    look = job.looker(w)
    result = look.tensors(("measures", "probability", "prediction"))
    result["position"] = signed_distance(w, job.directions.link(block.r))
    if block.values is not None:
        draft.tensors("block", result | {ENCODED: (look.r.double() / job.std).sum(1)})
        return
    encoded = zip(moves, look.r[:, :, 0], look.r[:, :, -1], strict=True)
    arrivals = [Arrival.of(p, first, last, job.std, float(job.std[p.unit])) for p, first, last in encoded]
    result |= {name: torch.stack([getattr(each, name) for each in arrivals]) for name in ARRIVED}
    result["beyond"] = job.directions.beyond(w[:, :, -1])
    result["step_norm"] = (w[:, :, -1] - w[:, :, 0]).norm(dim=2)
    if job.directions.along == "closed":
        result[ENDS] = w[:, :, [0, -1]].float()
    draft.tensors("block", result)


SHARDS = Shards("tuning-shard", SHARD_VERSION, _config, _build_shard)
"""Tensors "block" of P perturbations, n samples and T steps, as in `lis.units.tuned.Tuned`: measures, probability,
prediction, position `[P, n, T, …]`, and `ARRIVED`, `WAYS` `[P, n]`; along `closed` also `ENDS` `[P, n, 2, w_dim]`; of
random directions instead `ENCODED`, the sum of r̃ / σ over the samples, `[P, T, units]`. A style code or an answer that
is not finite is a ValueError."""


@torch.inference_mode()
def select(units: pd.DataFrame, made: Directions, r: Tensor, most: int | None) -> pd.DataFrame:
    """Every unit: unit, minimum, maximum, step_norm, order (by which units are taken), tuned, reason (why it is not).

    The step_norm is ‖w̃(maximum) − w̃(minimum)‖, a mean over the samples where the link is not linear; NaN for units
    that are not live. Reasons are `dead`, `near-dead`, `no range` (none, or none that moves w̃), `not in w` (w says
    nothing of the unit), and of those beyond `most` `small step` (along the link's rows, where the longest steps are
    taken) or `little in w` (along any other way, where those are taken that w expresses best: `Forward.expressed`).

    Args:
        units: table "units" of the link: unit, minimum, maximum, status.
        made: which way a unit is moved.
        r: samples `[n, units]`.
        most: how many are tuned at most; None: all.

    Raises:
        ValueError: no unit is live or moves w̃, or the link gives a w̃ that is not finite.
    """
    live = (units["status"] == "live").to_numpy()
    if not live.any():
        raise ValueError("no unit of the classifier is live: expected one or more; use another classifier")
    table = units[["unit", "minimum", "maximum"]].reset_index(drop=True)
    steps = np.full(len(table), np.nan)
    steps[live] = [made.step_norm(r, unit) for unit in perturbations(table.loc[live])]
    reason = np.where(live, "", units["status"])
    reason[steps == 0] = "no range"
    reason[np.isinf(steps)] = "not in w"
    if not (reason == "").any():
        raise ValueError("no live unit of the classifier moves w: expected one or more; fit another link (link=ridge)")
    linked = made.along == "link"
    order = steps if linked else made.model.expressed.numpy()
    beyond = pd.Series(np.where(reason == "", order, np.nan)).rank(ascending=False, method="first") > (most or np.inf)
    reason[beyond.to_numpy()] = "small step" if linked else "little in w"
    return table.assign(step_norm=steps, order=order, tuned=reason == "", reason=reason)


def perturbations(units: pd.DataFrame) -> list[Perturbation]:
    """Every row's unit, from its minimum to its maximum."""
    rows = zip(*(units[name].tolist() for name in ("unit", "minimum", "maximum")), strict=True)
    return [Perturbation.of_unit(*row) for row in rows]
