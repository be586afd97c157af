"""Counterfactuals for every ordered pair of classes: searched in R, judged by their images (paper §3.3, Eq. 3–4)."""

from __future__ import annotations

from typing import Any

import pandas as pd

from lis.boundary.job import Job
from lis.boundary.judged import others_table, search_table, success_rate, witnessed
from lis.boundary.searches import blocks, search_settings, search_stage, searched
from lis.boundary.work import counterfactuals_work
from lis.context import Context
from lis.stage import MODELS, WITNESS
from lis.store import Artifact, Draft

RETAINED = ("r", "shift", "reencoded", "reencoded_original", "w", "w_original")


@search_stage("counterfactuals", "samples", version=3, work=counterfactuals_work, models=(*MODELS, WITNESS))
def counterfactuals(ctx: Context, linked: Artifact, train: Artifact, test: Artifact, draft: Draft) -> None:
    """One counterfactual per sample and ordered pair of classes.

    Δr is optimised until the image of f(r + Δr) is of the target class, at most `max_steps` steps. Both r + Δr and r̃,
    the activations of that image, are stored: what is asked and what can be reached.

    Table "counterfactuals": see `search_table` and `others_table`. Tables "pairs" and "witnessed": see `pair_table` and
    `witnessed`. Tensors "counterfactuals", a row per search: r, shift (Δr; 0 where the search diverged), reencoded (r̃
    of the image of f(r + Δr)), reencoded_original (r̃ of that of f(r)) `[n, units]`, w (f(r + Δr)), w_original (f(r))
    `[n, w_dim]`. Json "facts": the settings (near where it is given), nonnegative (R is, and so r + Δr is kept), n,
    reached, rate, class_names.

    Raises:
        ValueError: as `validate_counterfactual`; an answer is not finite; what the stages before refuse.
    """
    job, config = Job.of(ctx), ctx.config.counterfactuals
    result = searched(job, blocks(job, config.samples, initialisations=1), "counterfactuals")
    table = search_table(ctx, result).join(others_table(ctx, result["w"], result["w_original"]))
    draft.table("counterfactuals", table)
    draft.table("pairs", pair_table(table))
    draft.table("witnessed", witnessed(table))
    draft.tensors("counterfactuals", {name: result[name] for name in RETAINED})
    reached = int(result["success"].sum())
    counts = {"n": len(table), "reached": reached, "rate": reached / len(table), "nonnegative": job.nonnegative}
    draft.json("facts", search_settings(config).described() | counts | {"class_names": list(ctx.class_names)})


def pair_table(table: pd.DataFrame) -> pd.DataFrame:
    """A row per ordered pair of classes, and one for all.

    Columns: origin, target ("all"), n, reached, rate with its Wilson interval low, high; and of those that were reached
    steps (median), probability, w_distance, r_distance, reencoded_distance (means); NaN where none was.
    """
    groups: Any = table.groupby(["origin", "target"], sort=False)
    result = [_pair(origin, target, subset) for (origin, target), subset in groups]
    return pd.DataFrame([*result, _pair("all", "all", table)])


def _pair(origin: str, target: str, subset: Any) -> dict[str, Any]:
    good = subset[subset["success"]]
    means = {name: good[name].mean() for name in ("probability", "w_distance", "r_distance", "reencoded_distance")}
    counts = {"origin": origin, "target": target, "n": len(subset), "reached": len(good)} | success_rate(subset)
    return counts | {"steps": good["steps"].median()} | means
