"""Made-up results of tuning: random measures and answers, some labels absent."""

from __future__ import annotations

import torch

from lis.quantify.measures import MEASURES
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
        off_target=torch.rand(size[:2], generator=draw),
        step_norm=1 + torch.rand(perturbations, 1, generator=draw).expand(size[:2]),
        class_index=torch.arange(len(classes)).repeat_interleave(per_class),
        sample_index=torch.arange(size[1]) * 3,
        labels=labels,
        class_names=classes,
    )
