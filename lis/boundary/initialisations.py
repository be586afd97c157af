"""Counterfactuals from many starts: how sparse their directions are, and how alike (supplement S7, Fig. S19)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional as F

from lis.boundary.job import Job
from lis.boundary.judged import search_table
from lis.boundary.searches import blocks, search_stage, searched
from lis.boundary.work import initialisations_work
from lis.context import Context
from lis.quantify.sparsity import hoyer
from lis.store import Artifact, Draft

KEYS = ["origin", "target", "sample_index"]
"""What a group of starts has in common."""


@search_stage("initialisations", "diversity_samples", "initialisations", "top", version=3, work=initialisations_work)
def initialisations(ctx: Context, linked: Artifact, train: Artifact, test: Artifact, draft: Draft) -> None:
    """Counterfactuals from many starts: some samples per ordered pair of classes, each from `initialisations` starts.

    The direction of a counterfactual is r̃ − r̃₀, between the activations of its image and of the image of f(r): what the
    model can reach. That of Δr, which was asked for, stands beside it.

    Table "sparsity", a row per search: origin, target, sample_index, initialisation, success, steps, sparsity (Hoyer's,
    of r̃ − r̃₀; NaN where it failed), sparsity_asked (of Δr). Tables "agreement", "pair_sparsity" and "units": see
    `agreement_table`, `pair_sparsity`, `shared_units`. Tensors "directions": direction `[rows of "sparsity", units]`,
    NaN where it failed. Json "facts": initialisations, top, class_names.

    Raises:
        ValueError: as `validate_counterfactual`; an answer is not finite; what the stages before refuse.
    """
    job, config = Job.of(ctx), ctx.config.counterfactuals
    requested = blocks(job, config.diversity_samples, config.initialisations)
    result = searched(job, requested, "counterfactuals from many starts")
    failed, top = ~result["success"][:, None], config.top
    reached = (result["reencoded"] - result["reencoded_original"]).masked_fill(failed, torch.nan)
    asked = result["shift"].masked_fill(failed, torch.nan)
    table = search_table(ctx, result)[["origin", "target", "sample_index", "initialisation", "success", "steps"]]
    table = table.assign(sparsity=hoyer(reached).numpy(), sparsity_asked=hoyer(asked).numpy())
    draft.table("sparsity", table)
    draft.table("agreement", agreement_table(table, reached, asked, top))
    draft.table("pair_sparsity", pair_sparsity(table))
    draft.table("units", shared_units(table, reached, top))
    draft.tensors("directions", {"direction": reached})
    facts = {"initialisations": config.initialisations, "top": top}
    draft.json("facts", facts | {"class_names": list(ctx.class_names)})


def agreement(directions: Tensor, top: int) -> tuple[Tensor, Tensor]:
    """Every two of m directions: their cosine, and the share of their `top` most moved units that both have.

    Args:
        directions: `[m, units]`, none of them 0.
        top: how many units are at the head of a direction.

    Returns:
        Both `[m (m − 1) / 2]`.

    Example:
        >>> cosine, shared = agreement(torch.tensor([[1.0, 0.0, 0.5], [0.0, 2.0, 1.0]]), top=2)
        >>> round(float(cosine), 3), float(shared)
        (0.2, 0.5)
    """
    unit = F.normalize(directions, dim=1)
    heads = F.one_hot(head(directions, top), directions.shape[1]).sum(1).float()
    row, column = torch.triu_indices(len(directions), len(directions), offset=1)
    shared = (heads[row] * heads[column]).sum(1) / heads.sum(1).mean()
    return (unit[row] * unit[column]).sum(1), shared


def head(directions: Tensor, top: int) -> Tensor:
    """The units that move most, `[m, top]` int64 of directions `[m, units]`; fewer where there are fewer units."""
    return directions.abs().topk(min(top, directions.shape[1]), dim=1).indices


def agreement_table(table: pd.DataFrame, reached: Tensor, asked: Tensor, top: int) -> pd.DataFrame:
    """A row per sample and pair of classes.

    Columns: origin, target, sample_index, n (starts that succeed), cosine (mean over every two of them, of the
    directions that arrive), cosine_low, cosine_high (the least and the most alike), cosine_asked (of Δr), shared; NaN
    below two.

    Args:
        table: a row per start: origin, target, sample_index, success.
        reached: r̃ − r̃₀ of every row, `[rows, units]`.
        asked: Δr of every row.
        top: as in `agreement`.
    """
    groups: Any = table.groupby(KEYS, sort=False)
    good = [(key, subset.index[subset["success"].to_numpy(dtype=bool)].tolist()) for key, subset in groups]
    return pd.DataFrame(
        [dict(zip(KEYS, key, strict=True)) | _agreement(reached[rows], asked[rows], top) for key, rows in good]
    )


def _agreement(reached: Tensor, asked: Tensor, top: int) -> dict[str, float]:
    if len(reached) < 2:
        missing = ("cosine", "cosine_low", "cosine_high", "cosine_asked", "shared")
        return {"n": len(reached)} | dict.fromkeys(missing, np.nan)
    cosine, shared = agreement(reached, top)
    ends = {"cosine_low": float(cosine.min()), "cosine_high": float(cosine.max())}
    other = {"cosine_asked": float(agreement(asked, top)[0].mean()), "shared": float(shared.mean())}
    return {"n": len(reached), "cosine": float(cosine.mean())} | ends | other


def pair_sparsity(table: pd.DataFrame) -> pd.DataFrame:
    """Sparsity of the directions of every pair of classes: origin, target, n, mean, std, low and high (quartiles)."""
    groups: Any = table.groupby(["origin", "target"], sort=False)["sparsity"]
    quartiles = {"low": lambda values: values.quantile(0.25), "high": lambda values: values.quantile(0.75)}
    moments = {"mean": lambda values: values.mean(), "std": lambda values: values.std(ddof=0)}
    return groups.agg(n="count", **moments, **quartiles).reset_index()


def shared_units(table: pd.DataFrame, reached: Tensor, top: int) -> pd.DataFrame:
    """The units that most counterfactuals of a pair of classes move.

    Columns: origin, target, unit, share (of the successful searches in which it is among the `top` most moved), change
    (mean of r̃ − r̃₀); the first `top` of every pair.
    """
    rows, groups = list[pd.DataFrame](), table[table["success"]].groupby(["origin", "target"], sort=False)
    for (origin, target), subset in groups:  # pyright: ignore[reportGeneralTypeIssues]: the stubs know no pairs
        directions = reached[subset.index.tolist()]
        share = F.one_hot(head(directions, top), directions.shape[1]).sum(1).double().mean(0)
        first = share.argsort(descending=True, stable=True)[:top]
        columns = {"unit": first, "share": share[first], "change": directions.mean(0)[first]}
        rows.append(pd.DataFrame({"origin": origin, "target": target} | {k: v.numpy() for k, v in columns.items()}))
    columns = ["origin", "target", "unit", "share", "change"]
    return pd.concat(rows, ignore_index=True) if rows else pd.DataFrame(columns=columns)
