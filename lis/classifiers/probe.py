"""The linear probe: multinomial logistic regression on R, which gives a classifier the classes of a set as its head.

The labels are the classes that the generator was asked for. Accuracy and calibration are measured on samples that the
fit has not seen.
"""

from __future__ import annotations

import hashlib
import time
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.special import log_softmax, softmax
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from torch import Tensor, nn

from lis.classifiers.work import probe_work
from lis.context import Context
from lis.progress import Progress
from lis.rounding import linear
from lis.stage import MODELS, stage
from lis.statistics import retention, wilson
from lis.store import Artifact, Draft
from lis.streams import Stream
from lis.types import Classifier
from lis.unit_ranges import UnitStatistics

Array = NDArray[np.floating[Any]]
Integers = NDArray[np.integer[Any]]
Flags = NDArray[np.bool_]
BINS = 15
"""Bins of equal width in which confidence and accuracy are compared, as many as Guo et al. take."""
RESAMPLES = 1000
"""Test sets that are simulated from the confidences."""
GRID = tuple(10.0 ** (k / 2) for k in range(-12, 7))
"""Candidates for C, from 1e-6 to 1e3 in half decades."""
PATIENCE = 3
"""Points of the grid without a smaller loss after which the path ends: beyond, fits are slow and only get worse."""
_PATH_TOLERANCE, _TOLERANCE = 1e-5, 1e-7
"""Largest entry of the gradient of the mean loss at which a fit ends."""
_PASSED_ON = ("name", "weights", "trained", "attribute", "notes", "features_of_style")
"""What a classifier may say about itself beyond the Protocol."""


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


@stage("probe", version=2, seed=True, models=MODELS, also=_also, check=validate_probe, listed=False, work=probe_work)
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
    draft.table("accuracy", retention(ctx.class_names, labels, right).rename(columns={"kept": "accuracy"}))
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


def calibration(confidence: Array, right: Flags) -> pd.DataFrame:
    """Reliability of the top label: how often it is right where its probability is in a bin.

    Args:
        confidence: the largest probability of each sample, `[n]`, in (0, 1].
        right: whether its class is the sample's, `[n]`.

    Returns:
        A row per bin of `BINS` on [0, 1], closed above: bin, lower, upper, confidence (mean), accuracy, low, high (95 %
        Wilson interval of the accuracy), n. What an empty bin does not have is NaN.
    """
    index, edges = _bins(confidence), np.linspace(0, 1, BINS + 1)
    subset = [index == k for k in range(BINS)]
    rows = [(k, edges[k], edges[k + 1], *_reliability(confidence[subset[k]], right[subset[k]])) for k in range(BINS)]
    return pd.DataFrame(rows, columns=["bin", "lower", "upper", "confidence", "accuracy", "low", "high", "n"])


