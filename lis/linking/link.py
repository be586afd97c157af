"""The link of a run: fitted to the training pairs, loaded again, and how well its steps are known."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.stats import t as student
from torch import Tensor

from lis.build import build
from lis.config import LinkConfig, MLPConfig
from lis.context import Context
from lis.linking.linear import LeastSquares, LinearLink, LinkModule
from lis.linking.mlp import MLPLink
from lis.linking.pairs import train_pairs
from lis.linking.projection import projected_components, projection, require_components
from lis.linking.training import LinkFit, Settings, TrainingPairs
from lis.linking.work import link_work
from lis.memory import Machine
from lis.peaks import DOUBLE, FLOAT, seen_images, width
from lis.stage import stage
from lis.store import Artifact, Draft

BLOCKS = 10
"""Jackknife blocks."""
LINKS: dict[str, type[LinkModule]] = {"linear": LinearLink, "mlp": MLPLink}
"""Modules by the name under which they are stored; each keeps its constructor's arguments in `settings`."""
LEVEL = 0.95
"""Coverage of the intervals."""


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


def unit_table(moments: LeastSquares, link: LinkModule, ridge: float | None) -> pd.DataFrame:
    """Statistics and, for a linear link with this ridge, the step and its interval of every unit."""
    units = moments.statistics()
    names = ("mean", "std", "minimum", "maximum")
    columns: dict[str, Any] = {"unit": np.arange(moments.units)}
    columns |= {name: getattr(units, name).cpu().numpy() for name in names} | {"status": units.status}
    columns |= dict.fromkeys(("step_norm", "step_norm_low", "step_norm_high"), np.nan)  # what does not exist
    if isinstance(link, LinearLink) and ridge is not None:
        columns["step_norm"] = link.step_norms(units.range).cpu().numpy()
        if moments.blocks > 1:
            known = jackknife(moments, link, ridge)
            columns |= {"step_norm_low": known.low.cpu().numpy(), "step_norm_high": known.high.cpu().numpy()}
    return pd.DataFrame(columns)


def fit_images(ctx: Context, machine: Machine) -> int:
    """Bytes of the training samples that FC-L2 generates once more, projected."""
    config = ctx.config.link
    projects = getattr(config, "pc_weight", 0) and getattr(config, "pc_target", "") == "projection"
    return seen_images(ctx, machine) if projects else 0


def fit_arrays(ctx: Context) -> int:
    """Bytes of r and w as they are and in double precision, and of some matrices of their products."""
    n, numbers = ctx.config.pairs.train * len(ctx.class_names), width(ctx)
    return n * numbers * (FLOAT + DOUBLE) + 4 * numbers**2 * DOUBLE


@stage(
    "link",
    version=3,
    inputs=(train_pairs, projection.when(lambda ctx: projected_components(ctx) is not None)),
    seed=True,
    also=lambda ctx: {"link": asdict(ctx.config.link)},
    check=lambda ctx: validate_link(ctx.config.link, ctx.generator.w_dim),
    images=fit_images,
    arrays=fit_arrays,
    work=link_work,
)
def link(ctx: Context, source: Artifact, projected: Artifact | None, draft: Draft) -> None:
    """The fitted link, its units (range, linked step with interval, dead or not), ridge path or training curve.

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
    stored = source.tensors("pairs")
    r_projected = projected.tensors("projection")["r"] if projected else None
    training = TrainingPairs.of(stored["r"], stored["w"], BLOCKS, r_projected)
    fitted = fit.fit(training, Settings(ctx.config.seed, ctx.device, ctx.progress))
    module = next(name for name, kind in LINKS.items() if isinstance(fitted.link, kind))
    sizes = {name: fitted.link.settings[name] for name in ("units", "w_dim")}
    draft.tensors("link", fitted.link.state_dict())
    saved = {"kind": fitted.kind, "module": module, "dims": sizes, "settings": fitted.link.settings}
    draft.json("link", saved)
    for name, table in fitted.tables.items():
        draft.table(name, table)
    units = unit_table(training.moments, fitted.link, fitted.ridge)
    draft.table("units", units)
    status = units["status"].tolist()
    counts = {"dead": status.count("dead"), "near_dead": status.count("near-dead")}
    draft.json("fit", {"kind": fitted.kind, "samples": training.moments.count, **sizes, **counts, **fitted.facts})


@dataclass(frozen=True)
class Jackknife:
    """Steps of a linear link and how well they are known; float64."""

    coef_error: Tensor
    """Standard error of every coefficient, `[units, w_dim]`."""
    step_norm: Tensor
    """‖Δw‖ from a unit's minimum to its maximum, `[units]`."""
    low: Tensor
    """Lower end of the step norm's 95 % interval, at least 0, `[units]`."""
    high: Tensor
    """Upper end, `[units]`."""


def jackknife(moments: LeastSquares, link: LinearLink, ridge: float = 0.0) -> Jackknife:
    """Solves again without each of the k blocks, and takes Student's t with k − 1 degrees of freedom.

    The standard error of a statistic θ is √((k−1)/k Σ (θ₋ᵦ − mean θ₋)²). A block holds every k-th sample, so the
    blocks are alike in classes. The range of a unit is that of all samples throughout.

    Args:
        moments: the samples, in blocks.
        link: of all samples, with this ridge.
        ridge: relative to the number of samples.

    Raises:
        ValueError: the moments were collected with fewer than two blocks.
    """
    k, ranges = moments.blocks, moments.statistics().range
    if k < 2:
        raise ValueError(f"a jackknife over {k} block: expected 2 or more; collect with LeastSquares(blocks=10)")
    others = [moments.solve(ridge, leave_out=block) for block in range(k)]
    step_norm = link.step_norms(ranges)
    margin = float(student.ppf((1 + LEVEL) / 2, k - 1)) * _error([other.step_norms(ranges) for other in others])
    coef_error = _error([other.coef for other in others])
    return Jackknife(coef_error, step_norm, (step_norm - margin).clamp(min=0), step_norm + margin)


def _error(left_out: list[Tensor]) -> Tensor:
    return torch.stack(left_out).std(0, correction=0) * (len(left_out) - 1) ** 0.5
