"""One unit, looked at closely: pictures, parts, measures and answers along its range; `direction` shares them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lis.config import RunConfig
from lis.context import Context
from lis.linking.link import link
from lis.linking.pairs import test_pairs
from lis.look import PICTURED, Look, Looker
from lis.names import nearest
from lis.peaks import picture_arrays
from lis.quantify.averages import Average, unwrapped
from lis.quantify.change import change, changes_along
from lis.quantify.measures import MEASURES, interpreted, mean_area
from lis.segmentation.training import part_images
from lis.stage import MODELS, stage
from lis.store import Artifact, Draft
from lis.types import Classifier
from lis.units.arrival import Arrival
from lis.units.directions import Directions, directions, load_directions
from lis.units.parts import Parts, segmented
from lis.units.perturbation import Perturbation
from lis.units.traversal import first, flipped, traverse
from lis.units.tuned import long_table, sample_table
from lis.units.work import view_work

MEANS = ("step_norm", "reencoded_share", "own", "others", "more", "beyond")
"""Fields of `Traversal` of which a view tells the mean over the samples."""


def requested_unit(settings: RunConfig, classifier: Classifier) -> int:
    """The unit that is asked for.

    Raises:
        ValueError: it is missing or unknown, as is the class, or there are fewer test pairs than samples.
    """
    check_samples(settings)
    if settings.unit is None:
        raise ValueError(f"which unit? Give one, from unit=0 to unit={classifier.units - 1}")
    return check_unit(settings.unit, classifier.units)


def check_unit(unit: int, units: int) -> int:
    """The unit.

    Raises:
        ValueError: the classifier has no such unit.
    """
    if unit not in range(units):
        raise ValueError(f"unit={unit}: expected 0 to {units - 1}, the classifier's units")
    return unit


def check_samples(settings: RunConfig) -> None:
    """Checks the samples of a view.

    Raises:
        ValueError: the class is unknown, or there are fewer test pairs than samples.
    """
    names, samples = settings.classes.names, settings.view.samples
    if settings.class_name not in (None, *names):
        near = nearest(str(settings.class_name), names)
        raise ValueError(f"class_name={settings.class_name}: expected one of {', '.join(names)}{near}")
    if samples > settings.pairs.test:
        raise ValueError(
            f"view.samples={samples}: expected at most pairs.test={settings.pairs.test}, the samples per class"
        )


def view_key(ctx: Context) -> dict[str, Any]:
    """What a view depends on beside its unit or direction."""
    return {"view": asdict(ctx.config.view), "class": ctx.config.class_name}


@stage(
    "unit",
    version=5,
    inputs=(link, directions, test_pairs, segmented),
    models=MODELS,
    also=lambda ctx: view_key(ctx) | {"unit": ctx.config.unit},
    check=lambda ctx: requested_unit(ctx.config, ctx.classifier),
    images=part_images,
    arrays=picture_arrays,
    work=view_work,
)
def unit_view(
    ctx: Context, linked: Artifact, way: Artifact, test: Artifact, trained: Artifact | None, draft: Draft
) -> None:
    """One unit from its smallest to its largest activation over the training pairs, on test pairs.

    Holds what `write_view` writes. The unit is `unit`, the samples the first `view.samples` of `class_name`, or,
    without it, the first of each class.

    Raises:
        ValueError: as `requested_unit`; a dead unit; what the stages before refuse.
    """
    along, known = of_unit(linked.table("units"), requested_unit(ctx.config, ctx.classifier))
    write_view(ctx, along, known, linked, way, test, draft)


def of_unit(units: pd.DataFrame, unit: int) -> tuple[Perturbation, dict[str, Any]]:
    """A unit with its range, and what the link's table "units" says about it.

    Raises:
        ValueError: the unit is dead.
    """
    row = units.set_index("unit").loc[unit]
    if row["status"] == "dead":
        live = pd.DataFrame(units[units["status"] == "live"]).sort_values("step_norm", ascending=False)["unit"].tolist()
        raise ValueError(
            f"unit={unit} is dead: it does not vary over the training pairs, so there is no range to show; take "
            f"another, such as {', '.join(map(str, live[:5]))}"
        )
    low, high = float(row["minimum"]), float(row["maximum"])
    known = {name: _finite(row[name]) for name in ("mean", "std", "step_norm_low", "step_norm_high")}
    return Perturbation.of_unit(unit, low, high), {"status": row["status"]} | known


def write_view(
    ctx: Context,
    along: Perturbation,
    known: dict[str, Any],
    linked: Artifact,
    way: Artifact,
    test: Artifact,
    draft: Draft,
) -> None:
    """What a view along a unit or direction holds; `known` is what the training pairs say about it.

    Tensors "traversal": what `Traversal` holds. Tables "steps", "measures" and "affected": see `step_table`,
    `measure_table` and `affected_table`.

    Json "facts": name, unit (−1 for a direction), low, high, mean and std (of r·d over the training pairs), status,
    along (`tuning.along`), step_norm, reencoded_share, own, others, more, beyond (means over the samples: `Arrival`),
    step_norm_low and step_norm_high (of the step that a linear link gives a unit), labels, class_names.
    """
    parts, made, samples = Parts.of(ctx), load_directions(ctx, linked, way), _samples(test.tensors("pairs"), ctx)
    result = Traversal.of(ctx, made, parts, along, samples, made.live_std, known["std"])
    draft.tensors("traversal", vars(result))
    draft.table("steps", step_table(result, ctx.class_names, ctx.classifier.class_names))
    draft.table("measures", measure_table(result, parts.labels, ctx.class_names))
    draft.table("affected", affected_table(result, parts.labels))
    facts = {"along": made.along, "name": along.name, "unit": along.unit, "low": along.low, "high": along.high, **known}
    means = {name: _finite(getattr(result, name).nanmean()) for name in MEANS}
    draft.json("facts", facts | means | {"labels": list(parts.labels), "class_names": list(ctx.class_names)})


def _samples(samples: dict[str, Tensor], ctx: Context) -> dict[str, Tensor]:
    """The samples of a view, ordered by class."""
    if ctx.config.class_name is None:
        return first(samples, 1)
    rows = samples["class_index"] == ctx.class_names.index(ctx.config.class_name)
    return {name: values[rows][: ctx.config.view.samples] for name, values in samples.items()}


def _finite(value: Any) -> float | None:
    """A number for JSON, which has none for what is not finite."""
    return float(value) if math.isfinite(value) else None


@dataclass(frozen=True)
class Traversal:
    """What becomes of n samples in t steps; K labels, C classes of the run."""

    class_index: Tensor
    """`[n]` int64, index into the classes of the run."""
    sample_index: Tensor
    """`[n]` int64, index in the stream of the test pairs."""
    projection: Tensor
    """r·d of the samples themselves, `[n]` float32."""
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
    reencoded_share: Tensor
    """Share of the asked change that is found when the last and the first image are encoded again, `[n]` float32."""
    own: Tensor
    """Change of the unit or along the direction over the same, in its standard deviations, `[n]` float32."""
    others: Tensor
    """Root mean square change of the other live units over the same, in theirs: `[n]` float32."""
    more: Tensor
    """Share of the other live units that move more than the tuned one, `[n]` float32; NaN of a direction."""
    beyond: Tensor
    """1 where the last w lies beyond 99 % of held-out training samples, or was stopped there: `[n]` float32."""
    step_beyond: Tensor
    """The same of each step, `[n, t]` float32."""
    step_norm: Tensor
    """‖w̃(last) − w̃(first)‖, `[n]` float32."""

    @classmethod
    @torch.inference_mode()
    def of(
        cls,
        ctx: Context,
        made: Directions,
        parts: Parts,
        along: Perturbation,
        samples: dict[str, Tensor],
        std: Tensor,
        own_std: float,
    ) -> Self:
        """Of samples along a perturbation in `view.steps` steps, with pictures for a page.

        Args:
            ctx: the run.
            made: which way it is moved.
            parts: what is looked for in the images.
            along: the unit or direction, and its range.
            samples: `r [n, units]`, `class_index [n]`, `sample_index [n]`.
            std: standard deviation of each unit, `[units]`; infinite for units that are not live.
            own_std: that of r·d.

        Raises:
            ValueError: a w is not finite.
        """
        value = along.values(ctx.config.view.steps)
        w, look = traverse(Looker.pictured(ctx, parts.masks, parts.labels), made, samples["r"], along, value)
        arrival = Arrival.of(along, look.r[:, 0], look.r[:, -1], std, own_std)
        return cls.read(along, samples, value, w, look, arrival, made.beyond(w))

    @classmethod
    def read(
        cls,
        along: Perturbation,
        samples: dict[str, Tensor],
        value: Tensor,
        w: Tensor,
        look: Look,
        arrival: Arrival,
        beyond: Tensor,
    ) -> Self:
        """From what `traverse` gives at each `value [t]`: w `[n, t, w_dim]` and the look at its images.

        `beyond [n, t]` says of each w whether it lies beyond 99 % of held-out training samples, or was stopped there.
        """
        return cls(
            samples["class_index"],
            samples["sample_index"],
            along.project(samples["r"]),
            value,
            **look.tensors(PICTURED),
            **vars(arrival),
            beyond=beyond[:, -1].float().clone(),  # a tensor of its own: files hold no views
            step_beyond=beyond.float(),
            step_norm=(w[:, -1] - w[:, 0]).norm(dim=1),
        )

    @property
    def axes(self) -> dict[str, range]:
        """Samples and steps, for a table."""
        return {"sample": range(len(self.projection)), "step": range(len(self.value))}

    @property
    def change(self) -> Tensor:
        """Change of every measure since the first step, `[n, t, K, 5]`: see `changes_along`."""
        return changes_along(self.measures)

    @property
    def class_probability(self) -> Tensor:
        """Probability of each sample's own class, `[n, t]`."""
        return self.probability[torch.arange(len(self.projection)), :, self.class_index]

    @property
    def flipped(self) -> Tensor:
        """Whether the answer is another than at the first step, `[n, t]` bool."""
        return flipped(self.prediction)


