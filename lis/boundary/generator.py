"""Counterfactuals in the generator: the same z in another class, and the way between in W (supplement S8, Fig. S20)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

import torch
from omegaconf import MISSING
from torch import Tensor

from lis.boundary.generator_pictures import pictures
from lis.boundary.generator_shards import SHARDS, Block, Job, validate_counterparts
from lis.boundary.generator_tables import Paths, measure_table, sample_table, unit_table
from lis.config.fields import number
from lis.context import Context
from lis.linking.fit import link
from lis.linking.pairs import test_pairs
from lis.look import Looker
from lis.peaks import picture_arrays
from lis.segmentation.needs import part_images
from lis.segmentation.stage import Masks, load_segmenter, segmenter
from lis.stage import MODELS, stage
from lis.store import Artifact, Draft
from lis.units.strips import first


@dataclass
class GanCounterfactualConfig:
    """The same z in another class, and the way between in W (supplement S8)."""

    samples: int = number(MISSING, low=1)
    """Test samples per class that go to every other class."""
    steps: int = number(MISSING, low=2)
    """Images from a sample to its counterpart."""
    shown: int = number(MISSING, low=1)
    """Pairs of classes in pictures: each class to the next."""
    units: int = number(4, low=1)
    """Units that are shown of such a pair: those that change most."""


@stage(
    "gan_counterfactuals",
    version=2,
    inputs=(test_pairs, link, segmenter),
    config=GanCounterfactualConfig,
    group="gan_counterfactual",
    models=MODELS,
    also=lambda ctx: {"view": ctx.config.view.steps},
    check=validate_counterparts,
    images=part_images,
    arrays=picture_arrays,
)
def gan_counterfactuals(
    ctx: Context, config: GanCounterfactualConfig, test: Artifact, linked: Artifact, parts: Artifact, draft: Draft
) -> None:
    """The first test samples of every class on their way to every other class.

    w(t) = (1 − t) w + t w', with w the style code of a sample and w' that of the same z in the other class. N ways (a
    row per ordered pair of classes and sample), in T steps.

    Tables "samples", "measures" and "units": see `lis.boundary.generator_tables`. Tensors "paths": position `[T]`,
    probability `[N, T, C]`, prediction `[N, T]`, measures `[N, T, K, 5]`, shift `[N, units]` (r of the last image − r
    of the first). Tables "shown" and "tuned", tensors "shown" and "tuned": see `lis.boundary.generator_pictures`. Json
    "facts": labels, class_names.

    Raises:
        ValueError: as `validate_counterparts`; what the stages before refuse.
    """
    _build(ctx, test, linked, parts, draft)


def _build(ctx: Context, test: Artifact, linked: Artifact, parts: Artifact, draft: Draft) -> None:
    model = load_segmenter(ctx, parts)
    masks = Masks(model)
    chosen = first(test.tensors("pairs"), ctx.config.gan_counterfactual.samples)
    found = _read(Job(ctx, Looker.tuned(ctx, masks, model.labels), (parts.key,)), chosen)
    draft.table("samples", sample_table(found))
    draft.table("measures", measure_table(found))
    units = unit_table(found, linked.table("units"))
    draft.table("units", units)
    steps = ctx.config.gan_counterfactual.steps
    kept = {name: getattr(found, name) for name in ("probability", "prediction", "measures", "shift")}
    draft.tensors("paths", kept | {"position": torch.linspace(0, 1, steps)})
    pictures(ctx, found, units, linked, masks, draft)
    draft.json("facts", {"labels": list(found.labels), "class_names": list(ctx.class_names)})


def _read(job: Job, chosen: dict[str, Tensor]) -> Paths:
    """All ways."""
    ctx, blocks = job.ctx, _blocks(job.ctx, chosen)
    names = ctx.class_names
    return Paths(
        origin=_repeated([names.index(block.origin) for block in blocks], blocks),
        target=_repeated([names.index(block.target) for block in blocks], blocks),
        sample_index=torch.tensor([index for block in blocks for index in block.sample_index]),
        **SHARDS.tensors(job, blocks, "the same z in other classes"),
        known=tuple(ctx.classifier.class_names),
        class_names=names,
        labels=job.looker.labels,
    )


def _blocks(ctx: Context, chosen: dict[str, Tensor]) -> list[Block]:
    """Ordered pairs of classes, each with its samples, at most `tuning.seed_block` at once."""
    blocks = []
    for origin, target in permutations(range(len(ctx.class_names)), 2):
        own = chosen["sample_index"][chosen["class_index"] == origin]
        names = ctx.class_names[origin], ctx.class_names[target]
        blocks += [Block(*names, tuple(some.tolist())) for some in own.split(ctx.config.tuning.seed_block)]
    return blocks


def _repeated(values: Sequence[int], blocks: Sequence[Block]) -> Tensor:
    """A value per block, for each of its samples."""
    return torch.tensor(values).repeat_interleave(torch.tensor([len(block.sample_index) for block in blocks]))
