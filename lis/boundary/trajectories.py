"""The way to a counterfactual in pictures, and what changes where the answer does (Fig. 7A, C; S17, S18, S24–S28)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lis.boundary.job import Job, Paths
from lis.boundary.searches import (
    SEARCHED,
    blocks,
    class_pairs,
    names_of,
    search_arrays,
    search_key,
    searched,
    validate_counterfactual,
)
from lis.boundary.work import trajectories_work
from lis.context import Context
from lis.linking.distances import ImageDistance, choose
from lis.look import PICTURED, Looker
from lis.peaks import picture_arrays
from lis.quantify.change import changes_along
from lis.quantify.measures import MEASURES, interpreted
from lis.segmentation.training import part_images
from lis.stage import MODELS, stage
from lis.store import Artifact, Draft
from lis.units.parts import Parts, segmented
from lis.units.tuned import long_table


def _also(ctx: Context) -> dict[str, Any]:
    choice = choose(ctx.config.evaluation, ctx.generator.resolution)
    key = search_key(ctx, "trajectories", "steps", "path_end", "samples", "sample_block")
    return key | {"lpips": ctx.config.evaluation.lpips, "metrics": choice.checksums}


@stage(
    "trajectories",
    version=3,
    inputs=(*SEARCHED, segmented),
    models=MODELS,
    also=_also,
    check=lambda ctx: validate_counterfactual(ctx.config),
    images=part_images,
    arrays=lambda ctx: search_arrays(ctx) + picture_arrays(ctx),
    work=trajectories_work,
)
def trajectories(
    ctx: Context, linked: Artifact, train: Artifact, test: Artifact, trained: Artifact | None, draft: Draft
) -> None:
    """Images along r + t Δr, for some pairs of classes: t = 0 the original, 1 the counterfactual, `path_end` the end.

    Each is of the first sample whose search succeeds and whose first image is not of the target class already.

    Tensors "trajectories", n paths of T even steps: position `[T]`, boundary `[n]` (t where the answer becomes the
    target, to 1e-3), w `[n, T, w_dim]`, and `lis.look.PICTURED`, `[n, T, …]`. Tensors "around", the
    same of the two images on both sides of the boundary, with position `[n, 2]`. Tables "trajectories", "steps",
    "measures", "around" and "jumps". Json "facts": labels, class_names, path_end, left_out (metric →
    reason), failed (pairs without a trajectory: origin, target, reason).

    Raises:
        ValueError: as `validate_counterfactual`; no pair has a trajectory; what the stages before refuse.
    """
    job, parts, config = Job.of(ctx), Parts.of(ctx), ctx.config.counterfactuals
    choice, result = choose(ctx.config.evaluation, ctx.generator.resolution), _first_blocks(job)
    rows, failed = _first_with_boundary(job, result)
    if not len(rows):
        raise ValueError(
            f"no counterfactual among {len(result['steps'])} has a boundary ({failed[0]['reason']}): expected one "
            "or more; use counterfactuals.objective=image, more counterfactuals.samples, or another link (link=ridge)"
        )
    selected = {name: values[rows] for name, values in result.items()}
    known = ctx.classifier.class_names
    target = torch.tensor([known.index(ctx.class_names[k]) for k in selected["target"].tolist()])
    paths = Paths(selected["r"], selected["shift"], target)
    even = torch.linspace(0, config.path_end, config.steps)
    sides = paths.boundary(job, config.path_end, config.steps - 1)
    whole = seen(job, parts, paths.codes(job, even.expand(len(rows), -1)))
    around = seen(job, parts, paths.codes(job, sides))
    draft.tensors("trajectories", whole | {"position": even, "boundary": sides.mean(1).float()})
    draft.tensors("around", around | {"position": sides.float()})
    draft.table("trajectories", _trajectory_table(job, selected, sides, around["prediction"]))
    away = distances(job, choice.load(ctx.device), whole["w"])
    draft.table("steps", _step_table(job, selected, whole, even, away))
    draft.table("measures", _measure_table(parts.labels, whole["measures"], even))
    draft.table("around", _around_table(parts.labels, around["measures"]))
    crossing = torch.searchsorted(even.double(), sides[:, 1].contiguous()) - 1
    draft.table("jumps", jump_table(parts.labels, whole["measures"], crossing))
    facts = {"labels": list(parts.labels), "class_names": list(ctx.class_names), "path_end": config.path_end}
    draft.json("facts", facts | {"left_out": choice.left_out, "failed": failed})


def _first_blocks(job: Job) -> dict[str, Tensor]:
    """The first block of samples of every pair that is shown: shards that `counterfactuals` has as well."""
    config = job.ctx.config.counterfactuals
    selected = class_pairs(job.ctx.config)[: config.trajectories]
    requested = [block for block in blocks(job, min(config.samples, config.sample_block), 1) if block.pair in selected]
    return searched(job, requested, "counterfactuals that are shown")


def _first_with_boundary(job: Job, result: dict[str, Tensor]) -> tuple[Tensor, list[dict[str, str]]]:
    """The row of each pair that has a boundary; why the others have none."""
    rows, failed = [], []
    for pair in class_pairs(job.ctx.config)[: job.ctx.config.counterfactuals.trajectories]:
        subset = (result["origin"] == pair[0]) & (result["target"] == pair[1])
        good = (subset & result["boundary"].isfinite()).nonzero()[:, 0]
        rows += good[:1].tolist()
        if not len(good):
            origin, target = names_of(job.ctx.config, pair)
            count = int((subset & ~result["success"]).sum())
            reason = f"{count} of {int(subset.sum())} searches fail, the others begin as {target}"
            failed.append({"origin": origin, "target": target, "reason": reason})
    return torch.tensor(rows, dtype=torch.int64), failed


def _trajectory_table(job: Job, selected: dict[str, Tensor], sides: Tensor, answers: Tensor) -> pd.DataFrame:
    """A row per trajectory.

    Columns: trajectory, origin, target, origin_index, target_index, sample_index, boundary, before_answer, after_answer
    (on both sides of it), steps, probability.
    """
    names, called = np.asarray(job.ctx.class_names), np.asarray(job.ctx.classifier.class_names)
    columns: dict[str, Any] = {"trajectory": np.arange(len(sides))}
    columns |= {name: names[selected[name].numpy()] for name in ("origin", "target")}
    columns |= {f"{name}_index": selected[name].numpy() for name in ("origin", "target")}
    columns |= {"sample_index": selected["sample_index"].numpy(), "boundary": sides.mean(1).numpy()}
    columns |= dict(zip(("before_answer", "after_answer"), called[answers.T.numpy()], strict=True))
    return pd.DataFrame(columns | {name: selected[name].numpy() for name in ("steps", "probability")})


def _step_table(
    job: Job, selected: dict[str, Tensor], whole: dict[str, Tensor], even: Tensor, away: dict[str, Tensor]
) -> pd.DataFrame:
    """A row per trajectory and step: position, probability (of the target), origin_probability, prediction, beyond
    (whether w lies beyond 99 % of held-out training samples), distances.

    The distances are to the first image: mse, and lpips and moco where they can be computed; `<metric>_normalised` is
    divided by the largest on the path.
    """
    path = torch.arange(len(selected["target"]))
    called = np.asarray(job.ctx.classifier.class_names)
    columns: dict[str, Any] = {
        "position": even,
        "probability": whole["probability"][path, :, selected["target"]],
        "origin_probability": whole["probability"][path, :, selected["origin"]],
        "prediction": called[whole["prediction"].numpy()],
        "beyond": job.region.beyond(whole["w"]),
    }
    for metric, values in away.items():
        name = "mse" if metric == "pixel_l2" else metric
        columns |= {name: values, f"{name}_normalised": normalised(values)}
    return long_table({"trajectory": path, "step": range(len(even))}, columns)


def _measure_table(labels: tuple[str, ...], measures: Tensor, even: Tensor) -> pd.DataFrame:
    """Columns: trajectory, step, position, label, measure, measured, change (since step 0), normalised (change)."""
    n, steps = measures.shape[:2]
    since = changes_along(measures)
    axes = {"trajectory": range(n), "step": range(steps), "label": labels, "measure": MEASURES}
    table = long_table(axes, {"measured": measures, "change": since, "normalised": normalised(since)})
    table.insert(2, "position", even.numpy()[table["step"]])
    return table


def _around_table(labels: tuple[str, ...], measures: Tensor) -> pd.DataFrame:
    """Columns: trajectory, label, measure, before, after (the boundary), change."""
    before, after = measures.unbind(1)
    columns = {"before": before, "after": after, "change": changes_along(measures)[:, 1]}
    return long_table({"trajectory": range(len(measures)), "label": labels, "measure": MEASURES}, columns)


def jump_table(labels: tuple[str, ...], measures: Tensor, crossing: Tensor) -> pd.DataFrame:
    """What jumps at the boundary.

    Columns: trajectory, label, measure, jump, elsewhere, score, bend (see `jumps`), interpreted (the label is not too
    small), rank (by score among the interpreted of a trajectory, 1 the largest; 0 without).

    Args:
        labels: names of the K labels.
        measures: along the paths, `[n, T, K, 5]`.
        crossing: the step of each path that crosses the boundary, `[n]`.
    """
    seen = torch.stack([interpreted(path) for path in measures]) if len(measures) else measures[:, 0, :, 0] > 0
    columns: dict[str, Any] = jumps(changes_along(measures), crossing)
    axes = {"trajectory": range(len(measures)), "label": labels, "measure": MEASURES}
    table = long_table(axes, columns | {"interpreted": seen[..., None]})
    score = table["score"].where(table["interpreted"])
    rank = score.groupby(table["trajectory"]).rank(ascending=False, method="first").fillna(0).astype(int)
    return table.assign(rank=rank)


def normalised(values: Tensor) -> Tensor:
    """Curves `[n, T, …]` divided by their largest |value|; NaN is passed over, a curve of 0 stays 0.

    Example:
        >>> normalised(torch.tensor([[0.0, 1.0, -4.0]]))
        tensor([[ 0.0000,  0.2500, -1.0000]])
    """
    largest = values.abs().nan_to_num(0).amax(1, keepdim=True)
    return values / torch.where(largest == 0, 1, largest)


def jumps(curves: Tensor, crossing: Tensor) -> dict[str, Tensor]:
    """How much curves jump and bend at a boundary; NaN where a curve is not known on both sides of it.

    - jump: change over the step that crosses the boundary
    - elsewhere: mean |change| of the other steps
    - score: |jump| / mean |change| of all T − 1 steps: 1 as everywhere, T − 1 where all change is at the boundary
    - bend: mean change per step after the boundary minus the one before it

    Args:
        curves: values at even steps, `[n, T, …]`.
        crossing: number of the step, from k to k + 1, that crosses: `[n]` int64.

    Returns:
        The four by name, `[n, …]` each.

    Example:
        >>> curve = torch.tensor([[0.0, 1.0, 2.0, 8.0, 9.0]])
        >>> {name: round(float(x), 3) for name, x in jumps(curve, torch.tensor([2])).items()}
        {'jump': 6.0, 'elsewhere': 1.0, 'score': 2.667, 'bend': 0.0}
    """
    steps = curves.diff(dim=1)
    index = torch.arange(steps.shape[1]).reshape(1, -1, *[1] * (steps.ndim - 2))
    at = crossing.reshape(-1, 1, *[1] * (steps.ndim - 2))
    jump = torch.where(index == at, steps, torch.nan).nansum(1)
    known = torch.where(index == at, steps, 0).isfinite().all(1)
    every = steps.abs().nanmean(1)
    after, before = (torch.where(side, steps, torch.nan).nanmean(1) for side in (index > at, index < at))
    result = {
        "jump": jump,
        "elsewhere": torch.where(index == at, torch.nan, steps.abs()).nanmean(1),
        "score": torch.where(every > 0, jump.abs() / every, torch.nan),
        "bend": after - before,
    }
    return {name: torch.where(known, values, torch.nan) for name, values in result.items()}


def seen(job: Job, parts: Parts, w: Tensor) -> dict[str, Tensor]:
    """`lis.look.PICTURED` of the images of `w [n, T, w_dim]`, each `[n, T, …]`; and w itself."""
    return {"w": w} | Looker.pictured(job.ctx, parts.masks, parts.labels)(w).tensors(PICTURED)


@torch.inference_mode()
def distances(job: Job, metrics: Sequence[ImageDistance], w: Tensor) -> dict[str, Tensor]:
    """Distance of the images of `w [n, T, w_dim]` to the first one of their path: `[n, T]` by metric."""
    device, generator, rows = job.ctx.device, job.ctx.generator, []
    for path in w:
        first = generator.synthesize(path[:1].to(device))

        def apart(part: Tensor, first: Tensor = first) -> Tensor:
            image = generator.synthesize(part.to(device))
            return torch.stack([metric(image, first.expand_as(image)).float().cpu() for metric in metrics], 1)

        rows += job.looker.batches.map(apart, path)
    result = torch.cat(rows).unflatten(0, w.shape[:2]).unbind(2)
    return {metric.name: values for metric, values in zip(metrics, result, strict=True)}
