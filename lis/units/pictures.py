"""Pictures along the range of units that are chosen by rule from the tables, never by eye (Fig. 4, 6D; S9–S11)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lis.context import Context
from lis.linking.link import link
from lis.look import PICTURED, Look, Looker
from lis.peaks import picture_arrays
from lis.quantify.averages import axial_mean
from lis.quantify.change import change
from lis.quantify.ellipse import half_circle
from lis.quantify.measures import MEASURES
from lis.segmentation.training import part_images
from lis.stage import MODELS, stage
from lis.store import Artifact, Draft
from lis.units.arrival import outmoved
from lis.units.directions import Directions, directions, load_directions
from lis.units.parts import Parts, segmented
from lis.units.perturbation import Perturbation
from lis.units.tuned import Tuned
from lis.units.tuning import perturbations, tuning
from lis.units.unit_statistics import unit_statistics
from lis.units.work import pictures_work

SHAPE, SURFACE = ("eccentricity", "angle"), ("luminance", "entropy")
"""Measures of Fig. S9 and S11."""
OUTLINE = ("area", "eccentricity", "angle")
"""Measures of Fig. S10."""
TRANSFER = ("area", "luminance")
"""Measures whose strongest unit is shown in every class (Fig. 4B)."""
ARRIVES = ("own", "others", "more", "beyond", "step_norm")
"""What is told of each unit that is shown: fields of `Tuned`."""
PROBABILITY = "probability"
"""What is drawn of a unit that is shown for its relevance: p of the sample's own class."""
MOST = 0.5
"""Share of the samples that have to show a change before a picture stands for it."""
_MISSING = 1e6
"""Distance from the mean of a sample that lacks the label."""
_TIE = 1e-4
"""Relative difference of two distances below which rounding could exchange them."""


@stage(
    "pictures",
    version=7,
    inputs=(tuning, unit_statistics, segmented, link, directions),
    models=MODELS,
    also=lambda ctx: {"examples": ctx.config.unit_statistics.examples, "steps": ctx.config.view.steps},
    images=part_images,
    arrays=picture_arrays,
    work=pictures_work,
)
def pictures(
    ctx: Context,
    tuned_units: Artifact,
    statistics: Artifact,
    trained: Artifact | None,
    linked: Artifact,
    way: Artifact,
    draft: Draft,
) -> None:
    """Units chosen by rule, in pictures: images, masks, measures and answers along the range of each.

    Tensors "pictures", a row per unit and sample: `lis.look.PICTURED`, each `[k, steps, …]`. Table "pictures", a row
    per example and step: row (number of the example), figure, block, picture (row of the tensors), unit, class,
    sample_index, label ("": of no label), measure, step, value (the unit's activation), measured, change (from the
    first step), probability (of the sample's own class), prediction, flipped (another than at the first step),
    activation (of the unit in the sample itself), step_beyond (1 where w of the step lies beyond 99 % of held-out
    training samples, or was stopped there), and what arrives of the unit: own, others, more, beyond, step_norm (means
    over all samples that were tuned), reached. Json "facts": labels, class_names.
    """
    tuned, steps, count = Tuned.of(tuned_units), ctx.config.view.steps, ctx.config.unit_statistics.examples
    chosen = examples(statistics.table("ranking"), statistics.table("relevance"), tuned, count)
    selected = list(dict.fromkeys((example.unit, example.sample) for example in chosen))
    known = tuned_units.table("units")
    ranges = {unit.unit: unit for unit in perturbations(pd.DataFrame(known[known["tuned"]]))}
    r, made = tuned_units.tensors("seeds")["r"], load_directions(ctx, linked, way)
    w = style_codes(made, r, [(ranges[unit], sample) for unit, sample in selected], steps)
    reached = statistics.table("faithfulness").set_index("unit")["reached"]
    look = Looker.pictured(ctx, Parts.of(ctx).masks, tuned.labels)(w)
    tables = []
    for row, example in enumerate(chosen):
        picture = selected.index((example.unit, example.sample))
        table = example_rows(example, tuned, look[picture], ctx.classifier.class_names)
        of_step = {"value": ranges[example.unit].values(steps).numpy(), "step_beyond": made.beyond(w[picture]).numpy()}
        of_unit = {"reached": reached[example.unit], "activation": float(r[example.sample, example.unit])}
        tables.append(table.assign(row=row, picture=picture, **of_step, **of_unit))
    draft.table("pictures", pd.concat(tables, ignore_index=True))
    draft.tensors("pictures", look.tensors(PICTURED))
    draft.json("facts", {"labels": tuned.labels, "class_names": tuned.class_names})


