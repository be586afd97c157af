"""Every unit through its range on many samples: parts, measures and answers, beside random directions (paper §3.3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lis.config.fields import keyed
from lis.context import Context
from lis.linking.fit import link, load_link
from lis.linking.pairs import tuning_pairs
from lis.look import Looker
from lis.peaks import DOUBLE, FLOAT
from lis.quantify.measures import MEASURES
from lis.segmentation.needs import part_images
from lis.segmentation.stage import Masks, load_segmenter, segmenter
from lis.stage import MODELS, stage
from lis.store import Artifact, Draft
from lis.units.null import null_directions
from lis.units.perturbation import Perturbation
from lis.units.selection import perturbations, select
from lis.units.shards import SHARDS, Block, Job

UNMOVED = Perturbation("unmoved", 0.0, 0.0, unit=0, relative=True)
"""Leaves a sample as it is."""


def tuned_arrays(ctx: Context) -> int:
    """Bytes of the measures and answers of all perturbations, samples and steps, twice while they are written."""
    config, classes = ctx.config.tuning, len(ctx.class_names)
    moves = min(config.units or ctx.classifier.units, ctx.classifier.units) + config.null_directions
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
def screen(ctx: Context, linked: Artifact, seeds: Artifact, parts: Artifact, draft: Draft) -> None:
    """Every unit tuned: from its minimum to its maximum over the training pairs, on accepted samples of every class.

    Tensors "tuning" (units, by number) and "null" (random directions of equal ‖Δw‖), to be read with
    `lis.units.tuned.Tuned`. Tensors "seeds", of the S samples themselves: r `[S, units]`, w `[S, w_dim]` (the w̃ of r,
    unperturbed), measures `[S, labels, measures]` and probability `[S, classes]` of its image. Table "seeds": class,
    class_index, sample_index. Table "units", a row per unit of the classifier: unit, minimum, maximum, step_norm,
    tuned, and the reason why it is not (`dead`, `near-dead`, `no range`, `small step`). Json "facts": names of the
    perturbations in "tuning" and "null", labels, measures, class_names.

    Raises:
        ValueError: no unit is live or moves w, a style code or an answer is not finite, memory runs out with a single
            image, or what the stages before refuse.
    """
    _build(ctx, linked, seeds, parts, draft)


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
            "realised": torch.empty(size),
            "others": torch.empty(size),
            "step_norm": torch.empty(size),
        }
        return cls(tuple(perturbations), steps, results)

    def put(self, place: tuple[slice, slice], found: dict[str, Tensor]) -> None:
        """Writes a shard's results to their perturbations and samples."""
        for name, values in found.items():
            self.results[name][place] = values

    def tensors(self, samples: dict[str, Tensor]) -> dict[str, Tensor]:
        """The fields of `Tuned` that are tensors."""
        values = [p.values(self.steps) for p in self.perturbations]
        return self.results | {
            "unit": torch.tensor([p.unit for p in self.perturbations], dtype=torch.int64),
            "value": torch.stack(values) if values else torch.empty(0, self.steps),
            "class_index": samples["class_index"],
            "sample_index": samples["sample_index"],
        }


def _build(ctx: Context, linked: Artifact, seeds: Artifact, parts: Artifact, draft: Draft) -> None:
    config, samples, table = ctx.config.tuning, seeds.tensors("pairs"), linked.table("units")
    job = _job(ctx, linked, parts, table)
    r = samples["r"].to(ctx.device)
    units = select(table, job.link, r, config.units)
    tuned = units.loc[units["tuned"]]
    std = torch.where(job.spread.isfinite(), job.spread, 0).to(ctx.device)
    null = null_directions(job.link, r, std, tuned["step_norm"].tolist(), config.null_directions, ctx.config.seed)
    size = (len(r), len(job.looker.labels), len(ctx.class_names))
    groups = {
        "seeds": Group.of([UNMOVED], 1, *size),
        "tuning": Group.of(perturbations(tuned), config.steps, *size),
        "null": Group.of(null, config.steps, *size),
    }
    _fill(job, samples, list(groups.values()))
    for name in ("tuning", "null"):
        draft.tensors(name, groups[name].tensors(samples))
    draft.tensors("seeds", _unmoved(job, r, groups["seeds"]))
    draft.table("seeds", _seed_table(ctx, samples))
    draft.table("units", units)
    draft.json("facts", _facts(ctx, job.looker.labels, groups))


def _fill(job: Job, samples: dict[str, Tensor], groups: Sequence[Group]) -> None:
    """Makes all shards, whatever is there already, and puts each where it belongs."""
    ctx, config = job.ctx, job.ctx.config.tuning
    places = [
        (group, slice(first, first + config.unit_block), rows)
        for group in groups
        for rows in _rows(samples["class_index"], config.seed_block)
        for first in range(0, len(group.perturbations), config.unit_block)
    ]
    blocks = [_block(ctx, samples, *place) for place in places]
    made = SHARDS.artifacts(job, blocks, "tuning (blocks of units and samples)")
    for (group, columns, rows), artifact in zip(places, made, strict=True):
        group.put((columns, rows), artifact.tensors("block"))


def _rows(class_index: Tensor, most: int) -> list[slice]:
    """Consecutive samples of one class, at most so many: of an ascending `class_index [S]`."""
    ends = class_index.bincount().cumsum(0).tolist()
    starts = [0, *ends[:-1]]
    return [
        slice(k, min(k + most, end)) for start, end in zip(starts, ends, strict=True) for k in range(start, end, most)
    ]


def _block(ctx: Context, samples: dict[str, Tensor], group: Group, columns: slice, rows: slice) -> Block:
    name = ctx.class_names[int(samples["class_index"][rows.start])]
    moved = group.perturbations[columns]
    return Block(name, samples["sample_index"][rows], samples["r"][rows], moved, group.steps)


def _job(ctx: Context, linked: Artifact, parts: Artifact, units: pd.DataFrame) -> Job:
    segments = load_segmenter(ctx, parts)
    looker = Looker.tuned(ctx, Masks(segments), segments.labels)
    spread = torch.from_numpy(np.where(units["status"] == "live", units["std"], np.inf)).float()
    return Job(ctx, load_link(linked).to(ctx.device), looker, spread, (linked.key, parts.key))


@torch.inference_mode()
def _unmoved(job: Job, r: Tensor, group: Group) -> dict[str, Tensor]:
    found = {name: group.results[name][0, :, 0] for name in ("measures", "probability")}
    return {"r": r, "w": job.link(r)} | found


def _seed_table(ctx: Context, samples: dict[str, Tensor]) -> pd.DataFrame:
    index = samples["class_index"].numpy()
    columns = {"class": np.asarray(ctx.class_names)[index], "class_index": index}
    return pd.DataFrame(columns | {"sample_index": samples["sample_index"].numpy()})


def _facts(ctx: Context, labels: Sequence[str], groups: dict[str, Group]) -> dict[str, Any]:
    return {
        "names": {name: [p.name for p in groups[name].perturbations] for name in ("tuning", "null")},
        "labels": list(labels),
        "measures": list(MEASURES),
        "class_names": list(ctx.class_names),
    }
