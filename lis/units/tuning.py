"""Every unit through its range on many samples: parts, measures and answers, beside random directions (paper §3.3)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, product
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.optimize import root_scalar
from torch import Tensor

from lis.config.fields import keyed
from lis.context import Context
from lis.linking.link import link, load_link
from lis.linking.pairs import tuning_pairs
from lis.look import Looker
from lis.peaks import DOUBLE, FLOAT
from lis.quantify.measures import MEASURES
from lis.segmentation.segmenter import Masks, load_segmenter, segmenter
from lis.segmentation.training import part_images
from lis.shards import Shards
from lis.stage import MODELS, stage
from lis.store import Artifact, Draft
from lis.streams import Stream
from lis.types import Link
from lis.units.perturbation import Perturbation, perturbed, step_norm
from lis.units.tuned import sample_table

UNMOVED = Perturbation("unmoved", 0.0, 0.0, unit=0, relative=True)
"""Leaves a sample as it is."""
SHARD_VERSION = 3
EXACT = 1e-6
"""A step is as long as requested within this share."""
_DOUBLINGS = 60


def tuned_arrays(ctx: Context) -> int:
    """Bytes of the measures and answers of all perturbations, samples and steps, twice while they are written."""
    config, classes = ctx.config.tuning, len(ctx.class_names)
    moves = min(config.units or ctx.classifier.units, ctx.classifier.units) + config.control_directions
    per_image = len(ctx.config.classes.labels) * 5 + classes
    return 2 * moves * config.seeds * classes * (config.steps * (per_image * FLOAT + DOUBLE) + 3 * FLOAT)


@stage(
    "tuning",
    version=2,
    inputs=(link, tuning_pairs, segmenter),
    seed=True,
    models=MODELS,
    also=lambda ctx: keyed(ctx.config.tuning),
    images=part_images,
    arrays=tuned_arrays,
)
def tuning(ctx: Context, linked: Artifact, seeds: Artifact, parts: Artifact, draft: Draft) -> None:
    """Every unit tuned: from its minimum to its maximum over the training pairs, on accepted samples of every class.

    Tensors "tuning" (units, by number) and "control" (random directions of equal ‖Δw‖), to be read with
    `lis.units.tuned.Tuned`. Tensors "seeds", of the S samples themselves: r `[S, units]`, w `[S, w_dim]` (the w̃ of r,
    unperturbed), measures `[S, labels, measures]` and probability `[S, classes]` of its image. Table "seeds": class,
    class_index, sample_index. Table "units", a row per unit of the classifier: unit, minimum, maximum, step_norm,
    tuned, and the reason why it is not (`dead`, `near-dead`, `no range`, `small step`). Json "facts": names of the
    perturbations in "tuning" and "control", labels, measures, class_names.

    Raises:
        ValueError: no unit is live or moves w, a style code or an answer is not finite, memory runs out with a single
            image, or what the stages before refuse.
    """
    config, samples, table = ctx.config.tuning, seeds.tensors("pairs"), linked.table("units")
    segments, model, std = load_segmenter(ctx, parts), load_link(linked).to(ctx.device), live_std(table)
    job = Job(ctx, model, Looker.tuned(ctx, Masks(segments), segments.labels), std, (linked.key, parts.key))
    r, varying = samples["r"].to(ctx.device), std.where(std.isfinite(), 0).to(ctx.device)
    units = select(table, model, r, config.units)
    tuned = units.loc[units["tuned"]]
    steps = tuned["step_norm"].tolist()
    directions = control_directions(model, r, varying, steps, config.control_directions, ctx.config.seed)
    size = (len(r), len(segments.labels), len(ctx.class_names))
    unmoved = Group.of([UNMOVED], 1, *size)
    groups = {
        "tuning": Group.of(perturbations(tuned), config.steps, *size),
        "control": Group.of(directions, config.steps, *size),
    }
    _fill(job, samples, [unmoved, *groups.values()])
    for name, group in groups.items():
        draft.tensors(name, group.tensors(samples))
    images = {name: unmoved.results[name][0, :, 0] for name in ("measures", "probability")}
    with torch.inference_mode():
        draft.tensors("seeds", {"r": r, "w": model(r)} | images)
    class_index = {"class_index": samples["class_index"]}
    draft.table("seeds", sample_table(samples, ctx.class_names, {"sample": range(len(r))}, class_index))
    draft.table("units", units)
    names = {name: [p.name for p in group.perturbations] for name, group in groups.items()}
    facts = {"labels": list(segments.labels), "measures": list(MEASURES), "class_names": list(ctx.class_names)}
    draft.json("facts", {"names": names, **facts})


def live_std(units: pd.DataFrame) -> Tensor:
    """Standard deviation of each unit of the link's table "units", infinite for those not live: `[units]` float32."""
    return torch.from_numpy(np.where(units["status"] == "live", units["std"], np.inf)).float()


