"""Pictures along the range of chosen units, made again on demand: a screen keeps only tables (Fig. 4, 6D; S9–S11)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lis.context import Context
from lis.linking.link import link, load_link
from lis.look import PICTURED, Look, Looker
from lis.peaks import picture_arrays
from lis.quantify.change import change
from lis.quantify.measures import MEASURES
from lis.segmentation.segmenter import Masks, load_segmenter, segmenter
from lis.segmentation.training import part_images
from lis.stage import MODELS, stage
from lis.store import Artifact, Draft
from lis.types import Link
from lis.units.examples import PROBABILITY, Example, examples
from lis.units.perturbation import Perturbation, perturbed
from lis.units.tuned import Tuned
from lis.units.tuning import perturbations, tuning
from lis.units.unit_statistics import unit_statistics


@stage(
    "pictures",
    version=4,
    inputs=(tuning, unit_statistics, segmenter, link),
    models=MODELS,
    also=lambda ctx: {"examples": ctx.config.unit_statistics.examples, "steps": ctx.config.view.steps},
    images=part_images,
    arrays=picture_arrays,
)
def pictures(
    ctx: Context, screened: Artifact, learned: Artifact, parts: Artifact, linked: Artifact, draft: Draft
) -> None:
    """Images, masks, measures and answers along the range of the units that `examples` names.

    Tensors "pictures", a row per unit and sample: `lis.look.PICTURED`, each `[k, steps, …]`. Table "pictures", a row
    per example and step: row (number of the example), figure, block, picture (row of the tensors), unit, class,
    sample_index, label ("": of no label), measure, step, value (the unit's activation), measured, change (from the
    first step), probability (of the sample's own class), prediction, flipped (another than at the first step). Json
    "facts": labels, class_names.
    """
    _build(ctx, {"tuning": screened, "unit_statistics": learned, "segmenter": parts, "link": linked}, draft)


def _build(ctx: Context, inputs: dict[str, Artifact], draft: Draft) -> None:
    tuned, learned, steps = Tuned.of(inputs["tuning"], "tuning"), inputs["unit_statistics"], ctx.config.view.steps
    chosen = examples(learned.table("ranking"), learned.table("relevance"), tuned, ctx.config.unit_statistics.examples)
    selected = list(dict.fromkeys((example.unit, example.sample) for example in chosen))
    known = inputs["tuning"].table("units")
    ranges = {unit.unit: unit for unit in perturbations(pd.DataFrame(known[known["tuned"]]))}
    r, model = inputs["tuning"].tensors("seeds")["r"], load_link(inputs["link"])
    w = style_codes(model, r, [(ranges[unit], sample) for unit, sample in selected], steps)
    look = Looker.pictured(ctx, Masks(load_segmenter(ctx, inputs["segmenter"])), tuned.labels)(w)
    tables = []
    for row, example in enumerate(chosen):
        picture = selected.index((example.unit, example.sample))
        table = example_rows(example, tuned, look[picture], ctx.classifier.class_names)
        tables.append(table.assign(row=row, picture=picture, value=ranges[example.unit].values(steps).numpy()))
    draft.table("pictures", pd.concat(tables, ignore_index=True))
    draft.tensors("pictures", look.tensors(PICTURED))
    draft.json("facts", {"labels": tuned.labels, "class_names": tuned.class_names})


def style_codes(link: Link, r: Tensor, selected: Sequence[tuple[Perturbation, int]], steps: int) -> Tensor:
    """w̃ `[k, steps, w_dim]` of units, each in one of the samples `r [n, units]`.

    Raises:
        ValueError: the link gives a w̃ that is not finite.
    """
    return torch.stack([perturbed(link, r[sample, None], unit, unit.values(steps))[0] for unit, sample in selected])


def example_rows(example: Example, tuned: Tuned, look: Look, names: Sequence[str]) -> pd.DataFrame:
    """The rows of one example in the table "pictures", without row, picture and value.

    Args:
        example: what is shown.
        tuned: the screen that it is from.
        look: at its images, a row per step.
        names: of the classifier's classes.
    """
    c = int(tuned.class_index[example.sample])
    probability = look.probability[:, c]
    measured, moved = probability, probability - probability[0]
    if example.measure != PROBABILITY:
        index = (slice(None), tuned.labels.index(example.label), MEASURES.index(example.measure))
        measures = look.measures
        measured, moved = measures[index], change(measures[:1].expand_as(measures), measures)[index]
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
        }
    )
