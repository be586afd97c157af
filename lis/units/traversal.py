"""What single units stand for: images along a unit's range, and what the classifier says to them (Fig. 4A, 6D, S4)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from omegaconf import MISSING
from torch import Tensor

from lis.config import RunConfig
from lis.config.fields import number
from lis.context import Context
from lis.images import to_uint8
from lis.linking.evaluation import TrueFactors
from lis.linking.link import link
from lis.linking.pairs import test_pairs
from lis.look import Look, Looker
from lis.stage import MODELS, stage
from lis.store import Artifact, Draft
from lis.units.arrival import outmoved
from lis.units.directions import Directions, directions, load_directions, mean_arrival
from lis.units.perturbation import Perturbation
from lis.units.tuned import sample_table
from lis.units.tuning import perturbations, select
from lis.units.work import traversal_work

CANDIDATES = 32
"""Units that are ranked: the live ones with the largest linked step, or that w expresses best."""
STILL = 1e-5
"""A factor whose standard deviation is below this share of the largest does not vary but for rounding."""


@dataclass
class TraversalConfig:
    """Pictures along the range of single units (Fig. 4A, S4)."""

    units: int = number(MISSING, low=1)
    """Units that are shown: of those that move more than the others do, the ones that move the probability of a
    sample's own class most."""
    samples: int = number(MISSING, low=1)
    """Test samples per class on which that is measured."""
    examples: int = number(MISSING, low=1)
    """Test samples per class that are shown."""
    steps: int = number(MISSING, low=2)
    """Values from a unit's smallest to its largest activation."""


def problems(config: RunConfig) -> list[str]:
    """More samples or examples than there are test pairs."""
    most = max(config.traversal.samples, config.traversal.examples)
    if most <= config.pairs.test:
        return []
    return [f"traversal.samples or traversal.examples is {most}: expected at most pairs.test={config.pairs.test}"]


@stage(
    "traversal",
    version=5,
    inputs=(test_pairs, link, directions),
    config=TraversalConfig,
    models=MODELS,
    problems=problems,
    work=traversal_work,
)
def traversal(
    ctx: Context, config: TraversalConfig, test: Artifact, linked: Artifact, way: Artifact, draft: Draft
) -> None:
    """Images along the range of the units that move the classifier most, for the first test pairs of each class.

    The `CANDIDATES` live units with the largest linked step, mean ‖w̃(max) − w̃(min)‖, or along another way than the
    link's those that w expresses best, are ranked by their `change`: the mean over classes of |mean over samples of
    p(max) − p(min)|, where p is the softmax of the sample's own class (paper §4.4), read off the generated image, and
    min and max are the unit's extremes over the training pairs.

    Tensors "traversal": `image [unit, example, step, 3, H, W]` uint8, examples ordered by class. Table "traversal", a
    row per image in the same order: unit, class, sample_index, step, value, probability (of the sample's own class),
    `probability_<class>` for every class of the run, prediction, flipped (the prediction is not that of the
    first step), activation (of the unit in the sample itself), step_beyond (1 where w of the step lies beyond 99 % of
    held-out training samples, or was stopped there). Table "ranking", largest change first: unit, minimum, maximum,
    what arrives (own, others, more, beyond and step_norm, means over these samples: `mean_arrival`), change,
    `change_<class>` (mean over the class's samples of p(max) − p(min)), `toward_<class>` (mean change of the class's
    probability over all samples), flipped (share of samples), selected (the first `units` of those that are not
    `outmoved`, then of the others). Where the generator knows the truth, "traversal" has factor and factor_change (the
    true factor that moves most along the range, from first to last step) and "ranking" has `moved_<factor>` (mean
    change of every factor), in standard deviations over the test pairs.

    Raises:
        ValueError: more samples or examples than there are test pairs, or no unit is live.
    """
    samples, made = test.tensors("pairs"), load_directions(ctx, linked, way)
    judged, examples = (first(samples, n) for n in (config.samples, config.examples))
    truth, looker = Truth.of(ctx, samples["w"]), Looker(ctx, ctx.batches(), image=to_uint8)
    units = candidates(linked.table("units"), made, examples["r"], max(CANDIDATES, config.units))
    ranking = rank(replace(looker, image=None), made, judged, units, truth)
    ranking = ranking.assign(selected=selected(ranking, config.units))
    draft.table("ranking", ranking)
    images, tables = [], []
    for unit in ctx.progress.track(
        perturbations(pd.DataFrame(ranking[ranking["selected"]])), label="traversals of units"
    ):
        values = unit.values(config.steps)
        w, look = traverse(looker, made, examples["r"], unit, values)
        images.append(look.image)
        table = traversal_table(ctx, examples, unit.unit, values, w, look, truth)
        own = examples["r"][:, unit.unit].repeat_interleave(len(values))
        tables.append(table.assign(activation=own.numpy(), step_beyond=made.beyond(w).flatten().numpy()))
    draft.tensors("traversal", {"image": torch.stack(images)})
    draft.table("traversal", pd.concat(tables, ignore_index=True))


