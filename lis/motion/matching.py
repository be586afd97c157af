"""How well matchers find true displacements, on part world: the table that the default is chosen from."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import torch
from omegaconf import MISSING
from torch import Tensor

from lis import costs
from lis.config.fields import number
from lis.context import Context
from lis.generators.layers import image_and_maps
from lis.generators.partworld import PartWorld
from lis.generators.partworld.displacement import KINDS, NEAR, kind_of
from lis.matching.affine import decompose, estimate
from lis.matching.align import align
from lis.memory import Machine
from lis.motion.local import whole_field
from lis.motion.matchers import matchers, run_name, validate_matchers, vote_bytes
from lis.motion.work import matching_work
from lis.peaks import picture_arrays
from lis.shards import Shards
from lis.stage import stage
from lis.store import Draft
from lis.streams import Stream
from lis.types import Matcher, pixel_grid

VERSION = 2
MOVED = ("dx", "dy", "rotation", "scale")
"""What is recovered of a pose."""


@dataclass(frozen=True)
class Block:
    """Pairs of one class and kind of change, and what matches them."""

    matcher: str
    kind: str
    class_name: str
    way: str
    """`pair`, or `sequence`: through a sequence of images instead of in one step."""


@dataclass
class MatchingConfig:
    """How well matchers find true displacements, on part world: `analysis=matching`."""

    samples: int = number(MISSING, low=1)
    """Pairs of images per class and kind of change."""
    matchers: list[str] = field(default_factory=list)
    """Which matchers; empty: all that need no checkpoint."""


def validate_matching(ctx: Context) -> PartWorld:
    """Checks, before any work, that true displacements are known and that the matchers exist; the generator.

    Raises:
        ValueError: says what is wrong.
    """
    validate_matchers(ctx.config.matching.matchers)
    if not isinstance(ctx.generator, PartWorld):
        raise ValueError(
            f"{type(ctx.generator).__name__} does not know how far a point moves: matchers are held against the truth "
            "on part world only; use gan=partworld, or leave matching out of analysis.stages"
        )
    return ctx.generator


def _also(ctx: Context) -> dict[str, Any]:
    compared = {name: matcher.fingerprint for name, matcher in matchers(ctx).items()}
    return {"steps": ctx.config.motion.steps, "classes": list(ctx.class_names), "compared": [*compared.items()]}


def _images(ctx: Context, machine: Machine) -> int:
    """Bytes of a sequence with its maps: all matchers are compared, whatever is that of the run."""
    made = costs.image_bytes(ctx.generator, ctx.device, layers=True)
    return max(made * ctx.config.motion.steps, vote_bytes(ctx))


@stage(
    "matching",
    version=VERSION,
    config=MatchingConfig,
    seed=True,
    models=("generator",),
    also=_also,
    check=validate_matching,
    images=_images,
    arrays=picture_arrays,
    work=matching_work,
)
def matching(ctx: Context, config: MatchingConfig, draft: Draft) -> None:
    """Part world: every matcher on pairs that differ in pose, in parts or in colours, held against the truth.

    Table "pairs", a row per matcher, kind, class and pair: matcher, kind, way (`pair`, or `sequence` for the run's own
    matcher on poses: aligned through `motion.steps` images), class, pair, error (mean end-point error over the pixels
    whose displacement is known), within (share of these pixels within 4 px), moved (mean true displacement), dx, dy,
    rotation, scale (of the affine map of its matches) and true_dx, … (of the affine map nearest to the truth), seconds,
    reason. Table "accuracy": matcher, kind, error, within, moved, seconds (means over pairs), pairs, failed. Table
    "recovered": matcher, way, what, r2 (of poses, against the truth), n. Json "facts": matcher (the run's), height,
    steps.

    Raises:
        ValueError: as `validate_matching`.
    """
    generator, compared = validate_matching(ctx), matchers(ctx)
    name = run_name(ctx, compared)
    blocks = [*pair_blocks(ctx, compared), *sequence_blocks(ctx, name)]
    made = SHARDS.artifacts(Job(ctx, generator, compared), blocks, "matching (matchers by class)")
    table = pd.concat([artifact.table("pairs") for artifact in made], ignore_index=True)
    draft.table("pairs", table)
    draft.table("accuracy", accuracy_table(table))
    draft.table("recovered", recovered_table(table))
    draft.json("facts", {"matcher": name, "height": generator.resolution, "steps": ctx.config.motion.steps})


def pair_blocks(ctx: Context, compared: Iterable[str]) -> list[Block]:
    """Pairs of every class and kind of change, for each matcher."""
    return [Block(*row, "pair") for row in product(compared, KINDS, ctx.class_names)]


def sequence_blocks(ctx: Context, matcher: str) -> list[Block]:
    """Poses of every class through a sequence, for one matcher."""
    return [Block(matcher, "pose", name, "sequence") for name in ctx.class_names]


@dataclass(frozen=True)
class Job:
    """What all shards of a run share."""

    ctx: Context
    generator: PartWorld
    matchers: Mapping[str, Matcher]
    inputs: tuple[str, ...] = ()


def _config(job: Job, block: Block) -> dict[str, Any]:
    config = job.ctx.config
    return asdict(block) | {"seed": config.seed, "n": config.matching.samples, "steps": config.motion.steps}


def _weights(job: Job, block: Block) -> dict[str, str]:
    return {"generator": job.generator.fingerprint, "matcher": job.matchers[block.matcher].fingerprint}


def _rows(job: Job, block: Block, draft: Draft) -> None:
    generator, config = job.generator, job.ctx.config
    index = generator.world.class_names.index(block.class_name)
    tried = trials(generator, block.kind, index, config.matching.samples, config.seed)
    matcher, steps = job.matchers[block.matcher], config.motion.steps
    table = pd.DataFrame([_row(generator, matcher, tried, k, steps, block.way) for k in range(len(tried.w))])
    for at, (name, value) in enumerate(asdict(block).items()):
        table.insert(at, name.replace("class_name", "class"), value)
    draft.table("pairs", table)


SHARDS = Shards("matching-shard", VERSION, _config, _rows, _weights)
"""A block's rows of the table "pairs"."""


@torch.inference_mode()
def _row(generator: PartWorld, matcher: Matcher, tried: Trials, k: int, steps: int, way: str) -> dict[str, Any]:
    """One pair, matched and held against the truth."""
    w = tried.between(steps)[k] if way == "sequence" else torch.stack([tried.w[k], tried.moved[k]])
    image, maps = image_and_maps(generator, w, matcher.layers)
    views = matcher.view(image, maps)
    if views.is_cuda:  # which may still be at the images
        torch.cuda.synchronize(views.device)
    start = time.perf_counter()
    field, matrix, reason = _aligned(matcher, views) if way == "sequence" else matched(matcher, views)
    seconds = time.perf_counter() - start
    size = (field.shape[0], field.shape[1])
    moved, true = decompose(matrix, size), decompose(nearest_affine(tried.field[k]), size)
    return {
        "pair": k,
        **end_point(field, tried.field[k]),
        **{name: float(getattr(moved, name)) for name in MOVED},
        **{f"true_{name}": float(getattr(true, name)) for name in MOVED},
        "seconds": seconds,
        "reason": reason,
    }


def matched(matcher: Matcher, views: Tensor) -> tuple[Tensor, Tensor, str]:
    """Field, affine map, and why there is none, of two views."""
    result = matcher(views[:1], views[1:])[0]
    fit = estimate(result.matches)
    return result.field, fit.matrix, result.reason or fit.reason


def _aligned(matcher: Matcher, views: Tensor) -> tuple[Tensor, Tensor, str]:
    """The same of the first and the last of a sequence: the map of all steps, and with it the local field."""
    result = align(matcher, views)
    return whole_field(result), result.total[-1], next(filter(None, result.reason), "")


def end_point(field: Tensor, true: Tensor) -> dict[str, float]:
    """Of a field and the truth `[H, W, 2]`: error, within, moved, over the pixels whose true displacement is known.

    A pixel without a displacement is not found: it counts as further away than 4 px, and not in the error.

    Example:
        >>> true = torch.tensor([[[3.0, 4.0], [0.0, 1.0], [float("nan")] * 2]])
        >>> end_point(torch.zeros(1, 3, 2), true)
        {'error': 3.0, 'within': 0.5, 'moved': 3.0}
    """
    known = ~true.isnan().any(2)
    error = (field - true)[known].norm(dim=1)
    near = (error <= NEAR).double()  # NaN is not
    return {
        "error": float(error.nanmean()),
        "within": float(near.mean()),
        "moved": float(true[known].norm(dim=1).mean()),
    }


def accuracy_table(pairs: pd.DataFrame) -> pd.DataFrame:
    """Table "accuracy": means over pairs; error and within over those that were matched at all."""
    rows = pd.DataFrame(pairs[pairs["way"] == "pair"])
    matched = rows["error"].notna()
    rows = rows.assign(within=rows["within"].where(matched), failed=~matched)
    grouped = rows.groupby(["matcher", "kind"], sort=False)
    table = pd.DataFrame(grouped[["error", "within", "moved", "seconds"]].mean())
    return table.assign(pairs=grouped.size(), failed=grouped["failed"].sum()).reset_index()


def recovered_table(pairs: pd.DataFrame) -> pd.DataFrame:
    """Table "recovered": R² = 1 − Σ(found − true)² / Σ(true − mean)² of each quantity, over the pairs with a map."""
    rows = []
    poses = pd.DataFrame(pairs[pairs["kind"] == "pose"])
    for matcher, way in poses[["matcher", "way"]].drop_duplicates().itertuples(index=False):
        subset = pd.DataFrame(poses[(poses["matcher"] == matcher) & (poses["way"] == way)])
        for name in MOVED:
            result, true = (np.asarray(subset[column], dtype=float) for column in (name, f"true_{name}"))
            both = np.isfinite(result) & np.isfinite(true)
            rows.append((matcher, way, name, _r2(result[both], true[both]), int(both.sum())))
    return pd.DataFrame(rows, columns=["matcher", "way", "what", "r2", "n"])


def _r2(result: np.ndarray, true: np.ndarray) -> float:
    variation = float(((true - true.mean()) ** 2).sum()) if len(true) > 1 else 0.0
    return 1 - float(((result - true) ** 2).sum()) / variation if variation > 0 else float("nan")


@dataclass(frozen=True)
class Trials:
    """n pairs of images of one class."""

    w: Tensor
    """`[n, w_dim]`: of the first images."""
    moved: Tensor
    """`[n, w_dim]`: of the second."""
    field: Tensor
    """True displacement `[n, H, W, 2]` in pixels, NaN in the background and where a point is hidden."""

    def between(self, steps: int) -> Tensor:
        """Style codes `[n, steps, w_dim]` on the straight line from the first to the second image."""
        share = torch.linspace(0, 1, steps)[None, :, None].to(self.w)
        return self.w[:, None] + share * (self.moved - self.w)[:, None]


def trials(generator: PartWorld, kind: str, class_index: int, n: int, seed: int) -> Trials:
    """Two figures of a class that differ in all factors of one kind, as two samples of that class do.

    Args:
        generator: part world.
        kind: `pose`, `parts` or `colours`.
        class_index: index into the generator's classes.
        n: pairs; the same for any n.
        seed: of the run.
    """
    world = generator.world
    draws = Stream("matching", seed).normal(class_index, torch.arange(2 * n), len(generator.factor_names))
    first, other = world.factors_of(draws, class_index).unflatten(0, (n, 2)).unbind(1)
    changes = torch.tensor([kind_of(name) == kind for name in generator.factor_names])
    w, moved = (world.to_w(u).to(generator.mean_w.device) for u in (first, torch.where(changes, other, first)))
    return Trials(w, moved, generator.displacement(w, moved).cpu())


def nearest_affine(field: Tensor) -> Tensor:
    """The affine map `[2, 3]` float64 with the least squared distance to a displacement field `[H, W, 2]`.

    Pixels that are NaN are left out; NaN where fewer than three are known.

    Example:
        >>> nearest_affine(torch.tensor([3.0, -2.0]).expand(5, 5, 2))[:, 2].round().tolist()
        [3.0, -2.0]
    """
    known = ~field.isnan().any(2)
    if int(known.sum()) < 3:  # three points define an affine map
        return torch.full((2, 3), torch.nan, dtype=torch.float64)
    at = pixel_grid(*known.shape)[known].double()
    there = at + field[known].double()
    design = torch.cat([at, torch.ones(len(at), 1, dtype=torch.float64)], 1)
    return torch.linalg.lstsq(design, there, driver="gelsd").solution.T
