"""Are planted units named, and ordered by how many factors they are functions of? Beside correlations, no generator.

What is scored stands in `lis.classifiers.planted`, how in `lis.units.scoring`; here it is measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lis.classifiers.factors import determination
from lis.classifiers.planted import PlantedUnits, ReadFromImages, draw, standardised
from lis.config.fields import number
from lis.context import Context
from lis.linking.link import link
from lis.linking.pairs import test_pairs, train_pairs, tuning_pairs
from lis.look import Looker
from lis.quantify.change import change
from lis.quantify.measures import MEASURES
from lis.segmentation.segmenter import Masks, load_segmenter, segmenter
from lis.stage import MODELS, stage
from lis.store import Artifact, Draft
from lis.streams import Stream
from lis.units.directions import Directions, around, directions, load_directions
from lis.units.ends import Ends
from lis.units.intervention import Settable, known_factors, read_factors, validate_intervention
from lis.units.scoring import correlations, named, names_table, order, random_change, reached_table, unit_table
from lis.units.traversal import Truth, first
from lis.units.truth import Renderer, true_measures, validate_truth
from lis.units.tuned import Tuned, average, long_table
from lis.units.tuning import perturbations, tuning
from lis.units.unit_statistics import unit_statistics
from lis.units.work import planted_work

NEW = 100
"""New figures per class on which the reading and the head are measured."""


@dataclass
class PlantedUnitsConfig:
    """How planted units are scored."""

    samples: int = number(20, low=1)
    """Tuned samples per class in which single-factor units are moved by ±1 standard deviation, at most."""
    images: int = number(200, low=2)
    """Test pairs per class of the correlations that stand beside, at most."""


def validate_planted(ctx: Context) -> tuple[PlantedUnits, Settable, Renderer]:
    """The classifier, and the generator as one whose factors can be set and that draws every w exactly.

    Raises:
        ValueError: the classifier has no planted units, or the generator is not part world.
    """
    if not isinstance(ctx.classifier, PlantedUnits):
        raise ValueError(
            f"{type(ctx.classifier).__name__} has no units whose meaning is known: expected classifier=planted, "
            "without a probe; or leave planted out of analysis.stages"
        )
    return ctx.classifier, validate_intervention(ctx.generator), validate_truth(ctx.generator)


@stage(
    "planted",
    version=3,
    inputs=(tuning, unit_statistics, link, directions, segmenter, train_pairs, test_pairs, tuning_pairs),
    config=PlantedUnitsConfig,
    seed=True,
    models=MODELS,
    check=validate_planted,
    work=planted_work,
)
def planted(
    ctx: Context,
    config: PlantedUnitsConfig,
    tuned_units: Artifact,
    judged: Artifact,
    linked: Artifact,
    asked: Artifact,
    parts: Artifact,
    train: Artifact,
    test: Artifact,
    seeds: Artifact,
    draft: Draft,
) -> None:
    """Planted units: how many single factors are named right, and units ordered by how many factors they have.

    A unit is named by the part × measure (of interpreted labels) with the largest standardised |effect|: in the images
    of ±1 standard deviation of the unit ("std") or of its range ("range"), or by the largest |correlation| of r with
    the measure over random images ("correlation"; of an angle the multiple correlation with the doubled angle's cosine
    and sine), which needs no generator but for the images. The truth is what the same change of the unit's factor, ±1
    standard deviation or its range over the training pairs, does to the rendered picture; names whose true effect is at
    least 0.8 of the largest are right. Factors without an effect of `EFFECT` in any part are not scored.

    The order: Spearman's correlation between the number of planted factors and Hoyer's sparsity of a unit's effects. Of
    the true factors that its pictures move ("factors"): parts and measures will not do alone ("parts"), since a single
    factor as the lightness of the fur changes seven parts, and a factor that changes one counts as sparser than it.
    Beside them Hoyer's sparsity of the correlations ("correlation").

    Reached is what `unit_statistics` calls so. Nothing moves noise, so that it should be called so as rarely as chance
    allows.

    Table "names", a row per tuned single-factor unit and way: unit, factor, way, label, measure, effect, true_label,
    true_measure, true_effect (largest), scored, right. Table "named", a row per way: way, right, share, low, high
    (Wilson), n, factors, gain, gain_low, gain_high (share less that of the correlations; bootstrap over factors). Table
    "units", a row per tuned unit: unit, kind, factors (how many), sparsity_factors, sparsity_parts,
    sparsity_correlation. Table "order", a row per sparsity: sparsity, spearman, low, high, gain, gain_low, gain_high
    (bootstrap over units), n. Table "reached", a row per kind of tuned units, none without random directions
    (`tuning.control_directions=0`): kind, reached (how many), share, low, high (Wilson), n. Table "reading", where
    units are read from images, a row per factor: factor, rendered, generated (R² on new figures). Table "effects":
    factor, label, measure, effect (rendered, ±1 standard deviation). Json "facts": accuracy and bayes (of the head and
    of Bayes' rule on new figures, generated), new, samples, images, labels.
    Json "control": of `unit_statistics`, how many random directions say what is reached.

    Raises:
        ValueError: as `validate_planted`, or what the stages before refuse.
    """
    units, world, renderer = validate_planted(ctx)
    tuned, way, pairs = Tuned.of(tuned_units), load_directions(ctx, linked, asked), train.tensors("pairs")
    samples, pool = first(seeds.tensors("pairs"), config.samples), first(test.tensors("pairs"), config.images)
    segments, rng = load_segmenter(ctx, parts), Stream("planted", ctx.config.seed).rng()
    truth, looker = known_factors(ctx, pairs["w"]), Looker.tuned(ctx, Masks(segments), segments.labels)
    labels = [label for label in tuned.interpreted_labels if label in renderer.labels]
    seen, drawn = ([of.index(label) for label in labels] for of in (tuned.labels, renderer.labels))

    images = looker(pool["w"]).measures[:, seen]
    scale, correlated = random_change(images, rng), correlations(pool["r"][:, tuned.unit], images)
    ranged = tuned.average.ranked[:, seen] / scale
    true = {
        name: true_effects(ctx, world, renderer, truth.factors(samples["w"]), *ends)[:, drawn] / scale
        for name, ends in factor_ranges(truth, samples["w"], pairs["w"]).items()
    }
    single = torch.tensor([units.planting.kind[unit] == "single" for unit in tuned.unit.tolist()])
    numbers = tuned.unit[single].tolist()
    moved = one_std(looker, way, samples["r"], numbers, linked.table("units"))[:, seen] / scale
    measured = {"std": moved, "range": ranged[single], "correlation": correlated[single]}
    names = names_table(units.planting, numbers, measured, true, list(product(labels, MEASURES)))
    draft.table("names", names)
    draft.table("named", named(names, rng))

    chosen = tuned_units.table("units")
    ends, moving = Ends.of(tuned_units, way, config.samples), perturbations(pd.DataFrame(chosen[chosen["tuned"]]))
    factors_moved = read_factors(ctx, truth, ends, moving)
    moves = {"factors": factors_moved, "parts": ranged, "correlation": correlated}
    sparsity = unit_table(units.planting, tuned.unit.tolist(), moves)
    draft.table("units", sparsity)
    draft.table("order", order(sparsity, rng))
    tested = judged.table("faithfulness").dropna(subset=["p_reached"])
    draft.table("reached", reached_table(units.planting, tested["unit"].tolist(), np.asarray(tested["reached"], bool)))

    reading, facts = new_figures(ctx, units)
    draft.table("reading", reading)
    draft.table(
        "effects", long_table({"factor": truth.names, "label": labels, "measure": MEASURES}, {"effect": true["std"]})
    )
    draft.json("control", judged.json("control"))
    draft.json("facts", facts | {"samples": len(samples["w"]), "images": len(pool["w"]), "labels": labels})


@torch.inference_mode()
def one_std(looker: Looker, way: Directions, r: Tensor, units: Sequence[int], table: pd.DataFrame) -> Tensor:
    """Mean change `[P, K, M]` from one standard deviation below a sample's own activation to one above; NaN: no mean.

    Args:
        looker: finds the parts.
        way: how units are moved.
        r: samples `[n, units]`.
        units: their numbers.
        table: "units" of the link.
    """
    std, result, ctx = np.asarray(table["std"], float), [], looker.ctx
    moved = way.moved_in_turn(r, [around(unit, float(std[unit])) for unit in units], ctx.config.tuning.unit_block)
    for w in ctx.progress.track(moved, total=len(units), label="single-factor units by ±1 standard deviation"):
        measures = looker(w).measures
        result.append(average(change(measures[:, 0], measures[:, 1])[None]).ranked[0])
    return torch.stack(result) if result else torch.empty(0, len(looker.labels), len(MEASURES))


def factor_ranges(truth: Truth, w: Tensor, train: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    """What each factor is set to, first and last, `[n, factors]` each: "std" and "range" of samples `w [n, w_dim]`.

    One standard deviation below and above the sample's own, and the smallest and largest of the training pairs.
    """
    u, all_u = truth.factors(w), truth.factors(train)
    std = truth.std.where(truth.std.isfinite(), 0)
    return {"std": (u - std, u + std), "range": (all_u.amin(0).expand_as(u), all_u.amax(0).expand_as(u))}


@torch.inference_mode()
def true_effects(ctx: Context, world: Settable, renderer: Renderer, u: Tensor, first: Tensor, last: Tensor) -> Tensor:
    """Mean change `[factors, K, M]` of the rendered parts where one factor goes from `first` to `last`, others held.

    Args:
        ctx: the run.
        world: gives w.
        renderer: draws it; its labels are the K.
        u: factors of the samples, `[n, factors]`.
        first, last: what each factor is set to, likewise.
    """
    result = []
    for factor in ctx.progress.track(range(u.shape[1]), label="rendered effects (factors)"):
        ends = []
        for value in (first, last):
            changed = u.clone()
            changed[:, factor] = value[:, factor]
            ends.append(rendered(ctx, renderer, world.of_factors(changed)))
        result.append(average(change(*ends)[None]).ranked[0])
    return torch.stack(result)


def rendered(ctx: Context, renderer: Renderer, w: Tensor) -> Tensor:
    """True measures `[n, labels, M]` of `w [n, w_dim]`, in the renderer's labels."""
    return torch.cat(list(ctx.images().map(lambda some: true_measures(renderer, some.to(ctx.device)), w)))


@torch.inference_mode()
def new_figures(ctx: Context, units: PlantedUnits) -> tuple[pd.DataFrame, dict[str, float]]:
    """How well the factors are read and the classes told, on new figures of every class.

    Returns:
        The table "reading" of `planted`, without rows where units are read from w, which is exact; accuracy (of the
        head), bayes (of Bayes' rule) and new (how many figures).
    """
    world, stream = units.world, Stream("planted", ctx.config.seed)
    u = draw(world, NEW, stream)
    label = torch.arange(len(world.class_names)).repeat_interleave(NEW)
    w, at_once = world.to_w(u), ctx.batches()
    told = units.head(torch.cat(list(at_once.map(ctx.encode, w))).to(ctx.device)).argmax(1).cpu()
    facts = {"accuracy": float((told == label).float().mean())}
    facts |= {"bayes": float((world.bayes_class(u) == label).float().mean()), "new": len(u)}
    if not isinstance(units, ReadFromImages):
        return pd.DataFrame({"factor": [], "rendered": [], "generated": []}), facts
    network, renderer = units.network, validate_truth(ctx.generator)
    pictures = {"rendered": lambda some: renderer.render(some)[0], "generated": ctx.generator.synthesize}
    read = {
        name: determination(
            torch.cat(list(at_once.map(lambda some, make=make: network(make(some.to(ctx.device))).cpu(), w))),
            standardised(world, u),
        )
        for name, make in pictures.items()
    }
    return pd.DataFrame({"factor": world.figures.factor_names, **read}), facts
