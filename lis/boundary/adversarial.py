"""Every counterfactual beside steps in pixels of equal effect: what would a person see? (paper §1, §2)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from omegaconf import MISSING
from torch import Tensor
from torch.nn import functional as F

from lis import costs
from lis.boundary.counterfactuals import counterfactuals
from lis.boundary.work import adversarial_work
from lis.config.fields import number
from lis.context import Context
from lis.images import to_uint8
from lis.linking.link import link, load_link
from lis.look import generated
from lis.memory import Batches, Machine
from lis.peaks import at_once, picture_arrays
from lis.quantify.change import change
from lis.quantify.measures import MEASURES, measure
from lis.segmentation.training import part_layers
from lis.shards import Shards, joined
from lis.stage import MODELS, stage
from lis.store import Artifact, Draft
from lis.types import Link, require_sight
from lis.units.parts import Parts, segmented
from lis.units.tuned import long_table

VERSION = 2
KINDS = ("counterfactual", "adversarial")
BLOCK = 4
"""Pixels, in both directions, over whose mean a change counts as coarse."""
HALVINGS = 20
"""Of the last step, until the probability is the goal's."""


@dataclass
class AdversarialConfig:
    """Steps in pixels that have the effect of a counterfactual."""

    samples: int | None = number(MISSING, low=1)
    """At most so many counterfactuals per pair of classes; null: all."""
    step: float = number(0.002, low=1e-5, high=1)
    """Root mean square over the pixels of a step; images lie in [-1, 1]."""
    max_steps: int = number(500, low=1)


@dataclass(frozen=True)
class Job:
    """What all shards of a run share."""

    ctx: Context
    counterfactuals: Artifact
    link: Link
    """On the CPU."""
    parts: Parts
    batches: Batches

    @property
    def inputs(self) -> tuple[str, ...]:
        """Keys of the artifacts of the counterfactuals and of the segmenter."""
        return self.counterfactuals.key, *self.parts.keys

    def logits(self, image: Tensor) -> Tensor:
        """Of images `[n, 3, H, W]`: `[n, classes]`."""
        return self.ctx.classifier.head(self.ctx.classifier.features(image))


def _images(ctx: Context, machine: Machine) -> int:
    """Bytes of a batch with gradients of the classifier, and the maps in which parts are looked for."""
    one = costs.image_bytes(ctx.generator, ctx.device, ctx.classifier, layers=part_layers(ctx), gradient=True)
    return at_once(one, ctx.config.batch_size, machine)


@stage(
    "adversarial",
    version=VERSION,
    inputs=(counterfactuals, link, segmented),
    config=AdversarialConfig,
    models=MODELS,
    check=lambda ctx: require_sight(ctx.classifier, "adversarial images are steps in pixels"),
    also=lambda ctx: {"examples": ctx.config.counterfactuals.trajectories},
    images=_images,
    arrays=picture_arrays,
    work=adversarial_work,
)
def adversarial(
    ctx: Context,
    config: AdversarialConfig,
    source: Artifact,
    linked: Artifact,
    trained: Artifact | None,
    draft: Draft,
) -> None:
    """Counterfactuals beside pixel attacks: those that succeeded, at most `adversarial.samples` of a pair of classes.

    Table "adversarial", a row per counterfactual: origin, target, sample_index, row (of the table "counterfactuals"),
    goal (probability of the target that the counterfactual reached), probability, reached and steps (of the steps in
    pixels), mse, largest and coarse of both (`mse_counterfactual`, `mse_adversarial`, …; see `difference`), cycled
    (what the classifier calls the picture that the link makes of the adversarial image), seen (that is the target).

    Table "measures", a row per label and measure: counterfactual and adversarial (mean |change| from the original over
    all rows), n. A picture without w has no feature maps: the masks of the adversarial image are those of the original,
    so that its parts cannot change in shape.

    Table and tensors "examples", the first row of each of the first `counterfactuals.trajectories` pairs: origin,
    target, sample_index, row (of the table "adversarial"); image `[k, 4, 3, H, W]` uint8 (original, counterfactual,
    adversarial, the link's picture of the adversarial image), difference `[k, 2, 3, H, W]` float32 (counterfactual and
    adversarial, each minus the original). Json "facts": labels, n, and the shares reached and seen.

    Raises:
        ValueError: what the stages before refuse.
    """
    parts, table = Parts.of(ctx), source.table("counterfactuals")
    job, blocks = (
        Job(ctx, source, load_link(linked), parts, ctx.batches(parts.masks, gradient=True)),
        _blocks(table, config),
    )
    shards = list(SHARDS.artifacts(job, blocks, "steps in pixels"))
    rows, results = [row for block in blocks for row in block.rows], joined(shards)
    subset = table.iloc[rows][["origin", "target", "sample_index", "probability"]].reset_index(drop=True)
    made = _table(ctx, subset, rows, results) if results else subset.iloc[:0]
    draft.table("adversarial", made)
    measures = results["measures"] if results else torch.empty(0, 3, len(parts.labels), 5)
    draft.table("measures", _measures(measures, parts.labels))
    pairs = min(len(blocks), ctx.config.counterfactuals.trajectories)
    starts = np.cumsum([0, *(len(block.rows) for block in blocks)])[:pairs]
    draft.table("examples", made.iloc[starts][["origin", "target", "sample_index"]].assign(row=starts))
    if pairs:
        first = [artifact.tensors("first") for artifact in shards[:pairs]]
        draft.tensors("examples", {name: torch.stack([each[name] for each in first]) for name in first[0]})
    shares = {name: float(np.mean(made[name])) for name in ("reached", "seen")} if results else {}
    draft.json("facts", {"labels": list(parts.labels), "n": len(rows)} | shares)


