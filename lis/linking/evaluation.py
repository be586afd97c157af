"""How good a link is: the full cycle on new samples beside its baselines (paper §4.2; Fig. 3B, C; S1)."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pandas as pd
import torch
from omegaconf import MISSING
from scipy.stats import wilcoxon
from torch import Tensor

from lis.config import RunConfig
from lis.config.fields import number, path
from lis.context import Context
from lis.costs import Meter
from lis.images import to_uint8
from lis.linking.components import factor_table, offsets_table, principal_components
from lis.linking.distances import ImageDistance, choose
from lis.linking.link import link, load_link
from lis.linking.pairs import test_pairs, train_pairs
from lis.linking.work import evaluation_work
from lis.memory import Batches
from lis.stage import MODELS, stage
from lis.statistics import bootstrap, retention
from lis.store import Artifact, Draft
from lis.streams import Stream
from lis.types import Generator, encode

log = logging.getLogger(__name__)
COMPONENTS = 10
COMPONENT_SAMPLES = 200
"""Samples per class in the table of components."""
UNITS = {"mse_w": "mean squared error per dimension of w", "features": "Euclidean distance in r"}
PAIRINGS = ("cycle", "random", "within-class")


@dataclass
class EvaluationConfig:
    """The full cycle on new samples (Fig. 3B, C; S1)."""

    lpips: bool = True
    lpips_backbone: str | None = path(None, silent=True)
    """Path of AlexNet's convolutions (`features.0.weight`, …), alone or with the rest of torchvision's file; null: that
    of torch's cache. The file's checksum is in the key."""
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
    check=lambda ctx: validate_evaluation(ctx.config, ctx.generator),
    work=evaluation_work,
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
    stored, index = test.tensors("pairs"), test.tensors("pairs")["sample_index"]
    samples = Samples(stored["w"], stored["r"], _predict(ctx, linked, stored["r"]), stored["class_index"])
    distances = choice.load(ctx.device)
    measured = measure(ctx, samples, distances)
    names = np.asarray(ctx.class_names)[samples.class_index.numpy()]
    draft.table("samples", _samples_table(measured, names, index))
    draft.table("summary", _summary_table(ctx, measured, UNITS | {d.name: d.unit for d in distances}))
    targets = torch.tensor([ctx.classifier.class_names.index(name) for name in ctx.class_names])
    same = measured.prediction == targets[samples.class_index]
    draft.table("kept", retention(ctx.class_names, samples.class_index.numpy(), same.numpy()))
    _write_components(train.tensors("pairs")["w"], samples, names, index, draft)
    if isinstance(ctx.generator, TrueFactors):
        generator, codes = ctx.generator, (samples.w, samples.w_cycled)
        true, cycled = (generator.true_factors(w.to(ctx.device)).cpu() for w in codes)
        draft.table("factors", factor_table(tuple(generator.factor_names), true, cycled, samples.class_index))
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


def _write_components(w: Tensor, samples: Samples, names: np.ndarray, index: Tensor, draft: Draft) -> None:
    """Tables "components" and "offsets"; the components are those of the training pairs, `w [n, w_dim]`."""
    components = principal_components(w, COMPONENTS)
    original, cycled = components.project(samples.w), components.project(samples.w_cycled)
    selected = samples.first(COMPONENT_SAMPLES).numpy()
    address = {"class": names[selected], "sample_index": index.numpy()[selected]}
    parts = [
        pd.DataFrame(address | {"component": k + 1, "original": original[selected, k], "cycled": cycled[selected, k]})
        for k in range(original.shape[1])
    ]
    draft.table("components", pd.concat(parts, ignore_index=True))
    draft.table("offsets", offsets_table(components, original, cycled))


@torch.inference_mode()
def _examples(ctx: Context, samples: Samples, sample_index: Tensor) -> dict[str, Tensor]:
    """The first samples of each class before and after the cycle: `[k, 3, H, W]` uint8, with their addresses `[k]`."""
    selected = samples.first(ctx.config.evaluation.examples)
    resolution, at_once = ctx.generator.resolution, ctx.images()
    images = {"class_index": samples.class_index[selected], "sample_index": sample_index[selected]}
    for name, w in (("image", samples.w[selected]), ("cycled", samples.w_cycled[selected])):
        parts = at_once.map(lambda some: to_uint8(ctx.generator.synthesize(some.to(ctx.device))), w)
        images[name] = torch.cat([torch.empty(0, 3, resolution, resolution, dtype=torch.uint8), *parts])
    return images


@dataclass(frozen=True)
class Samples:
    """Test samples and what a link makes of them; ordered by class."""

    w: Tensor
    """`[n, w_dim]`."""
    r: Tensor
    """`[n, units]`, the activations of the images of `w`."""
    w_cycled: Tensor
    """`w̃ [n, w_dim]`, what the link predicts from `r`."""
    class_index: Tensor
    """`[n]` int64, ascending."""

    def first(self, per_class: int) -> Tensor:
        """Whether a sample is one of the first of its class: `[n]` bool."""
        return torch.arange(len(self.w)) - torch.searchsorted(self.class_index, self.class_index) < per_class


@dataclass(frozen=True)
class Measured:
    """Distances of the samples and the classes of their cycled images."""

    values: dict[str, dict[str, Tensor]]
    """Metric → pairing → `[n]` float32; NaN where a metric was not computed on a sample."""
    prediction: Tensor
    """What the classifier calls the cycled image: `[n]` int64 into its classes."""


def measure(ctx: Context, samples: Samples, distances: list[ImageDistance]) -> Measured:
    """Every distance of every sample: cycled against original, and original against a random partner's original.

    The partners come from the stream "baselines". Samples are visited in the partners' order, so that the partner of
    a sample is in the same batch and no image is stored.
    """
    stream, n = Stream("baselines", ctx.config.seed), len(samples.w)
    order, by_class = tour(n, stream.rng()), within_class_tour(samples.class_index, stream)
    tours = {
        "random": Tour(order, partners(order)),
        "within-class": Tour(by_class, partners(by_class, samples.class_index)),
    }
    requested = {d.name: samples.first(_share(d, samples)) for d in distances}
    values = {d.name: {pairing: torch.full((n,), torch.nan) for pairing in PAIRINGS} for d in distances}
    r_moved, prediction = torch.empty(n), torch.empty(n, dtype=torch.int64)

    def enter(pairing: str, ids: Tensor, image: Tensor, other: Tensor) -> None:
        for distance in distances:
            rows = requested[distance.name][ids]
            if rows.any():
                on_device = rows.to(image.device)
                values[distance.name][pairing][ids[rows]] = distance(image[on_device], other[on_device]).cpu()

    def cycle(ids: Tensor, image: Tensor, other: Tensor) -> None:
        w = samples.w_cycled[ids].to(ctx.device)
        cycled = ctx.generator.synthesize(w)
        r = encode(ctx.classifier, ctx.generator, w, cycled)
        r_moved[ids] = (r.cpu() - samples.r[ids]).norm(dim=1)
        prediction[ids] = ctx.classifier.head(r).argmax(1).cpu()
        enter("cycle", ids, image, cycled)
        enter("within-class", ids, image, other)

    at_once = ctx.batches(beside=_compared(ctx, distances))
    tours["within-class"].visit(ctx, samples, at_once, cycle, "cycle")
    tours["random"].visit(ctx, samples, at_once, partial(enter, "random"), "random pairs")
    mse_w = {name: (samples.w - samples.w[way.partner]).square().mean(1) for name, way in tours.items()}
    features = {name: (samples.r - samples.r[way.partner]).norm(dim=1) for name, way in tours.items()}
    mse_w["cycle"], features["cycle"] = (samples.w - samples.w_cycled).square().mean(1), r_moved
    return Measured({"mse_w": mse_w} | values | {"features": features}, prediction)


@torch.inference_mode()
def _compared(ctx: Context, distances: list[ImageDistance]) -> int:
    """Bytes that the distances take for one pair of images."""
    image = torch.zeros(1, 3, ctx.generator.resolution, ctx.generator.resolution, device=ctx.device)
    with Meter() as meter:
        for distance in distances:
            distance(image, image.clone())
    return meter.peak


def _share(distance: ImageDistance, samples: Samples) -> int:
    """Samples per class that a distance is computed on."""
    classes = len(samples.class_index.unique())
    return len(samples.w) if distance.limit is None else max(2, distance.limit // classes)


@dataclass(frozen=True)
class Tour:
    """A way through all samples on which each one's partner is the next."""

    order: Tensor
    """`[n]` int64."""
    partner: Tensor
    """`[n]` int64: the partner of each sample."""

    @torch.inference_mode()
    def visit(
        self,
        ctx: Context,
        samples: Samples,
        at_once: Batches,
        enter: Callable[[Tensor, Tensor, Tensor], None],
        label: str,
    ) -> None:
        """Call `enter` with ids, images and partners' images, batch by batch; an image is drawn once per batch."""

        def show(ids: Tensor) -> None:
            drawn, rows = torch.unique(torch.cat([ids, self.partner[ids]]), return_inverse=True)
            images = ctx.generator.synthesize(samples.w[drawn].to(ctx.device))
            image, other = (images[some] for some in rows.to(ctx.device).split(len(ids)))
            enter(ids, image, other)

        for ids in ctx.progress.track(self.order.split(ctx.config.batch_size), label=label):
            deque(at_once.map(show, ids), maxlen=0)