def _bins(confidence: Array) -> Integers:
    """Bin of each confidence: 0 for (0, 1/BINS], …; rounding may take a confidence of 1 no higher than the last."""
    return np.clip(np.ceil(confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)


def _reliability(confidence: Array, right: Flags) -> tuple[float, float, float, float, int]:
    n = len(right)
    if not n:
        return float("nan"), float("nan"), float("nan"), float("nan"), 0
    return float(confidence.mean()), float(right.mean()), *wilson(int(right.sum()), n), n


def expected_calibration_error(confidence: Array, right: Flags) -> float:
    """Σ over bins of (n_bin / n)·|accuracy − mean confidence|, in [0, 1] (Guo et al. 2017, Eq. 3)."""
    surplus = np.bincount(_bins(confidence), right - confidence, minlength=BINS)
    return float(np.abs(surplus).sum() / len(confidence))


def calibrated_bound(confidence: Array, rng: np.random.Generator) -> float:
    """The error that a calibrated classifier stays below in 95 % of test sets with these confidences.

    No finite test set gives it an error of 0: here each sample is right with the probability that its confidence says.
    """
    drawn = [expected_calibration_error(confidence, rng.random(len(confidence)) < confidence) for _ in range(RESAMPLES)]
    return float(np.quantile(drawn, 0.95))


@dataclass(frozen=True)
class Coordinates:
    """Where the regression is fitted: x = (r − mean)·basis, the standardised units in the span of the samples.

    A ridge penalty does not see a rotation, and its solution lies in the span of the samples, so that the probabilities
    are those of a fit to all standardised units, however many there are (Hastie & Tibshirani 2004).
    """

    x: Array
    """The samples, `[n, min(n, units)]`."""
    mean: Array
    """`[units]`."""
    basis: Array
    """`[units, min(n, units)]`; the rows of dead units are 0."""

    @classmethod
    def of(cls, r: Array) -> Coordinates:
        """Coordinates of the samples `r [n, units]`.

        Raises:
            ValueError: every unit is dead.
        """
        gain = _gain(r)
        mean = r.mean(0, dtype=np.float64)
        axes, rotated = np.linalg.qr(((r - mean) * gain).T)
        return cls(rotated.T.copy(), mean, gain[:, None] * axes)

    def unfold(self, coefficients: Array, intercept: Array) -> tuple[Array, Array]:
        """Weight `[classes, units]` and bias `[classes]` on r of coefficients `[classes, coordinates]` on x."""
        weight = coefficients @ self.basis.T
        return weight, intercept - weight @ self.mean


def _gain(r: Array) -> Array:
    """1/σ of each unit, 0 for dead ones."""
    low, high = r.min(0), r.max(0)
    mean, std = r.mean(0, dtype=np.float64), r.std(0, dtype=np.float64)
    tensors = (torch.from_numpy(np.asarray(value, np.float64)) for value in (mean, std, low, high))
    dead = UnitStatistics(len(r), *tensors, resolution=float(np.finfo(r.dtype).eps)).dead.numpy()
    if dead.all():
        raise ValueError(
            f"all {len(dead)} units of the classifier are constant over the {len(r)} samples of the linear probe: "
            "expected some that vary; check the classifier's weights and preprocessing"
        )
    return np.where(dead, 0.0, 1 / np.where(dead, 1.0, std))


@dataclass(frozen=True)
class Fit:
    """A fitted probe: softmax(weight·r + bias) are the probabilities of the classes."""

    weight: Array
    """`[classes, units]`, float64."""
    bias: Array
    """`[classes]`, float64."""
    strength: float
    """C, the inverse of the penalty's weight."""
    path: pd.DataFrame
    """`C`, `log_loss` (mean over folds), `se` (its standard error), `accuracy`, `chosen` (one row true)."""


def fit(r: Array, labels: Integers, folds: int, progress: Progress) -> Fit:
    """Minimises Σ −log p(class | r) + ‖weight of the standardised units‖² / 2C, with the C of the smallest loss.

    Units are standardised over all samples before these are divided into folds. The intercept has no penalty; of two
    classes the difference of their weights has it.

    Args:
        r: activations, `[n, units]` float.
        labels: class of each sample, 0 … classes − 1, `[n]`, in an order that says nothing else about them.
        folds: of the cross-validation that chooses C from `GRID`, stratified by class.
        progress: shows the points of the grid.

    Raises:
        ValueError: every unit is dead.
    """
    coordinates = Coordinates.of(r)
    steps = cross_validated(coordinates.x, labels, folds)
    rows = list(progress.track(steps, total=len(GRID), label="linear probe: regularisation"))
    path = pd.DataFrame(rows, columns=["C", "log_loss", "se", "accuracy"])
    best = int(np.argmin(path["log_loss"]))
    model = _regression(_TOLERANCE).set_params(C=GRID[best]).fit(coordinates.x, labels)
    weight, bias = coordinates.unfold(*_parameters(model))
    return Fit(weight, bias, GRID[best], path.assign(chosen=np.arange(len(path)) == best))


def cross_validated(x: Array, labels: Integers, folds: int) -> Iterator[tuple[float, float, float, float]]:
    """C, mean log loss over held-out folds, its standard error and the mean accuracy, along `GRID`.

    Every fit starts from that of the C before. Ends `PATIENCE` points after the smallest mean loss.
    """
    splits = list(StratifiedKFold(folds).split(x, labels))
    models = [_regression(_PATH_TOLERANCE) for _ in splits]
    means: list[float] = []
    for c in GRID:
        for model, (retained, _) in zip(models, splits, strict=True):
            _fit_quietly(model.set_params(C=c), x[retained], labels[retained])
        fitted = zip(models, splits, strict=True)
        scores = np.array([_score(model, x[held], labels[held]) for model, (_, held) in fitted])
        mean, accuracy = scores.mean(0)
        yield c, mean, scores[:, 0].std(ddof=1) / np.sqrt(folds), accuracy
        means.append(mean)
        if len(means) - 1 - int(np.argmin(means)) >= PATIENCE:
            return


def _regression(tolerance: float) -> Any:
    return LogisticRegression(tol=tolerance, max_iter=5000, warm_start=True)


def _fit_quietly(model: Any, x: Array, labels: Integers) -> None:
    with warnings.catch_warnings():  # a fit that ends early is judged by its loss, as all are
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(x, labels)


def _parameters(model: Any) -> tuple[Array, Array]:
    """Coefficients and intercepts, a row per class; of two classes scikit-learn keeps the difference alone."""
    if len(model.classes_) > 2:
        return model.coef_, model.intercept_
    half = np.array([-0.5, 0.5])
    return half[:, None] * model.coef_, half * model.intercept_


def _score(model: Any, x: Array, labels: Integers) -> tuple[float, float]:
    """Log loss and accuracy on samples."""
    coefficients, intercept = _parameters(model)
    logits = x @ coefficients.T + intercept
    return log_loss(logits, labels), float((logits.argmax(1) == labels).mean())


def log_loss(logits: Array, labels: Integers) -> float:
    """Mean of −log p(class) in nats, for logits `[n, classes]`."""
    return float(-log_softmax(logits, axis=1)[np.arange(len(labels)), labels].mean())