def step_table(result: Traversal, class_names: Sequence[str], known: Sequence[str]) -> pd.DataFrame:
    """A row per sample and step.

    Columns: class, sample_index, projection, step, value, probability (of the sample's own class),
    `probability_<class>`, prediction, flipped.

    Args:
        result: the traversal.
        class_names: the classes of the run.
        known: the classes of the classifier.
    """
    columns = {
        "projection": result.projection[:, None],
        "value": result.value,
        "probability": result.class_probability,
        **{f"probability_{name}": result.probability[..., c] for c, name in enumerate(class_names)},
        "prediction": np.asarray(known)[result.prediction.numpy()],
        "flipped": result.flipped,
    }
    return sample_table(vars(result), class_names, result.axes, columns)


def measure_table(result: Traversal, labels: Sequence[str], class_names: Sequence[str]) -> pd.DataFrame:
    """A row per sample, step, label and measure: class, sample_index, step, label, measure, measured, change."""
    axes = {**result.axes, "label": labels, "measure": MEASURES}
    return sample_table(vars(result), class_names, axes, {"measured": result.measures, "change": result.change})


def affected_table(result: Traversal, labels: Sequence[str]) -> pd.DataFrame:
    """What the traversal does to each label, from the first step to the last.

    Columns: label, measure, change (mean over the samples that have the label, see `Average`), resultant (R of the
    angles; NaN for other measures), lowest, highest (of angles around their mean), n (samples), mean_area (fraction of
    the frame, over the images that have the label), interpreted (not too small), rank (by |change|, of the angle
    R·|change|, among the interpreted labels of a measure, 1 the largest; 0 without a rank).
    """
    changes = change(result.measures[:, 0], result.measures[:, -1])
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
            "mean_area": mean_area(result.measures)[:, None],
            "interpreted": interpreted(result.measures)[:, None],
        },
    )
    size = pd.Series(average.ranked.abs().flatten().numpy()).where(table["interpreted"])
    rank = size.groupby(table["measure"]).rank(ascending=False, method="first").fillna(0).astype(int)
    return table.assign(rank=rank)
