"""Fewer units moved: counterfactuals with an L1 penalty on Δr, against their success and their probability."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from lis.boundary.job import Job
from lis.boundary.judged import OTHERS, others_table, search_table, success_rate, witnessed
from lis.boundary.searches import blocks, search_settings, search_stage, searched
from lis.boundary.work import sparse_work
from lis.context import Context
from lis.stage import MODELS, WITNESS
from lis.store import Artifact, Draft


@search_stage(
    "sparse_counterfactuals",
    "l1_sweep",
    "l1_samples",
    "l1_max_steps",
    version=3,
    work=sparse_work,
    models=(*MODELS, WITNESS),
)
def sparse_counterfactuals(ctx: Context, linked: Artifact, train: Artifact, test: Artifact, draft: Draft) -> None:
    """Counterfactuals of few units: searched with every L1 weight of `l1_sweep`, at most `l1_max_steps` steps each.

    After every step Δr goes through the soft threshold lr · λ · σ_u, σ_u the unit's standard deviation. In the metric
    of the pairs a step moves a unit by lr · σ_u times its correlation with the step, so that λ is the correlation below
    which a unit stays at 0.

    Table "sweep", a row per search: l1, origin, target, sample_index, success, reason, steps, probability, units
    (moved), w_distance, and what `others_table` has. Table "summary": see `summary`.

    Raises:
        ValueError: as `validate_counterfactual`; an answer is not finite; what the stages before refuse.
    """
    job = Job.of(ctx)
    weights = sorted(set(ctx.config.counterfactuals.l1_sweep))
    sweep = pd.concat([_searched_with(job, l1) for l1 in weights], ignore_index=True)
    draft.table("sweep", sweep)
    draft.table("summary", summary(sweep))


def _searched_with(job: Job, l1: float) -> pd.DataFrame:
    """The rows of one weight."""
    config = job.ctx.config.counterfactuals
    settings = replace(search_settings(config), l1=l1, max_steps=config.l1_max_steps)
    result = searched(job, blocks(job, config.l1_samples, 1, settings), f"counterfactuals, L1 {l1:g}")
    table = search_table(job.ctx, result)
    columns = ["origin", "target", "sample_index", "success", "reason", "steps", "probability", "w_distance"]
    table = table[columns].assign(l1=l1, units=result["shift"].ne(0).sum(1).numpy())
    return table.join(others_table(job.ctx, result["w"], result["w_original"]))


def summary(sweep: pd.DataFrame) -> pd.DataFrame:
    """A row per L1 weight.

    Columns: l1, n, rate (of success, with its Wilson interval low, high), and of those that succeed probability (mean),
    units (median), units_low and units_high (quartiles), w_distance (mean); NaN where none does; and bayes and witness,
    the share of all searches that succeed and that these call the target too (`witnessed`), NaN where nobody was asked.
    """
    groups: Any = sweep.groupby("l1")
    return pd.DataFrame([{"l1": l1} | _row(subset) for l1, subset in groups])


def _row(subset: Any) -> dict[str, Any]:
    good = subset[subset["success"]]
    units = good["units"].quantile([0.25, 0.5, 0.75]).to_numpy() if len(good) else np.full(3, np.nan)
    means = {name: good[name].mean() for name in ("probability", "w_distance")}
    shares = dict.fromkeys(OTHERS, np.nan) | witnessed(subset).set_index("who")["share"].to_dict()
    units = dict(zip(("units_low", "units", "units_high"), units, strict=True))
    return success_rate(subset) | means | units | shares