def first(samples: dict[str, Tensor], per_class: int) -> dict[str, Tensor]:
    """The first samples of each class, of tensors `[n, …]` that are ordered by their `class_index [n]`."""
    index = samples["class_index"]
    position = torch.arange(len(index)) - torch.searchsorted(index, index)
    return {name: values[position < per_class] for name, values in samples.items()}


def candidates(units: pd.DataFrame, made: Directions, r: Tensor, most: int) -> pd.DataFrame:
    """The live units with the largest linked step, or along another way those that w expresses best: unit, minimum,
    maximum, step_norm; the first of them first.

    Args:
        units: table "units" of the link.
        made: which way a unit is moved; where the step differs, it is the mean over the samples.
        r: samples `[n, units]`.
        most: how many at most.

    Raises:
        ValueError: no unit is live or moves w̃.
    """
    table = select(units, made, r, None)
    chosen = pd.DataFrame(table[table["tuned"]]).nlargest(most, columns="order")
    return pd.DataFrame(chosen[["unit", "minimum", "maximum", "step_norm"]])


def rank(
    looker: Looker, made: Directions, samples: dict[str, Tensor], units: pd.DataFrame, truth: Truth | None
) -> pd.DataFrame:
    """The table "ranking" of `traversal`, without `selected`.

    Args:
        looker: reads the answers.
        made: which way a unit is moved.
        samples: `r [n, units]` and `class_index [n]`.
        units: those that are ranked: unit, minimum, maximum, step_norm.
        truth: the true factors, where they are known.
    """
    rows, ctx = [], looker.ctx
    for unit in ctx.progress.track(perturbations(units), label="ranking of units"):
        w, look = traverse(looker, made, samples["r"], unit, unit.values(2))
        row = mean_arrival(made, unit, w, look.r, float(made.model.std[unit.unit]))
        rows.append(row | _effect(ctx, samples["class_index"], w, look, truth))
    ranked = pd.concat([units.drop(columns="step_norm").reset_index(drop=True), pd.DataFrame(rows)], axis=1)
    return ranked.sort_values("change", ascending=False, kind="stable", ignore_index=True)


def selected(ranking: pd.DataFrame, most: int) -> np.ndarray:
    """Which units of a ranking are shown, `[rows]` bool: the first ones of those that are not `outmoved`, and only
    where these are too few the first of the others.
    """
    last = outmoved(ranking["own"].to_numpy(dtype=float), ranking["others"].to_numpy(dtype=float))
    return np.isin(np.arange(len(ranking)), np.argsort(last, kind="stable")[:most])