@dataclass(frozen=True)
class Block:
    """Counterfactuals of one ordered pair of classes."""

    target: str
    rows: tuple[int, ...]
    """Of the table "counterfactuals"."""


def _config(job: Job, block: Block) -> dict[str, Any]:
    config = job.ctx.config.adversarial
    return {"target": block.target, "rows": list(block.rows), "step": config.step, "max_steps": config.max_steps}


@torch.no_grad()
def _block(job: Job, block: Block, draft: Draft) -> None:
    codes = {name: values[list(block.rows)] for name, values in job.counterfactuals.tensors("counterfactuals").items()}
    probability = job.counterfactuals.table("counterfactuals")["probability"]
    goal = torch.from_numpy(probability.to_numpy()[list(block.rows)].copy())
    target = job.ctx.classifier.class_names.index(block.target)

    def contrasted(rows: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        return _contrast(job, codes["w_original"][rows], codes["w"][rows], target, goal[rows])

    made, first = zip(*job.batches.map(contrasted, torch.arange(len(goal))), strict=True)
    draft.tensors("block", {name: torch.cat([part[name] for part in made]) for name in made[0]})
    draft.tensors("first", first[0])


SHARDS = Shards("adversarial-shard", VERSION, _config, _block)
"""Tensors "block" of n counterfactuals: probability, reached, steps, cycled `[n]`; measures `[n, 3, K, 5]` (original,
counterfactual, adversarial); mse, largest and coarse `[n, 2]`. Tensors "first", of the first row alone: image and
difference as in the tensors "examples" of `adversarial`."""


def _contrast(
    job: Job, w_original: Tensor, w: Tensor, target: int, goal: Tensor
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The tensors "block" of some counterfactuals, all at once, and "first" of the first of them."""
    ctx, labels = job.ctx, len(job.parts.labels)
    original, first_mask = generated(ctx, w_original, job.parts.masks)[:2]  # without the maps
    moved, mask = generated(ctx, w, job.parts.masks)[:2]
    targets = torch.full((len(w),), target, device=ctx.device)
    forced = attack(job.logits, original, targets, goal.to(original), ctx.config.adversarial)
    cycled = generated(ctx, job.link(ctx.classifier.features(forced.image).cpu()))[0]
    views = ((first_mask, original), (mask, moved), (first_mask, forced.image))
    apart = [difference(original, image) for image in (moved, forced.image)]
    made = {
        "probability": forced.probability,
        "reached": forced.reached,
        "steps": forced.steps,
        "cycled": job.logits(cycled).argmax(1),
        "measures": torch.stack([measure(*view, labels) for view in views], 1),
        **{name: torch.stack([each[name] for each in apart], 1) for name in apart[0]},
    }
    images = torch.stack([image[0] for image in (original, moved, forced.image, cycled)])
    first = {"image": to_uint8(images), "difference": (images[1:3] - images[0]).float().cpu()}
    return {name: values.cpu() for name, values in made.items()}, first


def _blocks(table: pd.DataFrame, config: AdversarialConfig) -> list[Block]:
    """The first counterfactuals of each pair that succeeded."""
    groups: Any = table[table["success"].to_numpy(dtype=bool)].groupby(["origin", "target"], sort=False)
    return [Block(str(target), tuple(subset.index[: config.samples].tolist())) for (_, target), subset in groups]


def _table(ctx: Context, subset: pd.DataFrame, rows: list[int], result: dict[str, Tensor]) -> pd.DataFrame:
    table = subset.rename(columns={"probability": "goal"}).assign(row=rows)
    table = table.assign(**{name: result[name].numpy() for name in ("probability", "reached", "steps")})
    for name in ("mse", "largest", "coarse"):
        table = table.assign(**{f"{name}_{kind}": result[name][:, k].numpy() for k, kind in enumerate(KINDS)})
    cycled = np.asarray(ctx.classifier.class_names)[result["cycled"].numpy()]
    return table.assign(cycled=cycled, seen=cycled == table["target"].to_numpy())


def _measures(measures: Tensor, labels: tuple[str, ...]) -> pd.DataFrame:
    """Mean |change| of every label and measure, of `measures [n, 3, K, 5]`."""
    moved = [change(measures[:, 0], measures[:, k]).abs().double() for k in (1, 2)]
    columns = {kind: values.nanmean(0).numpy() for kind, values in zip(KINDS, moved, strict=True)}
    n = (~moved[0].isnan()).sum(0).numpy()
    return long_table({"label": labels, "measure": MEASURES}, columns | {"n": n})


@dataclass(frozen=True)
class Attack:
    """What became of n images."""

    image: Tensor
    """`[n, 3, H, W]` in [-1, 1]."""
    probability: Tensor
    """Of the target, `[n]`."""
    reached: Tensor
    """Whether it is what was asked for, `[n]` bool."""
    steps: Tensor
    """Gradient steps taken, `[n]` int64."""


def attack(
    logits: Callable[[Tensor], Tensor], image: Tensor, target: Tensor, goal: Tensor, config: AdversarialConfig
) -> Attack:
    """Move images straight up the log probability of their targets until it is as large as asked, and no further.

    x ← clamp(x + η g / rms(g)), g = ∂ log p_target / ∂x; each image that has reached its goal leaves the batch. Then
    the last step is shortened by bisection, so that the probability is the goal's and not one beyond it.

    Args:
        logits: images → logits `[n, classes]`; differentiable.
        image: starts, `[n, 3, H, W]` in [-1, 1].
        target: class of each, `[n]` int64.
        goal: probability of the target that is wanted, `[n]`, below 1.
        config: η is `step`, and at most `max_steps` are taken.
    """
    x, before = image.clone(), image.clone()
    taken = torch.zeros(len(x), dtype=torch.int64, device=x.device)
    p, gradient = _probability(logits, x, target)
    for _ in range(config.max_steps):
        going = (p < goal).nonzero()[:, 0]
        if not len(going):
            break
        before[going] = x[going]
        x[going] = _moved(x[going], gradient[going], config.step)
        taken[going] += 1
        p[going], gradient[going] = _probability(logits, x[going], target[going])
    reached = p >= goal
    x = torch.where((reached & (taken > 0)).view(-1, 1, 1, 1), _shortened(logits, before, x, target, goal), x)
    with torch.no_grad():
        p = logits(x).float().softmax(1).gather(1, target[:, None])[:, 0]
    return Attack(x, p, reached, taken)


def _probability(logits: Callable[[Tensor], Tensor], x: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Probability of the targets `[n]`, and the gradient of its logarithm by the images."""
    with torch.inference_mode(False), torch.enable_grad():
        x = x.detach().clone().requires_grad_()
        log_p = logits(x).float().log_softmax(1).gather(1, target[:, None])[:, 0]
        (gradient,) = torch.autograd.grad(log_p.sum(), x)
    return log_p.detach().exp(), gradient


def _moved(x: Tensor, gradient: Tensor, length: float) -> Tensor:
    rms = gradient.square().mean((1, 2, 3), keepdim=True).sqrt()
    return (x + length * gradient / rms.clamp(min=1e-30)).clamp(-1, 1)


@torch.no_grad()
def _shortened(logits: Callable[[Tensor], Tensor], before: Tensor, after: Tensor, target: Tensor, goal: Tensor):
    """Where on the line from `before` to `after` the goal is first met, by bisection."""
    low, high = torch.zeros(len(before), 1, 1, 1).to(before), torch.ones(len(before), 1, 1, 1).to(before)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        p = logits(before + middle * (after - before)).float().softmax(1).gather(1, target[:, None])[:, 0]
        there = (p >= goal).view(-1, 1, 1, 1)
        low, high = torch.where(there, low, middle), torch.where(there, middle, high)
    return before + high * (after - before)


def difference(first: Tensor, last: Tensor) -> dict[str, Tensor]:
    """How far images `[n, 3, H, W]` in [-1, 1] are apart, in what a person may see: each `[n]`.

    - mse: mean squared difference of the pixels
    - largest: the largest difference of a pixel
    - coarse: share of the squared difference that is left when both are averaged over 4 × 4 pixels; NaN where they are
      equal. Next to nothing for noise, near 1 for a part that has moved or changed its colour.

    Example:
        >>> x = torch.zeros(1, 3, 8, 8)
        >>> {name: round(float(value), 3) for name, value in difference(x, x + 0.5).items()}
        {'mse': 0.25, 'largest': 0.5, 'coarse': 1.0}
    """
    moved = last.float() - first.float()
    mse = moved.square().mean((1, 2, 3))
    coarse = F.avg_pool2d(moved, BLOCK, ceil_mode=True).square().mean((1, 2, 3))
    return {"mse": mse, "largest": moved.abs().amax((1, 2, 3)), "coarse": coarse / torch.where(mse > 0, mse, torch.nan)}