@dataclass(frozen=True)
class Example:
    """One row of a figure: a unit, a sample, and what is drawn of it."""

    figure: str
    """`measures` (4A), `shape` (S9), `outline` (S10), `surface` (S11), `transfer` (4B), `relevant`, `shared` (6D)."""
    block: int
    """Index of its block in the figure."""
    unit: int
    sample: int
    """Index among the tuned samples."""
    label: str
    """The part that is outlined; "" for a measure that has none."""
    measure: str


def style_codes(made: Directions, r: Tensor, selected: Sequence[tuple[Perturbation, int]], steps: int) -> Tensor:
    """w̃ `[k, steps, w_dim]` of units, each in one of the samples `r [n, units]`; those of a sample together.

    Raises:
        ValueError: a w is not finite.
    """
    rows: dict[int, list[int]] = {}
    for row, (_, sample) in enumerate(selected):
        rows.setdefault(sample, []).append(row)
    result: dict[int, Tensor] = {}
    for sample, of_sample in rows.items():
        units = [selected[row][0] for row in of_sample]
        w = made.moved_each(r[sample, None], units, torch.stack([unit.values(steps) for unit in units]))
        result |= zip(of_sample, w[:, 0], strict=True)
    return torch.stack([result[row] for row in range(len(selected))])


def example_rows(example: Example, tuned: Tuned, look: Look, names: Sequence[str]) -> pd.DataFrame:
    """The rows of one example in the table "pictures", without row, picture and value.

    Args:
        example: what is drawn.
        tuned: what it is from.
        look: at its images, a row per step.
        names: of the classifier's classes.
    """
    c, index = int(tuned.class_index[example.sample]), _index(tuned, example.unit)
    arrived = {name: float(getattr(tuned, name)[index].nanmean()) for name in ARRIVES}
    probability = look.probability[:, c]
    measured, moved = probability, probability - probability[0]
    if example.measure != PROBABILITY:
        column = (slice(None), tuned.labels.index(example.label), MEASURES.index(example.measure))
        measures = look.measures
        measured, moved = measures[column], change(measures[:1].expand_as(measures), measures)[column]
    return pd.DataFrame(
        {
            "figure": example.figure,
            "block": example.block,
            "unit": example.unit,
            "class": tuned.class_names[c],
            "sample_index": int(tuned.sample_index[example.sample]),
            "label": example.label,
            "measure": example.measure,
            "step": range(len(probability)),
            "measured": measured.numpy(),
            "change": moved.numpy(),
            "probability": probability.numpy(),
            "prediction": np.asarray(names)[look.prediction.numpy()],
            "flipped": (look.prediction != look.prediction[0]).numpy(),
            **arrived,
        }
    )


def examples(ranking: pd.DataFrame, relevance: pd.DataFrame, tuned: Tuned, most: int) -> list[Example]:
    """Every row of every figure.

    Only labels that are interpreted are shown, and only changes that are `widespread`; units that are reached and move
    more than the others come first (`flags`). Of the samples, a row shows the
    one whose change is nearest to the mean that the unit was chosen for, over all samples or those of a class; rows on
    a common sample show the one that is nearest for all of them.

    Args:
        ranking: table "ranking" of the stage "unit_statistics".
        relevance: table "relevance" of the stage "unit_statistics".
        tuned: the units.
        most: units per block.
    """
    known = ranking["interpreted"] & ranking["change"].notna()  # angles may have no mean
    seen = unflagged_first(widespread(pd.DataFrame(ranking[known]), tuned), tuned)
    answers = pd.DataFrame(relevance[relevance["change"].notna()])
    answers = answers.assign(flags=flags(answers, tuned))
    return [*_of_labels(seen, tuned, most), *_of_classes(answers, tuned, most)]


