"""The stage that fits a link to the training pairs, and the way to load one again."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from lis.build import build
from lis.config import LinkConfig, MLPConfig
from lis.context import Context
from lis.linking.jackknife import jackknife
from lis.linking.linear import LeastSquares, LinearLink
from lis.linking.mlp import MLPLink
from lis.linking.module import LinkModule
from lis.linking.pairs import pairs
from lis.linking.projection import projection, require_components
from lis.linking.training import FittedLink, LinkFit, ProjectedFit, Settings, TrainingPairs
from lis.store import Artifact, Draft, Recipe

VERSION = 3
BLOCKS = 10
"""Jackknife blocks."""
LINKS: dict[str, type[LinkModule]] = {"linear": LinearLink, "mlp": MLPLink}
"""Modules by the name under which they are stored; each keeps its constructor's arguments in `settings`."""


def link(ctx: Context) -> Artifact:
    """The link of the run, fitted to the training pairs.

    Tensors "link" and json "link" (`kind`, `module`, `dims`, `settings`; see `load_link`). Table "units": unit, mean,
    std, minimum, maximum, status (`live`, `near-dead` or `dead`), step_norm (‖Δw‖ when the unit goes from its minimum
    to its maximum) and its 95 % jackknife interval step_norm_low, step_norm_high; NaN where the link is not linear.
    Table "path" of a linear link: ridge, gcv_mse, mean_step_norm, chosen. Table "curve" of a trained one: epoch,
    train_loss, validation_loss. Json "fit": kind, samples, units, w_dim, dead, near_dead, seconds, and per kind rank,
    ridge, gcv_mse or epochs, pc_weight, pc_target. A fit that reads projected samples (`ProjectedFit`) makes the
    artifact "projection" first.

    Raises:
        ValueError: the link's settings or the pairs are refused by its fit.
    """
    fit: LinkFit = build(ctx.config.link)
    validate_link(ctx.config.link, ctx.generator.w_dim)
    source = pairs(ctx, "train")
    components = fit.projected if isinstance(fit, ProjectedFit) else None
    projected = projection(ctx, source, components) if components is not None else None
    inputs = (source.key, projected.key) if projected else (source.key,)
    config = {"link": asdict(ctx.config.link), "seed": ctx.config.seed}
    recipe = Recipe(stage="link", version=VERSION, config=config, inputs=inputs)
    return ctx.store.make(recipe, lambda draft: _build(ctx, fit, source, projected, draft))


def validate_link(config: LinkConfig, w_dim: int) -> None:
    """Checks what the generator's W decides of a link's settings.

    Raises:
        ValueError: FC-L2 with more principal components than w has dimensions, or with none.
    """
    if isinstance(config, MLPConfig) and config.pc_weight:
        require_components(config.components, w_dim)


def load_link(artifact: Artifact) -> LinkModule:
    """The link of an artifact of the stage `link`, on the CPU, in evaluation mode and frozen."""
    saved = artifact.json("link")
    module = LINKS[saved["module"]](**saved["settings"])
    module.load_state_dict(artifact.tensors("link"))
    return module.eval().requires_grad_(False)


def save_link(draft: Draft, fitted: FittedLink) -> None:
    """Writes what `load_link` reads."""
    settings = fitted.link.settings
    module = next(name for name, kind in LINKS.items() if isinstance(fitted.link, kind))
    dims = {name: settings[name] for name in ("units", "w_dim")}
    draft.tensors("link", fitted.link.state_dict())
    draft.json("link", {"kind": fitted.kind, "module": module, "dims": dims, "settings": settings})


def unit_table(moments: LeastSquares, link: LinkModule, ridge: float | None) -> pd.DataFrame:
    """Statistics and, for a linear link with this ridge, the step and its interval of every unit."""
    units = moments.statistics()
    names = ("mean", "std", "minimum", "maximum")
    columns: dict[str, Any] = {"unit": np.arange(moments.units)}
    columns |= {name: getattr(units, name).cpu().numpy() for name in names} | {"status": units.status}
    columns |= dict.fromkeys(("step_norm", "step_norm_low", "step_norm_high"), np.nan)  # what does not exist
    if isinstance(link, LinearLink) and ridge is not None:
        columns["step_norm"] = link.step_norms(units.reach).cpu().numpy()
        if moments.blocks > 1:
            known = jackknife(moments, link, ridge)
            columns |= {"step_norm_low": known.low.cpu().numpy(), "step_norm_high": known.high.cpu().numpy()}
    return pd.DataFrame(columns)


def _build(ctx: Context, fit: LinkFit, source: Artifact, projected: Artifact | None, draft: Draft) -> None:
    stored = source.tensors("pairs")
    r_projected = projected.tensors("projection")["r"] if projected else None
    training = TrainingPairs.of(stored["r"], stored["w"], BLOCKS, r_projected)
    fitted = fit.fit(training, Settings(ctx.config.seed, ctx.device, ctx.progress))
    save_link(draft, fitted)
    for name, table in fitted.tables.items():
        draft.table(name, table)
    units = unit_table(training.moments, fitted.link, fitted.ridge)
    draft.table("units", units)
    status = units["status"].tolist()
    counts = {"dead": status.count("dead"), "near_dead": status.count("near-dead")}
    sizes = {"samples": training.moments.count, "units": training.moments.units, "w_dim": training.moments.w_dim}
    draft.json("fit", {"kind": fitted.kind, **sizes, **counts, **fitted.facts})
