"""The truth along a counterfactual, where it is known: does the classifier change its mind where Bayes does?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lis.boundary.counterfactuals import counterfactuals
from lis.boundary.job import Job, enter
from lis.boundary.judged import Bayes, knows_classes
from lis.boundary.trajectories import trajectories
from lis.boundary.work import boundary_truth_work
from lis.context import Context
from lis.stage import stage
from lis.store import Artifact, Draft
from lis.types import Generator
from lis.units.tuned import long_table


def validate_bayes(generator: Generator) -> Bayes:
    """The generator, as one that knows its classes exactly.

    Raises:
        ValueError: it does not.
    """
    if not knows_classes(generator):
        raise ValueError(
            f"{type(generator).__name__} does not know the probability of its classes: expected gan=partworld with "
            "classes, or leave boundary_truth out of analysis.stages"
        )
    return generator


@stage(
    "boundary_truth",
    version=1,
    inputs=(counterfactuals, trajectories),
    models=("generator",),
    also=lambda ctx: {"path_end": ctx.config.counterfactuals.path_end},
    check=lambda ctx: validate_bayes(ctx.generator),
    work=boundary_truth_work,
)
def boundary_truth(ctx: Context, searched: Artifact, paths: Artifact, draft: Draft) -> None:
    """Part world: the true factors along all counterfactuals, and where the Bayes class becomes the target.

    Table "boundaries", a row per counterfactual with a boundary: origin, target, sample_index, classifier (t of its
    boundary), bayes (t at which the Bayes class first becomes the target, to 1e-3; NaN: not up to `path_end`, or from
    the start), bayes_before, bayes_after (Bayes classes at t = 0 and 1), posterior (of the target, at the classifier's
    boundary), gap (bayes − classifier). Table "factors", a row per pair of classes and factor: origin, target, factor,
    change (mean of u(1) − u(0)), difference (between the means of the classes), n. Tables "factor_paths" (origin,
    target, sample_index, step, position, factor, value) and "posterior_paths" (…, bayes_probability and
    classifier_probability, of the target) of the trajectories that are shown. Json "summary": see `summary`.

    Raises:
        ValueError: the generator does not know its classes; what the stages before refuse.
    """
    job, generator, table = Job.of(ctx), validate_bayes(ctx.generator), searched.table("counterfactuals")
    rows = np.flatnonzero(table["boundary"].notna())
    table = table.iloc[rows].reset_index(drop=True)
    tensors = {name: values[rows] for name, values in searched.tensors("counterfactuals").items()}
    boundaries = _boundaries(job, generator, table, tensors)
    factors = _factors(job, generator, table, tensors)
    draft.table("boundaries", boundaries)
    draft.table("factors", factors)
    for name, along in _along(job, generator, paths).items():
        draft.table(name, along)
    draft.json("summary", summary(boundaries, factors))


def _boundaries(job: Job, generator: Bayes, table: pd.DataFrame, tensors: Mapping[str, Tensor]) -> pd.DataFrame:
    """The table "boundaries" of those that have one."""
    target = torch.tensor([generator.class_names.index(name) for name in table["target"]], dtype=torch.int64)

    def posterior(path: Tensor, position: Tensor) -> Tensor:
        w = job.codes(job.along(tensors["r"][path], tensors["shift"][path], position))
        return generator.log_posterior(w).cpu()

    def inside(path: Tensor, position: Tensor) -> Tensor:
        return posterior(path, position).argmax(1) == target[path]

    every, end = torch.arange(len(table)), job.ctx.config.counterfactuals.path_end
    with torch.inference_mode():
        bayes = enter(inside, len(table), end, steps=int(10 * end)).mean(1).numpy()
        at = posterior(every, torch.tensor(np.asarray(table["boundary"]))).exp()
        codes = (tensors[name].to(job.ctx.device) for name in ("w_original", "w"))
        ends = [generator.log_posterior(w).argmax(1).cpu().numpy() for w in codes]
    names = np.asarray(generator.class_names)
    result = table[["origin", "target", "sample_index"]].assign(classifier=table["boundary"], bayes=bayes)
    result = result.assign(bayes_before=names[ends[0]], bayes_after=names[ends[1]])
    return result.assign(posterior=at[every, target].numpy(), gap=bayes - table["boundary"])


def _factors(job: Job, generator: Bayes, table: pd.DataFrame, tensors: Mapping[str, Tensor]) -> pd.DataFrame:
    """The table "factors"."""
    last, first = (generator.true_factors(tensors[name].to(job.ctx.device)).cpu() for name in ("w", "w_original"))
    rows, groups = list[pd.DataFrame](), table.groupby(["origin", "target"], sort=False)
    for (origin, target), subset in groups:  # pyright: ignore[reportGeneralTypeIssues]: the stubs know no pairs
        means = [generator.class_factors(generator.class_names.index(name)).cpu() for name in (target, origin)]
        columns: dict[str, Any] = {"origin": origin, "target": target, "factor": generator.factor_names}
        columns["change"] = (last - first)[subset.index.tolist()].mean(0).numpy()
        columns |= {"difference": (means[0] - means[1]).numpy(), "n": len(subset)}
        rows.append(pd.DataFrame(columns))
    return pd.concat(rows, ignore_index=True)


def _along(job: Job, generator: Bayes, paths: Artifact) -> dict[str, pd.DataFrame]:
    """The tables "factor_paths" and "posterior_paths" of the trajectories."""
    table, tensors, device = paths.table("trajectories"), paths.tensors("trajectories"), job.ctx.device
    w, position = tensors["w"], tensors["position"]
    target = torch.tensor([generator.class_names.index(name) for name in table["target"]])
    value = generator.true_factors(w.flatten(0, 1).to(device)).cpu().unflatten(0, w.shape[:2])
    posterior = generator.log_posterior(w.flatten(0, 1).to(device)).exp().cpu().unflatten(0, w.shape[:2])
    every, in_run = torch.arange(len(w)), torch.tensor(table["target_index"].tolist())
    columns = {"bayes_probability": posterior[every, :, target]}
    columns["classifier_probability"] = tensors["probability"][every, :, in_run]
    axes = {"row": every, "step": range(w.shape[1])}
    factors = long_table(axes | {"factor": generator.factor_names}, {"value": value})
    tables = {"factor_paths": factors, "posterior_paths": long_table(axes, columns)}
    return {name: _named(rows, table, position) for name, rows in tables.items()}


def _named(rows: pd.DataFrame, table: pd.DataFrame, position: Tensor) -> pd.DataFrame:
    """The rows with origin, target, sample_index and position in place of the trajectory's number."""
    subset = table.iloc[rows.pop("row").to_numpy()]
    for index, name in enumerate(("origin", "target", "sample_index")):
        rows.insert(index, name, subset[name].to_numpy())
    rows.insert(4, "position", position.numpy()[rows["step"]])
    return rows


def summary(boundaries: Any, factors: pd.DataFrame) -> dict[str, float | int | None]:
    """In numbers.

    n (counterfactuals), bayes_reached (share whose Bayes class at t = 1 is the target), bayes_on_path (share whose path
    has a Bayes boundary), gap_median (bayes − classifier, over those), posterior_median (of the target at the
    classifier's boundary), cosine (mean over pairs of classes, between the mean change of the factors and the
    difference of the classes' means); None where there is none.
    """
    pairs: Any = factors.groupby(["origin", "target"], sort=False)
    both = [(subset["change"], subset["difference"]) for _, subset in pairs]
    cosines = [a @ b / (np.linalg.norm(a) * np.linalg.norm(b)) for a, b in both]
    known = boundaries["gap"].dropna()
    return {
        "n": len(boundaries),
        "bayes_reached": float((boundaries["bayes_after"] == boundaries["target"]).mean()),
        "bayes_on_path": float(boundaries["bayes"].notna().mean()),
        "gap_median": float(known.median()) if len(known) else None,
        "posterior_median": float(boundaries["posterior"].median()),
        "cosine": float(np.mean(cosines)),
    }
