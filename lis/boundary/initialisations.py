"""Counterfactuals from many starts: how sparse their directions are, and how alike (supplement S7, Fig. S19)."""

from __future__ import annotations

from typing import Any

import torch

from lis.boundary.counterfactuals import SEARCHED, identity_of, rows
from lis.boundary.diversity import agreement_table, pair_sparsity, shared_units
from lis.boundary.job import Job, search_arrays
from lis.boundary.shards import blocks, searched
from lis.boundary.wanted import validate_counterfactual
from lis.context import Context
from lis.quantify.sparsity import hoyer
from lis.stage import MODELS, stage
from lis.store import Artifact, Draft


def _also(ctx: Context) -> dict[str, Any]:
    counts = ("diversity_samples", "initialisations", "top")
    return identity_of(ctx) | {name: getattr(ctx.config.counterfactual, name) for name in counts}


@stage(
    "initialisations",
    version=3,
    inputs=SEARCHED,
    models=MODELS,
    also=_also,
    check=lambda ctx: validate_counterfactual(ctx.config),
    arrays=search_arrays,
)
def initialisations(ctx: Context, linked: Artifact, train: Artifact, test: Artifact, draft: Draft) -> None:
    """The searches of some samples per ordered pair of classes, each from `initialisations` starts.

    The direction of a counterfactual is r̃ − r̃₀, between the activations of its image and of the image of f(r): what the
    model can reach. That of Δr, which was asked for, stands beside it.

    Table "sparsity", a row per search: origin, target, sample_index, initialisation, success, steps, sparsity (Hoyer's,
    of r̃ − r̃₀; NaN where it failed), sparsity_asked (of Δr). Tables "agreement", "pair_sparsity" and "units": see
    `lis.boundary.diversity`. Tensors "directions": direction `[rows of "sparsity", units]`, NaN where it failed. Json
    "facts": initialisations, top, class_names.

    Raises:
        ValueError: as `validate_counterfactual`; an answer is not finite; what the stages before refuse.
    """
    job, config = Job.of(ctx), ctx.config.counterfactual
    _build(job, blocks(job, config.diversity_samples, config.initialisations), draft)


def _build(job: Job, wanted: list, draft: Draft) -> None:
    ctx, top = job.ctx, job.ctx.config.counterfactual.top
    found = searched(job, wanted, "counterfactuals from many starts")
    failed = ~found["success"][:, None]
    reached = (found["reencoded"] - found["reencoded_original"]).masked_fill(failed, torch.nan)
    asked = found["shift"].masked_fill(failed, torch.nan)
    table = rows(found, ctx.class_names, ctx.classifier.class_names)
    table = table[["origin", "target", "sample_index", "initialisation", "success", "steps"]]
    table = table.assign(sparsity=hoyer(reached).numpy(), sparsity_asked=hoyer(asked).numpy())
    draft.table("sparsity", table)
    draft.table("agreement", agreement_table(table, reached, asked, top))
    draft.table("pair_sparsity", pair_sparsity(table))
    draft.table("units", shared_units(table, reached, top))
    draft.tensors("directions", {"direction": reached})
    starts = ctx.config.counterfactual.initialisations
    draft.json("facts", {"initialisations": starts, "top": top, "class_names": list(ctx.class_names)})
