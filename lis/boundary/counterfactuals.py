"""Counterfactuals for every ordered pair of classes: found in R, judged by their images (paper §3.3, Eq. 3–4)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from lis.boundary.job import Job, blocks, search_arrays, search_settings, searched, start_bound, validate_counterfactual
from lis.boundary.search import identity
from lis.context import Context
from lis.linking.link import link
from lis.linking.pairs import test_pairs, train_pairs
from lis.stage import MODELS, stage
from lis.statistics import wilson
from lis.store import Artifact, Draft

KEPT = ("r", "shift", "reencoded", "reencoded_original", "w", "w_original")


def identity_of(ctx: Context) -> dict[str, Any]:
    """The part of the configuration that every search follows from, with the pairs of classes."""
    config = ctx.config.counterfactuals
    return {
        "seed": ctx.config.seed,
        "accept": ctx.config.pairs.accept,
        "truncation": ctx.config.gan.truncation,
        "classes": list(ctx.class_names),
        "pairs": config.pairs,
        "start": start_bound(config),
        "settings": asdict(search_settings(config)),
    }


SEARCHED = (link, train_pairs, test_pairs)
"""What every search follows from."""


@stage(
    "counterfactuals",
    version=3,
    inputs=SEARCHED,
    models=MODELS,
    also=lambda ctx: identity_of(ctx) | {"samples": ctx.config.counterfactuals.samples},
    check=lambda ctx: validate_counterfactual(ctx.config),
    arrays=search_arrays,
)
def counterfactuals(ctx: Context, linked: Artifact, train: Artifact, test: Artifact, draft: Draft) -> None:
    """One counterfactual per sample and ordered pair of classes.

    Δr is optimised until the image of f(r + Δr) is of the target class, at most `max_steps` steps. Both r + Δr and r̃,
    the activations of that image, are kept: what is asked and what can be reached.

    Table "counterfactuals", see `rows`. Table "pairs", see `pair_table`. Tensors "counterfactuals", a row per row of
    the table: r, shift (Δr; 0 where the search diverged), reencoded (r̃ of the image of f(r + Δr)), reencoded_original
    (r̃ of that of f(r)) `[n, units]`, w (f(r + Δr)), w_original (f(r)) `[n, w_dim]`. Json "facts": the settings,
    nonnegative (R is, and so r + Δr is kept), n, reached, rate, class_names.

    Raises:
        ValueError: as `validate_counterfactual`; an answer is not finite; what the stages before refuse.
    """
    job = Job.of(ctx)
    _build(
        job, searched(job, blocks(job, ctx.config.counterfactuals.samples, initialisations=1), "counterfactuals"), draft
    )


def rows(result: Mapping[str, Tensor], names: tuple[str, ...], known: tuple[str, ...]) -> pd.DataFrame:
    """A row per counterfactual.

    Columns: origin, target, origin_index, target_index (places among the classes of the run), sample_index,
    initialisation, success, reason (why not; ""), steps, probability (of the target, in the last image), before and
    after (what the images of f(r) and f(r + Δr) are taken for), r_distance ‖Δr‖, reencoded_distance (between the
    activations of the two images), w_distance, w_cosine (between f(r) and f(r + Δr)), boundary (t on the path r + t Δr;
    NaN where there is none, because the search failed or the first image is of the target class already).

    Args:
        result: what `searched` gives.
        names: of the classes of the run.
        known: of the classifier's classes.
    """
    classes, called = np.asarray(names), np.asarray(known)
    columns: dict[str, Any] = {name: classes[result[name].numpy()] for name in ("origin", "target")}
    columns |= {f"{name}_index": result[name] for name in ("origin", "target")}
    columns |= {name: result[name] for name in ("sample_index", "initialisation", "success")}
    columns["reason"] = _reasons(result, columns["target"])
    columns |= {name: result[name] for name in ("steps", "probability")}
    columns |= {name: called[result[name].numpy()] for name in ("before", "after")}
    columns["r_distance"] = result["shift"].norm(dim=1)
    columns["reencoded_distance"] = (result["reencoded"] - result["reencoded_original"]).norm(dim=1)
    columns["w_distance"] = (result["w"] - result["w_original"]).norm(dim=1)
    columns["w_cosine"] = identity(result["w_original"], result["w"])
    columns["boundary"] = result["boundary"]
    return pd.DataFrame({name: np.asarray(values) for name, values in columns.items()})


def _reasons(result: Mapping[str, Tensor], target: np.ndarray) -> list[str]:
    told = zip(*(result[name].tolist() for name in ("success", "diverged", "steps")), target, strict=True)
    return [
        ""
        if success
        else f"no longer finite after {steps} steps"
        if diverged
        else f"the image is not of {name} after {steps} steps"
        for success, diverged, steps, name in told
    ]


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
    low, high = wilson(len(good), len(subset))
    counts = {"n": len(subset), "reached": len(good), "rate": len(good) / len(subset), "low": low, "high": high}
    means = {name: good[name].mean() for name in ("probability", "w_distance", "r_distance", "reencoded_distance")}
    return {"origin": origin, "target": target} | counts | {"steps": good["steps"].median()} | means


def _build(job: Job, result: dict[str, Tensor], draft: Draft) -> None:
    ctx = job.ctx
    table = rows(result, ctx.class_names, ctx.classifier.class_names)
    draft.table("counterfactuals", table)
    draft.table("pairs", pair_table(table))
    draft.tensors("counterfactuals", {name: result[name] for name in KEPT})
    reached = int(result["success"].sum())
    counts = {"n": len(table), "reached": reached, "rate": reached / len(table), "nonnegative": job.nonnegative}
    settings = asdict(search_settings(ctx.config.counterfactuals)) | {"start": start_bound(ctx.config.counterfactuals)}
    draft.json("facts", settings | counts | {"class_names": list(ctx.class_names)})