def tour(n: int, rng: np.random.Generator) -> Tensor:
    """A random order `[n]` (int64) of n samples."""
    return torch.from_numpy(rng.permutation(n))


def within_class_tour(class_index: Tensor, stream: Stream) -> Tensor:
    """A random order `[n]` of samples of `class_index [n]`: class after class, random inside each."""
    classes = [(class_index == c).nonzero()[:, 0] for c in class_index.unique().tolist()]
    return torch.cat([members[tour(len(members), stream.rng(c))] for c, members in enumerate(classes)])


def partners(order: Tensor, group: Tensor | None = None) -> Tensor:
    """The partner `[n]` of each sample: the next one in `order`, the last one's being the first.

    A permutation without fixed points. With `group [n]` (equal members adjacent in `order`) each group is a round of
    its own. That partners are neighbours lets a pass in this order draw each image once, not twice.

    Raises:
        ValueError: a sample has no other one to be paired with.

    Example:
        >>> partners(torch.tensor([2, 0, 1]))
        tensor([1, 2, 0])
    """
    group = torch.zeros_like(order) if group is None else group
    partner = torch.empty_like(order)
    for members in torch.split(order, torch.unique_consecutive(group[order], return_counts=True)[1].tolist()):
        if len(members) < 2:
            raise ValueError("1 test sample in a class: a random pair needs 2 or more; raise pairs.test")
        partner[members] = members.roll(-1)
    return partner