def flags(table: pd.DataFrame, tuned: Tuned) -> np.ndarray:
    """Why no meaning is read from the unit of each row: one for each that it is not reached, and is `outmoved`.

    Args:
        table: with columns unit and reached.
        tuned: the units.

    Returns:
        `[rows]` integers from 0 to 2.
    """
    own, others = (getattr(tuned, name).nanmean(1).numpy() for name in ("own", "others"))
    lost = dict(zip(tuned.unit.tolist(), outmoved(own, others).tolist(), strict=True))
    return np.array([int(lost[unit]) for unit in table["unit"]]) + ~table["reached"].to_numpy(dtype=bool)


def unflagged_first(ranking: pd.DataFrame, tuned: Tuned) -> pd.DataFrame:
    """A ranking with `flags`, ranked anew: in each label and measure the units with the fewest come first."""
    table = ranking.assign(flags=flags(ranking, tuned))
    ordered = table.sort_values(["flags", "rank"], kind="stable")
    return table.assign(rank=ordered.groupby(["label", "measure"]).cumcount() + 1)


def widespread(ranking: pd.DataFrame, tuned: Tuned) -> pd.DataFrame:
    """The rows of a ranking whose change at least `MOST` of the samples have, ranked anew.

    A part that a unit makes disappear has a change in few samples, which then say little about the unit.
    """
    known = ~tuned.measures[:, :, [0, -1]].isnan().any(2)
    often = known.float().mean(1) >= MOST
    index = {unit: p for p, unit in enumerate(tuned.unit.tolist())}
    columns = zip(*(ranking[name].tolist() for name in ("unit", "label", "measure")), strict=True)
    rows = [bool(often[index[u], tuned.labels.index(label), MEASURES.index(name)]) for u, label, name in columns]
    table = pd.DataFrame(ranking[np.array(rows, dtype=bool)])
    return table.assign(rank=table.groupby(["label", "measure"])["rank"].rank().astype(int))


def typical(changes: Tensor, measures: Sequence[str] = ("",)) -> int:
    """The sample that is nearest to the mean in every row of `changes [rows, samples]`, NaN where a label is absent.

    The distance is relative to the row's mean, and summed over the rows. An angle's mean is that of axes, and its
    distance to it at most 90°. Two samples are always equally near: of such it is the first.

    Args:
        changes: `[rows, samples]`.
        measures: what changes in each row, or in all: "angle" is told apart.

    Example:
        >>> typical(torch.tensor([[0.0, 0.9, 3.0], [1.0, float("nan"), 1.2]]), ("entropy", "area"))
        0
    """
    angle = torch.tensor([name == "angle" for name in measures])[:, None]
    mean = torch.where(angle, axial_mean(changes, 1)[0][:, None], changes.nanmean(1, keepdim=True))
    away = torch.where(angle, half_circle(changes - mean), changes - mean)
    distance = away.abs() / mean.abs().clamp(min=1e-12)
    return first_least(distance.nan_to_num(_MISSING).clamp(max=_MISSING).sum(0))


def first_least(distance: Tensor) -> int:
    """The first index of `distance [n]`, ≥ 0, that is the least but for rounding.

    Example:
        >>> first_least(torch.tensor([3.0, 1.0 + 1e-6, 1.0]))
        1
    """
    least = distance.min()
    return int((distance <= least + _TIE * (1 + least)).nonzero()[0, 0])


def leaders(ranking: pd.DataFrame, measure: str) -> list[str]:
    """Labels by the effect of their first unit, the largest first; behind them those whose first unit has `flags`."""
    first = ranking[(ranking["rank"] == 1) & (ranking["measure"] == measure)]
    change, resultant = (np.asarray(first[name], dtype=float) for name in ("change", "resultant"))
    effect = np.abs(change) * np.nan_to_num(resultant, nan=1.0)
    return first.iloc[np.lexsort((-effect, first["flags"]))]["label"].tolist()


def head(ranking: pd.DataFrame, label: str, measure: str, most: int) -> list[int]:
    """The first units of a label."""
    rows = pd.DataFrame(ranking[(ranking["label"] == label) & (ranking["measure"] == measure)])
    return rows.sort_values("rank")["unit"].tolist()[:most]