@dataclass(frozen=True)
class Group:
    """Perturbations that all samples are tuned along, and where the results go."""

    perturbations: tuple[Perturbation, ...]
    steps: int
    results: dict[str, Tensor]
    """As in `lis.units.tuned.Tuned`, to be filled."""

    @classmethod
    def of(cls, perturbations: Sequence[Perturbation], steps: int, samples: int, labels: int, classes: int) -> Group:
        """Without results yet."""
        size = (len(perturbations), samples)
        results = {
            "measures": torch.empty(*size, steps, labels, len(MEASURES)),
            "probability": torch.empty(*size, steps, classes),
            "prediction": torch.empty(*size, steps, dtype=torch.int64),
            "reencoded_share": torch.empty(size),
            "off_target": torch.empty(size),
            "step_norm": torch.empty(size),
        }
        return cls(tuple(perturbations), steps, results)

    def tensors(self, samples: dict[str, Tensor]) -> dict[str, Tensor]:
        """The fields of `Tuned` that are tensors."""
        values = [p.values(self.steps) for p in self.perturbations]
        return self.results | {
            "unit": torch.tensor([p.unit for p in self.perturbations], dtype=torch.int64),
            "value": torch.stack(values) if values else torch.empty(0, self.steps),
            "class_index": samples["class_index"],
            "sample_index": samples["sample_index"],
        }


def _fill(job: Job, samples: dict[str, Tensor], groups: Sequence[Group]) -> None:
    """Makes all shards, whatever is there already, and puts the results of each where it belongs."""
    config, names = job.ctx.config.tuning, job.ctx.class_names
    indices, blocks = [], []
    for group, rows in product(groups, _rows(samples["class_index"], config.seed_block)):
        name = names[int(samples["class_index"][rows.start])]
        for first in range(0, len(group.perturbations), config.unit_block):
            columns = slice(first, first + config.unit_block)
            indices.append((group, columns, rows))
            moved = group.perturbations[columns]
            blocks.append(Block(name, samples["sample_index"][rows], samples["r"][rows], moved, group.steps))
    made = SHARDS.artifacts(job, blocks, "tuning (blocks of units and samples)")
    for (group, columns, rows), artifact in zip(indices, made, strict=True):
        for name, values in artifact.tensors("block").items():
            group.results[name][columns, rows] = values


def _rows(class_index: Tensor, most: int) -> list[slice]:
    """Consecutive samples of one class, at most so many: of an ascending `class_index [S]`."""
    ends = pairwise([0, *class_index.bincount().cumsum(0).tolist()])
    return [slice(k, min(k + most, end)) for start, end in ends for k in range(start, end, most)]


@dataclass(frozen=True)
class Job:
    """What all shards of a run share."""

    ctx: Context
    link: Link
    """On the run's device."""
    looker: Looker
    std: Tensor
    """Standard deviation of each unit, infinite for units that are not live: `[units]` on the CPU."""
    inputs: tuple[str, ...]
    """Keys of the artifacts of the link and of the segmenter."""


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

    def config(self, ctx: Context) -> dict[str, Any]:
        """What follows from samples and steps in the recipe of a shard."""
        config = ctx.config
        samples = {"seed": config.seed, "truncation": config.gan.truncation, "samples": self.sample_index.tolist()}
        return samples | {"class": self.class_name, "steps": self.steps}


def _config(job: Job, block: Block) -> dict[str, Any]:
    moves = [[p.name, p.low, p.high, p.relative] for p in block.perturbations]
    return block.config(job.ctx) | {"classes": list(job.ctx.class_names), "perturbations": moves}


@torch.inference_mode()
def _build_shard(job: Job, block: Block, draft: Draft) -> None:
    r = block.r.to(job.ctx.device)
    w = torch.stack([perturbed(job.link, r, p, p.values(block.steps)) for p in block.perturbations])
    look = job.looker(w)
    encoded = zip(block.perturbations, look.r[:, :, 0], look.r[:, :, -1], strict=True)
    reencoded_share, off_target = zip(*(arrived(p, first, last, job.std) for p, first, last in encoded), strict=True)
    links = {"reencoded_share": torch.stack(reencoded_share), "off_target": torch.stack(off_target)}
    links["step_norm"] = (w[:, :, -1] - w[:, :, 0]).norm(dim=2)
    draft.tensors("block", look.tensors(("measures", "probability", "prediction")) | links)


SHARDS = Shards("tuning-shard", SHARD_VERSION, _config, _build_shard)
"""Tensors "block" of P perturbations, n samples and T steps, as in `lis.units.tuned.Tuned`: measures, probability,
prediction `[P, n, T, …]`, and reencoded_share, off_target, step_norm `[P, n]`. A style code or an answer that is not
finite is a ValueError."""


