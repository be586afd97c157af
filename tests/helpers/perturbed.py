"""Made-up results of tuning: random measures and answers, some labels absent."""

from __future__ import annotations

import torch
from torch import Tensor

from lis.quantify.measures import MEASURES
from lis.units.class_relevance import answer_change
from lis.units.controls import Null
from lis.units.tuned import Tuned

LABELS = ("ear", "eye", "tail")
CLASSES = ("ant", "bee")


def tuned(
    perturbations: int = 5,
    per_class: int = 4,
    labels: tuple[str, ...] = LABELS,
    classes: tuple[str, ...] = CLASSES,
    absent: float = 0.1,
    seed: int = 0,
    directions: bool = False,
) -> Tuned:
    """Units 10, 11, … (or `directions`) in two steps; `absent` is the share of missing labels."""
    draw = torch.Generator().manual_seed(seed)
    size = (perturbations, per_class * len(classes), 2)
    measures = 0.1 + torch.rand(*size, len(labels), len(MEASURES), generator=draw)
    measures[..., MEASURES.index("angle")] = 60 * measures[..., MEASURES.index("angle")]
    missing = torch.rand(*size, len(labels), 1, generator=draw) < absent
    unit = torch.arange(10, 10 + perturbations)
    probability = torch.rand(*size, len(classes) + 1, generator=draw)
    probability = probability / probability.sum(-1, keepdim=True)
    return Tuned(
        names=tuple(f"random {k}" if directions else str(k) for k in unit.tolist()),
        unit=torch.full_like(unit, -1) if directions else unit,
        value=torch.tensor([0.0, 2.0]).repeat(perturbations, 1),
        measures=measures.where(~missing, torch.nan),
        probability=probability[..., : len(classes)],
        prediction=probability.argmax(-1),
        reencoded_share=torch.rand(size[:2], generator=draw),
        own=torch.rand(size[:2], generator=draw),
        others=torch.rand(size[:2], generator=draw),
        more=torch.rand(size[:2], generator=draw),
        beyond=torch.zeros(size[:2]),
        step_norm=(length := 1 + torch.rand(perturbations, 1, generator=draw).expand(size[:2])),
        position=length[..., None] * torch.tensor([-0.25, 0.75]),
        class_index=torch.arange(len(classes)).repeat_interleave(per_class),
        sample_index=torch.arange(size[1]) * 3,
        labels=labels,
        class_names=classes,
    )


def null(units: int, control: Tuned, own: float = 1.0) -> Null:
    """Random directions that do the same beside each of some units, and move each unit by `own` or the opposite."""
    effect, answer = control.average.effect, answer_change(control)
    signs = torch.tensor([1.0, -1.0]).repeat(len(effect))[: len(effect)]
    return Null(
        effect.expand(units, *effect.shape),
        answer.expand(units, *answer.shape),
        (own * signs).repeat(units, 1),
        torch.ones(units),
        torch.ones(units, answer.shape[1]),
        torch.zeros(units),
        control,
    )


def reached(units: int) -> Tensor:
    """Every unit is."""
    return torch.ones(units, dtype=torch.bool)
