"""How good a link is: the full cycle on new samples beside its baselines (paper §4.2; Fig. 3B, C; S1)."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pandas as pd
import torch
from omegaconf import MISSING
from torch import Tensor

from lis.config import RunConfig
from lis.config.fields import number, path
from lis.context import Context
from lis.images import to_uint8
from lis.linking.baselines import PAIRINGS, summarise
from lis.linking.components import factor_table, offsets_table, principal_components
from lis.linking.cycle import Measured, Samples, measure
from lis.linking.distances import choose
from lis.linking.fit import link, load_link
from lis.linking.pairs import test_pairs, train_pairs
from lis.stage import MODELS, stage
from lis.statistics import kept_table
from lis.store import Artifact, Draft
from lis.streams import Stream
from lis.types import Generator

log = logging.getLogger(__name__)

COMPONENTS = 10
COMPONENT_SAMPLES = 200
"""Samples per class in the table of components."""
UNITS = {"mse_w": "mean squared error per dimension of w", "features": "Euclidean distance in r"}


@dataclass
class EvaluationConfig:
    """The full cycle on new samples (Fig. 3B, C; S1)."""

    lpips: bool = True
    moco: str | None = path(None, silent=True)
    """Path of a MoCo v2 checkpoint (ResNet-50); its checksum is in the key."""
    examples: int = number(MISSING, low=0)
    """Reconstructions shown per class."""
    resamples: int = number(1000, low=1)
    """Bootstrap resamples behind each interval."""


@runtime_checkable
class TrueFactors(Protocol):
    """A generator that knows what a style code means."""

    factor_names: tuple[str, ...]

    def true_factors(self, w: Tensor) -> Tensor:
        """Factors `u [n, factors]` of `w [n, w_dim]`."""
        ...


def validate_evaluation(config: RunConfig, generator: Generator) -> None:
    """Checks, before any work, that the evaluation can be done; reads the metrics' weight files.

    Raises:
        ValueError: too few test samples, or a weight file that is given and cannot be used.
    """
    if config.pairs.test < 2:
        raise ValueError(f"pairs.test={config.pairs.test}: expected 2 or more, since a random pair needs two samples")
    choose(config.evaluation, generator.resolution).load()


def _check(ctx: Context) -> None:
    validate_evaluation(ctx.config, ctx.generator)


def _also(ctx: Context) -> dict[str, Any]:
    choice = choose(ctx.config.evaluation, ctx.generator.resolution)
    if ctx.config.evaluation.lpips and "lpips" in choice.left_out:
        log.warning("the metric LPIPS is left out: %s", choice.left_out["lpips"])
    return {"metrics": choice.checksums}


@stage(
    "evaluation",
    version=2,
    inputs=(train_pairs, test_pairs, link),
    config=EvaluationConfig,
    seed=True,
    models=MODELS,
    also=_also,
    check=_check,
)
def evaluation(
    ctx: Context, config: EvaluationConfig, train: Artifact, test: Artifact, linked: Artifact, draft: Draft
) -> None:
    """The full cycle on test pairs: distances beside random and within-class pairs, class kept, factors, examples.

    Tables "samples" (long: class, sample_index, metric, pairing, value), "summary" (a row per metric: means, 95 %
    bootstrap intervals, ratios to the baselines, two-sided Wilcoxon signed-rank p), "kept" (share of cycled images
    that keep their class, Wilson interval), "components", "offsets", and "factors" where the generator knows the
    truth; tensors "examples" (the first of each class: image, cycled, class_index, sample_index); json "left_out"
    (metric → reason).

    Raises:
        ValueError: as `validate_evaluation` and the stages before.
    """
    choice = choose(config, ctx.generator.resolution)
    stored, names = test.tensors("pairs"), np.asarray(ctx.class_names)
    index = stored["sample_index"]
    samples = Samples(stored["w"], stored["r"], _predict(ctx, linked, stored["r"]), stored["class_index"])
    distances = choice.load(ctx.device)
    measured = measure(ctx, samples, distances)
    names = names[samples.class_index.numpy()]
    draft.table("samples", _samples_table(measured, names, index))
    draft.table("summary", _summary_table(ctx, measured, UNITS | {d.name: d.unit for d in distances}))
    draft.table("kept", _kept(ctx, samples, measured))
    _write_components(train.tensors("pairs")["w"], samples, names, index, draft)
    if isinstance(ctx.generator, TrueFactors):
        draft.table("factors", _factors(ctx.generator, samples, ctx.device))
    draft.tensors("examples", _examples(ctx, samples, index))
    draft.json("left_out", choice.left_out)


@torch.inference_mode()
def _predict(ctx: Context, linked: Artifact, r: Tensor) -> Tensor:
    """`w̃ [n, w_dim]` of `r [n, units]`."""
    model = load_link(linked)
    w = torch.cat([model(batch) for batch in r.split(ctx.config.batch_size)]).float()
    if not w.isfinite().all():
        row = int((~w.isfinite()).any(1).nonzero()[0])
        raise ValueError(f"the link predicts no finite w for test pair {row}: fit another link")
    return w


def _samples_table(measured: Measured, names: np.ndarray, sample_index: Tensor) -> pd.DataFrame:
    parts = []
    for metric, by_pairing in measured.values.items():
        for pairing in PAIRINGS:
            rows = ~by_pairing[pairing].isnan().numpy()
            columns = {"class": names[rows], "sample_index": sample_index.numpy()[rows], "metric": metric}
            parts.append(pd.DataFrame(columns | {"pairing": pairing, "value": by_pairing[pairing].numpy()[rows]}))
    return pd.concat(parts, ignore_index=True)


def _summary_table(ctx: Context, measured: Measured, units: dict[str, str]) -> pd.DataFrame:
    stream, rows = Stream("baselines", ctx.config.seed), []
    for metric, by_pairing in measured.values.items():
        values = {name: value[~value.isnan()].double().numpy() for name, value in by_pairing.items()}
        summary = summarise(values, ctx.config.evaluation.resamples, stream.rng(index=1))
        rows.append({"metric": metric, "unit": units[metric]} | summary)
    return pd.DataFrame(rows)


def _kept(ctx: Context, samples: Samples, measured: Measured) -> pd.DataFrame:
    targets = torch.tensor([ctx.classifier.class_names.index(name) for name in ctx.class_names])
    kept = measured.prediction == targets[samples.class_index]
    return kept_table(ctx.class_names, samples.class_index.numpy(), kept.numpy())


def _write_components(w: Tensor, samples: Samples, names: np.ndarray, index: Tensor, draft: Draft) -> None:
    """Tables "components" and "offsets"; the components are those of the training pairs, `w [n, w_dim]`."""
    components = principal_components(w, COMPONENTS)
    original, cycled = components.project(samples.w), components.project(samples.w_cycled)
    shown = samples.first(COMPONENT_SAMPLES).numpy()
    parts = [
        pd.DataFrame(
            {
                "class": names[shown],
                "sample_index": index.numpy()[shown],
                "component": k + 1,
                "original": original[shown, k],
                "cycled": cycled[shown, k],
            }
        )
        for k in range(original.shape[1])
    ]
    draft.table("components", pd.concat(parts, ignore_index=True))
    draft.table("offsets", offsets_table(components, original, cycled))


def _factors(generator: TrueFactors, samples: Samples, device: torch.device) -> pd.DataFrame:
    true, cycled = (generator.true_factors(w.to(device)).cpu() for w in (samples.w, samples.w_cycled))
    return factor_table(tuple(generator.factor_names), true, cycled, samples.class_index)


@torch.inference_mode()
def _examples(ctx: Context, samples: Samples, sample_index: Tensor) -> dict[str, Tensor]:
    """The first samples of each class before and after the cycle: `[k, 3, H, W]` uint8, with their addresses `[k]`."""
    shown = samples.first(ctx.config.evaluation.examples)
    resolution, at_once = ctx.generator.resolution, ctx.images()
    images = {"class_index": samples.class_index[shown], "sample_index": sample_index[shown]}
    for name, w in (("image", samples.w[shown]), ("cycled", samples.w_cycled[shown])):
        parts = at_once.map(lambda some: to_uint8(ctx.generator.synthesize(some.to(ctx.device))), w)
        images[name] = torch.cat([torch.empty(0, 3, resolution, resolution, dtype=torch.uint8), *parts])
    return images
