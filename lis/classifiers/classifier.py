"""The stage before all others: makes the run's classifier ready, by training it or by giving it a head."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from itertools import islice
from typing import Any

import numpy as np
import pandas as pd
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from lis.classifiers.cut import CutClassifier
from lis.classifiers.probe import probe, probed
from lis.classifiers.tasks import Task
from lis.classifiers.work import training_work
from lis.config import TrainingConfig
from lis.context import Context
from lis.generators.partworld.world import SETS, world
from lis.lightning import Endless, one_process
from lis.precision import TF32, tf32
from lis.progress import Progress
from lis.stage import stage
from lis.statistics import wilson
from lis.store import Artifact, Draft
from lis.streams import Stream

_SMOOTHING = 0.05
_NORMS = (nn.modules.batchnorm._BatchNorm,)
SETTLED, SETTLING = 100, 10
"""Steps after which running statistics have forgotten their start, and batches that replace them before."""
_DRAWN = 10
"""Figures per class that are drawn at once."""
_POINTS = 200
"""Points of the curve, at most."""


def ready(ctx: Context) -> tuple[Context, dict[str, Artifact]]:
    """The context with a classifier that can be used, and what was made for it.

    "classifier": the training on part world, where the weights are to come from there; "probe": the linear probe,
    where `classifier.probe` asks for it. What was made for a witness, in the same way, is named "witness/…".

    Raises:
        ValueError: the training diverges, or the classes have no labels that a probe could be fitted to.
    """
    made: dict[str, Artifact] = {}
    if isinstance(ctx.classifier, CutClassifier) and not ctx.classifier.trained:
        made["classifier"] = artifact = classifier(ctx)
        load(ctx.classifier, artifact, ctx.device)
    if ctx.config.classifier.probe:
        made["probe"] = probe(ctx)
        ctx = replace(ctx, classifier=probed(ctx.classifier, made["probe"]))
    if asked := ctx.of_witness:
        judge, its = ready(asked)
        made |= {f"witness/{name}": artifact for name, artifact in its.items()}
        ctx = replace(ctx, witness=judge.classifier)
    return ctx, made


def load(classifier: CutClassifier, artifact: Artifact, device: torch.device) -> None:
    """Give a classifier the weights of its training."""
    # As training leaves it, a network lies otherwise in memory, and its sums would be rounded otherwise.
    classifier.network.to(memory_format=torch.contiguous_format)  # pyright: ignore[reportCallIssue]: the stubs lack it
    classifier.network.load_state_dict(artifact.tensors("state"))
    classifier.eval().to(device)
    classifier.trained = True


def _untrained(ctx: Context) -> CutClassifier:
    """The run's classifier, as one that waits for its training.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(ctx.classifier, CutClassifier):
        raise ValueError(f"{type(ctx.classifier).__name__} cannot be trained: expected a network of a library")
    return ctx.classifier


def _also(ctx: Context) -> dict[str, Any]:
    untrained = _untrained(ctx)
    return {
        "name": untrained.name,
        "attribute": untrained.attribute,
        "outputs": list(untrained.class_names),
        "preprocessing": untrained.preprocessing.settings,
        "training": asdict(ctx.config.training),
        "world": [world(name).identity for name in SETS],
    }


@stage(
    "classifier",
    version=2,
    seed=True,
    models=("classifier",),
    also=_also,
    check=_untrained,
    listed=False,
    work=training_work,
)
def classifier(ctx: Context, draft: Draft) -> None:
    """Before all others, where asked for: the weights of a training on part world with its accuracy.

    Tensors "state", the network's; tables "curve" (images, loss) and "accuracy" (class, accuracy, low, high, bayes, n)
    on held-out rendered figures; json "training": images, steps, seconds, precision, learning_rate, accuracy, bayes.
    """
    untrained = _untrained(ctx)
    trained = train(untrained, ctx.config.training, ctx.config.seed, ctx.device, ctx.progress)
    draft.tensors("state", untrained.network.state_dict())
    draft.table("curve", trained.curve)
    draft.table("accuracy", trained.accuracy)
    draft.json("training", trained.facts)


@dataclass(frozen=True)
class Trained:
    """What a training leaves besides the weights."""

    curve: pd.DataFrame
    """`images`, `loss`: the mean loss since the row before."""
    accuracy: pd.DataFrame
    """`class`, `accuracy`, `low`, `high` (95 % Wilson), `bayes`, `n`; the last row is "all"."""
    facts: dict[str, Any]
    """`images`, `steps`, `seconds`, `precision`, `learning_rate`, `accuracy`, `bayes`."""