def _effect(ctx: Context, class_index: Tensor, w: Tensor, look: Look, truth: Truth | None) -> dict[str, float]:
    """One row of the ranking: what a unit does between the two ends of its range."""
    change = look.probability.diff(dim=1)[:, 0]
    by_class = [float(change[class_index == c, c].mean()) for c in range(len(ctx.class_names))]
    row = {"change": float(np.abs(by_class).mean())}
    row |= {f"change_{name}": mean for name, mean in zip(ctx.class_names, by_class, strict=True)}
    row |= {f"toward_{name}": float(mean) for name, mean in zip(ctx.class_names, change.mean(0), strict=True)}
    row["flipped"] = float(flipped(look.prediction)[:, -1].float().mean())
    if truth is not None:
        row |= {f"moved_{name}": float(mean) for name, mean in zip(truth.names, truth.moved(w).mean(0), strict=True)}
    return row


def traversal_table(
    ctx: Context, samples: dict[str, Tensor], unit: int, values: Tensor, w: Tensor, look: Look, truth: Truth | None
) -> pd.DataFrame:
    """The rows of one unit in the table "traversal" of `traversal`."""
    index, p = samples["class_index"], look.probability
    columns: dict[str, Any] = {"value": values, "probability": p[torch.arange(len(index)), :, index]}
    columns |= {f"probability_{name}": p[..., k] for k, name in enumerate(ctx.class_names)}
    columns["prediction"] = np.asarray(ctx.classifier.class_names)[look.prediction.numpy()]
    columns["flipped"] = flipped(look.prediction)
    if truth is not None:
        names, change = truth.largest(truth.moved(w))
        columns |= {"factor": np.asarray(names)[:, None], "factor_change": change[:, None]}
    axes = {"unit": [unit], "sample": range(len(index)), "step": range(len(values))}
    return sample_table(samples, ctx.class_names, axes, columns)


@torch.inference_mode()
def traverse(looker: Looker, made: Directions, r: Tensor, asked: Perturbation, values: Tensor) -> tuple[Tensor, Look]:
    """Samples `r [n, units]` at each of `values [steps]`: w̃ `[n, steps, w_dim]`, and what is read off their images.

    Raises:
        ValueError: a w is not finite, or as `Looker`.
    """
    w = made.moved(r, asked, values)
    return w, looker(w)


def flipped(prediction: Tensor) -> Tensor:
    """Whether the `prediction [n, steps]` is another than at the first step: `[n, steps]` bool."""
    return prediction != prediction[:, :1]


@dataclass(frozen=True)
class Truth:
    """The true factors of a generator that knows them."""

    names: tuple[str, ...]
    factors: Callable[[Tensor], Tensor]
    """`u [n, factors]` of `w [n, w_dim]`, on the CPU."""
    std: Tensor
    """Standard deviation of each factor over some samples, `[factors]`; infinite for one that does not vary."""

    @classmethod
    def of(cls, ctx: Context, w: Tensor) -> Self | None:
        """The truth, in standard deviations over samples `w [n, w_dim]`; None where the generator knows none."""
        generator = ctx.generator
        if not isinstance(generator, TrueFactors):
            return None

        def factors(w: Tensor) -> Tensor:
            return generator.true_factors(w.to(ctx.device)).cpu()

        std = factors(w).std(0, correction=0)
        return cls(tuple(generator.factor_names), factors, std.where(std > STILL * std.max(), torch.inf))

    def moved(self, w: Tensor) -> Tensor:
        """Change of each factor `[n, factors]` from the first to the last step of `w [n, steps, w_dim]`, in stds."""
        first, last = (self.factors(w[:, step]) for step in (0, -1))
        return (last - first) / self.std

    def largest(self, moved: Tensor) -> tuple[list[str], Tensor]:
        """Names and changes `[n]` of the factors that move most in each row of `moved [n, factors]`."""
        top = moved.abs().argmax(1)
        return [self.names[k] for k in top.tolist()], moved.gather(1, top[:, None])[:, 0]
