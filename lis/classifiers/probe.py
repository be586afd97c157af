"""The linear probe: multinomial logistic regression on R, which gives a classifier the classes of a set as its head.

The labels are the classes that the generator was asked for. Accuracy and calibration are measured on samples that the
fit has not seen.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import softmax
from torch import Tensor, nn

from lis.classifiers.calibration import calibrated_bound, calibration, expected_calibration_error
from lis.classifiers.logistic import fit, log_loss
from lis.context import Context
from lis.rounding import linear
from lis.stage import MODELS, stage
from lis.statistics import kept_table
from lis.store import Artifact, Draft
from lis.streams import Stream
from lis.types import Classifier

_PASSED_ON = ("name", "weights", "trained", "attribute", "notes")
"""What a classifier may say about itself beyond the Protocol."""

Array = NDArray[np.floating[Any]]
Integers = NDArray[np.integer[Any]]


def validate_probe(ctx: Context) -> None:
    """Checks, before any work, that there is something to fit a probe to.

    Raises:
        ValueError: a generator without classes, unknown or too few classes, or more folds than samples.
    """
    names, offered, config = ctx.class_names, ctx.generator.class_names, ctx.config.probe
    if not offered:
        raise ValueError(
            "the linear probe is fitted to labelled samples, and this generator draws the class inside: its samples "
            "have no labels; take a generator with classes, or set classifier.probe=false with a classifier that has "
            "a head of its own"
        )
    if unknown := [name for name in names if name not in offered]:
        raise ValueError(
            f"classes.names: the generator does not know {', '.join(unknown)}; expected some of {', '.join(offered)}"
        )
    if len(set(names)) < max(2, len(names)):
        raise ValueError(f"classes.names=[{', '.join(names)}]: a linear probe needs 2 or more classes, each named once")
    if not 2 <= config.folds <= config.train:
        raise ValueError(
            f"probe.folds={config.folds}: expected 2 to {config.train}, the samples per class (probe.train)"
        )


def _class_index(ctx: Context) -> list[int]:
    """Place of each class of the run in the generator."""
    return [ctx.generator.class_names.index(name) for name in ctx.class_names]


def _also(ctx: Context) -> dict[str, Any]:
    return {
        **asdict(ctx.config.probe),
        "classes": list(ctx.class_names),
        "class_index": _class_index(ctx),
        "truncation": ctx.config.gan.truncation,
    }


@stage("probe", version=2, seed=True, models=MODELS, also=_also, check=validate_probe, listed=False)
def probe(ctx: Context, draft: Draft) -> None:
    """Before all others, where asked for: a logistic regression on R for the classes of the run, with its calibration.

    It is fitted and tested on samples of its own.

    Tensors "probe": `weight [classes, units]` and `bias [classes]` float32, on r as it is. Table "path" as in `Fit`; on
    the test samples, tables "accuracy" (class, accuracy, low, high, n; the last row is "all"; 95 % Wilson) and
    "calibration" (as the function gives it). Json "probe": classes in the order of the logits; C, folds, samples and
    units of the fit; on the test_samples accuracy, log_loss (nats), ece, and the ece_bound below which a calibrated
    probe stays in 95 % of such test sets; seconds.

    Raises:
        ValueError: a generator without classes or without one of these, fewer than two classes, one named twice, fewer
            samples than folds, or activations that are not finite or do not vary.
    """
    start, config = time.perf_counter(), ctx.config.probe
    r, labels = _draw(ctx, "probe training", config.train)
    fitted = fit(r, labels, config.folds, ctx.progress)
    weight, bias = (torch.from_numpy(value).float() for value in (fitted.weight, fitted.bias))
    draft.tensors("probe", {"weight": weight, "bias": bias})
    draft.table("path", fitted.path)
    facts: dict[str, Any] = {"classes": list(ctx.class_names), "C": fitted.strength, "folds": config.folds}
    facts |= {"samples": len(r), "units": r.shape[1]}
    r, labels = _draw(ctx, "probe test", config.test)
    logits = r.astype(np.float64) @ weight.double().numpy().T + bias.double().numpy()
    facts |= _test(ctx, logits, labels, draft)
    draft.json("probe", facts | {"seconds": time.perf_counter() - start})


@torch.inference_mode()
def _draw(ctx: Context, name: str, per_class: int) -> tuple[Array, Integers]:
    """r `[n, units]` float32 and labels `[n]` of the first samples of every class in a stream, class after class."""
    stream, truncation = Stream(name, ctx.config.seed), ctx.config.gan.truncation
    blocks = torch.arange(per_class).split(ctx.config.batch_size)
    batches = [(source, indices) for source in _class_index(ctx) for indices in blocks]
    parts, at_once = [], ctx.batches()
    for source, indices in ctx.progress.track(batches, label=f"linear probe: {name.split()[1]} samples (batches)"):
        w = ctx.generator.sample(source, indices, stream, truncation).to(ctx.device)
        parts += at_once.map(ctx.encode, w)
    r, labels = torch.cat(parts).numpy(), np.repeat(np.arange(len(ctx.class_names)), per_class)
    if not np.isfinite(r).all():
        row = int(np.flatnonzero(~np.isfinite(r).all(1))[0])
        raise ValueError(
            f"an activation of sample {row % per_class} of class {ctx.class_names[row // per_class]!r} (stream "
            f"{name!r}, seed {ctx.config.seed}) is not finite: expected finite numbers; check the classifier's weights "
            "and gan.truncation"
        )
    return r, labels


def _test(ctx: Context, logits: Array, labels: Integers, draft: Draft) -> dict[str, float]:
    """Writes the tables of the test samples; returns the numbers over all of them."""
    probabilities = softmax(logits, axis=1)
    confidence, right = probabilities.max(1), logits.argmax(1) == labels
    draft.table("accuracy", kept_table(ctx.class_names, labels, right).rename(columns={"kept": "accuracy"}))
    draft.table("calibration", calibration(confidence, right))
    return {
        "test_samples": len(labels),
        "accuracy": float(right.mean()),
        "log_loss": log_loss(logits, labels),
        "ece": expected_calibration_error(confidence, right),
        "ece_bound": calibrated_bound(confidence, Stream("probe test", ctx.config.seed).rng()),
    }


class Probed(nn.Module):
    """A classifier whose head is a linear probe, as a `Classifier`; frozen.

    Args:
        classifier: whose features, layers and words about itself are kept.
        weight: `[classes, units]`.
        bias: `[classes]`.
        class_names: in the order of the rows of `weight`.

    Raises:
        ValueError: the shapes do not go together.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, classifier: Classifier, weight: Tensor, bias: Tensor, class_names: tuple[str, ...]) -> None:
        super().__init__()
        if weight.shape != (len(class_names), classifier.units) or bias.shape != weight.shape[:1]:
            raise ValueError(
                f"a probe with weight {list(weight.shape)} and bias {list(bias.shape)} for {len(class_names)} classes "
                f"and {classifier.units} units: expected [classes, units] and [classes]; fit one to this classifier"
            )
        self.classifier = classifier
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)
        self.class_names, self.units = class_names, classifier.units
        self.layers, self.cam_layer = classifier.layers, classifier.cam_layer
        for name in _PASSED_ON:
            if hasattr(classifier, name):
                setattr(self, name, getattr(classifier, name))
        self.fingerprint = _fingerprint(classifier.fingerprint, class_names, weight, bias)
        self.requires_grad_(False).eval()

    def features(self, image: Tensor) -> Tensor:
        """The classifier's `r [n, units]` of images `[n, 3, H, W]` in [-1, 1]."""
        return self.classifier.features(image)

    def head(self, r: Tensor) -> Tensor:
        """Logits `[n, classes]` of `r [n, units]`: logarithms of the probabilities up to a constant per sample."""
        return linear(r, self.weight, self.bias)

    def forward(self, image: Tensor) -> Tensor:
        """Logits `[n, classes]` of images."""
        return self.head(self.features(image))


def probed(classifier: Classifier, artifact: Artifact) -> Probed:
    """A classifier with the probe of an artifact of `probe` as its head, on the classifier's device.

    Raises:
        ValueError: the probe was fitted to a classifier with another number of units.
    """
    parameters = classifier.parameters() if isinstance(classifier, nn.Module) else iter(())
    device = next((parameter.device for parameter in parameters), torch.device("cpu"))
    weight, bias = (artifact.tensors("probe")[name].to(device) for name in ("weight", "bias"))
    return Probed(classifier, weight, bias, tuple(artifact.json("probe")["classes"]))


def _fingerprint(inner: str, class_names: tuple[str, ...], weight: Tensor, bias: Tensor) -> str:
    digest = hashlib.sha256(f"{inner}|{'|'.join(class_names)}|".encode())
    for tensor in (weight, bias):
        digest.update(tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