def label_change(tuned: Tuned, unit: int, label: str, measure: str) -> Tensor:
    """Change of one measure of one label by one unit in every sample, `[samples]`."""
    return tuned.change[_index(tuned, unit), :, tuned.labels.index(label), MEASURES.index(measure)]


def _of_labels(ranking: pd.DataFrame, tuned: Tuned, most: int) -> Iterator[Example]:
    """Fig. 4A, S9, S10, S11 and 4B, as far as a label has a ranking."""
    for figure, measures, labels, units in (("measures", MEASURES, most, 1), ("shape", SHAPE, 1, most)):
        for block, measure in enumerate(measures):
            for label in leaders(ranking, measure)[:labels]:
                yield from _rows(tuned, figure, block, head(ranking, label, measure, units), label, measure)
    for label in leaders(ranking, "area")[:1]:
        yield from _on_one_sample(ranking, tuned, "outline", label, OUTLINE, most)
    for label in ranking.sort_values("mean_area", kind="stable")["label"].tolist()[-1:]:
        yield from _on_one_sample(ranking, tuned, "surface", label, SURFACE, most)
    for block, measure in enumerate(TRANSFER):
        for label in leaders(ranking, measure)[:1]:
            yield from _through_classes(tuned, block, head(ranking, label, measure, 1)[0], label, measure)


def _rows(tuned: Tuned, figure: str, block: int, units: Sequence[int], label: str, measure: str) -> Iterator[Example]:
    """A row per unit, each on a sample of its own."""
    for unit in units:
        sample = typical(label_change(tuned, unit, label, measure)[None], (measure,))
        yield Example(figure, block, unit, sample, label, measure)


def _on_one_sample(
    ranking: pd.DataFrame, tuned: Tuned, figure: str, label: str, measures: Sequence[str], most: int
) -> Iterator[Example]:
    """A block per measure, a row per unit, all on one sample."""
    rows = [(k, unit, name) for k, name in enumerate(measures) for unit in head(ranking, label, name, most)]
    if rows:
        changes = torch.stack([label_change(tuned, unit, label, name) for _, unit, name in rows])
        sample = typical(changes, [name for _, _, name in rows])
        yield from (Example(figure, block, unit, sample, label, name) for block, unit, name in rows)


def _through_classes(tuned: Tuned, block: int, unit: int, label: str, measure: str) -> Iterator[Example]:
    """A row per class that has the label."""
    changes = label_change(tuned, unit, label, measure)
    for c in range(len(tuned.class_names)):
        of_class = changes.where(tuned.class_index == c, torch.nan)
        if not of_class.isnan().all():
            yield Example("transfer", block, unit, typical(of_class[None], (measure,)), label, measure)


def _of_classes(relevance: pd.DataFrame, tuned: Tuned, most: int) -> Iterator[Example]:
    """The most relevant units, each for its class, and the one that is relevant for most classes through all."""
    ranked = relevance.sort_values(["flags", "relevance"], ascending=[True, False], kind="stable")
    ranked = ranked.drop_duplicates("unit")
    for unit, name in ranked[["unit", "class"]].head(most).itertuples(index=False):
        yield _answer(tuned, "relevant", int(unit), tuned.class_names.index(name))
    if len(relevance):
        yield from (_answer(tuned, "shared", most_shared(relevance), c) for c in tuned.class_index.unique().tolist())


def most_shared(relevance: pd.DataFrame) -> int:
    """Of the units with the fewest `flags` the one that is relevant for most classes, and of those the one with the
    largest mean relevance.
    """
    columns = ["flags", "relevant", "relevance"]
    by_unit = pd.DataFrame(relevance.groupby("unit", sort=False)[columns].mean())
    return int(by_unit.sort_values(columns, ascending=[True, False, False], kind="stable").index[0])


def _answer(tuned: Tuned, figure: str, unit: int, class_index: int) -> Example:
    """A unit on a sample of a class, with the probability of that class."""
    p = tuned.probability[_index(tuned, unit), :, :, class_index]
    changes = (p[:, -1] - p[:, 0]).where(tuned.class_index == class_index, torch.nan)
    return Example(figure, 0, unit, typical(changes[None], (PROBABILITY,)), "", PROBABILITY)


def _index(tuned: Tuned, unit: int) -> int:
    return int((tuned.unit == unit).nonzero()[0, 0])