def arrived(perturbation: Perturbation, first: Tensor, last: Tensor, std: Tensor) -> tuple[Tensor, Tensor]:
    """What of a perturbation is found when its images are encoded again.

    With r̃ the activations of an image and Δr̃ = r̃(last) − r̃(first): reencoded_share is Δr̃·d / (v(last) − v(first)), and
    off_target the root mean square over the other live units of the rest, Δr̃ − (Δr̃·d) d, in standard deviations.

    Args:
        perturbation: d and its range.
        first: r̃ of the first images, `[n, units]`.
        last: r̃ of the last images.
        std: standard deviation of each unit, `[units]`; infinite for units that are not live.

    Returns:
        reencoded_share and off_target, `[n]` float32; NaN where nothing was asked, or where there is no other unit.

    Example:
        >>> unit = Perturbation.of_unit(0, low=0.0, high=4.0)
        >>> first, last = torch.tensor([[0.0, 1.0, 9.0]]), torch.tensor([[1.0, 3.0, 9.0]])
        >>> [float(x) for x in arrived(unit, first, last, torch.tensor([1.0, 2.0, torch.inf]))]
        [0.25, 1.0]
    """
    change = last - first
    reencoded_share = perturbation.project(change) / (perturbation.high - perturbation.low or torch.nan)
    rest = perturbation.without(change) / std
    return reencoded_share, (rest.square().sum(1) / (int(std.isfinite().sum()) - 1 or torch.nan)).sqrt()


@torch.inference_mode()
def select(units: pd.DataFrame, link: Link, r: Tensor, most: int | None) -> pd.DataFrame:
    """Every unit: unit, minimum, maximum, step_norm, tuned, reason (why it is not tuned).

    The step_norm is ‖w̃(maximum) − w̃(minimum)‖, a mean over the samples where the link is not linear; NaN for units
    that are not live. Reasons are `dead`, `near-dead`, `no range` (none, or none that moves w̃) and `small step`.

    Args:
        units: table "units" of the link: unit, minimum, maximum, status.
        link: the link.
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
    steps[live] = [step_norm(link, r, unit) for unit in perturbations(table.loc[live])]
    reason = np.where(live, "", units["status"])
    reason[steps == 0] = "no range"
    if not (reason == "").any():
        raise ValueError("no live unit of the classifier moves w: expected one or more; fit another link (link=ridge)")
    small = pd.Series(np.where(reason == "", steps, np.nan)).rank(ascending=False, method="first") > (most or np.inf)
    reason[small.to_numpy()] = "small step"
    return table.assign(step_norm=steps, tuned=reason == "", reason=reason)


def perturbations(units: pd.DataFrame) -> list[Perturbation]:
    """Every row's unit, from its minimum to its maximum."""
    rows = zip(*(units[name].tolist() for name in ("unit", "minimum", "maximum")), strict=True)
    return [Perturbation.of_unit(*row) for row in rows]


@torch.inference_mode()
def control_directions(
    link: Link, r: Tensor, std: Tensor, steps: Sequence[float], count: int, seed: int
) -> list[Perturbation]:
    """`count` random directions, centred on each sample.

    d ∝ g ⊙ σ with g standard normal (stream "null directions") and σ the units' standard deviations, so that no
    direction stands out in standardised units. Its length is chosen so that the mean of ‖w̃(last) − w̃(first)‖ over the
    samples is that of a unit, the units taken in turn.

    Args:
        link: the link.
        r: samples `[n, units]`.
        std: standard deviation of each unit, `[units]`; 0 for units that are left out.
        steps: ‖w̃(last) − w̃(first)‖ of each unit.
        count: how many.
        seed: of the run.

    Raises:
        ValueError: along a direction no step is as long.
    """
    draws = Stream("null directions", seed).normal(None, torch.arange(count), len(std)).to(r.device)
    result = []
    for k, draw in enumerate(draws * std):
        unit = Perturbation.along(f"random {k}", draw, -0.5, 0.5, relative=True)
        length = _length_of_step(
            lambda s, unit=unit: step_norm(link, r, _of_length(unit, s)), steps[k % len(steps)], unit.name
        )
        result.append(_of_length(unit, length))
    return result


def _of_length(direction: Perturbation, length: float) -> Perturbation:
    return replace(direction, low=-length / 2, high=length / 2)


def _length_of_step(step: Callable[[float], float], requested: float, name: str) -> float:
    """The length whose `step` is the requested one: at once where it is proportional, else by Brent's method."""
    first = step(1.0)
    length = requested / first if first > 0 else 1.0
    if abs(step(length) - requested) <= EXACT * requested:
        return length
    for _ in range(_DOUBLINGS):
        if step(length) >= requested:
            return float(root_scalar(lambda s: step(s) - requested, bracket=(0.0, length), rtol=EXACT).root)
        length *= 2
    raise ValueError(
        f"direction {name!r} moves w by {step(length):g} at most, expected {requested:g} as for a unit: fit another "
        "link (link=ridge), or set tuning.control_directions=0"
    )