def paired_test(cycle: np.ndarray, baseline: np.ndarray) -> float:
    """p of the two-sided Wilcoxon signed-rank test of paired values `[n]`; 1 where all are equal."""
    if np.array_equal(cycle, baseline):
        return 1.0
    result: Any = wilcoxon(cycle, baseline)
    return float(result.pvalue)


def summarise(values: dict[str, np.ndarray], resamples: int, rng: np.random.Generator) -> dict[str, float]:
    """Means, 95 % bootstrap intervals, ratios and tests of one metric.

    Args:
        values: `[n]` of each of `PAIRINGS`, paired by sample.

    Returns:
        The columns of the summary table, `metric` and `unit` left out.
    """
    table = np.stack([values[pairing] for pairing in PAIRINGS], axis=1)
    low, high = bootstrap(torch.from_numpy(table), rng, resamples)
    row: dict[str, float] = {}
    for k, name in enumerate(pairing.replace("-", "_") for pairing in PAIRINGS):
        row |= {name: table[:, k].mean(), f"{name}_low": float(low[k]), f"{name}_high": float(high[k])}
    for name in ("random", "within_class"):
        row[f"ratio_{name}"] = row["cycle"] / row[name] if row[name] > 0 else float("nan")
        row[f"p_{name}"] = paired_test(values["cycle"], values[name.replace("_", "-")])
    return row | {"n": len(table)}