class Training(pl.LightningModule):
    """AdamW with a one-cycle schedule on the smoothed cross-entropy.

    Args:
        classifier: whose whole network is trained.
        steps: optimiser steps.
        rate: peak of the learning rate.
        decay: weight decay, of matrices and kernels only.
    """

    def __init__(self, classifier: CutClassifier, steps: int, rate: float, decay: float) -> None:
        super().__init__()
        self.network, self.preprocessing = classifier.network, classifier.preprocessing
        self.steps, self.rate, self.decay = steps, rate, decay

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        """Loss of a batch of images in [-1, 1] and answers."""
        image, label = batch
        x = self.preprocessing(image).contiguous(memory_format=torch.channels_last)
        return F.cross_entropy(self.network(x), label, label_smoothing=_SMOOTHING)

    def configure_optimizers(self) -> Any:
        """AdamW and its schedule."""
        weights = list(self.network.parameters())
        groups = [
            {"params": [p for p in weights if p.ndim > 1], "weight_decay": self.decay},
            {"params": [p for p in weights if p.ndim <= 1], "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups, lr=self.rate)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, self.rate, total_steps=self.steps, cycle_momentum=False
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class Curve(pl.Callback):
    """Keeps the loss and moves the progress on."""

    def __init__(self, steps: int, batch: int, progress: Progress, label: str) -> None:
        self.every, self.batch = max(1, steps // _POINTS), batch
        self.ticks = iter(progress.track(range(steps), label=label))
        self.points: list[tuple[int, float]] = []
        self._losses: list[Tensor] = []

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, *_: Any) -> None:
        """Notes the loss of one step.

        Raises:
            ValueError: the loss is not finite.
        """
        next(self.ticks, None)
        self._losses.append(outputs["loss"].detach())
        if trainer.global_step % self.every:
            return
        loss = float(torch.stack(self._losses).mean())
        self._losses.clear()
        if not np.isfinite(loss):
            raise ValueError(
                f"the training diverged at step {trainer.global_step} (loss {loss}): expected a finite loss; "
                f"lower training.learning_rate (it was {pl_module.rate:g})"
            )
        self.points.append((trainer.global_step * self.batch, loss))


def train(
    classifier: CutClassifier, config: TrainingConfig, seed: int, device: torch.device, progress: Progress
) -> Trained:
    """Train a classifier's network in place on rendered figures, each seen once.

    Args:
        classifier: untrained, its outputs those of its task.
        config: numbers of images, schedule and precision.
        seed: of the figures.
        device: where to train; the network is left there, in evaluation mode and frozen.
        progress: shows steps.

    Raises:
        ValueError: the loss is not finite.
    """
    start, task = time.perf_counter(), Task(classifier.attribute)
    per_class, steps = schedule(config, task)
    batch = per_class * len(task.class_names)
    rate = config.learning_rate or default_rate(classifier.network)
    curve = Curve(steps, batch, progress, f"training {classifier.name} on part world (steps)")
    precision = find_precision(config.precision, device)
    classifier.train().requires_grad_(True).to(memory_format=torch.channels_last)
    draws = Stream("classifier training", seed)
    figures = Endless(lambda rng: task.draw(per_class, rng)[:2], draws.torch_seed)
    with one_process(device) as options, tf32(config.precision == TF32):
        pl.Trainer(
            **options, max_steps=steps, max_epochs=-1, gradient_clip_val=1.0, callbacks=[curve], precision=precision
        ).fit(Training(classifier, steps, rate, config.weight_decay), DataLoader(figures, batch_size=None))
    classifier.requires_grad_(False).to(device)
    if steps < SETTLED:
        settle(classifier, islice(figures, SETTLING))
    classifier.eval()
    facts = {"images": steps * batch, "steps": steps, "seconds": time.perf_counter() - start}
    facts |= {"precision": TF32 if config.precision == TF32 else precision, "learning_rate": rate}
    accuracy = measure(classifier, config.held_out, seed, device)
    whole = accuracy.iloc[-1]
    facts |= {"accuracy": float(whole["accuracy"]), "bayes": float(whole["bayes"])}
    return Trained(pd.DataFrame(curve.points, columns=["images", "loss"]), accuracy, facts)


def schedule(config: TrainingConfig, task: Task) -> tuple[int, int]:
    """Figures of every class in a batch, and steps of the optimiser."""
    per_class = max(1, config.batch_size // len(task.class_names))
    return per_class, max(1, config.images // (per_class * len(task.class_names)))


@torch.no_grad()
def settle(classifier: CutClassifier, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
    """Take the statistics of batch normalisation from some batches, where a short training left its first guess.

    Args:
        classifier: in training mode.
        batches: images in [-1, 1] and answers.
    """
    norms = [module for module in classifier.modules() if isinstance(module, _NORMS)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean
    device = next(classifier.parameters()).device
    for image, _ in batches:
        classifier(image.to(device))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def default_rate(network: nn.Module) -> float:
    """2e-3 for a network with batch normalisation, which bears it, else 5e-4."""
    return 2e-3 if any(isinstance(module, _NORMS) for module in network.modules()) else 5e-4


def find_precision(name: str, device: torch.device) -> Any:
    """Lightning's name of a precision; `auto` is bfloat16 where the processor computes in it."""
    if name == "auto":
        result = torch.cpu.get_capabilities() if device.type == "cpu" else {"amx_bf16": torch.cuda.is_bf16_supported()}
        name = "bf16" if result.get("avx512_bf16") or result.get("amx_bf16") else "float32"
    return {"bf16": "bf16-mixed", "float32": "32-true", TF32: "32-true"}[name]


@torch.inference_mode()
def measure(classifier: CutClassifier, per_class: int, seed: int, device: torch.device) -> pd.DataFrame:
    """Accuracy on held-out rendered figures, by answer and for "all", beside Bayes' rule; see `Trained.accuracy`."""
    task, rng = Task(classifier.attribute), torch.Generator().manual_seed(Stream("classifier test", seed).torch_seed)
    right, best, labels = [], [], []
    for start in range(0, per_class, _DRAWN):
        image, label, bayes = task.draw(min(_DRAWN, per_class - start), rng)
        right.append(classifier(image.to(device)).argmax(1).cpu() == label)
        best.append(bayes == label)
        labels.append(label)
    return _accuracy(classifier.class_names, *(torch.cat(column) for column in (labels, right, best)))


def _accuracy(names: tuple[str, ...], label: Tensor, right: Tensor, best: Tensor) -> pd.DataFrame:
    groups = [(name, label == index) for index, name in enumerate(names)] + [("all", torch.ones_like(right))]
    rows = []
    for name, subset in groups:
        n, hits = int(subset.sum()), int(right[subset].sum())
        if n:
            rows.append((name, hits / n, *wilson(hits, n), float(best[subset].float().mean()), n))
    return pd.DataFrame(rows, columns=["class", "accuracy", "low", "high", "bayes", "n"])
