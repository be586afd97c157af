"""Samples walked along one unit or direction: their images, parts, measures and answers, step by step (paper §4.3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lis.context import Context
from lis.look import PICTURED, Looker
from lis.quantify.averages import Average, unwrapped
from lis.quantify.change import change, changes_along
from lis.quantify.measures import MEASURES, interpreted, mean_area
from lis.types import Link
from lis.units.parts import Parts
from lis.units.perturbation import Perturbation, perturbed, require_finite
from lis.units.shards import arrived
from lis.units.tables import long_table


@dataclass(frozen=True)
class Walk:
    """What becomes of n samples in t steps; K labels, C classes of the run."""

    class_index: Tensor
    """`[n]` int64, a place among the classes of the run."""
    sample_index: Tensor
    """`[n]` int64, index in the stream of the test pairs."""
    own: Tensor
    """The samples' own r·d, `[n]` float32."""
    value: Tensor
    """r·d at each step, `[t]` float32."""
    image: Tensor
    """`[n, t, 3, H, W]` uint8."""
    mask: Tensor
    """`[n, t, h, w]` uint8: 0 background, then the labels."""
    measures: Tensor
    """`[n, t, K, 5]` float32, NaN where a label is absent."""
    probability: Tensor
    """Softmax over all classes that the classifier knows, of those of the run: `[n, t, C]` float32."""
    prediction: Tensor
    """`[n, t]` int64: index into the classifier's classes."""
    realised: Tensor
    """Share of the asked change that is found when the last and the first image are encoded again, `[n]` float32."""
    others: Tensor
    """Root mean square change of the other units over the same, in their standard deviations: `[n]` float32."""
    step_norm: Tensor
    """‖w̃(last) − w̃(first)‖, `[n]` float32."""

    @property
    def change(self) -> Tensor:
        """Change of every measure since the first step, `[n, t, K, 5]`: see `changes_along`."""
        return changes_along(self.measures)

    @property
    def own_probability(self) -> Tensor:
        """Probability of each sample's own class, `[n, t]`."""
        return self.probability[torch.arange(len(self.own)), :, self.class_index]

    @property
    def flipped(self) -> Tensor:
        """Whether the answer is another than at the first step, `[n, t]` bool."""
        return self.prediction != self.prediction[:, :1]


@torch.inference_mode()
def walk(
    ctx: Context, link: Link, parts: Parts, along: Perturbation, samples: dict[str, Tensor], spread: Tensor
) -> Walk:
    """Walk samples along a perturbation in `view.steps` steps.

    Args:
        ctx: the run.
        link: the link, on the CPU.
        parts: what is looked for in the images.
        along: the unit or direction, and its range.
        samples: `r [n, units]`, `class_index [n]`, `sample_index [n]`.
        spread: standard deviation of each unit, `[units]`; infinite for units that are not live.

    Raises:
        ValueError: the link gives a w̃ that is not finite.
    """
    value = along.values(ctx.config.view.steps)
    w = perturbed(link, samples["r"], along, value)
    require_finite(w, along)
    look = Looker.pictured(ctx, parts.masks, parts.labels)(w)
    realised, others = arrived(along, look.r[:, 0], look.r[:, -1], spread)
    return Walk(
        samples["class_index"],
        samples["sample_index"],
        along.project(samples["r"]),
        value,
        **look.tensors(PICTURED),
        realised=realised,
        others=others,
        step_norm=(w[:, -1] - w[:, 0]).norm(dim=1),
    )


def step_table(found: Walk, class_names: Sequence[str], known: Sequence[str]) -> pd.DataFrame:
    """A row per sample and step.

    Columns: class, sample_index, own, step, value, probability (of the sample's own class), `probability_<class>`,
    prediction, flipped.

    Args:
        found: the walk.
        class_names: the classes of the run.
        known: the classes of the classifier.
    """
    rows = long_table(
        {"row": range(len(found.own)), "step": range(len(found.value))},
        {
            "own": found.own[:, None],
            "value": found.value,
            "probability": found.own_probability,
            **{f"probability_{name}": found.probability[..., c] for c, name in enumerate(class_names)},
            "prediction": np.asarray(known)[found.prediction.numpy()],
            "flipped": found.flipped,
        },
    )
    return _named(rows, found, class_names)


def measure_table(found: Walk, labels: Sequence[str], class_names: Sequence[str]) -> pd.DataFrame:
    """A row per sample, step, label and measure: class, sample_index, step, label, measure, measured, change."""
    steps = range(len(found.value))
    rows = long_table(
        {"row": range(len(found.own)), "step": steps, "label": labels, "measure": MEASURES},
        {"measured": found.measures, "change": found.change},
    )
    return _named(rows, found, class_names)


def affected_table(found: Walk, labels: Sequence[str]) -> pd.DataFrame:
    """What the walk does to each label, from the first step to the last.

    Columns: label, measure, change (mean over the samples that have the label, see `Average`), resultant (R of the
    angles; NaN for other measures), lowest, highest (of angles around their mean), n (samples), mean_area (fraction of
    the frame, over the images that have the label), interpreted (not too small), rank (by |change|, of the angle
    R·|change|, among the interpreted labels of a measure, 1 the largest; 0 without a rank).
    """
    changes = change(found.measures[:, 0], found.measures[:, -1])
    average, around, known = Average.of(changes), unwrapped(changes), ~changes.isnan()
    lowest, highest = around.where(known, torch.inf).amin(0), around.where(known, -torch.inf).amax(0)
    table = long_table(
        {"label": labels, "measure": MEASURES},
        {
            "change": average.value,
            "resultant": average.resultants,
            "lowest": lowest.where(average.n > 0, torch.nan),
            "highest": highest.where(average.n > 0, torch.nan),
            "n": average.n,
            "mean_area": mean_area(found.measures)[:, None],
            "interpreted": interpreted(found.measures)[:, None],
        },
    )
    size = pd.Series(average.ranked.abs().flatten().numpy()).where(table["interpreted"])
    rank = size.groupby(table["measure"]).rank(ascending=False, method="first").fillna(0).astype(int)
    return table.assign(rank=rank)


def _named(rows: pd.DataFrame, found: Walk, class_names: Sequence[str]) -> pd.DataFrame:
    """The rows with class and sample_index in place of the sample's place."""
    place = rows.pop("row").to_numpy()
    rows.insert(0, "class", np.asarray(class_names)[found.class_index.numpy()[place]])
    rows.insert(1, "sample_index", found.sample_index.numpy()[place])
    return rows
