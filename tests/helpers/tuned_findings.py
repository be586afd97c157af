"""Made-up tuned units whose tables are those of the real stages: what the report on units is tested with."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from helpers.fakes import stand_in
from helpers.findings import make_ctx
from lis.look import PICTURED, Look
from lis.progress import Progress
from lis.quantify.measures import MEASURES
from lis.report.source import Source, source
from lis.store import Artifact, Draft, Recipe, Store
from lis.units import unit_statistics
from lis.units.pictures import example_rows, examples
from lis.units.truth import Recovery, compared, summary
from lis.units.tuned import Tuned

CLASSES = ("border_collie", "pug", "chihuahua")
LABELS = ("leg", "tongue", "eye", "snout", "ear")
SMALL, RARE = "eye", "tongue"
"""The label that is too small to be interpreted, and the one that not every sample has."""
SIZES = {"area": 0.15, "luminance": 0.06, "entropy": 0.15, "eccentricity": 0.05, "angle": 6.0}
"""Usual change of each measure."""
START = {"area": 0.03, "luminance": 0.4, "entropy": 1.6, "eccentricity": 0.7, "angle": 10.0}


def tuned(
    units: int = 60,
    samples: int = 6,
    labels: tuple[str, ...] = LABELS,
    classes: tuple[str, ...] = CLASSES,
    spread: float = 0.12,
    steps: int = 2,
    null: bool = False,
) -> Tuned:
    """Units with a favourite label each, or random directions that have none; `spread` is the usual Δp."""
    rng = np.random.default_rng(1 if null else 0)
    size = rng.laplace(0, 0.5, (units, len(labels), 5)) * np.array([SIZES[name] for name in MEASURES])
    if not null:
        size[np.arange(units), rng.integers(0, len(labels), units)] *= 4
        size *= rng.lognormal(-0.3, 0.6, (units, 1, 1))
    index = np.repeat(np.arange(len(classes)), samples)
    measures = _measures(rng, size, len(index), steps, labels)
    probability = _probability(rng, units, index, steps, len(classes), spread * (0.3 if null else 1))
    norm = torch.from_numpy(rng.lognormal(0, 0.2, (units, 1))).float().expand(-1, len(index)).contiguous()
    noise = rng.normal(0, 1, (2, units, len(index)))
    before = torch.rand(len(index), units, generator=torch.Generator().manual_seed(4)).T
    return Tuned(
        names=tuple(f"random {k}" if null else str(k) for k in range(units)),
        unit=torch.full((units,), -1) if null else torch.arange(units),
        value=torch.linspace(0, 2, steps).repeat(units, 1),
        measures=measures,
        probability=probability,
        prediction=probability.argmax(3),
        reencoded_share=torch.from_numpy(0.6 + 0.2 * rng.normal(0, 1, (units, 1)) + 0.1 * noise[0]).float(),
        own=torch.from_numpy(1 + noise[0, :, :1] + 0.5 * noise[0]).float(),
        others=torch.from_numpy(np.exp(-0.5 + 0.3 * noise[1])).float(),
        more=torch.from_numpy(1 / (1 + np.exp(2 + noise[1]))).float(),
        beyond=torch.from_numpy((noise[0] > 1).astype(np.float32)),
        step_norm=norm,
        position=norm[..., None] * (torch.linspace(0, 1, steps) - before[..., None]),
        class_index=torch.from_numpy(index),
        sample_index=torch.arange(samples).repeat(len(classes)),
        labels=labels,
        class_names=classes,
    )


def _measures(rng: np.random.Generator, size: np.ndarray, samples: int, steps: int, labels: tuple[str, ...]) -> Tensor:
    """`[P, S, T, K, 5]`: every step goes on from the last."""
    start = np.array([START[name] for name in MEASURES]) * rng.lognormal(0, 0.1, (samples, len(labels), 5))
    moved = size[:, None] * rng.normal(1, 0.4, (len(size), samples, len(labels), 5))
    moved[..., 0] = np.clip(moved[..., 0], -0.9, 5) * start[..., 0]
    moved[..., 1] *= start[..., 1]
    along = np.linspace(0, 1, steps)[:, None, None]
    found = start[None, :, None] + along * moved[:, :, None]
    if SMALL in labels:
        found[:, :, :, labels.index(SMALL), 0] *= 0.02
    if RARE in labels:
        found[:, ::3, :, labels.index(RARE)] = np.nan
    return torch.from_numpy(found).float()


def _probability(
    rng: np.random.Generator, units: int, index: np.ndarray, steps: int, classes: int, spread: float
) -> Tensor:
    """`[P, S, T, C]`: the first class is robust; what the own class loses goes to the next."""
    change = spread * (rng.laplace(0, 1, (units, 1)) + rng.laplace(0, 0.6, (units, classes)))[:, index]
    change = change * rng.normal(1, 0.4, change.shape) * np.where(index == 0, 0.02, 1)
    own = np.clip(0.8 - 0.5 * np.abs(change)[:, :, None] + np.linspace(-0.5, 0.5, steps) * change[:, :, None], 0.02, 1)
    p = np.zeros((units, len(index), steps, classes))
    p[:, np.arange(len(index)), :, (index + 1) % classes] = (1 - own).transpose(1, 0, 2)
    p[:, np.arange(len(index)), :, index] = own.transpose(1, 0, 2)
    return torch.from_numpy(p).float()


def make(root: Path, stage: str, build: Any, **settings: Any) -> Artifact:
    """An artifact of a stage."""
    return Store(root).make(Recipe(stage, 1, settings), build)


def screen(root: Path, own: Tuned, null: Tuned) -> Artifact:
    """The artifact of the stage "tuning"."""

    def build(draft: Draft) -> None:
        values = {field.name: getattr(own, field.name) for field in fields(own)}
        draft.tensors("tuning", {name: value for name, value in values.items() if isinstance(value, Tensor)})
        draft.tensors("control", trajectories(null, len(own.unit)))
        r = torch.rand(len(own.class_index), len(own.unit), generator=torch.Generator().manual_seed(4))
        draft.tensors("seeds", {"r": 2 * r})
        names = {"tuning": own.names, "control": null.names}
        draft.json("facts", {"names": names, "labels": own.labels, "class_names": own.class_names})
        table = pd.DataFrame({"unit": own.unit.numpy(), "minimum": 0.0, "maximum": 2.0, "tuned": True, "reason": ""})
        draft.table("units", table.assign(step_norm=own.step_norm[:, 0].numpy()))

    return make(root, "tuning", build)


def trajectories(null: Tuned, units: int) -> dict[str, Tensor]:
    """Tensors "control": random directions at three places, each unit moved by noise."""
    far = float(null.step_norm.max()) if len(null.unit) else 1.0
    ends = [0, len(null.value[0]) // 2 if len(null.unit) else 0, -1]
    size = (len(null.unit), len(null.class_names), 3, units)
    drawn = 0.4 * torch.randn(size, generator=torch.Generator().manual_seed(5))
    drawn[:, :, 1] = 0
    names = ("measures", "probability", "prediction")
    return {name: getattr(null, name)[:, :, ends] for name in names} | {
        "position": torch.tensor([-far, 0.0, far]).expand(*null.step_norm.shape, 3).contiguous(),
        "reencoded": drawn.half(),
        "class_index": null.class_index,
        "sample_index": null.sample_index,
    }


def truth(root: Path, own: Tuned) -> Artifact:
    """The artifact of the stage "truth": true changes are the measured ones with noise."""
    rng = np.random.default_rng(2)
    measured = compared(own.measures[:, :, 0], own.measures[:, :, -1])
    scale = torch.tensor([0.01, 0.05, *(SIZES[name] * (0.3 + k) for k, name in enumerate(MEASURES))])
    noise = torch.from_numpy(rng.normal(0, 1, measured.shape)).float() * scale
    found = Recovery(own.unit, own.labels, own.interpreted, measured, measured + noise)

    def build(draft: Draft) -> None:
        draft.table("agreement", found.agreement)
        draft.table("units", found.units)
        draft.json("summary", summary(found.agreement))

    return make(root, "truth", build)


def pictures(root: Path, own: Tuned, units: Artifact, steps: int = 5, most: int = 2, images: Any = None) -> Artifact:
    """The artifact of the stage "pictures"; `images [k, steps, 3, H, W]` and masks are noise where none are given."""
    chosen = examples(units.table("ranking"), units.table("relevance"), own, most)
    arrived = units.table("faithfulness").set_index("unit")
    shown = list(dict.fromkeys((example.unit, example.sample) for example in chosen))
    rng, n = np.random.default_rng(3), len(shown) * steps
    along = torch.linspace(0, 1, steps)[:, None, None]
    first, last = ((torch.stack([own.measures[u, s, t] for u, s in shown])[:, None]) for t in (0, -1))
    p = [torch.stack([own.probability[u, s, t] for u, s in shown])[:, None] for t in (0, -1)]
    probability = (p[0] + along[..., 0] * (p[1] - p[0])).flatten(0, 1)
    image, mask = images or (
        torch.from_numpy(rng.integers(0, 255, (n, 3, 16, 16), np.uint8)),
        torch.from_numpy(rng.integers(0, len(own.labels) + 1, (n, 8, 8)).astype(np.uint8)),
    )
    measures = (first + along * (last - first)).flatten(0, 1)
    seen = Look(torch.empty(n, 0), probability, probability, image, mask, measures).unflatten((len(shown), steps))

    def build(draft: Draft) -> None:
        tables = []
        for row, example in enumerate(chosen):
            picture = shown.index((example.unit, example.sample))
            table = example_rows(example, own, seen[picture], own.class_names)
            of_step = {"value": np.linspace(0, 2, steps), "step_beyond": np.arange(steps) > steps - 2}
            reached = bool(arrived["reached"][example.unit])
            tables.append(table.assign(row=row, picture=picture, **of_step, activation=0.9, reached=reached))
        draft.table("pictures", pd.concat(tables, ignore_index=True))
        draft.tensors("pictures", seen.tensors(PICTURED))
        draft.json("facts", {"labels": own.labels, "class_names": own.class_names})

    return make(root, "pictures", build, images=images is not None)


def learn(root: Path, own: Tuned, null: Tuned, **settings: Any) -> dict[str, Artifact]:
    """The artifacts of all stages about tuned units, made by the real statistics."""
    screened = screen(root, own, null)
    ctx = make_ctx(root, own.class_names, **settings)
    ctx.store, ctx.progress = Store(root), Progress()
    with pytest.MonkeyPatch.context() as patch:
        stand_in(patch, "tuning", lambda _: screened)
        units = unit_statistics.unit_statistics(ctx)
    return {
        "tuning": screened,
        "unit_statistics": units,
        "truth": truth(root, own),
        "pictures": pictures(root, own, units),
    }


def run(root: Path, own: Tuned, null: Tuned | None = None, **settings: Any) -> Source:
    """What a report reads after a run with these units."""
    null = null or replace(tuned(40, len(own.class_index), own.labels, null=True), class_names=own.class_names)
    ctx = make_ctx(root, own.class_names, classes__labels=list(own.labels), **settings)
    return source(ctx, learn(root, own, null, **settings))
