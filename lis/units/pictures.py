"""Pictures along the range of chosen units, made again on demand: a screen keeps only tables (Fig. 4, 6D; S9–S11)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lis.context import Context
from lis.images import smaller, to_uint8
from lis.linking.fit import link, load_link
from lis.peaks import picture_arrays
from lis.quantify.change import change
from lis.quantify.measures import MEASURES, measure
from lis.segmentation.needs import part_images
from lis.segmentation.stage import Masks, load_segmenter, segmenter
from lis.stage import MODELS, stage
from lis.store import Artifact, Draft
from lis.types import Finder, Link
from lis.units.examples import PROBABILITY, Example, examples
from lis.units.learned import units
from lis.units.perturbation import Perturbation, perturbed, require_finite
from lis.units.screen import screen
from lis.units.selection import perturbations
from lis.units.tuned import Tuned


@dataclass(frozen=True)
class Seen:
    """What is kept of n images, on the CPU."""

    image: Tensor
    """`[n, 3, H, W]` uint8, at most `LARGEST` pixels high."""
    mask: Tensor
    """`[n, h, w]` uint8: 0 background, then the labels."""
    measures: Tensor
    """`[n, labels, 5]` float32, NaN where a label is absent."""
    probability: Tensor
    """Of the run's classes, `[n, classes]` float32."""
    prediction: Tensor
    """Index into the classifier's classes, `[n]` int64."""

    def part(self, place: int, steps: int) -> Seen:
        """The images of one picture, where every picture has as many steps."""
        return Seen(*(values[place * steps : (place + 1) * steps] for values in vars(self).values()))


@stage(
    "pictures",
    version=4,
    inputs=(screen, units, segmenter, link),
    models=MODELS,
    also=lambda ctx: {"examples": ctx.config.units.examples, "steps": ctx.config.view.steps},
    images=part_images,
    arrays=picture_arrays,
)
def pictures(
    ctx: Context, screened: Artifact, learned: Artifact, parts: Artifact, linked: Artifact, draft: Draft
) -> None:
    """Images, masks, measures and answers along the range of the units that `examples` names.

    Tensors "pictures", a row per unit and sample: what `Seen` holds, each `[k, steps, …]`. Table "pictures", a row per
    example and step: row (number of the example), figure, block, picture (row of the tensors), unit, class,
    sample_index, label ("": of no label), measure, step, value (the unit's activation), measured, change (from the
    first step), probability (of the sample's own class), prediction, flipped (another than at the first step). Json
    "facts": labels, class_names.
    """
    _build(ctx, {"screen": screened, "units": learned, "segmenter": parts, "link": linked}, draft)


def _build(ctx: Context, inputs: dict[str, Artifact], draft: Draft) -> None:
    tuned, learned, steps = Tuned.of(inputs["screen"], "tuning"), inputs["units"], ctx.config.view.steps
    chosen = examples(learned.table("ranking"), learned.table("relevance"), tuned, ctx.config.units.examples)
    shown = list(dict.fromkeys((example.unit, example.sample) for example in chosen))
    known = inputs["screen"].table("units")
    ranges = {unit.unit: unit for unit in perturbations(pd.DataFrame(known[known["tuned"]]))}
    r, model = inputs["screen"].tensors("seeds")["r"], load_link(inputs["link"])
    w = style_codes(model, r, [(ranges[unit], sample) for unit, sample in shown], steps)
    masks = Masks(load_segmenter(ctx, inputs["segmenter"]))
    seen = see(ctx, masks, w.flatten(0, 1), len(tuned.labels))
    tables = []
    for row, example in enumerate(chosen):
        picture = shown.index((example.unit, example.sample))
        table = example_rows(example, tuned, seen.part(picture, steps), ctx.classifier.class_names)
        tables.append(table.assign(row=row, picture=picture, value=ranges[example.unit].values(steps).numpy()))
    draft.table("pictures", pd.concat(tables, ignore_index=True))
    draft.tensors("pictures", {name: values.unflatten(0, w.shape[:2]) for name, values in vars(seen).items()})
    draft.json("facts", {"labels": tuned.labels, "class_names": tuned.class_names})


def style_codes(link: Link, r: Tensor, shown: Sequence[tuple[Perturbation, int]], steps: int) -> Tensor:
    """w̃ `[k, steps, w_dim]` of units, each in one of the samples `r [n, units]`.

    Raises:
        ValueError: the link gives a w̃ that is not finite.
    """
    codes = []
    for unit, sample in shown:
        w = perturbed(link, r[sample, None], unit, unit.values(steps))
        require_finite(w, unit)
        codes.append(w[0])
    return torch.stack(codes)


def see(ctx: Context, masks: Finder, w: Tensor, labels: int) -> Seen:
    """The images of `w [n, w_dim]`, their parts and the answers, as many at once as memory allows.

    Args:
        ctx: the run.
        masks: finds the parts.
        w: style codes.
        labels: how many there are.
    """
    ours = [ctx.classifier.class_names.index(name) for name in ctx.class_names]

    @torch.inference_mode()
    def once(w: Tensor) -> Seen:
        image, maps = ctx.generator.synthesize(w.to(ctx.device), features=masks.layers)
        mask = masks(maps)
        p = ctx.classifier.head(ctx.classifier.features(image)).float().softmax(1).cpu()
        measures = measure(mask, image, labels).float().cpu()
        return Seen(to_uint8(smaller(image)), mask.to(torch.uint8).cpu(), measures, p[:, ours], p.argmax(1))

    parts = list(ctx.tuned_batches(masks).map(once, w))
    return Seen(*(torch.cat([getattr(part, name) for part in parts]) for name in vars(parts[0])))


def example_rows(example: Example, tuned: Tuned, seen: Seen, names: Sequence[str]) -> pd.DataFrame:
    """The rows of one example in the table "pictures", without row, picture and value.

    Args:
        example: what is shown.
        tuned: the screen that it is from.
        seen: its images, a row per step.
        names: of the classifier's classes.
    """
    c = int(tuned.class_index[example.sample])
    probability = seen.probability[:, c]
    measured, moved = probability, probability - probability[0]
    if example.measure != PROBABILITY:
        place = (slice(None), tuned.labels.index(example.label), MEASURES.index(example.measure))
        measured, moved = seen.measures[place], change(seen.measures[:1].expand_as(seen.measures), seen.measures)[place]
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
            "prediction": np.asarray(names)[seen.prediction.numpy()],
            "flipped": (seen.prediction != seen.prediction[0]).numpy(),
        }
    )
